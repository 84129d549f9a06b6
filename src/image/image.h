/*
 * image.h - one image of the store, ready to run.
 *
 * The configuration is that of OCI image-spec 1.1 "config.md" with Docker's Healthcheck, Shell and
 * OnBuild. It comes from strangers: types and sizes are checked here, meanings (users, ports,
 * signals) by those who use them.
 */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "image/platform.h"

struct err;
struct image_store;

struct image_health {
    bool given;
    struct strv test; /* {"CMD", ...}, {"CMD-SHELL", "text"} or {"NONE"} */
    int64_t interval_ns, timeout_ns, start_period_ns, start_interval_ns; /* 0: default */
    int64_t retries;
};

struct image_config {
    struct strv env;        /* NAME=value */
    struct strv entrypoint; /* empty: none */
    struct strv cmd;
    struct strv shell;
    struct strv volumes; /* paths */
    struct strv ports;   /* "80/tcp" */
    struct strv labels;  /* NAME=value */
    struct strv on_build;
    char *user; /* never NULL; "" = root */
    char *workdir;
    char *stop_signal; /* "" = SIGTERM */
    struct image_health health;
};

struct image {
    char *id;          /* "sha256:..." of the configuration */
    char *digest;      /* "sha256:..." of the manifest */
    struct strv names; /* full names */
    struct platform platform;
    int64_t created_ns; /* 0: not said */
    uint64_t size;      /* bytes of the unpacked layers */
    struct image_config config;
    /* Absolute paths, topmost first: the order of lowerdir. One that is there twice is named once.
     */
    struct strv layers;
    struct strv diff_ids; /* bottom first, as in the configuration */
    json_t *json;         /* the whole configuration */
};

/*
 * Finds what the user named: a reference, a whole id, at least 4 digits of one, or an index digest.
 * platform NULL: the host's if there, else the newest. -ENOENT with a text that ends in
 * "isola pull NAME" when there is none; -EEXIST when a short id fits several.
 */
int image_resolve(struct image_store *store, const char *name, const struct platform *platform,
                  struct image *ret, struct err *err);
void image_done(struct image *image);
DEFINE_DONEP(struct image, image_done)

/* Reads a configuration's "config" object (may be NULL). */
int image_config_read(const json_t *object, struct image_config *ret, struct err *err);
void image_config_done(struct image_config *config);
DEFINE_DONEP(struct image_config, image_config_done)

/* The user's config object again, as JSON with Docker's key names; NULL without memory. */
json_t *image_config_write(const struct image_config *config);

#endif
