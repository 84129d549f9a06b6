/*
 * race - starts a monitor in L1 and takes the time of its guest's lines (bench/vm/init.c).
 * Usage: race [-t] NAME MEBIBYTES COMMAND...; prints one line of JSON. MEBIBYTES is the guest's
 * memory; -t makes the network card tap0 and answers on it. Exit code 1: the guest did not come to
 * its end, or not in LIMIT_NS.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "load.h"

#define MARKS_MAX 16
#define LIMIT_NS 15000000000LL

struct mark {
    char name[24];
    long count;
    int64_t ns;
};

struct memory_use {
    long rss_kib, dirty_kib;
};

struct race {
    pid_t pid;
    long guest_kib;
    int64_t start, init_ns;
    long long kernel_ns;
    struct mark mark[MARKS_MAX];
    unsigned marks;
    bool open;  /* the last mark has not ended */
    bool done;  /* the guest came to its end */
    int status; /* of the monitor, when it ended by itself */
    struct memory_use at_init, at_work;
    char failed[160];
    char last[160]; /* what was said last, for a machine that came to nothing */
};

static int64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void need(bool ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "race: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void make_tap(void)
{
    struct ifreq request = {.ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    struct sockaddr_in address = {.sin_family = AF_INET};
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    need(tun >= 0 && ioctl(tun, TUNSETIFF, &request) == 0, "make tap0");
    need(ioctl(tun, TUNSETPERSIST, 1) == 0, "keep tap0");
    (void)close(tun);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = inet_addr(LOAD_HOST);
    memcpy(&request.ifr_addr, &address, sizeof(address));
    need(ioctl(fd, SIOCSIFADDR, &request) == 0, "address of tap0");
    address.sin_addr.s_addr = inet_addr("255.255.255.0");
    memcpy(&request.ifr_netmask, &address, sizeof(address));
    need(ioctl(fd, SIOCSIFNETMASK, &request) == 0, "netmask of tap0");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    need(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "start tap0");
    (void)close(fd);
}

static void serve(int fd)
{
    char what = 0;
    if (read(fd, &what, 1) != 1) {
        return;
    }
    if (what == LOAD_SEND || what == LOAD_SEND_LITTLE) {
        (void)load_send(fd, what == LOAD_SEND ? LOAD_BYTES : LOAD_BYTES / 16);
        return;
    }
    (void)load_receive(fd);
    (void)!write(fd, "", 1);
}

/* A process that answers the guest; it does not outlive its parent. */
static pid_t start_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(LOAD_PORT)};
    int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    need(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 4) == 0,
         "listen");
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            int client = accept(fd, NULL, NULL);
            serve(client);
            (void)close(client);
        }
    }
    (void)close(fd);
    return pid;
}

/* What a process holds beside the guest's memory: mappings that hold half of that or more. */
static void add_memory(const struct race *race, pid_t pid, struct memory_use *use)
{
    char path[40];
    char line[512];
    bool guest = false;
    (void)snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long long from;
        unsigned long long to;
        char rights[8];
        long kib = 0;
        if (sscanf(line, "%llx-%llx %7s", &from, &to, rights) == 3) {
            guest = rights[1] == 'w' && (long)((to - from) >> 10) >= race->guest_kib / 2;
        } else if (!guest && sscanf(line, "Rss: %ld", &kib) == 1) {
            use->rss_kib += kib;
        } else if (!guest && sscanf(line, "Private_Dirty: %ld", &kib) == 1) {
            use->dirty_kib += kib;
        }
    }
    (void)fclose(file);
}

/* Of the monitor and its own processes; pages that two of them share count twice. */
static void measure_memory(const struct race *race, struct memory_use *use)
{
    char path[64];
    int child = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)race->pid, (int)race->pid);
    *use = (struct memory_use){0};
    add_memory(race, race->pid, use);
    FILE *file = fopen(path, "re");
    while (file != NULL && fscanf(file, "%d", &child) == 1) {
        add_memory(race, child, use);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

/* Returns false at the end. */
static bool take_line(struct race *race, const char *line, int64_t now)
{
    struct mark *mark = &race->mark[race->marks];
    const char *init = strstr(line, "init "); /* firmware writes without a newline */
    if (race->init_ns == 0 && init != NULL && sscanf(init, "init %lld", &race->kernel_ns) == 1) {
        race->init_ns = now - race->start;
        measure_memory(race, &race->at_init);
    } else if (race->marks < MARKS_MAX &&
               sscanf(line, "begin %23s %ld", mark->name, &mark->count) == 2) {
        mark->ns = now;
        race->open = true;
    } else if (race->open && strcmp(line, "end") == 0) {
        mark->ns = now - mark->ns;
        race->marks++;
        race->open = false;
    } else if (strncmp(line, "failed: ", 8) == 0) {
        (void)snprintf(race->failed, sizeof(race->failed), "%.150s", line + 8);
    } else if (strcmp(line, "sample") == 0) {
        measure_memory(race, &race->at_work);
    } else if (strcmp(line, "done") == 0) {
        race->done = true;
        return false;
    } else if (line[0] != '\0') {
        (void)snprintf(race->last, sizeof(race->last), "%.150s", line);
    }
    return true;
}

static void follow(struct race *race, int fd)
{
    char buffer[4096];
    size_t length = 0;
    while (now_ns() - race->start < LIMIT_NS) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, 1000) == 0) {
            continue;
        }
        ssize_t n = read(fd, buffer + length, sizeof(buffer) - 1 - length);
        int64_t now = now_ns();
        if (n <= 0) {
            return;
        }
        length += (size_t)n;
        buffer[length] = '\0';
        char *line = buffer;
        for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            line[strcspn(line, "\r")] = '\0';
            if (!take_line(race, line, now)) {
                return;
            }
        }
        length -= (size_t)(line - buffer);
        memmove(buffer, line, length);
        length = length == sizeof(buffer) - 1 ? 0 : length;
    }
}

/* As the text of a JSON string. */
static void print_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text >= ' ' && *text != '"' && *text != '\\') {
            (void)putchar(*text);
        }
    }
}

static void print(const struct race *race, const char *name)
{
    (void)printf("{\"monitor\":\"%s\"", name);
    if (race->failed[0] != '\0') {
        (void)printf(",\"failed\":\"");
        print_text(race->failed);
        (void)printf("\"");
    } else if (!race->done) {
        (void)printf(",\"failed\":\"no end, wait status %#x; last line: ", race->status);
        print_text(race->last);
        (void)printf("\"");
    }
    if (race->init_ns != 0) {
        (void)printf(",\"init_ns\":%lld,\"kernel_ns\":%lld", (long long)race->init_ns,
                     race->kernel_ns);
        (void)printf(",\"rss_kib\":%ld,\"dirty_kib\":%ld", race->at_init.rss_kib,
                     race->at_init.dirty_kib);
        (void)printf(",\"work_rss_kib\":%ld,\"work_dirty_kib\":%ld", race->at_work.rss_kib,
                     race->at_work.dirty_kib);
    }
    for (unsigned i = 0; i < race->marks; i++) {
        const struct mark *mark = &race->mark[i];
        (void)printf("%s[\"%s\",%ld,%lld]", i == 0 ? ",\"marks\":[" : ",", mark->name, mark->count,
                     (long long)mark->ns);
    }
    (void)printf("%s}\n", race->marks > 0 ? "]" : "");
}

int main(int argc, char **argv)
{
    bool tap = argc > 1 && strcmp(argv[1], "-t") == 0;
    argv += tap ? 1 : 0;
    argc -= tap ? 1 : 0;
    if (argc < 4) {
        (void)fprintf(stderr, "usage: race [-t] NAME MEBIBYTES COMMAND...\n");
        return 1;
    }
    pid_t server = 0;
    if (tap) {
        make_tap();
        server = start_server();
    }
    struct race race = {.guest_kib = strtol(argv[2], NULL, 10) * 1024, .start = now_ns()};
    int out[2];
    need(pipe(out) == 0, "pipe");
    race.pid = fork();
    need(race.pid >= 0, "fork");
    if (race.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(out[1], STDERR_FILENO);
        (void)close(out[0]);
        (void)close(out[1]);
        (void)execvp(argv[3], &argv[3]);
        (void)printf("%s: %s\n", argv[3], strerror(errno));
        (void)fflush(stdout);
        _exit(127);
    }
    (void)close(out[1]);
    follow(&race, out[0]);
    (void)usleep(race.done ? 0 : 100000); /* one that crashed has its own status */
    (void)kill(race.pid, SIGKILL);
    (void)waitpid(race.pid, &race.status, 0);
    if (server > 0) {
        (void)kill(server, SIGKILL);
        (void)waitpid(server, NULL, 0);
    }
    print(&race, argv[1]);
    return race.done ? 0 : 1;
}
