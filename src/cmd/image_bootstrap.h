/*
 * image_bootstrap.h - images from packages of another architecture, configured by
 * isola-emu-aarch64.
 */
#ifndef CMD_IMAGE_BOOTSTRAP_H
#define CMD_IMAGE_BOOTSTRAP_H

#include <stdbool.h>

#include "base/str.h"

/* Whether a variant of mmdebstrap(1) can be made so. architecture: Go's name of it. */
bool bootstrap_can_emulate(const char *architecture, const char *variant);

/* Adds the options of mmdebstrap that unpack its packages and configure them under the emulator.
 * architecture: Debian's name. 0 or a negative errno; -EINVAL: no shell can be told the path. */
int bootstrap_emulated_arguments(const char *architecture, const char *variant, struct strv *args);

#endif
