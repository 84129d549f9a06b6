/*
 * registry.h - one repository of one registry (OCI distribution-spec 1.1), by libcurl.
 *
 * A registry may be used by several threads at once.
 */
#ifndef IMAGE_REGISTRY_H
#define IMAGE_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "image/docker_config.h"
#include "image/reference.h"

struct descriptor;
struct err;
struct layer_writer;
struct registry;

/*
 * Reads registries.json and Docker's config.json. credential: NULL, or used instead of the stored
 * one (login). Nothing is sent yet.
 */
int registry_open(const struct reference *reference, bool for_push,
                  const struct credential *credential, struct registry **ret_registry,
                  struct err *err);
void registry_close(struct registry *registry);
DEFINE_FREEP(struct registry *, registry_close)

uint64_t registry_layer_bytes_max(const struct registry *registry);

/* GET /v2/: -EACCES when the credential is refused. */
int registry_ping(struct registry *registry, struct err *err);

struct registry_manifest {
    struct buf text;
    char *content_type; /* or NULL */
    char digest[DIGEST_LENGTH + 1];
};

/* what: tag or digest. The digest is checked when it was asked for. -ENOENT: there is none. */
int registry_get_manifest(struct registry *registry, const char *what,
                          struct registry_manifest *ret, struct err *err);
void registry_manifest_done(struct registry_manifest *manifest);
DEFINE_DONEP(struct registry_manifest, registry_manifest_done)

/* A small blob into memory; its size is checked, its digest is the caller's to check. */
int registry_get_blob(struct registry *registry, const struct descriptor *blob, struct buf *ret,
                      struct err *err);

/* install_source.fetch: data is the registry. Retries and resumes. */
int registry_fetch_layer(void *registry, const struct descriptor *blob, struct layer_writer *writer,
                         void (*bytes)(void *data, uint64_t now), void *bytes_data,
                         const bool *cancel, struct err *err);

/* 1 there, 0 not. */
int registry_has_blob(struct registry *registry, const char *digest, struct err *err);

/*
 * Asks token servers for the right to read this repository of the same registry, too. Before the
 * first request only. 0 or -ENOMEM.
 */
int registry_may_read(struct registry *registry, const char *repository);

/* Where the bytes of a blob come from and who is told. */
struct registry_upload {
    const char *digest;
    int fd; /* read from its start */
    uint64_t size;
    const bool *cancel;
    void (*bytes)(void *data, uint64_t now); /* what the registry has */
    void *bytes_data;
};

/*
 * Takes a blob over from another repository of the registry. 1: done. 0: it has to be uploaded;
 * then *ret_session (the caller's, may be NULL) is an upload that the registry has opened for it.
 * -EACCES: that repository is not for us.
 */
int registry_mount_blob(struct registry *registry, const char *digest, const char *from_repository,
                        char **ret_session, struct err *err);
/*
 * Uploads a blob, in pieces when it is large. After a cut it goes on with what the registry says it
 * has, else from the beginning. session: NULL, or what registry_mount_blob() gave; taken over.
 */
int registry_put_blob(struct registry *registry, const struct registry_upload *upload,
                      char *session, struct err *err);
int registry_put_manifest(struct registry *registry, const char *tag, const char *media_type,
                          const char *text, size_t len, struct err *err);

#endif
