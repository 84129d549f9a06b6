/*
 * cgroup.h - a container's control group in all hierarchies of the host: v1, hybrid, v2.
 *
 * The same path in each hierarchy. In a v1 hierarchy the first process enters by itself, writing
 * "0" to the `tasks` file: the kernel then skips the lock that moving another process takes. In a
 * v2 hierarchy it is born there (CLONE_INTO_CGROUP).
 */
#ifndef CONTAINER_CGROUP_H
#define CONTAINER_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "container/spec.h"
#include "container/stats.h"

struct err;

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_HIERARCHIES_MAX ((size_t)16)

struct cgroup_hierarchy {
    char name[48]; /* directory below CGROUP_ROOT; "" when v2 is all there is */
    bool unified;  /* a v2 hierarchy */
    bool made;     /* cgroup_create() made the directory */
    int dir_fd;    /* v2: the directory, for CLONE_INTO_CGROUP; else -1 */
};

struct cgroup {
    char path[PATH_MAX / 4]; /* "/isola/web", "" when there is none */
    bool managed;            /* systemd made it, and its first process is in it */
    struct cgroup_hierarchy hierarchies[CGROUP_HIERARCHIES_MAX];
    size_t count;
};

/* Finds the hierarchies. path may be "": no cgroup at all (then count is 0). */
int cgroup_init(struct cgroup *cgroup, const char *path, struct err *err);

/*
 * The same for a container that was made before: names is what cgroup_names() said then, so that
 * nothing has to be looked for. Without names it looks.
 */
int cgroup_init_known(struct cgroup *cgroup, const char *path, const char *names, struct err *err);
/* The hierarchies as one word list: "memory pids unified", "." for v2 alone. Caller frees. */
char *cgroup_names(const struct cgroup *cgroup);

/* Closes descriptors; removes nothing. */
void cgroup_done(struct cgroup *cgroup);
DEFINE_DONEP(struct cgroup, cgroup_done)

/* The path for a container: the spec's, or one made from the id. */
int cgroup_path_for(const struct spec *spec, const char *id, char *out, size_t size,
                    struct err *err);

/*
 * Makes the directories. Without the right to: success and no cgroup for an ordinary user
 * when optional, which is for callers that ask for no limits.
 */
int cgroup_create(struct cgroup *cgroup, bool optional, struct err *err);

/* Makes ready to enter an existing one; sub: a path below it that is made, or NULL. */
int cgroup_open_enter(struct cgroup *cgroup, const char *sub, struct err *err);

/* The directory for CLONE_INTO_CGROUP, or -1. */
int cgroup_clone_fd(const struct cgroup *cgroup);

/* Moves the calling, single-threaded process in; of v2 hierarchies only when and_unified. */
int cgroup_enter(const struct cgroup *cgroup, bool and_unified, struct err *err);

/* Limits and device rules. update: of a running container, device rules excluded. */
int cgroup_apply(const struct cgroup *cgroup, const struct spec_resources *resources, bool update,
                 struct err *err);
int cgroup_apply_devices(const struct cgroup *cgroup, const struct spec_resources *resources,
                         struct err *err);

/*
 * Takes back what cgroup_create() made, for a container that came to nothing; a directory that was
 * there before is somebody else's and stays.
 */
void cgroup_undo(const struct cgroup *cgroup);

/* Kills what is left (SIGKILL) and removes the directories; none there is success. */
int cgroup_remove(const struct cgroup *cgroup, struct err *err);
/* One signal to every process. */
int cgroup_signal(const struct cgroup *cgroup, int signal, struct err *err);
int cgroup_freeze(const struct cgroup *cgroup, bool frozen, struct err *err);
bool cgroup_is_frozen(const struct cgroup *cgroup);
/* Processes in the cgroup and below; the caller frees *ret. 0 or a negative errno. */
int cgroup_pids(const struct cgroup *cgroup, pid_t **ret, size_t *ret_count);
int cgroup_stats(const struct cgroup *cgroup, struct container_stats *ret);
/* 0 also where it cannot be read. */
uint64_t cgroup_oom_kills(const struct cgroup *cgroup);

/*
 * For cgroup_*.c: the hierarchy that has a controller, or NULL; the path of a file in it; one
 * write with an error that names the file.
 */
const struct cgroup_hierarchy *cgroup_find(const struct cgroup *cgroup, const char *controller);
bool cgroup_has_v1(const struct cgroup *cgroup);
int cgroup_file(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                const char *file, char out[PATH_MAX]);
int cgroup_write(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                 const char *file, const char *text);
int cgroup_apply_v1(const struct cgroup *cgroup, const struct spec_resources *resources,
                    struct err *err);
int cgroup_apply_v2(const struct cgroup *cgroup, const struct spec_resources *resources,
                    struct err *err);
/* Attaches the rules as an eBPF program to the v2 directory. replace: the old program goes. */
int device_bpf_attach(int cgroup_fd, const struct spec_device_rule *rules, size_t count,
                      struct err *err);

/* The devices that every container may use, whatever its rules say. */
extern const struct spec_device_rule cgroup_default_devices[];
extern const size_t cgroup_default_device_count;

#endif
