/*
 * jail.h - what is left to isola-vmm once the guest may run: no file, no program, no other process.
 *
 * Everything that the machine needs is open by then. A device that the guest has taken over finds
 * descriptors of this machine and a handful of system calls. Namespaces, the root directory and the
 * cgroup are made outside, by whoever starts the program (docs/vm.md).
 */
#ifndef VMM_JAIL_H
#define VMM_JAIL_H

struct err;

struct jail_options {
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

#endif
