#include "base/loop.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macros.h"

#define LOOP_BATCH 16

struct loop_source {
    struct loop *loop;
    struct loop_source *next;
    int fd;              /* -1: a timer */
    int64_t deadline_ns; /* timers: monotonic time, -1 while not armed */
    bool dead;
    loop_fd_fn *fd_fn;
    loop_timer_fn *timer_fn;
    void *data;
};

struct loop {
    int epoll_fd;
    int signal_fd;
    sigset_t signals;
    struct {
        loop_signal_fn *fn;
        void *data;
    } handlers[NSIG];
    struct loop_source *sources;
    bool quit;
    int result;
    _Atomic unsigned patience; /* how many want it */
    bool patient;              /* what the thread is */
};

int loop_new(struct loop **ret_loop)
{
    AUTO(loop_freep) struct loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return -ENOMEM;
    }
    loop->signal_fd = -1;
    (void)sigemptyset(&loop->signals);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        return -errno;
    }
    *ret_loop = TAKE_PTR(loop);
    return 0;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL) {
        return;
    }
    while (loop->sources != NULL) {
        struct loop_source *next = loop->sources->next;
        free(loop->sources);
        loop->sources = next;
    }
    (void)close_fd(loop->signal_fd);
    (void)close_fd(loop->epoll_fd);
    free(loop);
}

static struct loop_source *source_new(struct loop *loop, int fd, void *data)
{
    struct loop_source *source = calloc(1, sizeof(*source));
    if (source != NULL) {
        source->loop = loop;
        source->fd = fd;
        source->deadline_ns = -1;
        source->data = data;
        source->next = loop->sources;
        loop->sources = source;
    }
    return source;
}

int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *data,
                struct loop_source **ret_source)
{
    struct loop_source *source = source_new(loop, fd, data);
    if (source == NULL) {
        return -ENOMEM;
    }
    source->fd_fn = fn;
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int r = -errno;
        loop->sources = source->next;
        free(source);
        return r;
    }
    if (ret_source != NULL) {
        *ret_source = source;
    }
    return 0;
}

int loop_source_set_events(struct loop_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno : 0;
}

int loop_timer_set(struct loop_source *source, int64_t delay_ns)
{
    source->deadline_ns = delay_ns < 0 ? -1 : clock_monotonic_ns() + delay_ns;
    return 0;
}

int loop_add_timer(struct loop *loop, int64_t delay_ns, loop_timer_fn *fn, void *data,
                   struct loop_source **ret_source)
{
    struct loop_source *source = source_new(loop, -1, data);
    if (source == NULL) {
        return -ENOMEM;
    }
    source->timer_fn = fn;
    (void)loop_timer_set(source, delay_ns);
    if (ret_source != NULL) {
        *ret_source = source;
    }
    return 0;
}

static void on_signal_fd(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct loop *loop = data;
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo < NSIG && loop->handlers[info.ssi_signo].fn != NULL) {
            loop->handlers[info.ssi_signo].fn(&info, loop->handlers[info.ssi_signo].data);
        }
    }
}

int loop_add_signal(struct loop *loop, int signal, loop_signal_fn *fn, void *data)
{
    (void)sigaddset(&loop->signals, signal);
    if (sigprocmask(SIG_BLOCK, &loop->signals, NULL) < 0) {
        return -errno;
    }
    int fd = signalfd(loop->signal_fd, &loop->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    loop->handlers[signal].fn = fn;
    loop->handlers[signal].data = data;
    if (loop->signal_fd >= 0) {
        return 0;
    }
    loop->signal_fd = fd;
    return loop_add_fd(loop, fd, EPOLLIN, on_signal_fd, loop, NULL);
}

void loop_remove(struct loop_source *source)
{
    if (source == NULL || source->dead) {
        return;
    }
    source->dead = true;
    if (source->fd >= 0) {
        (void)epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    }
}

void loop_quit(struct loop *loop, int result)
{
    loop->quit = true;
    loop->result = result;
}

static void free_dead_sources(struct loop *loop)
{
    struct loop_source **link = &loop->sources;
    while (*link != NULL) {
        struct loop_source *source = *link;
        if (source->dead) {
            *link = source->next;
            free(source);
        } else {
            link = &source->next;
        }
    }
}

/* Nanoseconds until the next timer, 0 when it is due, -1 when there is none. */
static int64_t next_timeout(const struct loop *loop)
{
    int64_t first = -1;
    for (const struct loop_source *s = loop->sources; s != NULL; s = s->next) {
        if (!s->dead && s->deadline_ns >= 0 && (first < 0 || s->deadline_ns < first)) {
            first = s->deadline_ns;
        }
    }
    return first < 0 ? -1 : MAX(first - clock_monotonic_ns(), (int64_t)0);
}

static int wait_events(const struct loop *loop, struct epoll_event *events)
{
    int64_t ns = next_timeout(loop);
    int64_t ms = MIN((ns + NS_PER_MS - 1) / NS_PER_MS, (int64_t)3600 * 1000);
    return epoll_wait(loop->epoll_fd, events, LOOP_BATCH, ns < 0 ? -1 : (int)ms);
}

void loop_be_patient(struct loop *loop, bool patient)
{
    if (patient) {
        (void)atomic_fetch_add(&loop->patience, 1);
    } else {
        (void)atomic_fetch_sub(&loop->patience, 1);
    }
}

/* A policy belongs to a thread, and whoever asks may be another. */
static void settle_patience(struct loop *loop)
{
    const struct sched_param none = {0};
    bool wanted = atomic_load_explicit(&loop->patience, memory_order_relaxed) > 0;
    if (wanted != loop->patient) {
        loop->patient = wanted;
        (void)sched_setscheduler(0, wanted ? SCHED_BATCH : SCHED_OTHER, &none);
    }
}

static void run_timers(struct loop *loop)
{
    int64_t now = clock_monotonic_ns();
    for (struct loop_source *s = loop->sources; s != NULL; s = s->next) {
        if (!s->dead && s->deadline_ns >= 0 && s->deadline_ns <= now) {
            s->deadline_ns = -1;
            s->timer_fn(s, s->data);
        }
    }
}

int loop_run(struct loop *loop)
{
    struct epoll_event events[LOOP_BATCH];
    while (!loop->quit) {
        settle_patience(loop);
        int n = wait_events(loop, events);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        for (int i = 0; i < n; i++) {
            struct loop_source *source = events[i].data.ptr;
            if (!source->dead) {
                source->fd_fn(source, source->fd, events[i].events, source->data);
            }
        }
        run_timers(loop);
        free_dead_sources(loop);
    }
    /* A quit before the run ends it at once; the next run starts anew. */
    loop->quit = false;
    return loop->result;
}
