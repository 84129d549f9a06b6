/*
 * snapshot.h - a paused machine in two files, and machines made from them.
 *
 * The state file holds the machine's description and the registers of CPUs, board and devices as
 * sections (state.h) below one checksum; the memory file is guest memory as it lies in memory.h,
 * zero pages as holes, and one page behind it that names the snapshot it belongs to. A restored
 * machine maps the memory file copy-on-write: it must neither change nor shrink while one runs.
 *
 * Both files are as hostile as any other: everything read is checked. What the description names
 * (drives, taps, sockets) is opened by whoever restores, with his rights.
 */
#ifndef VMM_SNAPSHOT_H
#define VMM_SNAPSHOT_H

#include <stddef.h>

#include "base/cleanup.h"

struct err;
struct machine;
struct machine_options;
struct snapshot;

#define SNAPSHOT_ID_SIZE 16

/* Snapshots that a difference may rest on, the full one included. */
#define SNAPSHOT_BASES_MAX 4u

struct snapshot_paths {
    const char *state;
    const char *memory;
    /* To restore a difference: the memory files of those before it, the latest first, a full one
     * last. */
    const char *base[SNAPSHOT_BASES_MAX];
    size_t base_count;
};

enum snapshot_kind {
    SNAPSHOT_FULL,
    SNAPSHOT_DIFF, /* memory: what was written since the last one, or since the restore */
};

/*
 * Writes both; the machine must be paused, and stays so. Neither file may exist: -EEXIST. They get
 * their names when they are whole and on the disk, the state last: a state file that is there has
 * its memory. description is what the machine was made from, JSON (config.h).
 */
int snapshot_save(struct machine *machine, const char *description,
                  const struct snapshot_paths *paths, struct err *err);

/* The same in steps, for a machine in a process that can open nothing: files under names of their
 * own beside those of paths, */
struct snapshot_files {
    char *state_name, *memory_name; /* NULL: it has its final name */
    int state_fd, memory_fd;
    int base_fd[SNAPSHOT_BASES_MAX]; /* to restore; all below base_count */
    size_t base_count;
};
int snapshot_files_make(const struct snapshot_paths *paths, struct snapshot_files *ret,
                        struct err *err);
/* what is written to them (borrowed), */
int snapshot_write(struct machine *machine, enum snapshot_kind kind, const char *description,
                   int state_fd, int memory_fd, struct err *err);
/* their names, */
int snapshot_files_name(struct snapshot_files *files, const struct snapshot_paths *paths,
                        struct err *err);
/* and that they have them: the next difference is to this one. */
void snapshot_written(struct machine *machine);
/* Removes what has not got its name. */
void snapshot_files_done(struct snapshot_files *files);
DEFINE_DONEP(struct snapshot_files, snapshot_files_done)

/* Reads the state file and checks that it is whole and that the memory file is its own. */
int snapshot_open(const struct snapshot_paths *paths, struct snapshot **ret, struct err *err);
/* Opens them and no more. Without a memory file its descriptor is the negative errno: what is wrong
 * with the state is to be said first. */
int snapshot_files_open(const struct snapshot_paths *paths, struct snapshot_files *ret,
                        struct err *err);
/* The same of open files, borrowed; paths are for errors. */
int snapshot_open_files(const struct snapshot_files *files, const struct snapshot_paths *paths,
                        struct snapshot **ret, struct err *err);
void snapshot_free(struct snapshot *snapshot);
DEFINE_FREEP(struct snapshot *, snapshot_free)

/* Valid as long as the snapshot. */
const char *snapshot_description(const struct snapshot *snapshot);

/* Where machine_new() is to take memory from. */
void snapshot_set_memory(const struct snapshot *snapshot, struct machine_options *options);

/*
 * Sets a machine that was just made, with its devices, to what was saved. It is paused afterwards:
 * machine_start(), then machine_resume(). Clocks go on where they stopped; the guest sees a new
 * generation id, and vsock's TRANSPORT_RESET. On failure the machine must not be run.
 */
int snapshot_restore(const struct snapshot *snapshot, struct machine *machine, struct err *err);

#endif
