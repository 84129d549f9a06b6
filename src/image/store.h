/*
 * store.h - the images on this machine.
 *
 * ROOT/images/ holds
 *   oci-layout, index.json     an OCI image layout that other tools can read
 *   blobs/sha256/HEX           manifests, configurations, compressed layers
 *   layers/HEX/                unpacked layers in overlayfs form, named by diff ID or chain ID
 *   erofs/HEX                  layers as disks of virtual machines; see erofs.h
 *   index.db                   sqlite (WAL): which image has which names, layers and users
 *   work/                      what is being made; a name is moved out of here only when complete
 *   lock                       shared: somebody adds; exclusive: somebody removes unused files
 *
 * Any number of processes may use a store at once and each may be killed at any moment: the index
 * changes by transactions, files appear by rename.
 *
 * A store belongs to one thread. Nothing here needs libcurl or libcrypto.
 */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"

struct err;
struct image_store;

enum store_mode {
    STORE_READ_WRITE, /* makes what is missing */
    STORE_READ_ONLY,  /* for commands that only look; a missing store is -ENOENT */
};

/* root is Isola's ROOT (without /images). */
int image_store_open(const char *root, enum store_mode mode, struct image_store **ret_store,
                     struct err *err);
void image_store_close(struct image_store *store);
DEFINE_FREEP(struct image_store *, image_store_close)

/* The path of ROOT/images and a descriptor of it; both stay the store's. */
const char *image_store_path(const struct image_store *store);
int image_store_fd(const struct image_store *store);

/*
 * Protects an image from removal for as long as a workload exists. user is the workload's id.
 * -ENOENT when the image is not (any more) there: then resolve or pull again. A user has one image;
 * pinning another replaces it. Unpinning an unknown user is success.
 */
int image_pin(struct image_store *store, const char *user, const char *image_id, struct err *err);
int image_unpin(struct image_store *store, const char *user, struct err *err);
/* Appends "USER" of every pin, so that `system check` can drop those of lost workloads. */
int image_pins(struct image_store *store, struct strv *ret_users, struct err *err);

/* A row of `images`. Strings belong to the list. */
struct image_row {
    char *id;       /* "sha256:..." of the configuration */
    char *digest;   /* of the manifest */
    char *name;     /* full name with tag or digest; NULL: dangling */
    char *platform; /* "linux/amd64" or "linux/arm64/v8" */
    int64_t created_ns;
    uint64_t size; /* bytes of its unpacked layers */
    uint64_t users;
};

struct image_list {
    struct image_row *rows; /* newest first; an image with n names has n rows */
    size_t count;
};

int image_store_list(struct image_store *store, struct image_list *ret, struct err *err);
void image_list_done(struct image_list *list);
DEFINE_DONEP(struct image_list, image_list_done)

/* Bytes of each unpacked layer of an image, bottom first; *ret_sizes is the caller's. */
int image_layer_sizes(struct image_store *store, const char *image_id, uint64_t **ret_sizes,
                      size_t *ret_count, struct err *err);

/* Gives the image a name more; another image of that platform loses it. name is a full name. */
int image_name_set(struct image_store *store, const char *image_id, const char *name,
                   struct err *err);
/* Takes one name away (of all platforms). -ENOENT when there is none. */
int image_name_remove(struct image_store *store, const char *name, struct err *err);

/*
 * Removes the image's rows and all of its names, then the files that nothing needs any more.
 * -EBUSY when a workload uses it. Files stay for a later sweep while another process adds images.
 */
int image_remove(struct image_store *store, const char *image_id, struct err *err);

/* Removes files that no image needs; *ret_bytes counts what was freed. */
int image_store_sweep(struct image_store *store, uint64_t *ret_bytes, struct err *err);

struct store_usage {
    uint64_t images, images_used;
    uint64_t layers_bytes;      /* unpacked */
    uint64_t blobs_bytes;       /* compressed layers, configurations, manifests */
    uint64_t erofs_bytes;       /* layers as disks of virtual machines, on this disk */
    uint64_t reclaimable_bytes; /* unpacked layers and disks that only unused images have */
};

/* The images' part of `system df`. */
int image_store_usage(struct image_store *store, struct store_usage *ret, struct err *err);

/*
 * Checks that every image has its blobs and layer directories, and looks for files of nobody.
 * Appends one line a problem; with repair removes broken images and left-over files.
 */
int image_store_check(struct image_store *store, bool repair, struct strv *ret_problems,
                      struct err *err);

#endif
