/*
 * apparmor.h - the AppArmor profile that workloads get where nothing else was asked for.
 *
 * It is loaded at the first start that needs it, by apparmor_parser: the kernel's form of a profile
 * changes with the kernel, and that program follows it.
 */
#ifndef ENGINE_APPARMOR_H
#define ENGINE_APPARMOR_H

#include "engine/config.h"

struct err;

#define APPARMOR_PROFILE "isola-default"

enum apparmor_state {
    APPARMOR_NONE,      /* the host has none, or it is not ours to change */
    APPARMOR_CONFINED,  /* we are under a profile ourselves, and so is what we start */
    APPARMOR_NO_PARSER, /* it is there, and nothing to load a profile with */
    APPARMOR_READY,     /* the profile is loaded, or can be */
};

enum apparmor_state apparmor_state(void);

/*
 * The profile of a workload: the one that --security-opt names, NULL for none. The text is static
 * or the configuration's.
 */
const char *apparmor_profile(const struct workload_config *config);

/* Loads the profile if it is ours and not loaded yet. run_dir: RUN, where we note what we loaded.
 */
int apparmor_load(const char *profile, const char *run_dir, struct err *err);

#endif
