/*
 * manifest.h - image manifests and indexes, OCI image-spec 1.1 and Docker's v2 schema 2.
 */
#ifndef IMAGE_MANIFEST_H
#define IMAGE_MANIFEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/platform.h"

struct err;

#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_OCI_LAYER_GZIP MEDIA_OCI_LAYER "+gzip"
#define MEDIA_OCI_LAYER_ZSTD MEDIA_OCI_LAYER "+zstd"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"

/* Strings point into the JSON that was parsed. */
struct descriptor {
    const char *media_type; /* "" when not said */
    const char *digest;
    uint64_t size;
};

struct manifest {
    json_t *json;
    const char *media_type;
    struct descriptor config;
    struct descriptor *layers; /* bottom first */
    size_t layer_count;
};

/* content_type: what the registry said, or NULL. */
int manifest_parse(const char *text, size_t len, const char *content_type, struct manifest *ret,
                   struct err *err);
void manifest_done(struct manifest *manifest);
DEFINE_DONEP(struct manifest, manifest_done)

/* Whether a document is an index (manifest list): by its media type, else by its shape. */
bool manifest_is_index(const char *text, size_t len, const char *content_type);

/*
 * The entry of an index that fits best. platform NULL: the host's. Strings belong to *ret_json,
 * that the caller releases. -ENOENT names what there is.
 */
int index_choose(const char *text, size_t len, const struct platform *platform, json_t **ret_json,
                 struct descriptor *ret, struct err *err);

/* What we need of an image configuration. */
struct image_facts {
    json_t *json;
    struct platform platform;
    int64_t created_ns;
    struct strv diff_ids; /* bottom first */
};

int image_facts_parse(const char *text, size_t len, struct image_facts *ret, struct err *err);
void image_facts_done(struct image_facts *facts);
DEFINE_DONEP(struct image_facts, image_facts_done)

/* A descriptor as JSON; NULL without memory. */
json_t *descriptor_json(const char *media_type, const char *digest, uint64_t size);

#endif
