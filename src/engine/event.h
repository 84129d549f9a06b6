/*
 * event.h - what happened, in order: `isola events`.
 */
#ifndef ENGINE_EVENT_H
#define ENGINE_EVENT_H

#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "engine/db.h"

struct err;

struct event {
    int64_t id;
    int64_t time_ns;
    const char *type;       /* "container", "volume", "network", "image" */
    const char *action;     /* "create", "start", "die"... Docker's words */
    const char *actor;      /* id or name */
    const char *attributes; /* JSON object */
};

/* attributes: NAME=value, may be NULL. Part of the transaction that is open, if one is. */
int event_add(struct db *db, const char *type, const char *action, const char *actor,
              const struct strv *attributes, struct err *err);

/* Calls fn for each event above after_id and not older than since_ns, oldest first. */
int event_each(struct db *db, int64_t after_id, int64_t since_ns,
               int (*fn)(const struct event *event, void *data), void *data, struct err *err);

/* Forgets what is older than a day beyond the newest thousand. */
int event_trim(struct db *db, struct err *err);

#endif
