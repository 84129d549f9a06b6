/*
 * volume.h - directories that outlive workloads: ROOT/volumes/NAME/_data.
 */
#ifndef ENGINE_VOLUME_H
#define ENGINE_VOLUME_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "engine/engine.h"
#include "engine/mount_spec.h"

struct err;
struct strv;

struct volume {
    char *name;
    char *mountpoint;
    int64_t created_ns;
    bool anonymous;
    struct strv labels; /* KEY=VALUE */
    int64_t users;      /* workloads that have it */
};
void volume_done(struct volume *volume);
DEFINE_DONEP(struct volume, volume_done)

struct volume_list {
    struct volume *items; /* by name */
    size_t count;
};
void volume_list_done(struct volume_list *list);
DEFINE_DONEP(struct volume_list, volume_list_done)

/* name NULL: an anonymous one with a random name. An existing one is success. *ret is the name. */
int volume_create(struct engine *engine, const char *name, const struct strv *labels, char **ret,
                  struct err *err);
int volume_list(struct engine *engine, struct volume_list *ret, struct err *err);
/* Docker's `volume inspect`; NULL without memory. */
json_t *volume_describe(const struct volume *volume);
/* -ENOENT, -EBUSY while a workload has it. */
int volume_remove(struct engine *engine, const char *name, struct err *err);
/* Removes unused ones: anonymous, with all every one. Appends names to removed. */
int volume_prune(struct engine *engine, bool all, struct strv *removed, uint64_t *bytes,
                 struct err *err);

/* What the volume's files take on disk. */
uint64_t volume_size(const struct engine *engine, const char *name);

/*
 * For the volumes among a workload's mounts: makes those that are missing, notes the use, names
 * anonymous ones. Inside the transaction that inserts the workload.
 */
int volume_claim(struct engine *engine, const char *workload_id, struct mount_specs *mounts,
                 struct err *err);

/* Turns names into paths, makes missing sources of -v, fills empty volumes from the image. */
int volume_prepare(struct engine *engine, struct mount_specs *mounts, int rootfs_fd,
                   struct err *err);

#endif
