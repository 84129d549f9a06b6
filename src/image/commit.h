/*
 * commit.h - new images from parts (commit, build, import, bootstrap). Needs libcrypto.
 */
#ifndef IMAGE_COMMIT_H
#define IMAGE_COMMIT_H

#include <jansson.h>
#include <stdint.h>

struct err;
struct image;
struct image_store;

struct image_parts {
    const struct image *parent; /* NULL: from nothing */
    int upper_fd;               /* an overlay's upper directory as the new layer, or -1 */
    int tar_fd;                 /* a tar stream (plain, gzip, zstd) as the new layer, or -1 */
    const json_t *config;       /* Docker's config object; NULL: the parent's */
    const char *architecture;   /* NULL: the parent's, else the host's */
    const char *variant;
    const char *author, *comment, *created_by;
    int64_t created_ns; /* 0: now */
    const char *name;   /* full name to give, or NULL */
};

/* Makes layer, configuration and manifest. *ret_id ("sha256:...") is freed by the caller. */
int image_commit(struct image_store *store, const struct image_parts *parts, char **ret_id,
                 struct err *err);

#endif
