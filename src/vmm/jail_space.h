/*
 * jail_space.h - a place of its own for a process: namespaces, a root directory in which nothing
 * is, an identity that owns nothing.
 *
 * Two steps, because what a machine needs is opened in between, with the rights and in the
 * namespaces of who starts it: the process is born in its pid namespace, and leaves everything else
 * of the host when all is open. Both need one thread.
 */
#ifndef VMM_JAIL_SPACE_H
#define VMM_JAIL_SPACE_H

#include <stdint.h>
#include <sys/types.h>

struct err;

/* Of machines that root starts: the numbers that systemd's containers do not reach, up to 2^31. */
#define JAIL_SPACE_ID 0x70000000u

/* An identity that no other machine of this pid namespace has while process pid is there. */
static inline uint32_t jail_space_id(pid_t pid)
{
    return JAIL_SPACE_ID + ((uint32_t)pid & 0x3fffffu); /* the kernel's largest pid: 2^22 */
}

/*
 * fork() into a new pid namespace, whose process 1 the child is. Without CAP_SYS_ADMIN also into a
 * user namespace in which the caller is root and nobody else there; the rights on files stay what
 * they were. Returns as fork() does; where the host forbids it, -errno and the remedy.
 */
pid_t jail_space_fork(struct err *err);

/*
 * New mount, network, ipc, uts and cgroup namespaces, and an empty read-only root directory; user
 * and group id where that can be had (root of the host, or of a namespace that maps it), no other
 * groups; a user namespace without any ids as far as this host gives one. Open descriptors stay
 * good. Capabilities are left to be given up (jail.h).
 */
int jail_space_enter(uint32_t id, struct err *err);

/* New namespaces of the same kinds, nothing else changed: 0, or -EPERM without CAP_SYS_ADMIN. */
int jail_space_unshare(void);
/* Makes a detached mount the root directory of the calling process, and the old one unreachable. */
int jail_space_set_root(int mount_fd);

#endif
