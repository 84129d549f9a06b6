/*
 * pull.h - an image from a registry into the store.
 */
#ifndef IMAGE_PULL_H
#define IMAGE_PULL_H

#include <stdbool.h>

#include "image/install.h"
#include "image/platform.h"
#include "image/reference.h"

struct err;
struct image_store;

struct pull_request {
    const struct reference *reference;
    const struct platform *platform; /* NULL: the host's */
    struct install_progress progress;
};

struct pull_result {
    char *id;                       /* the caller's */
    char digest[DIGEST_LENGTH + 1]; /* what the name stands for: an index's or a manifest's */
    bool was_there;                 /* nothing had to be done */
};

int image_pull(struct image_store *store, const struct pull_request *request,
               struct pull_result *ret, struct err *err);

#endif
