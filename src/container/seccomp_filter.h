/*
 * seccomp_filter.h - a spec's seccomp section as a BPF program.
 */
#ifndef CONTAINER_SECCOMP_FILTER_H
#define CONTAINER_SECCOMP_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "container/spec.h"

struct err;

struct seccomp_filter {
    struct sock_filter *code; /* NULL: no filter */
    unsigned short count;
    unsigned flags; /* SECCOMP_FILTER_FLAG_* */
    bool notify;
};

void seccomp_filter_done(struct seccomp_filter *filter);
DEFINE_DONEP(struct seccomp_filter, seccomp_filter_done)

/*
 * Compiles the section, or takes the program from cache_dir (a directory of the caller's own, -1:
 * no cache). A cached program is used only when the file is ours, writable by nobody else, and
 * holds the very same section text. (The agent of a VM links src/guest/seccomp.c instead: the host
 * has compiled the program already.)
 */
int seccomp_filter_init(struct seccomp_filter *filter, const struct spec *spec, int cache_dir,
                        struct err *err);

/* For the calling thread. *ret_listener gets the notify descriptor when filter->notify, else -1. */
int seccomp_filter_load(const struct seccomp_filter *filter, int *ret_listener, struct err *err);

#endif
