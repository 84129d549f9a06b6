/*
 * http.h - a small HTTP/1.1 server on a Unix socket (RFC 9112): requests with bounded heads and
 * bodies, answers with JSON, connections that stay.
 *
 * Everything happens on the loop's thread and nothing there waits: a client that sends or reads
 * slowly keeps only its own connection. One request of a connection is served at a time, and the
 * next one is read when the answer has gone out, so that what a client can pile up is bounded.
 */
#ifndef VMM_HTTP_H
#define VMM_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct err;
struct http_server;
struct loop;

#define HTTP_HEAD_MAX ((size_t)8192)
#define HTTP_BODY_MAX ((size_t)65536)
#define HTTP_CONNECTIONS_MAX 8

struct http_request {
    char method[16];
    char path[256];   /* without the query, which must be empty */
    const char *body; /* into the text that was parsed; not ended by NUL */
    size_t body_len;
    bool keep;    /* the connection stays */
    bool waiting; /* the client waits for "100 Continue" before it sends the body */
};

/*
 * The first request of data. 0: *ret is filled and *ret_used bytes belong to it. -EAGAIN: more must
 * come (ret->waiting is valid). A positive number: the status to answer with, and to close.
 */
int http_parse(const char *data, size_t len, struct http_request *ret, size_t *ret_used);

struct http_answer {
    int status;
    struct buf body; /* JSON; empty: none */
};

typedef void http_handler_fn(const struct http_request *request, struct http_answer *answer,
                             void *data);

/* The socket gets the mode 0600 and is removed at the end. */
int http_server_new(const char *path, struct loop *loop, http_handler_fn *handler, void *data,
                    struct http_server **ret, struct err *err);
void http_server_free(struct http_server *server);
DEFINE_FREEP(struct http_server *, http_server_free)

#endif
