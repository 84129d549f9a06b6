/*
 * id_range.h - --userns: the host's ids that stand for a workload's own.
 *
 * A workload with a range has a user namespace in which its ids from 0 on are those of the host
 * from start on. Its files keep their own ids on disk: the layers, the upper directory and named
 * volumes are id-mapped mounts. So the range is only good for one run, and what is not running
 * holds none.
 */
#ifndef ENGINE_ID_RANGE_H
#define ENGINE_ID_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/config.h"
#include "engine/engine.h"

struct err;

struct id_range {
    unsigned size; /* 0: no namespace of its own */
    unsigned uid_start;
    unsigned gid_start;
};

/* Refuses modes that are not known, and what cannot go with a namespace. */
int id_range_check(const struct workload_config *config, bool rootless, struct err *err);

/*
 * Chooses the range for a start of the workload, inside its transaction. "auto" takes a part of a
 * pool that no living workload has, "private" the range of user isola in /etc/subuid. One that is
 * joined is not looked up here.
 */
int id_range_reserve(struct engine *engine, const char *workload_id,
                     const struct workload_config *config, struct id_range *ret, struct err *err);

/* The user namespace for id-mapped mounts of the range; a descriptor or a negative errno. */
int id_range_namespace(const struct id_range *range, struct err *err);

/* The range of the namespace that the process is in; size 0: it is in ours. */
int id_range_of_process(int64_t pid, struct id_range *ret, struct err *err);

/* The workload whose namespace is joined ("container:NAME"), or NULL. */
const char *id_range_joined(const struct workload_config *config);

/* For tests: "auto", "auto:size=N" (*ret_size: N), "private", "remap", "container:NAME", "host",
 * "". */
enum id_range_mode { ID_RANGE_HOST, ID_RANGE_AUTO, ID_RANGE_PRIVATE, ID_RANGE_JOINED };
int id_range_parse(const char *text, enum id_range_mode *ret_mode, unsigned *ret_size,
                   struct err *err);

#endif
