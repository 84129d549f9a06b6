/*
 * kernel_unpack.h - any kernel file as an ELF file, unpacked once: ROOT/kernels/.cache.
 *
 * Only in the program isola-kernel, which has the unpackers.
 */
#ifndef ENGINE_KERNEL_UNPACK_H
#define ENGINE_KERNEL_UNPACK_H

struct err;

/*
 * The path of the ELF kernel in the file at path, which is path itself when it is one. The caller
 * frees it. The cache keeps the eight kernels that were unpacked last.
 */
int kernel_unpack(const char *root, const char *path, char **ret_path, struct err *err);

#endif
