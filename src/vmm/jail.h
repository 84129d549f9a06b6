/*
 * jail.h - what is left to isola-vmm once the guest may run: no file, no program, no other process.
 *
 * Everything that the machine needs is open by then. A device that the guest has taken over finds
 * descriptors of this machine and a handful of system calls. Namespaces and an empty root directory
 * are made here (jail_space.h), or by the container that the process is in (docs/vm.md).
 */
#ifndef VMM_JAIL_H
#define VMM_JAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct jail_rule;

struct jail_options {
    /* A process of jail_space_fork(): leaves the host's namespaces and files with
     * jail_space_enter(), and can no longer make or connect sockets, nor remove files. socket_dir
     * is then NULL. */
    bool alone;
    uint32_t id; /* of that process from then on, where it can be changed */
    /* The only directory below which files may still be made, read and removed: that of the vsock
     * device's socket. NULL: none. */
    const char *socket_dir;
};

/*
 * For a process of one thread, and those that it starts: no new privileges, no capability, no core
 * dump, not dumpable; Landlock for files, TCP, signals and abstract sockets, as far as this kernel
 * has them; a filter that lets only those system calls pass that some thread needs. Any other ends
 * the process (SIGSYS). To be called by the loop's thread before CPUs and threads of disks start;
 * -EINVAL when there are threads.
 */
int jail_enter(const struct jail_options *options, struct err *err);

/* For a CPU's thread, on top of that: only what running a guest and its registers need. */
int jail_enter_cpu(void);

/*
 * The parts, for other programs of the machine. 0 or a negative errno.
 *
 * Landlock: allowed are those rights (LANDLOCK_ACCESS_FS_*; all ones: all that this kernel knows)
 * below dir_fd, an open directory (borrowed; -1: nothing), and no TCP, no signal and no abstract
 * socket of others, as far as this kernel has them. 0 where there is no Landlock.
 */
int jail_restrict_files(int dir_fd, uint64_t allowed);
/* Gives up all capabilities but these (a bit each), of which one may have fewer. */
int jail_keep_capabilities(uint64_t kept);
/* jail_filter_install() for all threads, but not under a sanitizer, whose calls nobody lists. */
int jail_restrict_calls(const struct jail_rule *rules, size_t count);
/* How many different system calls pass: of the process, and of a CPU's thread. */
size_t jail_process_calls(void);
size_t jail_cpu_calls(void);

#endif
