/*
 * snapshot_internal.h - shared by snapshot*.c and their tests.
 */
#ifndef VMM_SNAPSHOT_INTERNAL_H
#define VMM_SNAPSHOT_INTERNAL_H

#include <stdint.h>

#include "base/buf.h"
#include "vmm/snapshot.h"
#include "vmm/state.h"

struct machine;
struct memory;

#define SNAPSHOT_STATE_MAX ((size_t)64 << 20)
#define SNAPSHOT_DESCRIPTION_MAX ((size_t)1 << 20)

/* The first section: what must be the same in the machine that is restored. */
struct snapshot_head {
    uint8_t id[SNAPSHOT_ID_SIZE]; /* random; also in the memory file */
    uint8_t engine[16];           /* its name, filled up with NUL */
    uint64_t memory;              /* bytes */
    uint32_t cpus;
    bool pit, rtc, i8042, pvpanic, debug_exit, serial, pci;
    struct buf description;
};

extern const struct state_table snapshot_head_table;

struct snapshot {
    struct buf file;
    struct snapshot_head head;
    size_t body;   /* where the sections behind the head begin */
    int memory_fd; /* a full one; upon it lie, the oldest first, */
    int diff_fd[SNAPSHOT_BASES_MAX];
    size_t diff_count;
};

/*
 * The envelope of a state file: 8 bytes of magic, version, CRC-32 of everything else, length of the
 * sections. begin leaves room for it in an empty buffer, end fills it in.
 */
#define SNAPSHOT_ENVELOPE 24
int snapshot_envelope_begin(struct buf *file);
void snapshot_envelope_end(struct buf *file);
/* name is for errors. */
int snapshot_envelope_check(const uint8_t *data, size_t len, const char *name, struct err *err);

/* Reads envelope and head of snapshot->file; the memory file is not looked at. */
int snapshot_parse(struct snapshot *snapshot, const char *name, struct err *err);

/* A new file beside path, for its owner alone; *ret_name is the caller's. The descriptor. */
int snapshot_make_file(const char *path, char **ret_name, struct err *err);

/* Both write an empty file whole and sync it. */
int snapshot_write_state(const struct buf *file, int fd, struct err *err);
int snapshot_write_memory(const struct memory *memory, const uint8_t *id, int fd, struct err *err);
/* That fd (borrowed) is a memory file for that head that is long enough and has this id. */
int snapshot_check_memory(int fd, const char *name, const struct snapshot_head *head,
                          const uint8_t *id, struct err *err);

struct memory_region;
/* Of one bit a page, in whole words. */
size_t snapshot_bitmap_bytes(const struct memory_region *region);

/*
 * snapshot_diff.c. Notes what was written since it was asked last, until snapshot_written(); what
 * was noted, as a file; that fd is such a file with this id, and what it rests on; and into memory
 * that has what it rests on.
 */
int snapshot_collect(struct machine *machine, struct err *err);
int snapshot_write_diff(struct machine *machine, const uint8_t *id, int fd, struct err *err);
int snapshot_check_diff(int fd, const char *name, const struct snapshot_head *head,
                        const uint8_t *id, uint8_t *ret_base, struct err *err);
int snapshot_apply_diff(struct memory *memory, int fd, struct err *err);

#endif
