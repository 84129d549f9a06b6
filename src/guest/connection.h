/*
 * connection.h - a control connection: requests in, answers out.
 */
#ifndef GUEST_CONNECTION_H
#define GUEST_CONNECTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/loop.h"

struct agent;
struct err;

struct connection {
    struct agent *agent;
    struct connection *next;
    int fd;
    struct loop_source *source;
    struct buf in;
    struct buf out;
    size_t sent; /* of out */
    bool waits;  /* wants to know how the workload ends */
    bool told;   /* how the workload ended: the machine lives until the host has read it */
    bool ending; /* no more answers: closes when the host does */
};

/* Takes fd over. On success the agent owns it, until connection_close(). */
int connection_new(struct agent *agent, int fd, struct connection **ret_connection);

/* Takes message over; NULL stands for "no memory". Never waits. */
void connection_send(struct connection *connection, json_t *message);
void connection_send_error(struct connection *connection, const struct err *err, bool exec_failed);

/* What was sent is the last: the host reads it and then closes. */
void connection_end(struct connection *connection);

void connection_close(struct connection *connection);

/* Frees closed ones; not from a callback of theirs. */
void connection_sweep(struct agent *agent);

#endif
