/*
 * What a program finds out about itself: below /proc it sees itself, not who runs it; clocks and
 * prctl() answer as the kernel does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void say(const char *what, bool good)
{
    (void)printf("%s: %s\n", what, good ? "as it is" : "WRONG");
}

static bool links_to(const char *link, const char *to)
{
    char target[PATH_MAX];
    char *real = realpath(to, NULL);
    ssize_t n = readlink(link, target, sizeof(target) - 1);
    bool good =
        n > 0 && real != NULL && strlen(real) == (size_t)n && memcmp(target, real, (size_t)n) == 0;
    free(real);
    return good;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x;
    struct stat y;
    struct statx z;
    if (stat(a, &x) < 0 || stat(b, &y) < 0 ||
        syscall(SYS_statx, AT_FDCWD, a, 0, STATX_INO, &z) < 0) {
        return false;
    }
    return x.st_ino == y.st_ino && x.st_dev == y.st_dev && z.stx_ino == y.st_ino &&
           access(a, X_OK) == 0;
}

/* The rights and the name of the mapping that an address is in, by the text of a file of maps. */
static bool find_mapping(const char *file, const void *address, char rights[5], char name[PATH_MAX])
{
    char line[PATH_MAX + 200];
    bool found = false;
    FILE *f = fopen(file, "re");
    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
        uint64_t start = 0;
        uint64_t end = 0;
        name[0] = '\0';
        int n = sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %*u %4000s", &start, &end,
                       rights, name);
        found = n >= 3 && start <= (uintptr_t)address && (uintptr_t)address < end;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return found;
}

static void say_mapping(const char *what, const char *file, const void *address,
                        const char *program)
{
    char rights[5] = "none";
    char name[PATH_MAX];
    char *real = realpath(program, NULL);
    if (!find_mapping(file, address, rights, name)) {
        (void)printf("%s: not there\n", what);
    } else {
        (void)printf("%s: %s %s\n", what, rights,
                     real != NULL && strcmp(name, real) == 0 ? "the program" : name);
    }
    free(real);
}

static bool file_is(const char *file, const void *want, size_t len)
{
    static char have[1 << 16];
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, have, sizeof(have));
    (void)close(fd);
    return n >= 0 && (size_t)n == len && memcmp(have, want, len) == 0;
}

static bool has_auxv(uint64_t key)
{
    uint64_t pair[2];
    bool found = false;
    int fd = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && !found && read(fd, pair, sizeof(pair)) == sizeof(pair)) {
        found = pair[0] == key && pair[1] == getauxval(key);
    }
    (void)close(fd);
    return found;
}

static void look_at_clocks(void)
{
    static const clockid_t clocks[] = {CLOCK_REALTIME,           CLOCK_MONOTONIC,
                                       CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                                       CLOCK_BOOTTIME,           CLOCK_MONOTONIC_RAW};
    struct timespec before;
    struct timespec after;
    for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
        bool good = syscall(SYS_clock_gettime, clocks[i], &before) == 0 &&
                    syscall(SYS_clock_gettime, clocks[i], &after) == 0;
        say("clock", good && (after.tv_sec > before.tv_sec ||
                              (after.tv_sec == before.tv_sec && after.tv_nsec >= before.tv_nsec)));
    }
    long r = syscall(SYS_clock_gettime, 99, &before);
    (void)printf("no such clock: %ld, %s\n", r, strerrorname_np(errno));
    r = syscall(SYS_clock_gettime, CLOCK_REALTIME, 16);
    (void)printf("to nowhere: %ld, %s\n", r, strerrorname_np(errno));
    struct timeval now;
    struct timezone zone = {.tz_dsttime = -1};
    r = syscall(SYS_gettimeofday, &now, &zone);
    say("time of day",
        r == 0 && llabs((long long)now.tv_sec - time(NULL)) < 2 && zone.tz_dsttime == 0);
}

int main(int argc, char **argv)
{
    char own[64];
    int local = 0;
    if (argc > 1) {
        (void)printf("started again: %s\n", argv[1]);
        return 0;
    }
    (void)snprintf(own, sizeof(own), "/proc/%d/exe", (int)getpid());
    say("exe", links_to("/proc/self/exe", argv[0]) && links_to(own, argv[0]) &&
                   links_to("/proc/thread-self/exe", argv[0]));
    say("the file", same_file("/proc/self/exe", argv[0]) && same_file(own, argv[0]));
    say("cmdline", file_is("/proc/self/cmdline", argv[0], strlen(argv[0]) + 1));
    say("auxv", has_auxv(AT_PHDR) && has_auxv(AT_RANDOM) && has_auxv(AT_ENTRY));
    say_mapping("code", "/proc/self/maps", (void *)(uintptr_t)main, argv[0]);
    say_mapping("stack", "/proc/self/maps", &local, argv[0]);
    say_mapping("heap", "/proc/self/maps", (char *)sbrk(4096) + 1, argv[0]);
    char *made = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)mprotect(made + 4096, 4096, PROT_READ | PROT_EXEC);
    (void)snprintf(own, sizeof(own), "/proc/%d/maps", (int)getpid());
    say_mapping("made", own, made, argv[0]);
    say_mapping("made for code", own, made + 4096, argv[0]);
    say_mapping("made", own, made + 2 * 4096, argv[0]);
    /* A child sees its parent's program. */
    (void)fflush(stdout);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        (void)snprintf(own, sizeof(own), "/proc/%d/exe", (int)parent);
        say("the parent's exe", links_to(own, argv[0]));
        (void)fflush(stdout);
        char *again[] = {argv[0], (char *)(uintptr_t) "by its exe", NULL};
        (void)execv(own, again);
        _exit(1);
    }
    int status = -1;
    (void)waitpid(child, &status, 0);
    (void)printf("the child: %d\n", status);
    (void)printf("prctl: %d", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    (void)printf(" %d %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
                 prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    look_at_clocks();
    return 0;
}
