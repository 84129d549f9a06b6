#include "engine/event.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

#define KEEP_EVENTS 1000

int event_add(struct db *db, const char *type, const char *action, const char *actor,
              const struct strv *attributes, struct err *err)
{
    json_t *object = json_object();
    for (size_t i = 0; attributes != NULL && i < attributes->count; i++) {
        const char *item = attributes->items[i];
        const char *equals = strchr(item, '=');
        AUTO(freep) char *key = strndup(item, equals != NULL ? (size_t)(equals - item) : 0);
        if (key == NULL ||
            json_object_set_new(object, key, json_string(equals != NULL ? equals + 1 : item)) < 0) {
            json_decref(object);
            return err_set(err, ENOMEM, "event");
        }
    }
    AUTO(freep) char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL) {
        return err_set(err, ENOMEM, "event");
    }
    int r = db_run(db, err,
                   "INSERT INTO event (time, type, action, actor, attributes)"
                   " VALUES (?, ?, ?, ?, ?)",
                   "issss", clock_realtime_ns(), type, action, actor, text);
    return r < 0 ? r : 0;
}

int event_each(struct db *db, int64_t after_id, int64_t since_ns,
               int (*fn)(const struct event *event, void *data), void *data, struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(db, &stmt, err,
                       "SELECT id, time, type, action, actor, attributes FROM event"
                       " WHERE id > ? AND time >= ? ORDER BY id",
                       "ii", after_id, since_ns);
    while (r >= 0 && (r = db_step(db, stmt, err)) == 1) {
        const struct event event = {
            .id = sqlite3_column_int64(stmt, 0),
            .time_ns = sqlite3_column_int64(stmt, 1),
            .type = db_text(stmt, 2),
            .action = db_text(stmt, 3),
            .actor = db_text(stmt, 4),
            .attributes = db_text(stmt, 5),
        };
        r = fn(&event, data);
    }
    return r;
}

int event_trim(struct db *db, struct err *err)
{
    int r = db_run(db, err,
                   "DELETE FROM event WHERE time < ? AND id <= (SELECT max(id) FROM event) - ?",
                   "ii", clock_realtime_ns() - 24 * 3600 * NS_PER_SEC, (int64_t)KEEP_EVENTS);
    return r < 0 ? r : 0;
}
