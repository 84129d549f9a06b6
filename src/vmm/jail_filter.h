/*
 * jail_filter.h - system call filters from lists of numbers; seccomp(2), for x86-64.
 */
#ifndef VMM_JAIL_FILTER_H
#define VMM_JAIL_FILTER_H

#include <stddef.h>
#include <stdint.h>

/* One that passes; with arg >= 0 only when that argument's low 32 bits have bits masked == value.
 */
struct jail_rule {
    int number;
    int arg; /* or one of those below */
    uint32_t mask, value;
};

#define JAIL_ANY (-1)     /* whatever its arguments */
#define JAIL_UNKNOWN (-2) /* answers ENOSYS: the C library has another way */
#define JAIL_SELF (-3)    /* its first argument is this process */

#define JAIL_ALLOW(name)                                                                           \
    {                                                                                              \
        SYS_##name, JAIL_ANY, 0, 0                                                                 \
    }

/* Installs the filter for the calling thread, or for all of the process. Anything that no rule lets
 * pass kills the process. 0 or a negative errno. */
int jail_filter_install(const struct jail_rule *rules, size_t count, int all_threads);

#endif
