/*
 * guest_protocol.h - what host and agent say to each other; docs/vm-guest.md has the messages.
 *
 * A message is four bytes of length, little endian, and so many bytes of JSON: one object with the
 * member "type". Both sides use these functions. What comes from the other side is hostile: a guest
 * may send anything, so lengths are bounded before they are believed, and texts are made harmless.
 * Nothing here keeps state; any thread may call it for descriptors of its own.
 */
#ifndef CONTAINER_GUEST_PROTOCOL_H
#define CONTAINER_GUEST_PROTOCOL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "container/stats.h"

struct err;

#define GUEST_MESSAGE_MAX ((size_t)1 << 20)

/* vsock ports. The host listens on the first four, the agent on the last. */
enum {
    GUEST_PORT_STDIN = 1,
    GUEST_PORT_STDOUT = 2,
    GUEST_PORT_STDERR = 3,
    GUEST_PORT_EVENTS = 4,
    GUEST_PORT_CONTROL = 1024,
};

/* Appends the message to out. 0, -EMSGSIZE when it is longer than GUEST_MESSAGE_MAX, or -ENOMEM. */
int guest_message_add(struct buf *out, const json_t *message);

/*
 * Takes the first message out of what has been received. 1: *ret is a new reference to an object
 * that has a "type"; 0: more bytes are needed; -EBADMSG: the other side does not keep to the
 * protocol, the connection is of no use any more.
 */
int guest_message_take(struct buf *in, json_t **ret, struct err *err);

/* How much of a message that begins with these bytes is missing; 0: none. */
size_t guest_message_missing(const struct buf *in);

/* For a blocking descriptor. 0 or a negative errno. */
int guest_send(int fd, const json_t *message, struct err *err);

/*
 * Waits for one message; timeout_ms < 0: as long as it takes. Never reads beyond it. 0, -ETIMEDOUT,
 * -EPIPE when the other side has closed, -EBADMSG, or the host's error.
 */
int guest_receive(int fd, int timeout_ms, json_t **ret, struct err *err);

/* The type of a message; "" when it has none. */
const char *guest_message_type(const json_t *message);

/* {"type": "error"} from an error; NULL without memory. exec_failed as in container_create(). */
json_t *guest_error_new(const struct err *err, bool exec_failed);

/*
 * 0 when the answer has the wanted type. An error of the agent's becomes one of ours: its code
 * (limited to errnos) and its text (one line, printable). Anything else is -EBADMSG.
 */
int guest_answer_check(const json_t *answer, const char *want, bool *ret_exec_failed,
                       struct err *err);

/* What the guest wrote as one line without anything that a terminal would obey; size > 0. */
void guest_text_copy(const char *from, char *to, size_t size);

struct guest_exit {
    int code;           /* 0 to 255: the code, or 128 + signal */
    uint64_t oom_kills; /* of the workload */
};

json_t *guest_exit_new(const struct guest_exit *exit);
/* 0, the agent's error, or -EBADMSG. */
int guest_exit_read(const json_t *message, struct guest_exit *ret, struct err *err);

json_t *guest_stats_new(const struct container_stats *stats);
/* Accepts whatever numbers the guest claims, but not more devices than there is room for. */
int guest_stats_read(const json_t *message, struct container_stats *ret, struct err *err);

#endif
