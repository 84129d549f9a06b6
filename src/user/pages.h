/*
 * pages.h - which pages the guest may execute. To the host they are data: it executes translations.
 */
#ifndef USER_PAGES_H
#define USER_PAGES_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct pages_range {
    uint64_t start, end;
};

struct pages {
    pthread_mutex_t lock;
    struct pages_range *range; /* executable ones, sorted, apart from each other */
    size_t count, room;
};

void pages_init(struct pages *pages);
void pages_done(struct pages *pages);
DEFINE_DONEP(struct pages, pages_done)

/* [start, start + len), in whole pages. *ret_had: any of it was executable. -ENOMEM. */
int pages_set(struct pages *pages, uint64_t start, uint64_t len, bool executable, bool *ret_had);
/* How far, at most to end, what holds at start holds: whether it is executable. */
uint64_t pages_run(struct pages *pages, uint64_t start, uint64_t end, bool *ret_executable);
bool pages_executable(struct pages *pages, uint64_t start, size_t len);

#endif
