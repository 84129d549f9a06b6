/*
 * kernel.h - the guest kernels of this host: ROOT/kernels/VERSION/{vmlinux,modules/}, and a link
 * ROOT/kernels/default.
 *
 * modules/ holds NAME.ko files without signatures, and "order" with a line for each behind those
 * that it needs: "NAME.ko", or "CONDITION NAME.ko" for one that is of use only where a device has a
 * modalias that starts with the condition ("virtio:d00000002"). A directory appears whole and is
 * never changed; what is in use stays open when it goes.
 */
#ifndef ENGINE_KERNEL_H
#define ENGINE_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct err;

struct kernel {
    char *version;
    uint64_t bytes;     /* of vmlinux */
    size_t modules;     /* kept with it */
    int64_t created_ns; /* since the epoch */
    bool is_default;
};

struct kernel_list {
    struct kernel *items; /* by version */
    size_t count;
};

void kernel_list_done(struct kernel_list *list);
DEFINE_DONEP(struct kernel_list, kernel_list_done)

/* root: the directory ROOT. None at all is an empty list. */
int kernel_list(const char *root, struct kernel_list *ret, struct err *err);

/*
 * The directory of a kernel; version NULL: the default. Returns a descriptor, -ENOENT (with the
 * remedy in err) or another negative errno.
 */
int kernel_open(const char *root, const char *version, struct err *err);

int kernel_set_default(const char *root, const char *version, struct err *err);

/* When the default goes, the newest that is left takes its place. */
int kernel_remove(const char *root, const char *version, struct err *err);

/* For those that change the directory: makes ROOT/kernels and locks it. *ret_lock unlocks when
 * closed. */
int kernel_store_lock(const char *root, int *ret_dir, int *ret_lock, struct err *err);
/* Points the default at version; the lock is held. */
int kernel_store_point(int dir, const char *version, struct err *err);

#endif
