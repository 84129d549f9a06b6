/*
 * registry_auth.h - answers to a registry's challenges. For src/image/registry*.c only.
 */
#ifndef IMAGE_REGISTRY_AUTH_H
#define IMAGE_REGISTRY_AUTH_H

#include <stdint.h>

struct err;
struct registry;
struct strv;

/*
 * Gets the Authorization header that the challenges (values of WWW-Authenticate) ask for. version:
 * of the header that was refused; another thread may have a newer one already. 1: try again; 0: we
 * have nothing to offer.
 */
int registry_authorize(struct registry *registry, const struct strv *challenges, uint64_t version,
                       struct err *err);

#endif
