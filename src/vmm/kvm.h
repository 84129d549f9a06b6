/*
 * kvm.h - the CPU engine of Linux's KVM (Documentation/virt/kvm/api.rst of the kernel).
 */
#ifndef VMM_KVM_H
#define VMM_KVM_H

#include <stdbool.h>
#include <stdint.h>

struct cpu_engine;
struct err;

struct kvm_options {
    int fd;     /* of /dev/kvm, borrowed; -1: opened here */
    bool split; /* only local APICs in the kernel; the board brings its own I/O APIC */
    bool pit;   /* an 8254 in the kernel, for systems that know no better clock; not with split */
};

/* -ENOENT, -EACCES, -EOPNOTSUPP with err saying what is missing and the remedy. */
int kvm_engine_new(const struct kvm_options *options, struct cpu_engine **ret, struct err *err);

#endif
