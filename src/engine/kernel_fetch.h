/*
 * kernel_fetch.h - packages with a kernel, by the distribution's own clients: apt-cache, apt-get
 * and dpkg-deb.
 */
#ifndef ENGINE_KERNEL_FETCH_H
#define ENGINE_KERNEL_FETCH_H

struct err;

/* Downloads the package of the newest cloud kernel into the directory dir (a path of ours). */
int kernel_fetch(const char *dir, char **ret_package_path, struct err *err);

/* Unpacks the package into dir, which must not exist; its scripts do not run. */
int kernel_unpack_package(const char *package_path, const char *dir, struct err *err);

#endif
