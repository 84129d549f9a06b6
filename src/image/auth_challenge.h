/*
 * auth_challenge.h - WWW-Authenticate of a registry (RFC 9110, 11.6.1; distribution token auth).
 */
#ifndef IMAGE_AUTH_CHALLENGE_H
#define IMAGE_AUTH_CHALLENGE_H

#include <stdbool.h>

#include "base/cleanup.h"

struct auth_challenge {
    bool bearer; /* else basic */
    char *realm;
    char *service; /* bearer only; may be NULL */
    char *scope;
};

/*
 * The best challenge that a header's value holds: Bearer before Basic. -ENOENT when it has neither,
 * -EINVAL when it cannot be read.
 */
int auth_challenge_parse(const char *text, struct auth_challenge *ret);
void auth_challenge_done(struct auth_challenge *challenge);
DEFINE_DONEP(struct auth_challenge, auth_challenge_done)

#endif
