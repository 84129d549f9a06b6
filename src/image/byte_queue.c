#include "image/byte_queue.h"

#include <errno.h>
#include <stdlib.h>

int byte_queue_init(struct byte_queue *queue)
{
    *queue = (struct byte_queue){.memory = malloc(BYTE_QUEUE_BUFFERS * BYTE_QUEUE_BUFFER_SIZE)};
    if (queue->memory == NULL) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&queue->mutex, NULL);
    (void)pthread_cond_init(&queue->changed, NULL);
    return 0;
}

void byte_queue_done(struct byte_queue *queue)
{
    if (queue->memory != NULL) {
        (void)pthread_mutex_destroy(&queue->mutex);
        (void)pthread_cond_destroy(&queue->changed);
        free(queue->memory);
        queue->memory = NULL;
    }
}

int byte_queue_room(struct byte_queue *queue, void **ret_room, size_t *ret_size)
{
    (void)pthread_mutex_lock(&queue->mutex);
    while (queue->count == BYTE_QUEUE_BUFFERS && queue->error == 0) {
        (void)pthread_cond_wait(&queue->changed, &queue->mutex);
    }
    int r = queue->error;
    size_t at = (queue->first + queue->count) % BYTE_QUEUE_BUFFERS;
    *ret_room = queue->memory + at * BYTE_QUEUE_BUFFER_SIZE + queue->filled;
    *ret_size = BYTE_QUEUE_BUFFER_SIZE - queue->filled;
    (void)pthread_mutex_unlock(&queue->mutex);
    return r;
}

static void hand_over(struct byte_queue *queue)
{
    queue->lengths[(queue->first + queue->count) % BYTE_QUEUE_BUFFERS] = queue->filled;
    queue->filled = 0;
    queue->count++;
    (void)pthread_cond_broadcast(&queue->changed);
}

int byte_queue_wrote(struct byte_queue *queue, size_t len)
{
    (void)pthread_mutex_lock(&queue->mutex);
    queue->filled += len;
    if (queue->filled == BYTE_QUEUE_BUFFER_SIZE) {
        hand_over(queue);
    }
    int r = queue->error;
    (void)pthread_mutex_unlock(&queue->mutex);
    return r;
}

int byte_queue_end(struct byte_queue *queue)
{
    (void)pthread_mutex_lock(&queue->mutex);
    if (queue->filled > 0) {
        hand_over(queue);
    }
    queue->ended = true;
    (void)pthread_cond_broadcast(&queue->changed);
    int r = queue->error;
    (void)pthread_mutex_unlock(&queue->mutex);
    return r;
}

ssize_t byte_queue_read(struct byte_queue *queue, const void **ret_data)
{
    (void)pthread_mutex_lock(&queue->mutex);
    if (queue->reading) {
        queue->first = (queue->first + 1) % BYTE_QUEUE_BUFFERS;
        queue->count--;
        queue->reading = false;
        (void)pthread_cond_broadcast(&queue->changed);
    }
    while (queue->count == 0 && !queue->ended && queue->error == 0) {
        (void)pthread_cond_wait(&queue->changed, &queue->mutex);
    }
    ssize_t n = queue->error;
    if (n == 0 && queue->count > 0) {
        *ret_data = queue->memory + queue->first * BYTE_QUEUE_BUFFER_SIZE;
        n = (ssize_t)queue->lengths[queue->first];
        queue->reading = true;
    }
    (void)pthread_mutex_unlock(&queue->mutex);
    return n;
}

void byte_queue_fail(struct byte_queue *queue, int error)
{
    (void)pthread_mutex_lock(&queue->mutex);
    if (queue->error == 0) {
        queue->error = error;
    }
    (void)pthread_cond_broadcast(&queue->changed);
    (void)pthread_mutex_unlock(&queue->mutex);
}
