/*
 * emu.h - the translator: runs the code of a guest CPU in this process.
 *
 * Guest addresses are addresses of this process. A struct emu is one address space with its
 * translations and is used by many threads; a struct emu_cpu belongs to one thread.
 */
#ifndef EMU_EMU_H
#define EMU_EMU_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "emu/guest/arm64/state.h"

struct emu;
struct emu_cpu;
struct err;

enum emu_exit {
    EMU_EXIT_SYSCALL,     /* SVC; pc is behind it */
    EMU_EXIT_BREAKPOINT,  /* BRK; pc is at it */
    EMU_EXIT_UNDEFINED,   /* no instruction of ours; pc is at it */
    EMU_EXIT_FETCH,       /* pc is not mapped, not executable or not aligned to 4 */
    EMU_EXIT_FAULT,       /* emu_fault() said so; pc is at the instruction */
    EMU_EXIT_INTERRUPTED, /* emu_interrupt() said so; between two instructions */
    EMU_EXIT_NO_MEMORY,   /* the translator has none */
};

/* Whether cryptographic instructions are the host's own; else they are slower than programs
 * without. */
bool emu_crypto_is_fast(void);

/* Of the memory with code, as /proc/PID/maps shows it. */
#define EMU_CODE_NAME "isola-emu"

struct emu_options {
    bool interpret;    /* never make host code */
    size_t cache_size; /* bytes of host code; 0: 64 MiB */
    /*
     * Whether len bytes from pc may be executed by the guest: the user's map of pages knows, the
     * host's does not, for host pages of guest code are not executable. Any thread.
     */
    bool (*executable)(void *data, uint64_t pc, size_t len);
    void *data;
};

struct emu_counters {
    uint64_t blocks, guest_instructions, host_bytes; /* translated so far */
    uint64_t kept;                                   /* blocks that need not be */
    uint64_t flushes;                                /* times that the cache was full */
};

/* -ENOMEM, or what the host says to code memory. */
int emu_new(const struct emu_options *options, struct emu **ret, struct err *err);
/* No thread uses it any more. Accepts NULL. */
void emu_free(struct emu *emu);
DEFINE_FREEP(struct emu *, emu_free)

/* All registers 0. The emu must outlive it. */
int emu_cpu_new(struct emu *emu, struct emu_cpu **ret);
void emu_cpu_free(struct emu_cpu *cpu);
DEFINE_FREEP(struct emu_cpu *, emu_cpu_free)

/* Exact whenever emu_run() does not run; the caller may change it then. */
struct arm64_state *emu_cpu_state(struct emu_cpu *cpu);

/* Runs until there is something to do for the caller. The CPU's own thread. */
enum emu_exit emu_run(struct emu_cpu *cpu);

/*
 * For the handler of SIGSEGV, SIGBUS, SIGFPE and SIGILL on the CPU's own thread, with the context
 * that the kernel gave it (ucontext_t): true when the guest's instruction did it. The context is
 * changed so that emu_run() returns EMU_EXIT_FAULT once the handler has returned.
 */
bool emu_fault(struct emu_cpu *cpu, void *ucontext);

/* emu_run() returns EMU_EXIT_INTERRUPTED soon, or at its next call. Any thread, any handler. */
void emu_interrupt(struct emu_cpu *cpu);

/* Guest code in [start, start + len) changed or went away. Any thread, not a signal handler. */
void emu_invalidate(struct emu *emu, uint64_t start, uint64_t len);

/*
 * Around fork(), on a CPU's own thread: begin in the parent, end in both. The child has a copy of
 * the translations and that one CPU. When begin fails with -ENOMEM the child starts with none.
 */
int emu_fork_begin(struct emu *emu);
void emu_fork_end(struct emu *emu, struct emu_cpu *cpu, bool child);

/*
 * A file of guest code whose translations outlive the process. kept: what emu_file_write() gave
 * for it once, aligned to 8 bytes and there as long as the emu; NULL: nothing. What is wrong in it
 * is ignored. Only who is trusted like this program may have written it: it is executed. Lives as
 * long as the emu. -ENOTSUP: nothing can be kept here. -ENOMEM.
 */
struct emu_file;
struct buf;
int emu_file_new(struct emu *emu, const void *kept, size_t size, struct emu_file **ret);
/* [start, start + len) shows the file from offset on, all multiples of a page. -ENOMEM. */
int emu_file_map(struct emu *emu, struct emu_file *file, uint64_t start, uint64_t len,
                 uint64_t offset);
/* [start, start + len) shows something else now: what is translated there is not the file's.
 * -ENOMEM. */
int emu_file_unmap(struct emu *emu, uint64_t start, uint64_t len);
/* Translations that were kept, and those that this process made since it is one. */
void emu_file_count(struct emu *emu, const struct emu_file *file, size_t *ret_kept,
                    size_t *ret_fresh);
/*
 * What this process made and what is kept, which may be newer than that of emu_file_new(), for the
 * next process. -ENOMEM.
 */
int emu_file_write(struct emu *emu, const struct emu_file *file, const void *kept, size_t size,
                   struct buf *ret);

void emu_count(const struct emu *emu, struct emu_counters *ret);

#endif
