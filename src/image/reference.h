/*
 * reference.h - the names of images.
 *
 * [HOST[:PORT]/]PATH[:TAG][@ALGORITHM:HEX], with Docker's short forms: a first part without '.',
 * ':' and other than "localhost" is no host; then the host is docker.io, and a path of one part is
 * below library/. Grammar: OCI distribution-spec 1.1 "Pulling manifests", path at most 255 bytes.
 */
#ifndef IMAGE_REFERENCE_H
#define IMAGE_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct err;

#define REFERENCE_DEFAULT_REGISTRY "docker.io"
#define REFERENCE_DEFAULT_TAG "latest"
/* "sha256:" and 64 hexadecimal digits, without the NUL. */
#define DIGEST_LENGTH ((size_t)71)
#define DIGEST_HEX_OFFSET ((size_t)7)

struct reference {
    char *registry;   /* "docker.io", "localhost:5000" */
    char *repository; /* "library/debian" */
    char *tag;        /* NULL when only a digest was given */
    char *digest;     /* "sha256:..." or NULL */
};

/* A reference with neither tag nor digest gets the tag "latest". -EINVAL names what is wrong. */
int reference_parse(const char *text, struct reference *ret, struct err *err);
void reference_done(struct reference *reference);
DEFINE_DONEP(struct reference, reference_done)

/* "docker.io/library/debian:bookworm[@digest]"; the caller frees; NULL without memory. */
char *reference_full(const struct reference *reference);

/* The same without tag and digest. */
char *reference_full_repository(const struct reference *reference);

/* What people read: full names without "docker.io/" and "library/". The caller frees. */
char *reference_familiar(const char *full_name);

/* Splits a full name of the store: repository part and tag (or NULL). 0 or -ENOMEM. */
int reference_split(const char *full_name, char **ret_repository, char **ret_tag);

bool digest_is_valid(const char *text);

#endif
