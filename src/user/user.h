/*
 * user.h - a Linux program of another CPU in this process.
 */
#ifndef USER_USER_H
#define USER_USER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "emu/emu.h"
#include "user/pages.h"
#include "user/signals.h"
#include "user/thread.h"
#include "user/translations.h"

struct err;

struct user_options {
    const char *program; /* the file */
    int program_fd;      /* opened already, and ours from now on; -1: not yet */
    char **argv;         /* the guest's, with its name; NULL at the end */
    char **envp;
    const char *prefix; /* where interpreters are looked for first; NULL: nowhere else */
    const char *cache;  /* directory for translations that stay; NULL: the default; "none" */
    bool interpret;     /* never make host code */
    bool or_native;     /* what is for this CPU is executed as it is */
    bool trace;         /* system calls, to standard error */
    bool counters;      /* say at the end what was translated */
};

/* The process. */
struct user {
    const struct user_options *options;
    struct emu *emu;
    struct pages pages;
    pthread_mutex_t brk_lock;
    uint64_t brk_start, brk;
    uint64_t brk_reserved; /* up to there nobody else is; 0: nothing */
    int program_fd;        /* what /proc/self/exe shows */
    /* Of the first stack: its end, where sp began; strings of arguments, then of the environment;
     * the auxiliary vector. */
    uint64_t stack_top, stack_pointer;
    uint64_t arguments, arguments_end, environment_end, auxv, auxv_end;
    uint64_t host_stack; /* where this program's own began */
    bool announced;      /* the kernel's /proc shows these */
    struct signals signals;
    struct translations translations;
    _Atomic uint64_t unknown_calls;
    _Atomic uint32_t threads; /* that have not ended */
    _Atomic int first_code;   /* exit code of the first thread, which ended before others; -1 */
};

/* Runs to its end, and does not return then. A negative errno: it did not start. */
int user_run(const struct user_options *options, struct err *err);
/* The end of the whole process. */
_Noreturn void user_end(struct user *user, int exit_code);
/* The end because of ourselves: says why. */
_Noreturn void user_fail(const struct user *user, const char *why);

/* loader.c: maps program and interpreter, makes the stack; state's pc and sp. */
int loader_load(struct user *user, struct arm64_state *state, struct err *err);

/* syscall.c: the call that the registers describe; its result is in x0. */
void user_syscall(struct thread *thread);

/* memory.c: what changes the map of pages. Results as system calls have them. */
int64_t memory_mmap(struct user *user, uint64_t addr, uint64_t len, int prot, int flags, int fd,
                    int64_t offset);
int64_t memory_munmap(struct user *user, uint64_t addr, uint64_t len);
int64_t memory_mprotect(struct user *user, uint64_t addr, uint64_t len, int prot);
int64_t memory_mremap(struct user *user, uint64_t addr, uint64_t old_len, uint64_t len, int flags,
                      uint64_t target);
int64_t memory_brk(struct user *user, uint64_t addr);
/* Something that is not to be executed was mapped there. 0 or -ENOMEM. */
int64_t memory_changed(struct user *user, uint64_t addr, uint64_t len);

/* ipc.c */
int64_t ipc_semctl(const uint64_t *args);
int64_t ipc_shmat(struct user *user, const uint64_t *args);

/* process.c */
/* Whether the file is a program for AArch64. */
bool process_is_foreign(const char *path);
/* "#!INTERPRETER [ARGUMENT]" of a script, in line: how many words; 0: it is none. */
size_t process_read_script(const char *path, char *line, size_t size, char *word[2]);
int64_t process_clone(struct thread *thread, const uint64_t *args);
int64_t process_clone3(struct thread *thread, const uint64_t *args);
int64_t process_execve(struct thread *thread, uint64_t path, uint64_t argv, uint64_t envp);
int64_t process_execveat(struct thread *thread, const uint64_t *args);

/* file.c */
int64_t file_openat(struct thread *thread, const uint64_t *args);
int64_t file_openat2(struct thread *thread, const uint64_t *args);
int64_t file_fcntl(struct thread *thread, const uint64_t *args);
int64_t file_fstat(struct user *user, const uint64_t *args);
int64_t file_newfstatat(struct user *user, const uint64_t *args);
int64_t file_statx(struct user *user, const uint64_t *args);
int64_t file_faccessat(struct user *user, const uint64_t *args);
int64_t file_faccessat2(struct user *user, const uint64_t *args);
int64_t file_readlinkat(struct user *user, const uint64_t *args);
int64_t file_epoll_ctl(struct user *user, const uint64_t *args);
int64_t file_epoll_pwait(struct thread *thread, const uint64_t *args);
int64_t file_epoll_pwait2(struct thread *thread, const uint64_t *args);

static inline void *user_pointer(uint64_t address)
{
    return (void *)(uintptr_t)address; // NOLINT: guest addresses are ours
}

#endif
