#include "vmm/io_thread.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "base/thread.h"

struct io_thread {
    struct loop *loop;
    int wake_fd; /* an eventfd: there is a call, or it is to stop */
    struct loop_source *wake_source;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    io_thread_fn *fn; /* under lock; NULL: none is wanted */
    void *data;
    bool stop; /* under lock */
};

static void on_wake(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct io_thread *thread = data;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));
    (void)n;
    (void)pthread_mutex_lock(&thread->lock);
    io_thread_fn *fn = thread->fn;
    if (fn != NULL) {
        (void)pthread_mutex_unlock(&thread->lock);
        fn(thread->data);
        (void)pthread_mutex_lock(&thread->lock);
        thread->fn = NULL;
        (void)pthread_cond_broadcast(&thread->changed);
    }
    if (thread->stop) {
        loop_quit(thread->loop, 0);
    }
    (void)pthread_mutex_unlock(&thread->lock);
}

static void *thread_main(void *data)
{
    struct io_thread *thread = data;
    int r = loop_run(thread->loop);
    assert(r >= 0); /* who calls would wait for ever */
    (void)r;
    return NULL;
}

static void wake(const struct io_thread *thread)
{
    uint64_t one = 1;
    ssize_t n = write(thread->wake_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: it is woken already */
}

int io_thread_new(struct io_thread **ret, struct err *err)
{
    AUTO(io_thread_freep) struct io_thread *thread = calloc(1, sizeof(*thread));
    if (thread == NULL) {
        return err_set(err, ENOMEM, "make an I/O thread");
    }
    (void)pthread_mutex_init(&thread->lock, NULL);
    (void)pthread_cond_init(&thread->changed, NULL);
    thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = thread->wake_fd < 0 ? -errno : loop_new(&thread->loop);
    r = r < 0 ? r
              : loop_add_fd(thread->loop, thread->wake_fd, EPOLLIN, on_wake, thread,
                            &thread->wake_source);
    if (r < 0) {
        return err_set(err, -r, "make an I/O thread");
    }
    *ret = TAKE_PTR(thread);
    return 0;
}

void io_thread_free(struct io_thread *thread)
{
    if (thread == NULL) {
        return;
    }
    io_thread_stop(thread);
    loop_remove(thread->wake_source);
    loop_free(thread->loop);
    (void)close_fd(thread->wake_fd);
    (void)pthread_cond_destroy(&thread->changed);
    (void)pthread_mutex_destroy(&thread->lock);
    free(thread);
}

struct loop *io_thread_loop(struct io_thread *thread)
{
    return thread->loop;
}

int io_thread_start(struct io_thread *thread)
{
    int r = thread_start(&thread->thread, thread_main, thread, NULL);
    thread->started = r == 0;
    return r;
}

void io_thread_stop(struct io_thread *thread)
{
    if (!thread->started) {
        return;
    }
    (void)pthread_mutex_lock(&thread->lock);
    thread->stop = true;
    (void)pthread_mutex_unlock(&thread->lock);
    wake(thread);
    (void)pthread_join(thread->thread, NULL);
    thread->started = false;
}

void io_thread_call(struct io_thread *thread, io_thread_fn *fn, void *data)
{
    if (thread == NULL || !thread->started) {
        fn(data);
        return;
    }
    (void)pthread_mutex_lock(&thread->lock);
    thread->fn = fn;
    thread->data = data;
    wake(thread);
    while (thread->fn != NULL) {
        (void)pthread_cond_wait(&thread->changed, &thread->lock);
    }
    (void)pthread_mutex_unlock(&thread->lock);
}
