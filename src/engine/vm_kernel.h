/*
 * vm_kernel.h - the kernel and the initial file system of machines.
 */
#ifndef ENGINE_VM_KERNEL_H
#define ENGINE_VM_KERNEL_H

#include <stdbool.h>

struct err;

/*
 * Paths of a kernel and of an initial file system with our agent as /init and the kernel's modules,
 * made when missing or when the agent is another. kernel: an installed version, NULL for the
 * default, or the absolute path of a file, which has no modules and must have all drivers built in.
 * Both are the caller's. *ret_pci: the kernel brings its driver for devices on PCI; one that has it
 * inside, or has none, looks the same from here. -ENOENT with the remedy when there is none.
 */
int vm_kernel_find(const char *root, const char *kernel, char **ret_kernel, char **ret_initrd,
                   bool *ret_pci, struct err *err);

#endif
