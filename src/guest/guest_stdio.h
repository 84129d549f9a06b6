/*
 * guest_stdio.h - standard streams of a process behind the wall: pipes or a terminal, each
 * direction with a connection to the host of its own.
 *
 * Pipes, not the sockets themselves: a program may open /dev/stdout anew, which a socket refuses.
 */
#ifndef GUEST_GUEST_STDIO_H
#define GUEST_GUEST_STDIO_H

#include <stdbool.h>

#include "container/container.h"
#include "guest/stream.h"

struct err;

struct guest_stdio {
    struct loop *loop;
    const struct transport *transport;
    struct stream *streams[3];
    int theirs[3];  /* the process's ends, until it has them */
    int sockets[3]; /* until streams have them */
    int ours[3];
    int console[2];  /* gets the terminal */
    int terminal_fd; /* for the size; -1: there is none */
    unsigned ports[3];
    bool reconnect;
    unsigned open_outputs;       /* not yet delivered */
    void (*drained)(void *data); /* from the loop, when open_outputs became 0 */
    void *data;
};

struct guest_stdio_options {
    struct loop *loop;
    const struct transport *transport;
    /* Host ports to connect to; 0: none (stdin is then empty, output is dropped). A terminal uses
     * the first two. */
    unsigned ports[3];
    bool terminal;
    bool reconnect;
    void (*drained)(void *data);
    void *data;
};

/* Connects. ret is good for guest_stdio_done() in any case. */
int guest_stdio_open(const struct guest_stdio_options *options, struct guest_stdio *ret,
                     struct err *err);

/* Fills in stdio and console for container_create() or container_exec(). */
void guest_stdio_fill(const struct guest_stdio *stdio, struct container_io *io);

/* The process exists: closes its ends, starts copying. *stdio must not move from here on. */
int guest_stdio_attach(struct guest_stdio *stdio, struct err *err);

/* Whether the host has still to take output that was read. */
bool guest_stdio_is_busy(const struct guest_stdio *stdio);

int guest_stdio_resize(const struct guest_stdio *stdio, unsigned rows, unsigned columns,
                       struct err *err);

void guest_stdio_done(struct guest_stdio *stdio);

#endif
