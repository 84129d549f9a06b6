/*
 * stream.h - bytes of one direction, between a process's pipe or terminal and a socket to the host.
 *
 * Belongs to the thread of its loop. Reads only what it can hold: whoever writes waits for the
 * slower side, as with a pipe.
 */
#ifndef GUEST_STREAM_H
#define GUEST_STREAM_H

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "guest/transport.h"

struct stream;

/* Called once, from the loop: everything was handed over, or cannot be. */
typedef void stream_done_fn(void *data);

struct stream_options {
    struct loop *loop;
    const struct transport *transport;
    unsigned port; /* of the socket */
    bool socket_is_from;
    /*
     * The workload's streams outlive a restore from a snapshot, which cuts all connections: then
     * the port is connected again. What was under way in that moment may be lost.
     */
    bool reconnect;
    stream_done_fn *done;
    void *data;
};

/* Takes both descriptors over, also on failure. */
int stream_new(const struct stream_options *options, int from, int to, struct stream **ret_stream);

/* Whether it holds bytes that the other side has not taken yet. */
bool stream_is_busy(const struct stream *stream);

/* Closes both ends at once. Accepts NULL. */
void stream_free(struct stream *stream);
DEFINE_FREEP(struct stream *, stream_free)

#endif
