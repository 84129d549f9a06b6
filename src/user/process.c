/*
 * process.c - fork and execve.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/macros.h"
#include "base/str.h"
#include "user/host_call.h"
#include "user/proc_view.h"
#include "user/user.h"

#define WORDS_MAX 65536u

/* The locks that a child of fork() must find open. In their order. */
static void fork_begin(struct user *user)
{
    (void)pthread_mutex_lock(&user->translations.lock);
    (void)emu_fork_begin(user->emu);
    (void)pthread_mutex_lock(&user->pages.lock);
    (void)pthread_mutex_lock(&user->signals.lock);
    (void)pthread_mutex_lock(&user->brk_lock);
}

static void fork_end(struct user *user, struct emu_cpu *cpu, bool child)
{
    (void)pthread_mutex_unlock(&user->brk_lock);
    (void)pthread_mutex_unlock(&user->signals.lock);
    (void)pthread_mutex_unlock(&user->pages.lock);
    emu_fork_end(user->emu, cpu, child);
    (void)pthread_mutex_unlock(&user->translations.lock);
}

/*
 * The C library's, which leaves its own locks open to the child, where it does what is asked for.
 * arm64: flags, stack, parent_tid, tls, child_tid.
 */
static long fork_host(const uint64_t *a, uint64_t flags)
{
    const uint64_t ids = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    if ((flags & ~(ids | CLONE_SETTLS)) != SIGCHLD) {
        return syscall(SYS_clone, flags & ~(uint64_t)CLONE_SETTLS, 0, a[2], a[4], a[3]);
    }
    return fork();
}

/*
 * vfork's child may change its parent's memory, but for its stack nobody does: a fork, and the
 * parent waits for its end as it would for execve.
 */
int64_t process_clone(struct thread *thread, const uint64_t *a)
{
    struct user *user = thread->user;
    struct arm64_state *state = emu_cpu_state(thread->cpu);
    uint64_t flags = a[0];
    bool vfork_like = (flags & (CLONE_VM | CLONE_VFORK)) == (CLONE_VM | CLONE_VFORK);
    if ((flags & CLONE_THREAD) != 0) {
        return thread_clone(thread, a);
    }
    if ((flags & CLONE_VM) != 0 && !vfork_like) {
        return -ENOSYS;
    }
    int waiting[2] = {-1, -1};
    if (vfork_like && pipe2(waiting, O_CLOEXEC) < 0) {
        return -errno;
    }
    flags &= ~(uint64_t)(CLONE_VM | CLONE_VFORK);
    fork_begin(user);
    long pid = fork_host(a, flags);
    int saved = errno;
    if (pid == 0) {
        atomic_store(&user->threads, 1);
    }
    fork_end(user, thread->cpu, pid == 0);
    if (pid == 0) {
        uint32_t tid = (uint32_t)getpid();
        if (a[1] != 0) {
            state->sp = a[1];
        }
        if ((flags & CLONE_SETTLS) != 0) {
            state->tpidr = a[3];
        }
        thread->clear_tid = (flags & CLONE_CHILD_CLEARTID) != 0 ? a[4] : 0;
        thread->robust_list = 0;
        signals_fork_child(thread);
        (void)close_fd(waiting[0]); /* the other end closes with execve or the end */
        if ((flags & CLONE_CHILD_SETTID) != 0) {
            memcpy(user_pointer(a[4]), &tid, sizeof(tid));
        }
        return 0;
    }
    (void)close_fd(waiting[1]);
    if (pid > 0 && vfork_like) {
        char byte = 0;
        while (read(waiting[0], &byte, 1) < 0 && errno == EINTR) {
        }
    }
    (void)close_fd(waiting[0]);
    if (pid > 0 && (flags & CLONE_PARENT_SETTID) != 0) {
        /* Last, for the guest's pointer may lead nowhere: without locks, and with nothing open. */
        const uint32_t tid = (uint32_t)pid;
        memcpy(user_pointer(a[2]), &tid, sizeof(tid));
    }
    return pid < 0 ? -saved : pid;
}

/* include/uapi/linux/sched.h: struct clone_args, the first version and what came later. */
int64_t process_clone3(struct thread *thread, const uint64_t *a)
{
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
        uint64_t set_tid, set_tid_size, cgroup;
    } c = {0};
    if (a[1] < 64) {
        return -EINVAL;
    }
    memcpy(&c, user_pointer(a[0]), MIN((size_t)a[1], sizeof(c)));
    bool both = (c.flags & CLONE_PIDFD) != 0 && (c.flags & CLONE_PARENT_SETTID) != 0;
    if (a[1] > sizeof(c) || c.set_tid_size != 0 || (c.flags >> 32) != 0 || both) {
        return -ENOSYS; /* the C library falls back on clone() */
    }
    if (c.exit_signal > SIGNALS_MAX || (c.flags & 0xff) != 0) {
        return -EINVAL;
    }
    const uint64_t args[5] = {
        c.flags | c.exit_signal,
        c.stack == 0 ? 0 : c.stack + c.stack_size,
        (c.flags & CLONE_PIDFD) != 0 ? c.pidfd : c.parent_tid,
        c.tls,
        c.child_tid,
    };
    return process_clone(thread, args);
}

static size_t count(uint64_t list)
{
    size_t n = 0;
    while (list != 0 && n < WORDS_MAX && ((const uint64_t *)user_pointer(list))[n] != 0) {
        n++;
    }
    return n;
}

/* Whether it is for AArch64; scripts are looked at by the host's kernel, whose interpreter comes
 * here again. */
bool process_is_foreign(const char *path)
{
    unsigned char head[20] = "";
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, head, sizeof(head)) == (ssize_t)sizeof(head) &&
           memcmp(head, "\177ELF", 4) == 0 && head[18] == 183 && head[19] == 0;
}

/* "#!INTERPRETER [ARGUMENT]" for an interpreter of AArch64: its words, or 0. */
size_t process_read_script(const char *path, char *line, size_t size, char *word[2])
{
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, line, size - 1);
    if (n < 3 || line[0] != '#' || line[1] != '!') {
        return 0;
    }
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    word[0] = line + 2 + strspn(line + 2, " \t");
    word[1] = word[0] + strcspn(word[0], " \t");
    if (*word[1] != '\0') {
        *word[1]++ = '\0';
        word[1] += strspn(word[1], " \t");
    }
    size_t len = strlen(word[1]);
    while (len > 0 && (word[1][len - 1] == ' ' || word[1][len - 1] == '\t')) {
        word[1][--len] = '\0';
    }
    return *word[0] == '\0' ? 0 : *word[1] == '\0' ? 1 : 2;
}

/* What comes next inherits the mask: not one that holds signals back for us. */
static int64_t exec(struct thread *thread, const char *path, char **argv, char **envp)
{
    translations_write(&thread->user->translations, thread->user->emu);
    const uint64_t args[6] = {(uint64_t)(uintptr_t)path, (uint64_t)(uintptr_t)argv,
                              (uint64_t)(uintptr_t)envp};
    return host_call(SYS_execve, args, &thread->signals.pending);
}

/* Ourselves again, with the options that we had: what we run is named behind "--". */
static int64_t run_foreign(struct thread *thread, const char *path, char **argv, size_t argc,
                           char **envp, char **before, size_t before_count)
{
    const struct user *user = thread->user;
    char *own[16];
    size_t n = 0;
    own[n++] = (char *)(uintptr_t) "isola-emu-aarch64";
    if (user->options->prefix != NULL) {
        own[n++] = (char *)(uintptr_t) "-L";
        own[n++] = (char *)(uintptr_t)user->options->prefix;
    }
    if (user->options->cache != NULL) {
        own[n++] = (char *)(uintptr_t) "--cache";
        own[n++] = (char *)(uintptr_t)user->options->cache;
    }
    if (user->options->trace) {
        own[n++] = (char *)(uintptr_t) "--strace";
    }
    if (user->options->interpret) {
        own[n++] = (char *)(uintptr_t) "--interpret";
    }
    own[n++] = (char *)(uintptr_t) "--argv0";
    own[n++] = before_count > 0 ? before[0] : argc > 0 ? argv[0] : (char *)(uintptr_t) "";
    own[n++] = (char *)(uintptr_t) "--";
    own[n++] = before_count > 0 ? before[0] : (char *)(uintptr_t)path;
    AUTO(freep) char **all = calloc(n + argc + before_count + 3, sizeof(char *));
    if (all == NULL) {
        return -ENOMEM;
    }
    size_t at = n;
    memcpy((void *)all, (const void *)own, n * sizeof(char *));
    for (size_t i = 1; i < before_count; i++) {
        all[at++] = before[i];
    }
    if (before_count > 0) {
        all[at++] = (char *)(uintptr_t)path;
    }
    for (size_t i = 1; i < argc; i++) {
        all[at++] = argv[i];
    }
    all[at] = NULL;
    int64_t r = exec(thread, "/proc/self/exe", all, envp);
    /* Without /proc the kernel may know us by binfmt_misc. */
    return r == -ENOENT ? exec(thread, path, argv, envp) : r;
}

/* What has rights of its own gets them from the kernel alone, where it knows us by binfmt_misc. */
static bool has_rights(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) != 0;
}

int64_t process_execve(struct thread *thread, uint64_t path_at, uint64_t argv_at, uint64_t envp_at)
{
    const struct user *user = thread->user;
    static char *none[] = {NULL};
    const char *path = user_pointer(path_at);
    char **argv = argv_at == 0 ? none : user_pointer(argv_at);
    char **envp = envp_at == 0 ? none : user_pointer(envp_at);
    char line[PATH_MAX];
    char target[PATH_MAX];
    char *word[2] = {NULL, NULL};
    if (path == NULL) {
        return -EFAULT;
    }
    if (proc_view_exe(user, path, line, sizeof(line)) != path) {
        /* The descriptor is not there any more when it is opened again. */
        ssize_t n = readlink(line, target, sizeof(target) - 1);
        if (n < 0) {
            return -errno;
        }
        target[n] = '\0';
        path = target;
    }
    if (access(path, X_OK) < 0) {
        return -errno;
    }
    if (process_is_foreign(path)) {
        int64_t r = has_rights(path) ? exec(thread, path, argv, envp) : -ENOEXEC;
        return r != -ENOEXEC ? r : run_foreign(thread, path, argv, count(argv_at), envp, NULL, 0);
    }
    size_t words = process_read_script(path, line, sizeof(line), word);
    if (words > 0 && process_is_foreign(word[0])) {
        return run_foreign(thread, path, argv, count(argv_at), envp, word, words);
    }
    return exec(thread, path, argv, envp);
}

int64_t process_execveat(struct thread *thread, const uint64_t *a)
{
    const char *path = user_pointer(a[1]);
    int fd = (int)a[0];
    bool itself = (a[4] & AT_EMPTY_PATH) != 0;
    if (path == NULL) {
        return -EFAULT;
    }
    if (fd == AT_FDCWD || path[0] == '/') {
        return process_execve(thread, a[1], a[2], a[3]);
    }
    if (path[0] == '\0' && !itself) {
        return -ENOENT;
    }
    AUTO(freep)
    char *whole = str_printf("/proc/self/fd/%d%s%s", fd, path[0] == '\0' ? "" : "/", path);
    return whole == NULL ? -ENOMEM : process_execve(thread, (uint64_t)(uintptr_t)whole, a[2], a[3]);
}
