/*
 * kernel_modules.h - the few modules of a kernel that a virtual machine of ours needs.
 */
#ifndef ENGINE_KERNEL_MODULES_H
#define ENGINE_KERNEL_MODULES_H

#include <stddef.h>

struct err;
struct strv;

/*
 * Copies from a tree as /lib/modules/VERSION to out_dir (empty) what our devices need, with all
 * that those modules need, unpacked and without folders, and writes "order" (kernel.h). What the
 * modules need is read from themselves: packages come without modules.dep. *ret_missing gets the
 * names that are neither in the tree nor built into the kernel.
 */
int kernel_modules_copy(int tree, int out_dir, struct strv *ret_missing, struct err *err);

#endif
