/*
 * vm_store.h - ROOT/machines: what all machines share and any start makes anew. Its files appear
 * whole, under names that say what they were made from.
 */
#ifndef ENGINE_VM_STORE_H
#define ENGINE_VM_STORE_H

#include <stdbool.h>
#include <sys/types.h>

struct err;
struct strv;

/* The template of scratch disks; another name when it is made otherwise. */
#define VM_STORE_TEMPLATE "scratch-1.img"

/*
 * Path of the initial file system for the kernel whose directory has this inode (0: a kernel that
 * has no modules with it) with the programs that are installed now. *ret is the caller's.
 */
int vm_store_initrd(const char *root, ino_t kernel, char **ret, struct err *err);

/* ".NAME.PID" of path's last part, beside it: what is not finished yet. NULL without memory. */
char *vm_store_unfinished(const char *path);

/*
 * Adds to findings what is of older programs or removed kernels, or was left half-made, and removes
 * it with repair. A machine that runs keeps what it has.
 */
int vm_store_check(const char *root, bool repair, struct strv *findings, struct err *err);

#endif
