/*
 * state.h - the state directory of one container: ROOT/ID.
 *
 * state.json    who the first process is, where the cgroup and the bundle are
 * config.json   the spec as it was at creation: for exec and the late hooks
 * start         the socket on which the first process waits; gone once it was started
 */
#ifndef CONTAINER_STATE_H
#define CONTAINER_STATE_H

#include "container/container.h"

struct state_record {
    const char *id;
    const char *bundle; /* absolute */
    const char *rootfs;
    const char *cgroup;
    const char *cgroup_names;
    const char *systemd_unit;    /* the scope; NULL: the cgroup is our own */
    bool systemd_user;           /* of the user's manager */
    const struct rdt_group *rdt; /* NULL: none */
    pid_t pid;
    uint64_t start_time;
    int64_t created_ns;
    const struct spec *spec;
};

#define STATE_SOCKET "start"

/* Opens root, made when missing. Descriptor or negative errno. */
int state_open_root(const char *root, bool make, struct err *err);

/* Makes the directory of a new container; -EEXIST when there is one. */
int state_make(int root_fd, const char *id, struct err *err);

int state_write(int dir_fd, const struct state_record *record, struct err *err);
int state_write_config(int dir_fd, const struct spec *spec, struct err *err);

/* The cgroup of a container that exists. */
struct cgroup;
int state_cgroup(const struct container_state *state, struct cgroup *cgroup, struct err *err);

/* Reads the state file; status is derived. */
int state_read(int root_fd, const char *id, struct container_state *ret, struct err *err);

/* The text that hooks read. The caller frees it. */
char *state_text(const struct state_record *record, const char *status);

#endif
