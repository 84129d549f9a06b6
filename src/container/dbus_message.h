/*
 * dbus_message.h - D-Bus messages as bytes: what the systemd driver writes and reads.
 *
 * Little-endian only, as every peer on this machine is. A writer that ran out of memory stays
 * failed and says so at the end; a reader never leaves its message.
 */
#ifndef CONTAINER_DBUS_MESSAGE_H
#define CONTAINER_DBUS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define DBUS_HEAD_SIZE ((size_t)16)
#define DBUS_MESSAGE_MAX ((size_t)1 << 20)

enum dbus_type {
    DBUS_CALL = 1,
    DBUS_RETURN = 2,
    DBUS_ERROR = 3,
    DBUS_SIGNAL = 4,
};

/* A body, or anything that starts at a multiple of 8. Zeroed: empty. */
struct dbus_writer {
    struct buf buf;
    bool failed;
};

void dbus_writer_done(struct dbus_writer *w);
DEFINE_DONEP(struct dbus_writer, dbus_writer_done)

void dbus_put_byte(struct dbus_writer *w, uint8_t value);
void dbus_put_bool(struct dbus_writer *w, bool value);
void dbus_put_u16(struct dbus_writer *w, uint16_t value);
void dbus_put_u32(struct dbus_writer *w, uint32_t value);
void dbus_put_u64(struct dbus_writer *w, uint64_t value);
void dbus_put_double(struct dbus_writer *w, double value);
/* A string or an object path. */
void dbus_put_string(struct dbus_writer *w, const char *text);
void dbus_put_signature(struct dbus_writer *w, const char *signature);
/* A struct or a dict entry starts at a multiple of 8. */
void dbus_put_struct(struct dbus_writer *w);
/* An array whose elements are aligned to align; returns what dbus_end_array() needs. */
size_t dbus_begin_array(struct dbus_writer *w, size_t align);
void dbus_end_array(struct dbus_writer *w, size_t mark, size_t align);

struct dbus_call {
    const char *destination; /* NULL: there is no bus between us */
    const char *path;
    const char *interface;
    const char *member;
    const char *signature; /* of the body; "" without */
};

/* The whole message of a method call. 0 or -ENOMEM. */
int dbus_call_write(const struct dbus_call *call, uint32_t serial, const struct dbus_writer *body,
                    struct buf *ret);

/* What is read of a message; the texts point into it. */
struct dbus_message {
    enum dbus_type type;
    uint32_t reply_serial; /* 0: none */
    const char *interface; /* NULL: none */
    const char *member;
    const char *error;
    const char *signature; /* never NULL */
    const uint8_t *body;
    size_t body_len;
};

/* The length of the message that starts with these bytes, or -EBADMSG or -EMSGSIZE. */
int dbus_message_length(const uint8_t head[DBUS_HEAD_SIZE], size_t *ret);

/* data is one whole message, aligned to 8. 0 or -EBADMSG. */
int dbus_message_parse(const uint8_t *data, size_t len, struct dbus_message *ret);

/* A place in a body. */
struct dbus_reader {
    const uint8_t *data;
    size_t len;
    size_t at;
};

/* All: 0 or -EBADMSG. */
int dbus_get_u32(struct dbus_reader *r, uint32_t *ret);
/* A string or an object path. */
int dbus_get_string(struct dbus_reader *r, const char **ret);
int dbus_get_signature(struct dbus_reader *r, const char **ret);

#endif
