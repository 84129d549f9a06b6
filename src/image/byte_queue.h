/*
 * byte_queue.h - a bounded queue of buffers from one thread to another.
 *
 * Either side may end it with an error, which the other gets from its next call.
 */
#ifndef IMAGE_BYTE_QUEUE_H
#define IMAGE_BYTE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define BYTE_QUEUE_BUFFERS 8
#define BYTE_QUEUE_BUFFER_SIZE ((size_t)256 * 1024)

struct byte_queue {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    char *memory;
    size_t lengths[BYTE_QUEUE_BUFFERS];
    size_t first;  /* oldest full buffer */
    size_t count;  /* of full buffers */
    size_t filled; /* bytes in the buffer that the writer fills now */
    bool reading;  /* the reader holds the first one */
    bool ended;
    int error; /* negative errno; 0 none */
};

int byte_queue_init(struct byte_queue *queue);
void byte_queue_done(struct byte_queue *queue);

/* Writer: room in the current buffer, waiting for one. */
int byte_queue_room(struct byte_queue *queue, void **ret_room, size_t *ret_size);
int byte_queue_wrote(struct byte_queue *queue, size_t len);
int byte_queue_end(struct byte_queue *queue);

/* Reader: releases the last buffer and waits for the next; 0 at the end. */
ssize_t byte_queue_read(struct byte_queue *queue, const void **ret_data);

/* Either side: the other's calls fail with error from now on. */
void byte_queue_fail(struct byte_queue *queue, int error);

#endif
