/*
 * erofs.h - unpacked layers as EROFS images, for the disks of virtual machines.
 *
 * ROOT/images/erofs/KEY is the layer layers/KEY as a read-only file system, made once by mkfs.erofs
 * (erofs-utils), uncompressed, so that all machines share it through the page cache. It holds what
 * overlayfs needs: whiteouts, opaque marks, owners, times, extended attributes, hard links. The
 * same layer gives the same bytes. It goes with its layer.
 */
#ifndef IMAGE_EROFS_H
#define IMAGE_EROFS_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct image;
struct image_store;
struct strv;

/*
 * Appends the absolute paths of the EROFS images of all layers, topmost first as in image->layers;
 * what is missing is made, which takes about a second for each 500 MB. Two processes that want the
 * same one make it once. The image must be pinned, or it may go at any moment. -ENOENT with the
 * remedy without mkfs.erofs.
 */
int image_erofs(struct image_store *store, const struct image *image, struct strv *ret_paths,
                struct err *err);

/*
 * Looks for images that are cut or no EROFS. Appends one line a problem; with repair they are
 * removed: the next start of a virtual machine makes them again.
 */
int image_erofs_check(struct image_store *store, bool repair, struct strv *ret_problems,
                      struct err *err);

#endif
