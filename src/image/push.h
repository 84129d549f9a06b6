/*
 * push.h - an image of the store to a registry.
 */
#ifndef IMAGE_PUSH_H
#define IMAGE_PUSH_H

#include "image/install.h"
#include "image/reference.h"

struct err;
struct image;
struct image_store;

/* *ret_digest is what the registry has under the name now. */
int image_push(struct image_store *store, const struct image *image,
               const struct reference *reference, const struct install_progress *progress,
               char ret_digest[DIGEST_LENGTH + 1], struct err *err);

#endif
