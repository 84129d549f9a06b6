/*
 * archive_save.h - images into one file: an OCI layout that Docker's loaders read too.
 */
#ifndef IMAGE_ARCHIVE_SAVE_H
#define IMAGE_ARCHIVE_SAVE_H

#include <stdbool.h>

#include "base/str.h"

struct err;
struct image_store;
struct platform;

/*
 * Writes oci-layout, index.json, blobs/ and, for Docker's own loaders, manifest.json and
 * repositories. names: as for image_resolve(). platform NULL: the host's.
 */
int archive_save(struct image_store *store, const struct strv *names,
                 const struct platform *platform, int fd, struct err *err);

#endif
