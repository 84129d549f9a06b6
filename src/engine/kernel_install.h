/*
 * kernel_install.h - a guest kernel from a package or a file into ROOT/kernels (kernel.h).
 *
 * Only in the program isola-kernel, which has the unpackers.
 */
#ifndef ENGINE_KERNEL_INSTALL_H
#define ENGINE_KERNEL_INSTALL_H

#include <stdbool.h>

#include "base/str.h"

struct err;

struct kernel_install {
    const char *root;    /* the directory ROOT */
    const char *from;    /* a .deb, bzImage or ELF file; NULL: the distribution's cloud kernel */
    const char *modules; /* a tree as /lib/modules/VERSION, for a kernel file; NULL: none */
    const char *name;    /* instead of the version that the kernel says; NULL: that */
    bool not_default;    /* the default stays, unless there is none */
};

/*
 * In one step: a crash leaves the kernels that were there. *ret_missing gets the modules that a
 * machine needs and the kernel does not have. *ret_version is the caller's.
 */
int kernel_install(const struct kernel_install *install, char **ret_version,
                   struct strv *ret_missing, struct err *err);

#endif
