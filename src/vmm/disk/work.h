/*
 * work.h - a few threads that do what would block a loop.
 *
 * Work is begun in the order of its submission; with one thread it is also done in that order. A
 * thread starts, with all signals blocked, when work is submitted and there are fewer than allowed:
 * so they belong to the jail that the process has entered by then (jail.h).
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
