/*
 * input_queue.h - standard input on its way to a workload that may not take it yet.
 *
 * Never blocks: what does not fit waits here until the other side reads, so that its output can be
 * copied meanwhile. The owner stops reading input while something waits.
 */
#ifndef CMD_INPUT_QUEUE_H
#define CMD_INPUT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct loop;
struct loop_source;

enum input_target {
    INPUT_STREAM, /* a pipe or a terminal: bytes; the end closes it */
    INPUT_SHIM,   /* a shim's connection: SHIM_STDIN packets */
};

struct input_queue {
    struct loop *loop;
    int fd; /* owned; -1: nobody reads input (any more) */
    enum input_target target;
    struct buf waiting;
    struct loop_source *source; /* while the other side is waited for */
    bool ended;
    void (*ready)(void *data);
    void *data;
};

#define INPUT_QUEUE_INIT ((struct input_queue){.fd = -1})

/*
 * Takes the descriptor, also on failure, and makes it non-blocking unless it is a shim's.
 * ready(data) is called when something had to wait and nothing does any more.
 */
int input_queue_init(struct input_queue *queue, struct loop *loop, int fd, enum input_target target,
                     void (*ready)(void *data), void *data);
void input_queue_done(struct input_queue *queue);

/*
 * Another connection, to the same shim, for the one that broke; takes it. What waited is sent
 * there. Until then what is added to a broken one waits.
 */
void input_queue_replace(struct input_queue *queue, int fd);

/* Sends, or keeps for later. -EPIPE: the other side reads no more. */
int input_queue_add(struct input_queue *queue, const char *data, size_t len);

/* The end of input, behind what waits. */
void input_queue_end(struct input_queue *queue);

bool input_queue_is_waiting(const struct input_queue *queue);

/* ready() will be called when the other side takes something again. */
int input_queue_watch(struct input_queue *queue);

#endif
