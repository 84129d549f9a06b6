/*
 * push.h - an image of the store to a registry.
 */
#ifndef IMAGE_PUSH_H
#define IMAGE_PUSH_H

#include <stdbool.h>
#include <stddef.h>

#include "image/install.h"
#include "image/reference.h"

struct err;
struct image;
struct image_store;

struct push_request {
    const struct image *images; /* of one name, a platform each */
    size_t image_count;         /* at least 1 */
    bool index;                 /* the name stands for an index of them, else for the first */
    const struct reference *reference;
    struct install_progress progress;
};

/*
 * Blobs that the registry lacks go there several at once; those that another repository of it has
 * are mounted. *ret_digest is what the registry has under the name now.
 */
int image_push(struct image_store *store, const struct push_request *request,
               char ret_digest[DIGEST_LENGTH + 1], struct err *err);

#endif
