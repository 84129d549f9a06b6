/*
 * guest_filter.h - a compiled seccomp program as text.
 *
 * The host compiles the profile (libseccomp stays out of the agent): flags as eight hexadecimal
 * digits, then 16 digits an instruction, in the byte order of x86 and arm64. In the guest it
 * travels as the annotation GUEST_FILTER_ANNOTATION of the OCI configuration, so that an exec finds
 * it again.
 */
#ifndef CONTAINER_GUEST_FILTER_H
#define CONTAINER_GUEST_FILTER_H

#include "container/seccomp_filter.h"

#define GUEST_FILTER_ANNOTATION "org.isola.seccomp.program"

/* The caller frees it; NULL without memory. A filter with a listener (notify) cannot cross. */
char *guest_filter_encode(const struct seccomp_filter *filter);

/* 0, -EINVAL or -ENOMEM. The filter is the caller's, to give to seccomp_filter_done(). */
int guest_filter_decode(const char *text, struct seccomp_filter *ret);

#endif
