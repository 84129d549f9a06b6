/*
 * verify.h - whether what the store keeps is still what its names say.
 */
#ifndef IMAGE_VERIFY_H
#define IMAGE_VERIFY_H

#include <stdbool.h>

struct err;
struct image_store;
struct strv;

/*
 * Reads every blob and compares its digest, and looks whether images have all of theirs. Appends
 * one line a problem, which says what mends it. With repair damaged blobs are removed, so that the
 * next pull gets them again; images that cannot be used without them go, too, unless a workload
 * has them.
 */
int image_store_verify(struct image_store *store, bool repair, struct strv *ret_problems,
                       struct err *err);

#endif
