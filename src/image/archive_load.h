/*
 * archive_load.h - images out of one file: OCI archives and Docker's, plain or compressed.
 */
#ifndef IMAGE_ARCHIVE_LOAD_H
#define IMAGE_ARCHIVE_LOAD_H

#include "base/str.h"

struct err;
struct image_store;

/*
 * Reads the archive of fd (a file, pipe or terminal's redirection) up to its end. Appends for each
 * image its full names, or its id when it has none, to ret_loaded.
 */
int archive_load(struct image_store *store, int fd, struct strv *ret_loaded, struct err *err);

#endif
