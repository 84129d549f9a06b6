/*
 * state.h - saved state: a device's fields as a table, written with versions and read with checks.
 *
 * Beside each device stands a table of the fields that a snapshot keeps. Writing and reading walk
 * it; no device has code of its own for that, only a check of what was read: a snapshot file is as
 * hostile as any other. Integers are little endian on disk. A field that came later says since
 * which version; older files leave it as the device's reset left it.
 */
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct err;

enum state_kind {
    STATE_END,
    STATE_U8,
    STATE_U16,
    STATE_U32,
    STATE_U64,
    STATE_BOOL,   /* one byte, 0 or 1; anything else is refused */
    STATE_BYTES,  /* count bytes */
    STATE_STRUCT, /* count objects of table */
    STATE_BUF,    /* a struct buf of at most count bytes */
};

struct state_table;

struct state_field {
    enum state_kind kind;
    const char *name;
    size_t offset;
    size_t count;  /* elements of an array; 1 for a plain field */
    size_t stride; /* bytes from one element to the next in memory */
    /* STATE_STRUCT: what each holds. */
    const struct state_table *table;
    /* Offset of a uint32_t with how many elements are valid, or STATE_ALL. Checked against count.
     */
    size_t used;
    uint16_t since;
};

#define STATE_ALL ((size_t)-1)

struct state_table {
    const char *name; /* of the device kind; unique */
    uint16_t version; /* written; grows with each change */
    uint16_t oldest;  /* still read */
    const struct state_field *fields;
    /* After reading: refuses what no guest could have brought about, and derives what is not kept.
     * NULL: everything is fine. */
    int (*check)(void *object, struct err *err);
    /* Before writing: brings the object up to date. May be NULL. */
    int (*prepare)(void *object, struct err *err);
};

/* Rows of a table: STATE(U32, struct uart, divisor). */
#define STATE(k, type, member)                                                                     \
    {                                                                                              \
        .kind = STATE_##k, .name = #member, .offset = offsetof(type, member), .count = 1,          \
        .stride = sizeof(((type *)0)->member), .used = STATE_ALL                                   \
    }
#define STATE_SINCE(k, type, member, version)                                                      \
    {                                                                                              \
        .kind = STATE_##k, .name = #member, .offset = offsetof(type, member), .count = 1,          \
        .stride = sizeof(((type *)0)->member), .used = STATE_ALL, .since = (version)               \
    }
#define STATE_ARRAY(k, type, member)                                                               \
    {                                                                                              \
        .kind = STATE_##k, .name = #member, .offset = offsetof(type, member),                      \
        .count = sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]),                     \
        .stride = sizeof(((type *)0)->member[0]), .used = STATE_ALL                                \
    }
/* Only the first elements are valid: as many as the uint32_t member says. */
#define STATE_ARRAY_USED(k, type, member, used_member)                                             \
    {                                                                                              \
        .kind = STATE_##k, .name = #member, .offset = offsetof(type, member),                      \
        .count = sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]),                     \
        .stride = sizeof(((type *)0)->member[0]), .used = offsetof(type, used_member)              \
    }
/* A struct, or an array of them when n > 1. */
#define STATE_OBJECTS(type, member, n, object_table)                                               \
    {                                                                                              \
        .kind = STATE_STRUCT, .name = #member, .offset = offsetof(type, member), .count = (n),     \
        .stride = sizeof(((type *)0)->member) / (n), .table = (object_table), .used = STATE_ALL    \
    }
#define STATE_BUFFER(type, member, max)                                                            \
    {                                                                                              \
        .kind = STATE_BUF, .name = #member, .offset = offsetof(type, member), .count = (max),      \
        .stride = sizeof(struct buf), .used = STATE_ALL                                            \
    }
#define STATE_DONE                                                                                 \
    {                                                                                              \
        .kind = STATE_END                                                                          \
    }

/* Appends object as one section named "TABLE INSTANCE". */
int state_write(struct buf *out, const struct state_table *table, const char *instance,
                void *object, struct err *err);

/* A walk over sections that were read whole into memory (borrowed). */
struct state_reader {
    const uint8_t *data;
    size_t len;
    size_t at;
};

/*
 * Reads the next section into object, which must have been reset; it must be of this table and
 * instance. -EINVAL with err naming section and field for anything else. On failure the object
 * holds a mixture: the machine must not be run.
 */
int state_read(struct state_reader *reader, const struct state_table *table, const char *instance,
               void *object, struct err *err);

#endif
