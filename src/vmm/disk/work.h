/*
 * work.h - a few threads that do what would block a loop.
 *
 * Work is begun in the order of its submission; with one thread it is also done in that order. The
 * threads are started by workers_new(), with all signals blocked, so that a jail may forbid new
 * ones afterwards.
 */
#ifndef VMM_DISK_WORK_H
#define VMM_DISK_WORK_H

#include "base/cleanup.h"

struct loop;
struct workers;

/* The caller's, untouched by him from submit until done. */
struct work {
    void (*run)(struct work *work);  /* on a worker */
    void (*done)(struct work *work); /* on the loop's thread; may free work */
    struct work *next;
};

int workers_new(struct loop *loop, unsigned threads, struct workers **ret);
/* Accepts NULL. Nothing may be under way. */
void workers_free(struct workers *workers);
DEFINE_FREEP(struct workers *, workers_free)

void workers_submit(struct workers *workers, struct work *work);
/* Blocks until something is done, and calls done() for all that is. Nothing under way: returns. */
void workers_wait(struct workers *workers);

#endif
