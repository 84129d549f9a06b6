#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "vmm/disk/disk_internal.h"
#include "vmm/disk/qcow2.h"

/*
 * Two ways through an image. The short one: the tables are in memory and say where the data is, so
 * the loop's thread submits it to the ring at once, many requests at a time. The long one: the
 * worker, which alone reads and changes tables, one request after the other.
 *
 * A request that frees clusters runs alone: what the short way has under way is awaited before, and
 * nothing takes the short way until it is done. So no transfer can reach a cluster that has become
 * something else.
 */
struct qcow2_disk {
    struct disk disk;
    struct qcow2 *q;
    struct workers *workers;
    unsigned short_way; /* requests under way there */
    unsigned clearing;  /* requests that free clusters, with the worker */
    struct disk_request *waiting, **waiting_end;
};

#define EXTENTS_MAX 16

struct job {
    struct work work;
    struct qcow2_disk *disk;
    struct disk_request *request;
    int result;
};

static bool clears(const struct disk_request *request)
{
    return request->op == DISK_DISCARD || request->op == DISK_WRITE_ZEROES;
}

static void run_job(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    const struct disk_request *request = job->request;
    struct qcow2 *q = job->disk->q;
    struct iov_cursor cursor = {.iov = request->iov, .count = request->iov_count};
    switch (request->op) {
    case DISK_READ:
        job->result = qcow2_read(q, request->offset, &cursor, request->len);
        break;
    case DISK_WRITE:
        job->result = qcow2_write(q, request->offset, &cursor, request->len);
        break;
    case DISK_FLUSH:
        job->result = qcow2_flush(q);
        break;
    case DISK_DISCARD:
        job->result = qcow2_clear(q, request->offset, request->len, QCOW2_DISCARD);
        break;
    case DISK_WRITE_ZEROES:
        job->result = qcow2_clear(q, request->offset, request->len,
                                  request->may_unmap ? QCOW2_ZEROES_UNMAP : QCOW2_ZEROES);
        break;
    }
}

static void dispatch_waiting(struct qcow2_disk *disk);

static void job_done(struct work *work)
{
    struct job *job = CONTAINER_OF(work, struct job, work);
    struct qcow2_disk *disk = job->disk;
    struct disk_request *request = job->request;
    int result = job->result;
    free(job);
    disk->clearing -= clears(request);
    disk_complete(&disk->disk, request, result);
    dispatch_waiting(disk);
    uring_kick(disk->disk.uring);
}

static void take_long_way(struct qcow2_disk *disk, struct disk_request *request)
{
    struct job *job = malloc(sizeof(*job));
    if (job == NULL) {
        disk_complete(&disk->disk, request, -ENOMEM);
        return;
    }
    *job =
        (struct job){.work = {.run = run_job, .done = job_done}, .disk = disk, .request = request};
    disk->clearing += clears(request);
    workers_submit(disk->workers, &job->work);
}

static void end_part(struct disk *d, struct disk_request *request, int error)
{
    struct qcow2_disk *disk = CONTAINER_OF(d, struct qcow2_disk, disk);
    if (error < 0 && request->result == 0) {
        request->result = error;
    }
    if (--request->pending == 0) {
        disk->short_way--;
        disk_complete(d, request, request->result);
        dispatch_waiting(disk);
    }
}

/* All of the request lies where memory says; else nothing was begun. */
static bool take_short_way(struct qcow2_disk *disk, struct disk_request *request)
{
    struct extent extents[EXTENTS_MAX];
    unsigned count = 0;
    uint64_t found = 0;
    while (found < request->len) {
        struct extent *e = &extents[count];
        if (count == EXTENTS_MAX ||
            qcow2_find(disk->q, request->offset + found, request->len - found, e) < 0 ||
            (request->op == DISK_WRITE && !e->in_place)) {
            return false;
        }
        found += e->len;
        count++;
    }
    disk->short_way++;
    request->pending = 1;
    uint64_t at = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct extent *e = &extents[i];
        if (e->kind == EXTENT_ZERO) {
            struct iov_cursor cursor = {.iov = request->iov, .count = request->iov_count};
            iov_advance(&cursor, at);
            iov_put_zeros(&cursor, e->len);
        } else {
            request->pending++;
            int r =
                disk_transfer(&disk->disk, request, e->file, e->file_offset, at, e->len, end_part);
            if (r < 0) {
                end_part(&disk->disk, request, r);
            }
        }
        at += e->len;
    }
    end_part(&disk->disk, request, 0);
    return true;
}

static void dispatch(struct qcow2_disk *disk, struct disk_request *request)
{
    bool moves = request->op == DISK_READ || request->op == DISK_WRITE;
    if (!moves || disk->clearing > 0 || !take_short_way(disk, request)) {
        take_long_way(disk, request);
    }
}

static void dispatch_waiting(struct qcow2_disk *disk)
{
    while (disk->waiting != NULL && !(clears(disk->waiting) && disk->short_way > 0)) {
        struct disk_request *request = disk->waiting;
        disk->waiting = request->next;
        if (disk->waiting == NULL) {
            disk->waiting_end = &disk->waiting;
        }
        request->next = NULL;
        dispatch(disk, request);
    }
}

static void submit(struct disk *d, struct disk_request *request)
{
    struct qcow2_disk *disk = CONTAINER_OF(d, struct qcow2_disk, disk);
    if (disk->waiting != NULL || (clears(request) && disk->short_way > 0)) {
        *disk->waiting_end = request;
        disk->waiting_end = &request->next;
        return;
    }
    dispatch(disk, request);
}

static void kick(struct disk *d)
{
    uring_kick(d->uring);
}

static void wait_some(struct disk *d)
{
    struct qcow2_disk *disk = CONTAINER_OF(d, struct qcow2_disk, disk);
    if (disk->short_way > 0) {
        uring_wait(d->uring);
    } else {
        workers_wait(disk->workers);
    }
}

static void free_disk(struct disk *d)
{
    struct qcow2_disk *disk = CONTAINER_OF(d, struct qcow2_disk, disk);
    workers_free(disk->workers);
    uring_free(d->uring);
    if (disk->q != NULL && !d->read_only) {
        /* Nobody waits for it any more; what could not be written was never promised. */
        (void)qcow2_flush(disk->q);
        (void)qcow2_flush(disk->q);
    }
    qcow2_free(disk->q);
    free(disk);
}

static const struct disk_ops qcow2_ops = {
    .submit = submit,
    .kick = kick,
    .wait = wait_some,
    .free = free_disk,
};

int qcow2_disk_open(struct disk_file *file, const char *path, const struct disk_options *options,
                    struct loop *loop, struct disk **ret, struct err *err)
{
    if (file->direct) {
        disk_file_close(file);
        return err_say(err, ENOTSUP, "open disk '%s': direct I/O is for raw disks", path);
    }
    struct qcow2_disk *disk = calloc(1, sizeof(*disk));
    if (disk == NULL) {
        disk_file_close(file);
        return err_set(err, ENOMEM, "open disk '%s'", path);
    }
    disk->disk = (struct disk){.ops = &qcow2_ops, .read_only = file->read_only};
    disk->disk.can_discard = !file->read_only;
    disk->waiting_end = &disk->waiting;
    int r = qcow2_open(file, path, options, "", NULL, &disk->q, err);
    if (r == 0) {
        disk->disk.size = disk->q->size;
        r = uring_new(loop, &disk->disk.uring);
        if (r == 0) {
            r = workers_new(loop, 1, &disk->workers);
        }
        if (r < 0) {
            (void)err_set(err, -r, "start I/O of disk '%s'", path);
        }
    }
    if (r < 0) {
        free_disk(&disk->disk);
        return r;
    }
    *ret = &disk->disk;
    return 0;
}
