/*
 * seccomp_profile.h - the default system call filter, and a user's own from a file.
 */
#ifndef ENGINE_SECCOMP_PROFILE_H
#define ENGINE_SECCOMP_PROFILE_H

#include <jansson.h>

struct err;
struct strv;

/* Names of system calls; the list ends with NULL. */
extern const char *const seccomp_allowed[];

struct seccomp_capability_rule {
    const char *capability; /* NULL ends the list */
    const char *name;
};
extern const struct seccomp_capability_rule seccomp_capability_rules[];

/*
 * linux.seccomp (runtime-spec) for a workload with these capabilities: everything not allowed
 * answers EPERM, clone() may make no namespaces, clone3() answers ENOSYS so that callers fall back.
 */
int seccomp_profile_default(const struct strv *capabilities, json_t **ret, struct err *err);

/*
 * Reads a profile file: linux.seccomp itself, or Docker's form of it ("archMap", rules with "name",
 * "includes" and "excludes" by capability).
 */
int seccomp_profile_load(const char *path, const struct strv *capabilities, json_t **ret,
                         struct err *err);

#endif
