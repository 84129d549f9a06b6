/*
 * device_bpf.h - device rules as an eBPF program; apart from attaching it, for its tests.
 */
#ifndef CONTAINER_DEVICE_BPF_H
#define CONTAINER_DEVICE_BPF_H

#include <linux/bpf.h>
#include <stddef.h>

#include "container/spec.h"

/* The program for rules and the default devices behind them. The caller frees *ret_code. */
int device_bpf_build(const struct spec_device_rule *rules, size_t count, struct bpf_insn **ret_code,
                     size_t *ret_count);

#endif
