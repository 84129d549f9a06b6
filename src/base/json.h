/*
 * json.h - typed reading of JSON that others wrote, with errors that name the path.
 *
 * A struct json_path is a link in a chain on the stack, so that "linux.resources.memory.limit" is
 * spelled out only when something is wrong. All getters: a missing key (or null) leaves *ret alone
 * and returns 0; a present key sets it and returns 1; a wrong type or range returns -EINVAL with
 * err set, naming path and value.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/macros.h"

struct err;
struct strv;

struct json_path {
    const struct json_path *parent;
    const char *key; /* NULL: an array element */
    size_t index;
};

static inline void json_unrefp(json_t **json)
{
    if (*json != NULL) {
        json_decref(*json);
    }
}

/* Parses a whole text (may hold any bytes). name is for the error text. */
int json_parse(const char *text, size_t len, const char *name, json_t **ret, struct err *err);

/* Reads and parses a file of at most max bytes. */
int json_load_at(int dir_fd, const char *path, size_t max, json_t **ret, struct err *err);

/* "path: what": -EINVAL. The value is printed in short form when not NULL. */
int json_fail(const struct json_path *path, const json_t *value, struct err *err, const char *fmt,
              ...) PRINTF_LIKE(4, 5);

/* A string without NUL bytes; *ret points into the object. */
int json_get_string(const json_t *object, const struct json_path *at, const char *key,
                    const char **ret, struct err *err);
int json_get_bool(const json_t *object, const struct json_path *at, const char *key, bool *ret,
                  struct err *err);
int json_get_int(const json_t *object, const struct json_path *at, const char *key, int64_t min,
                 int64_t max, int64_t *ret, struct err *err);
/* Borrowed references. */
int json_get_object(const json_t *object, const struct json_path *at, const char *key, json_t **ret,
                    struct err *err);
int json_get_array(const json_t *object, const struct json_path *at, const char *key, json_t **ret,
                   struct err *err);
/* Appends every string of the array. */
int json_get_strings(const json_t *object, const struct json_path *at, const char *key,
                     struct strv *ret, struct err *err);

/* A new array of strings; NULL without memory. */
json_t *json_from_strv(const struct strv *list);

#endif
