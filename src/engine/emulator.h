/*
 * emulator.h - workloads whose programs are for another CPU: isola-emu-aarch64 is mounted into them
 * and starts their programs; what those start it carries itself on to.
 */
#ifndef ENGINE_EMULATOR_H
#define ENGINE_EMULATOR_H

#include <stdbool.h>

#include "base/str.h"
#include "container/spec.h"

#define EMULATOR_PROGRAM "isola-emu-aarch64"
/* Of the workload, read-only. */
#define EMULATOR_PATH "/dev/emulator"

/* Of the workload: translations, for all its processes (isola-emu-aarch64(1), --cache). */
#define EMULATOR_CACHE_PATH "/dev/emulator-cache"

/* Whether an architecture in Go's names ("arm64") is emulated. */
bool emulator_has(const char *architecture);

/* Whether this CPU has what code is made for; else programs are interpreted. */
bool emulator_is_fast(void);

/* The words that run words[0] and what follows it: puts its own in front. 0 or -ENOMEM. */
int emulator_wrap(struct strv *words);

/* Whether a workload was started that way: by the arguments of its config.json. */
bool emulator_started(const struct spec_strings *args);

#endif
