/*
 * image_progress.h - what a pull or push does: bars on a terminal, else one line a change.
 */
#ifndef CMD_IMAGE_PROGRESS_H
#define CMD_IMAGE_PROGRESS_H

#include <stdbool.h>

#include "base/cleanup.h"
#include "image/install.h"

struct image_progress;

int image_progress_new(bool quiet, struct image_progress **ret_progress);
void image_progress_free(struct image_progress *progress);
DEFINE_FREEP(struct image_progress *, image_progress_free)

/* Callbacks that belong to the object. */
struct install_progress image_progress_callbacks(struct image_progress *progress);

#endif
