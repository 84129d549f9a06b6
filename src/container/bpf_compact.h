/*
 * bpf_compact.h - the same seccomp program in less code.
 *
 * libseccomp tests one system call after the other; the kernel verifies, converts, compiles and
 * (for its cache of allowed calls) interprets that at each start of a container. Calls with
 * neighbouring numbers mostly have one fate, so a search tree over ranges needs a fraction.
 */
#ifndef CONTAINER_BPF_COMPACT_H
#define CONTAINER_BPF_COMPACT_H

#include <linux/filter.h>
#include <stddef.h>

/*
 * Makes a program that decides as `code` does for every architecture, number and argument, whatever
 * made it. Returns 1 and a program of its own (the caller frees it) when that is shorter, 0 when
 * the program is better left as it is (it does more than compare before its decision, say), or
 * -errno.
 */
int bpf_compact(const struct sock_filter *code, size_t count, struct sock_filter **ret_code,
                size_t *ret_count);

#endif
