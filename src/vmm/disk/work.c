#include "vmm/disk/work.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/loop.h"
#include "base/macros.h"
#include "base/thread.h"

#define THREADS_MAX 8

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t more;     /* work or stop */
    pthread_cond_t finished; /* something in done */
    struct work *queue, **queue_end;
    struct work *done, **done_end;
    bool stop;
    unsigned under_way; /* of the loop's thread alone */
    unsigned count, count_max;
    pthread_t threads[THREADS_MAX];
    int event_fd;
    struct loop_source *source;
};

/* With the lock held. */
static void put_done(struct workers *workers, struct work *work)
{
    bool first = workers->done == NULL;
    work->next = NULL;
    *workers->done_end = work;
    workers->done_end = &work->next;
    (void)pthread_cond_signal(&workers->finished);
    if (first) {
        uint64_t one = 1;
        ssize_t n = write(workers->event_fd, &one, sizeof(one));
        assert(n == (ssize_t)sizeof(one));
    }
}

static void *worker_main(void *data)
{
    struct workers *workers = data;
    (void)pthread_mutex_lock(&workers->lock);
    for (;;) {
        struct work *work = workers->queue;
        if (work == NULL) {
            if (workers->stop) {
                break;
            }
            (void)pthread_cond_wait(&workers->more, &workers->lock);
            continue;
        }
        workers->queue = work->next;
        if (workers->queue == NULL) {
            workers->queue_end = &workers->queue;
        }
        (void)pthread_mutex_unlock(&workers->lock);
        work->run(work);
        (void)pthread_mutex_lock(&workers->lock);
        put_done(workers, work);
    }
    (void)pthread_mutex_unlock(&workers->lock);
    return NULL;
}

static struct work *take_done(struct workers *workers, bool wait)
{
    (void)pthread_mutex_lock(&workers->lock);
    while (wait && workers->done == NULL) {
        (void)pthread_cond_wait(&workers->finished, &workers->lock);
    }
    struct work *done = workers->done;
    workers->done = NULL;
    workers->done_end = &workers->done;
    (void)pthread_mutex_unlock(&workers->lock);
    return done;
}

static void finish(struct workers *workers, struct work *work)
{
    while (work != NULL) {
        struct work *next = work->next;
        workers->under_way--;
        work->done(work);
        work = next;
    }
}

/* Edge-triggered: each write of the eventfd wakes the loop, nothing needs to be read back. */
static void on_event(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    struct workers *workers = data;
    finish(workers, take_done(workers, false));
}

static void start_thread(struct workers *workers)
{
    if (thread_start(&workers->threads[workers->count], worker_main, workers, NULL) == 0) {
        workers->count++;
    }
}

int workers_new(struct loop *loop, unsigned threads, struct workers **ret)
{
    AUTO(workers_freep) struct workers *workers = calloc(1, sizeof(*workers));
    if (workers == NULL) {
        return -ENOMEM;
    }
    workers->queue_end = &workers->queue;
    workers->done_end = &workers->done;
    workers->count_max = MIN(threads, (unsigned)THREADS_MAX);
    (void)pthread_mutex_init(&workers->lock, NULL);
    (void)pthread_cond_init(&workers->more, NULL);
    (void)pthread_cond_init(&workers->finished, NULL);
    workers->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (workers->event_fd < 0) {
        return -errno;
    }
    int r = loop_add_fd(loop, workers->event_fd, EPOLLIN | EPOLLET, on_event, workers,
                        &workers->source);
    if (r < 0) {
        return r;
    }
    *ret = TAKE_PTR(workers);
    return 0;
}

void workers_free(struct workers *workers)
{
    if (workers == NULL) {
        return;
    }
    assert(workers->under_way == 0);
    (void)pthread_mutex_lock(&workers->lock);
    workers->stop = true;
    (void)pthread_cond_broadcast(&workers->more);
    (void)pthread_mutex_unlock(&workers->lock);
    for (unsigned i = 0; i < workers->count; i++) {
        (void)pthread_join(workers->threads[i], NULL);
    }
    loop_remove(workers->source);
    (void)close_fd(workers->event_fd);
    (void)pthread_cond_destroy(&workers->finished);
    (void)pthread_cond_destroy(&workers->more);
    (void)pthread_mutex_destroy(&workers->lock);
    free(workers);
}

void workers_submit(struct workers *workers, struct work *work)
{
    work->next = NULL;
    workers->under_way++;
    if (workers->count < MIN(workers->under_way, workers->count_max)) {
        start_thread(workers);
    }
    (void)pthread_mutex_lock(&workers->lock);
    if (workers->count == 0) {
        work->run(work); /* slow is better than never; only this thread is there */
        put_done(workers, work);
        (void)pthread_mutex_unlock(&workers->lock);
        return;
    }
    *workers->queue_end = work;
    workers->queue_end = &work->next;
    (void)pthread_cond_signal(&workers->more);
    (void)pthread_mutex_unlock(&workers->lock);
}

void workers_wait(struct workers *workers)
{
    if (workers->under_way > 0) {
        finish(workers, take_done(workers, true));
    }
}
