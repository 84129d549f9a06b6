/*
 * names.h - the words of the runtime-spec and their kernel numbers.
 */
#ifndef CONTAINER_NAMES_H
#define CONTAINER_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "container/spec.h"

struct name_value {
    const char *name; /* NULL ends a table */
    uint64_t value;
};

/* 0 or -ENOENT. */
int name_lookup(const struct name_value *table, const char *name, uint64_t *ret_value);
/* NULL when no row has the value. */
const char *name_of_value(const struct name_value *table, uint64_t value);

extern const struct name_value capability_names[];       /* CAP_* */
extern const struct name_value rlimit_names[];           /* RLIMIT_* */
extern const struct name_value scheduler_policy_names[]; /* SCHED_* */
extern const struct name_value scheduler_flag_names[];   /* SCHED_FLAG_* */
extern const struct name_value io_class_names[];         /* IOPRIO_CLASS_* */
extern const struct name_value seccomp_action_names[];   /* SCMP_ACT_*, errno part 0 */
extern const struct name_value seccomp_arch_names[];     /* SCMP_ARCH_* */
extern const struct name_value seccomp_op_names[];       /* SCMP_CMP_* */
extern const struct name_value seccomp_flag_names[];     /* SECCOMP_FILTER_FLAG_* */
extern const struct name_value personality_names[];
extern const struct name_value propagation_names[]; /* MS_SHARED... with MS_REC */

struct namespace_kind {
    const char *name; /* in config.json */
    const char *file; /* in /proc/PID/ns */
    int clone_flag;
};

extern const struct namespace_kind namespace_kinds[SPEC_NS_COUNT];
extern const char *const hook_kind_names[SPEC_HOOK_KIND_COUNT];

#endif
