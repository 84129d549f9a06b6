#include "user/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

void pages_init(struct pages *pages)
{
    *pages = (struct pages){.range = NULL};
    (void)pthread_mutex_init(&pages->lock, NULL);
}

void pages_done(struct pages *pages)
{
    free(pages->range);
    (void)pthread_mutex_destroy(&pages->lock);
}

/* Room for two more: a range may be cut in two, and one added. */
static int make_room(struct pages *pages)
{
    if (pages->count + 2 <= pages->room) {
        return 0;
    }
    size_t room = pages->room * 2 + 8;
    struct pages_range *grown = realloc(pages->range, room * sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    pages->range = grown;
    pages->room = room;
    return 0;
}

static void insert(struct pages *pages, size_t at, struct pages_range range)
{
    memmove(&pages->range[at + 1], &pages->range[at],
            (pages->count - at) * sizeof(pages->range[0]));
    pages->range[at] = range;
    pages->count++;
}

/* True when any of it was there. */
static bool cut(struct pages *pages, uint64_t start, uint64_t end)
{
    bool had = false;
    for (size_t i = 0; i < pages->count;) {
        struct pages_range *r = &pages->range[i];
        if (r->end <= start || r->start >= end) {
            i++;
            continue;
        }
        had = true;
        struct pages_range above = {end, r->end};
        if (r->start < start) {
            r->end = start;
            i++;
        } else {
            memmove(r, r + 1, (pages->count - i - 1) * sizeof(*r));
            pages->count--;
        }
        if (above.start < above.end) {
            insert(pages, i, above);
            i++;
        }
    }
    return had;
}

int pages_set(struct pages *pages, uint64_t start, uint64_t len, bool executable, bool *ret_had)
{
    uint64_t end = start + ((len + 4095) & ~(uint64_t)4095);
    (void)pthread_mutex_lock(&pages->lock);
    int r = make_room(pages);
    if (r == 0) {
        *ret_had = cut(pages, start, end);
        if (executable && start < end) {
            size_t at = 0;
            while (at < pages->count && pages->range[at].start < start) {
                at++;
            }
            insert(pages, at, (struct pages_range){start, end});
        }
    }
    (void)pthread_mutex_unlock(&pages->lock);
    return r;
}

bool pages_executable(struct pages *pages, uint64_t start, size_t len)
{
    bool found = false;
    (void)pthread_mutex_lock(&pages->lock);
    for (size_t i = 0; i < pages->count && !found; i++) {
        found = pages->range[i].start <= start && start < pages->range[i].end &&
                len <= pages->range[i].end - start;
    }
    (void)pthread_mutex_unlock(&pages->lock);
    return found;
}

uint64_t pages_run(struct pages *pages, uint64_t start, uint64_t end, bool *ret_executable)
{
    *ret_executable = false;
    (void)pthread_mutex_lock(&pages->lock);
    for (size_t i = 0; i < pages->count && pages->range[i].start < end; i++) {
        const struct pages_range *r = &pages->range[i];
        if (r->start <= start && start < r->end) {
            *ret_executable = true;
            end = MIN(end, r->end);
        } else if (r->start > start) {
            end = r->start;
        }
    }
    (void)pthread_mutex_unlock(&pages->lock);
    return end;
}
