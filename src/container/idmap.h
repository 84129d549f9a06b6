/*
 * idmap.h - id maps of user namespaces.
 */
#ifndef CONTAINER_IDMAP_H
#define CONTAINER_IDMAP_H

#include <sys/types.h>

#include "container/spec.h"

struct err;

/*
 * Writes both maps of the process's user namespace: directly, or through newuidmap and newgidmap
 * when the caller may not.
 */
int idmap_write(pid_t pid, const struct spec_id_maps *uids, const struct spec_id_maps *gids,
                struct err *err);

/* A new user namespace that has only its maps, as a descriptor, or a negative errno. */
int idmap_user_namespace(const struct spec_id_maps *uids, const struct spec_id_maps *gids,
                         struct err *err);

#endif
