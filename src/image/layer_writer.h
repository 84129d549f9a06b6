/*
 * layer_writer.h - one layer on its way into the store, in one pass.
 *
 * The caller's thread pushes the blob's bytes: they are hashed, kept and decompressed. A second
 * thread hashes the plain archive and extracts it. Nothing gets its final name before both digests
 * and the size are right.
 */
#ifndef IMAGE_LAYER_WRITER_H
#define IMAGE_LAYER_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "image/digest.h"
#include "image/layer_stack.h"

struct err;
struct image_store;
struct layer_writer;

#define LAYER_SIZE_UNKNOWN UINT64_MAX
#define LAYER_BYTES_MAX_DEFAULT ((uint64_t)128 << 30)

struct layer_spec {
    const char *blob_digest;  /* NULL: not known before */
    uint64_t blob_size;       /* or LAYER_SIZE_UNKNOWN */
    const char *diff_id;      /* NULL: not known before */
    const char *parent_chain; /* chain ID of the layer below; "" for the first */
    bool keep_blob;           /* put the blob into the store too */
    bool unpack;
    bool user_xattrs;
    uint64_t bytes_max;               /* of the plain archive; 0: the default */
    const struct layer_stack *parent; /* filled by parent_wait(); NULL for the first layer */
    int (*parent_wait)(void *data, struct err *err);
    void *parent_wait_data;
};

struct layer_result {
    char blob_digest[DIGEST_TEXT_SIZE];
    char diff_id[DIGEST_TEXT_SIZE];
    char key[DIGEST_TEXT_SIZE]; /* name below layers/; "" unless unpacked */
    uint64_t blob_size;
    uint64_t size;  /* bytes of the files */
    char format[8]; /* "gzip", "zstd", "" */
};

/*
 * The store is used for its paths only, so that several writers of one store may live in several
 * threads. -EALREADY: another process has just put that very blob into the store. spec's pointers
 * must stay valid.
 */
int layer_writer_new(struct image_store *store, const struct layer_spec *spec,
                     struct layer_writer **ret_writer, struct err *err);

/* Bytes taken so far, at first those that an earlier try has left: go on from there. */
uint64_t layer_writer_offset(const struct layer_writer *writer);

int layer_writer_push(struct layer_writer *writer, const void *data, size_t len, struct err *err);

/* Checks and commits. -EBADMSG for wrong digests: nothing stays. */
int layer_writer_finish(struct layer_writer *writer, struct layer_result *ret, struct err *err);

/* Ends an unfinished one; what was received is kept for the next try when keep is set. */
void layer_writer_free(struct layer_writer *writer);
DEFINE_FREEP(struct layer_writer *, layer_writer_free)

#endif
