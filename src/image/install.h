/*
 * install.h - an image into the store: manifest and configuration in memory, layers from a source.
 */
#ifndef IMAGE_INSTALL_H
#define IMAGE_INSTALL_H

#include <stdint.h>

#include "image/layer_writer.h"
#include "image/manifest.h"

struct err;
struct image_store;

/* Called from several threads. All members may be NULL. */
struct install_progress {
    /* What a layer does now: "Waiting", "Downloading", "Already exists", "Pull complete". */
    void (*state)(void *data, size_t layer, const char *digest, const char *state);
    void (*bytes)(void *data, size_t layer, const char *digest, uint64_t now, uint64_t total);
    void *data;
};

struct install_source {
    /*
     * Pushes the blob's bytes, from layer_writer_offset() on, into writer; bytes(so far) tells
     * progress. Several threads call it at once. *cancel turns true when it should give up.
     */
    int (*fetch)(void *data, const struct descriptor *blob, struct layer_writer *writer,
                 void (*bytes)(void *bytes_data, uint64_t now), void *bytes_data,
                 const bool *cancel, struct err *err);
    void *data;
};

struct install_request {
    const char *manifest;
    size_t manifest_len;
    const char *content_type; /* of the manifest, or NULL */
    const char *config;
    size_t config_len;
    const char *name;        /* full name to give, or NULL */
    const char *name_digest; /* the registry's digest for it (an index's perhaps), or NULL */
    const struct install_source *source; /* NULL: all blobs are in the store */
    struct install_progress progress;
    uint64_t layer_bytes_max; /* 0: default */
};

/*
 * On success *ret_id ("sha256:...", the caller's) is in the store. Two installs of one image at
 * once, in one process or several, share the work.
 */
int image_install(struct image_store *store, const struct install_request *request, char **ret_id,
                  struct err *err);

#endif
