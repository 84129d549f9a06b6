#include "container/seccomp_filter.h"

#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

void seccomp_filter_done(struct seccomp_filter *filter)
{
    free(filter->code);
    *filter = (struct seccomp_filter){0};
}

int seccomp_filter_load(const struct seccomp_filter *filter, int *ret_listener, struct err *err)
{
    *ret_listener = -1;
    if (filter->code == NULL) {
        return 0;
    }
    struct sock_fprog program = {.len = filter->count, .filter = filter->code};
    unsigned flags = filter->flags | (filter->notify ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0);
    /* The two flags exclude each other unless the kernel is told how to report a clash. */
    if (filter->notify && (flags & SECCOMP_FILTER_FLAG_TSYNC) != 0) {
        flags &= ~(unsigned)SECCOMP_FILTER_FLAG_TSYNC; /* one thread: nothing to synchronise */
    }
    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (r < 0) {
        return err_set(err, errno, "linux.seccomp: load the filter");
    }
    if (filter->notify) {
        *ret_listener = (int)r;
    }
    return 0;
}
