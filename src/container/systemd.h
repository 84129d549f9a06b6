/*
 * systemd.h - control groups that systemd owns: a transient scope for each container.
 *
 * linux.cgroupsPath is then "SLICE:PREFIX:NAME" and means the scope PREFIX-NAME.scope in SLICE. The
 * manager makes the cgroup, the driver delegates it, and what systemd has no property for is
 * written into the cgroup's files as ever.
 */
#ifndef CONTAINER_SYSTEMD_H
#define CONTAINER_SYSTEMD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "container/dbus.h"
#include "container/spec.h"

struct err;

#define SYSTEMD_NAME_SIZE ((size_t)256)

struct systemd_unit {
    bool user; /* of the calling user's manager, not the system's */
    char name[SYSTEMD_NAME_SIZE];
    char slice[SYSTEMD_NAME_SIZE];
};

/* True for SLICE:PREFIX:NAME. */
bool systemd_is_unit_path(const char *cgroups_path);

/* The scope of a container; cgroups_path may be NULL. */
int systemd_unit_init(struct systemd_unit *unit, const char *cgroups_path, const char *id,
                      bool user, struct err *err);

/*
 * The cgroup of the scope below the manager's own ("", "/user.slice/.../user@1.service"): slices
 * nest by the dashes in their names.
 */
int systemd_unit_path(const struct systemd_unit *unit, const char *manager, char *out, size_t size,
                      struct err *err);

/* The manager's own cgroup. */
int systemd_manager_path(struct dbus *bus, char *out, size_t size, struct err *err);

/* The scope's, asking the manager for its own. */
int systemd_find_path(struct dbus *bus, const struct systemd_unit *unit, char *out, size_t size,
                      struct err *err);

/*
 * Starts the scope with the process in it and waits until it is there. unified: memory and CPU are
 * of cgroup v2. path: where the process must be afterwards.
 */
int systemd_start_scope(struct dbus *bus, const struct systemd_unit *unit, pid_t pid,
                        const struct spec *spec, bool unified, const char *path, struct err *err);

/* Changes the properties that stand for resources. */
int systemd_update(const char *unit, bool user, const struct spec_resources *resources,
                   bool unified, struct err *err);

/*
 * Puts a process into the cgroup of a scope that runs, or with sub ("/a") into one below it: where
 * the kernel forbids it to the caller, the manager may, or the system's for it.
 */
int systemd_attach(const char *unit, bool user, pid_t pid, const char *sub, struct err *err);

/* Stops the scope, whose processes are gone; one that is not there any more is success. */
int systemd_stop(const char *unit, bool user, struct err *err);

/*
 * For systemd_*.c and tests. Appends the resources as properties of type (sv) to an open array.
 * -EINVAL with err for values that systemd has no place for.
 */
int systemd_put_resources(struct dbus_writer *w, const struct spec_resources *resources,
                          bool unified, struct err *err);

/*
 * An annotation org.systemd.property.NAME, whose value is in GVariant's text form: true, 'text',
 * uint64 5, ['a', 'b']. A NAME that ends in Sec takes seconds and becomes NAME in microseconds.
 * Others are passed by.
 */
int systemd_put_annotation(struct dbus_writer *w, const struct spec_pair *annotation,
                           struct err *err);

#endif
