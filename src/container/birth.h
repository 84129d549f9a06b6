/*
 * birth.h - making a process in namespaces, by whichever way the mix of them needs.
 */
#ifndef CONTAINER_BIRTH_H
#define CONTAINER_BIRTH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

struct birth {
    uint64_t flags;           /* CLONE_NEW* made with the process */
    int user_fd;              /* joined before the process is born, or -1 */
    int pid_fd;               /* pid namespace that it is born into, or -1 */
    int cgroup_fd;            /* CLONE_INTO_CGROUP, or -1 */
    bool adopt;               /* the caller's parent is to be its parent */
    const char *time_offsets; /* written into a new time namespace; NULL: none is made */
};

/*
 * Like fork(): returns 0 in the new process, its pid in the caller (as the caller's pid namespace
 * numbers it) with *ret_pidfd, or a negative errno with err set. *ret_in_cgroup tells whether
 * cgroup_fd was used; some kernels and rights do not allow it.
 */
pid_t birth_process(const struct birth *birth, int *ret_pidfd, bool *ret_in_cgroup,
                    struct err *err);

#endif
