#include "vmm/disk/uring.h"

#include <assert.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/loop.h"
#include "base/macros.h"

#define ENTRIES 64
#define FALLBACK_THREADS 4

struct uring {
    int fd; /* -1: threads */
    int event_fd;
    struct loop_source *source;
    /* Shared with the kernel */
    void *ring;
    size_t ring_size;
    struct io_uring_sqe *sqes;
    size_t sqes_size;
    unsigned *sq_head, *sq_tail, *sq_array;
    unsigned *cq_head, *cq_tail, *cq_flags; /* cq_flags NULL: this kernel has none */
    struct io_uring_cqe *cqes;
    unsigned sq_mask, cq_mask, sq_entries, cq_entries;
    /* Ours */
    unsigned unsubmitted; /* in the ring, not yet given to the kernel */
    unsigned in_kernel;   /* in the ring or beyond; each has a place for its completion */
    struct uring_op *queue, **queue_end;
    bool reaping;
    bool at_once; /* what was submitted last was done before the call returned */
    struct loop_source *look;
    struct workers *workers;
};

static int enter(struct uring *uring, unsigned submit, unsigned wait)
{
    long r = syscall(SYS_io_uring_enter, uring->fd, submit, wait,
                     wait > 0 ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
    return r < 0 ? -errno : (int)r;
}

static void fill(struct io_uring_sqe *sqe, const struct uring_op *op)
{
    *sqe = (struct io_uring_sqe){.fd = op->fd, .user_data = (uintptr_t)op};
    switch (op->kind) {
    case URING_READ:
    case URING_WRITE:
        sqe->off = op->offset;
        if (op->iov_count == 1 && op->iov->iov_len <= INT32_MAX) {
            sqe->opcode = op->kind == URING_READ ? IORING_OP_READ : IORING_OP_WRITE;
            sqe->addr = (uintptr_t)op->iov->iov_base;
            sqe->len = (uint32_t)op->iov->iov_len;
        } else {
            sqe->opcode = op->kind == URING_READ ? IORING_OP_READV : IORING_OP_WRITEV;
            sqe->addr = (uintptr_t)op->iov;
            sqe->len = op->iov_count;
        }
        break;
    case URING_SYNC:
        sqe->opcode = IORING_OP_FSYNC;
        sqe->fsync_flags = IORING_FSYNC_DATASYNC;
        break;
    case URING_ALLOCATE:
        sqe->opcode = IORING_OP_FALLOCATE;
        sqe->off = op->offset;
        sqe->addr = op->len;
        sqe->len = (uint32_t)op->mode;
        break;
    }
}

/* From our queue into the ring, as long as a completion has a place, too. */
static void fill_ring(struct uring *uring)
{
    unsigned tail = *uring->sq_tail;
    while (uring->queue != NULL && uring->in_kernel < uring->cq_entries &&
           tail - __atomic_load_n(uring->sq_head, __ATOMIC_ACQUIRE) < uring->sq_entries) {
        struct uring_op *op = uring->queue;
        uring->queue = op->next;
        unsigned index = tail & uring->sq_mask;
        fill(&uring->sqes[index], op);
        uring->sq_array[index] = index;
        tail++;
        uring->unsubmitted++;
        uring->in_kernel++;
    }
    if (uring->queue == NULL) {
        uring->queue_end = &uring->queue;
    }
    __atomic_store_n(uring->sq_tail, tail, __ATOMIC_RELEASE);
}

static bool reap(struct uring *uring)
{
    bool any = false;
    unsigned head = *uring->cq_head;
    while (head != __atomic_load_n(uring->cq_tail, __ATOMIC_ACQUIRE)) {
        const struct io_uring_cqe *cqe = &uring->cqes[head & uring->cq_mask];
        struct uring_op *op = (struct uring_op *)(uintptr_t)cqe->user_data;
        int64_t result = cqe->res;
        head++;
        __atomic_store_n(uring->cq_head, head, __ATOMIC_RELEASE);
        uring->in_kernel--;
        any = true;
        op->done(op, result);
    }
    return any;
}

/* Whether completions wake the loop. */
static void set_wake(struct uring *uring, bool on)
{
    __atomic_store_n(uring->cq_flags, on ? 0 : IORING_CQ_EVENTFD_DISABLED, __ATOMIC_SEQ_CST);
}

/*
 * A disk that answers at once (the page cache, a memory device) needs no event for that: it would
 * wake the loop for what is done. Only when nothing is under way, and when the last round ended so:
 * others would pay for on_look().
 */
static bool begin_quiet(struct uring *uring)
{
    bool quiet = uring->at_once && uring->in_kernel == 0 && uring->cq_flags != NULL;
    if (quiet) {
        set_wake(uring, false);
    }
    return quiet;
}

static void end_quiet(struct uring *uring)
{
    if (uring->in_kernel == 0) {
        return; /* nothing can come until the next submission */
    }
    set_wake(uring, true);
    /*
     * The kernel may have looked at the flag before we changed it, and written its completion where
     * we do not see it yet: nothing orders the two on its side. So there is one look more.
     */
    (void)loop_timer_set(uring->look, 0);
}

/* Submits and reaps until the queue is in the kernel's hands and nothing is there to reap. */
static void pump(struct uring *uring, bool wait)
{
    if (uring->reaping) {
        return; /* a callback; the round below it goes on */
    }
    uring->reaping = true;
    bool quiet = begin_quiet(uring);
    for (;;) {
        fill_ring(uring);
        bool block = wait && uring->in_kernel > 0;
        if (uring->unsubmitted > 0 || block) {
            int r = enter(uring, uring->unsubmitted, block ? 1 : 0);
            /* EINTR, EAGAIN, EBUSY: what was not taken stays in the ring and is offered again. */
            assert(r >= 0 || r == -EINTR || r == -EAGAIN || r == -EBUSY);
            uring->unsubmitted -= r > 0 ? (unsigned)r : 0;
        }
        bool any = reap(uring);
        wait = wait && !any;
        if (!any && !wait && uring->unsubmitted == 0 &&
            (uring->queue == NULL || uring->in_kernel >= uring->cq_entries)) {
            break;
        }
        if (wait && uring->in_kernel == 0 && uring->queue == NULL) {
            break;
        }
    }
    uring->at_once = uring->in_kernel == 0;
    if (quiet) {
        end_quiet(uring);
    }
    uring->reaping = false;
}

/* Edge-triggered: each completion wakes the loop, nothing needs to be read back. */
static void on_event(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    pump(data, false);
}

static void on_look(struct loop_source *source, void *data)
{
    (void)source;
    pump(data, false);
}

static int map_ring(struct uring *uring, const struct io_uring_params *p)
{
    size_t sq_size = p->sq_off.array + p->sq_entries * sizeof(unsigned);
    size_t cq_size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    uring->ring_size = MAX(sq_size, cq_size);
    uring->sqes_size = p->sq_entries * sizeof(struct io_uring_sqe);
    void *ring = mmap(NULL, uring->ring_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                      uring->fd, IORING_OFF_SQ_RING);
    if (ring == MAP_FAILED) {
        return -errno;
    }
    uring->ring = ring;
    void *sqes = mmap(NULL, uring->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                      uring->fd, IORING_OFF_SQES);
    if (sqes == MAP_FAILED) {
        return -errno;
    }
    uring->sqes = sqes;
    uint8_t *base = ring;
    uring->sq_head = (unsigned *)(void *)(base + p->sq_off.head);
    uring->sq_tail = (unsigned *)(void *)(base + p->sq_off.tail);
    uring->sq_array = (unsigned *)(void *)(base + p->sq_off.array);
    uring->sq_mask = *(unsigned *)(void *)(base + p->sq_off.ring_mask);
    uring->cq_head = (unsigned *)(void *)(base + p->cq_off.head);
    uring->cq_tail = (unsigned *)(void *)(base + p->cq_off.tail);
    uring->cq_mask = *(unsigned *)(void *)(base + p->cq_off.ring_mask);
    uring->cqes = (struct io_uring_cqe *)(void *)(base + p->cq_off.cqes);
    uring->cq_flags = p->cq_off.flags == 0 ? NULL : (unsigned *)(void *)(base + p->cq_off.flags);
    uring->sq_entries = p->sq_entries;
    uring->cq_entries = p->cq_entries;
    return 0;
}

/*
 * A ring opens files and sockets behind the back of a system call filter: ours reads and writes, in
 * whoever's hands it is.
 */
static int restrict_ring(const struct uring *uring)
{
    static const uint8_t allowed[] = {IORING_OP_READ,   IORING_OP_WRITE, IORING_OP_READV,
                                      IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
    struct io_uring_restriction rules[COUNT(allowed)] = {{0}};
    for (size_t i = 0; i < COUNT(allowed); i++) {
        rules[i].opcode = IORING_RESTRICTION_SQE_OP;
        rules[i].sqe_op = allowed[i];
    }
    if (syscall(SYS_io_uring_register, uring->fd, IORING_REGISTER_RESTRICTIONS, rules,
                COUNT(rules)) < 0 ||
        syscall(SYS_io_uring_register, uring->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0) {
        return -errno;
    }
    return 0;
}

/* -ENOSYS and -EPERM (and whatever else a host says): the caller takes threads. */
static int open_ring(struct uring *uring, struct loop *loop)
{
    struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
    long fd = syscall(SYS_io_uring_setup, ENTRIES, &params);
    if (fd < 0) {
        return -errno;
    }
    uring->fd = (int)fd;
    /* Both are older than any kernel that we run on; without them completions could be lost. */
    if ((params.features & IORING_FEAT_SINGLE_MMAP) == 0 ||
        (params.features & IORING_FEAT_NODROP) == 0) {
        return -ENOSYS;
    }
    int r = map_ring(uring, &params);
    if (r < 0) {
        return r;
    }
    uring->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uring->event_fd < 0 || syscall(SYS_io_uring_register, uring->fd, IORING_REGISTER_EVENTFD,
                                       &uring->event_fd, 1) < 0) {
        return -errno;
    }
    r = restrict_ring(uring);
    if (r < 0) {
        return r;
    }
    r = loop_add_timer(loop, -1, on_look, uring, &uring->look);
    return r < 0 ? r
                 : loop_add_fd(loop, uring->event_fd, EPOLLIN | EPOLLET, on_event, uring,
                               &uring->source);
}

static void close_ring(struct uring *uring)
{
    loop_remove(uring->source);
    loop_remove(uring->look);
    uring->source = uring->look = NULL;
    if (uring->sqes != NULL) {
        (void)munmap(uring->sqes, uring->sqes_size);
        uring->sqes = NULL;
    }
    if (uring->ring != NULL) {
        (void)munmap(uring->ring, uring->ring_size);
        uring->ring = NULL;
    }
    uring->event_fd = close_fd(uring->event_fd);
    uring->fd = close_fd(uring->fd);
}

int uring_new(struct loop *loop, struct uring **ret)
{
    AUTO(uring_freep) struct uring *uring = calloc(1, sizeof(*uring));
    if (uring == NULL) {
        return -ENOMEM;
    }
    uring->fd = -1;
    uring->event_fd = -1;
    uring->queue_end = &uring->queue;
    if (open_ring(uring, loop) < 0) {
        close_ring(uring);
        int r = workers_new(loop, FALLBACK_THREADS, &uring->workers);
        if (r < 0) {
            return r;
        }
    }
    *ret = TAKE_PTR(uring);
    return 0;
}

void uring_free(struct uring *uring)
{
    if (uring == NULL) {
        return;
    }
    assert(uring->in_kernel == 0 && uring->queue == NULL);
    close_ring(uring);
    workers_free(uring->workers);
    free(uring);
}

bool uring_is_native(const struct uring *uring)
{
    return uring->workers == NULL;
}

static void op_run(struct work *work)
{
    struct uring_op *op = CONTAINER_OF(work, struct uring_op, work);
    do {
        switch (op->kind) {
        case URING_READ:
            op->result = preadv(op->fd, op->iov, (int)op->iov_count, (off_t)op->offset);
            break;
        case URING_WRITE:
            op->result = pwritev(op->fd, op->iov, (int)op->iov_count, (off_t)op->offset);
            break;
        case URING_SYNC:
            op->result = fdatasync(op->fd);
            break;
        case URING_ALLOCATE:
            op->result = fallocate(op->fd, op->mode, (off_t)op->offset, (off_t)op->len);
            break;
        }
    } while (op->result < 0 && errno == EINTR);
    if (op->result < 0) {
        op->result = -errno;
    }
}

static void op_done(struct work *work)
{
    struct uring_op *op = CONTAINER_OF(work, struct uring_op, work);
    op->uring->in_kernel--;
    op->done(op, op->result);
}

void uring_submit(struct uring *uring, struct uring_op *op)
{
    op->next = NULL;
    op->uring = uring;
    if (uring->workers != NULL) {
        uring->in_kernel++;
        op->work = (struct work){.run = op_run, .done = op_done};
        workers_submit(uring->workers, &op->work);
        return;
    }
    *uring->queue_end = op;
    uring->queue_end = &op->next;
}

void uring_kick(struct uring *uring)
{
    if (uring->workers == NULL) {
        pump(uring, false);
    }
}

void uring_wait(struct uring *uring)
{
    if (uring->workers != NULL) {
        workers_wait(uring->workers);
    } else {
        pump(uring, true);
    }
}
