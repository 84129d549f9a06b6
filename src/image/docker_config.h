/*
 * docker_config.h - who we are to a registry: Docker's config.json and credential helpers.
 *
 * $DOCKER_CONFIG/config.json, else ~/.docker/config.json. Keys are registry names; docker.io has
 * the key https://index.docker.io/v1/.
 */
#ifndef IMAGE_DOCKER_CONFIG_H
#define IMAGE_DOCKER_CONFIG_H

#include <stddef.h>

#include "base/cleanup.h"

struct err;

struct credential {
    char *user;     /* NULL: none; all three then */
    char *password; /* or NULL when there is a token */
    char *token;    /* identity token for OAuth2, or NULL */
};

/* Success with all NULL when there is nothing for the registry. */
int docker_config_get(const char *registry, struct credential *ret, struct err *err);
void credential_done(struct credential *credential);
DEFINE_DONEP(struct credential, credential_done)

/* Keeps in the helper that the file names, else in the file (mode 0600). */
int docker_config_store(const char *registry, const char *user, const char *password,
                        struct err *err);
/* -ENOENT when there was nothing. */
int docker_config_erase(const char *registry, struct err *err);

/* "user:password" of the file's "auth" value. -EINVAL for anything else. For tests, too. */
int docker_config_decode(const char *base64, struct credential *ret);

#endif
