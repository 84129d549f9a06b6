/*
 * digest.h - sha256 of a stream (libcrypto, which uses the CPU's own instructions).
 */
#ifndef IMAGE_DIGEST_H
#define IMAGE_DIGEST_H

#include <stddef.h>

#include "base/cleanup.h"
#include "image/reference.h"

#define DIGEST_TEXT_SIZE (DIGEST_LENGTH + 1)

struct digest;

int digest_new(struct digest **ret_digest);
void digest_free(struct digest *digest);
DEFINE_FREEP(struct digest *, digest_free)
void digest_update(struct digest *digest, const void *data, size_t len);
/* "sha256:..."; ends the stream. */
void digest_final(struct digest *digest, char out[DIGEST_TEXT_SIZE]);

/* Of one buffer. 0 or -ENOMEM. */
int digest_of(const void *data, size_t len, char out[DIGEST_TEXT_SIZE]);

/* OCI image-spec "Layer ChainID": parent NULL or "" for the first layer. */
int digest_chain(const char *parent, const char *diff_id, char out[DIGEST_TEXT_SIZE]);

/*
 * The name of a layer that leans on those below: its chain ID, but for a first layer something else
 * than its diff ID, which is the name of layers that lean on nothing.
 */
int digest_leaning(const char *parent, const char *diff_id, char out[DIGEST_TEXT_SIZE]);

#endif
