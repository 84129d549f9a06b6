#include "base/json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/str.h"

/* Deep nesting costs stack in the parser; jansson's own limit is 2048. */
#define VALUE_TEXT_MAX 80

int json_parse(const char *text, size_t len, const char *name, json_t **ret, struct err *err)
{
    /* The kernel's random bytes of this process: jansson would open /dev/urandom for them. */
    size_t seed = 1;
    const void *random = (const void *)getauxval(AT_RANDOM);
    if (random != NULL) {
        memcpy(&seed, random, sizeof(seed));
    }
    json_object_seed(seed);
    json_error_t error;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL) {
        return err_say(err, EINVAL, "%s: line %d, column %d: %s", name, error.line, error.column,
                       error.text);
    }
    *ret = json;
    return 0;
}

int json_load_at(int dir_fd, const char *path, size_t max, json_t **ret, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = read_file_at(dir_fd, path, max, &text);
    if (r < 0) {
        return err_set(err, -r, "read '%s'", path);
    }
    return json_parse(text.data != NULL ? text.data : "", text.len, path, ret, err);
}

static void add_path(const struct json_path *path, struct buf *out)
{
    if (path == NULL) {
        return;
    }
    add_path(path->parent, out);
    if (path->key == NULL) {
        (void)buf_printf(out, "[%zu]", path->index);
    } else {
        (void)buf_printf(out, "%s%s", out->len > 0 ? "." : "", path->key);
    }
}

int json_fail(const struct json_path *path, const json_t *value, struct err *err, const char *fmt,
              ...)
{
    if (err == NULL) {
        return -EINVAL;
    }
    AUTO(buf_donep) struct buf text = {0};
    add_path(path, &text);
    if (value != NULL) {
        char shown[VALUE_TEXT_MAX + 1];
        size_t n = json_dumpb(value, shown, VALUE_TEXT_MAX, JSON_ENCODE_ANY | JSON_COMPACT);
        if (n > VALUE_TEXT_MAX) {
            (void)snprintf(shown + VALUE_TEXT_MAX - 3, 4, "...");
            n = VALUE_TEXT_MAX;
        }
        shown[n] = '\0';
        (void)buf_printf(&text, "%s = %s", text.len > 0 ? "" : "value", shown);
    }
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return err_say(err, EINVAL, "%s: %s", text.data != NULL ? text.data : "", what);
}

/* 1 and the value, or 0 when there is none. */
static int lookup(const json_t *object, const char *key, json_t **ret)
{
    json_t *value = json_object_get(object, key);
    if (value == NULL || json_is_null(value)) {
        return 0;
    }
    *ret = value;
    return 1;
}

int json_get_string(const json_t *object, const struct json_path *at, const char *key,
                    const char **ret, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *value;
    if (lookup(object, key, &value) == 0) {
        return 0;
    }
    if (!json_is_string(value)) {
        return json_fail(&path, value, err, "must be a string");
    }
    if (strlen(json_string_value(value)) != json_string_length(value)) {
        return json_fail(&path, value, err, "must not hold a NUL byte");
    }
    *ret = json_string_value(value);
    return 1;
}

int json_get_bool(const json_t *object, const struct json_path *at, const char *key, bool *ret,
                  struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *value;
    if (lookup(object, key, &value) == 0) {
        return 0;
    }
    if (!json_is_boolean(value)) {
        return json_fail(&path, value, err, "must be true or false");
    }
    *ret = json_is_true(value);
    return 1;
}

int json_get_int(const json_t *object, const struct json_path *at, const char *key, int64_t min,
                 int64_t max, int64_t *ret, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *value;
    if (lookup(object, key, &value) == 0) {
        return 0;
    }
    if (!json_is_integer(value)) {
        return json_fail(&path, value, err, "must be a whole number");
    }
    int64_t number = json_integer_value(value);
    if (number < min || number > max) {
        return json_fail(&path, value, err, "must be between %lld and %lld", (long long)min,
                         (long long)max);
    }
    *ret = number;
    return 1;
}

int json_get_object(const json_t *object, const struct json_path *at, const char *key, json_t **ret,
                    struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *value;
    if (lookup(object, key, &value) == 0) {
        return 0;
    }
    if (!json_is_object(value)) {
        return json_fail(&path, value, err, "must be an object");
    }
    *ret = value;
    return 1;
}

int json_get_array(const json_t *object, const struct json_path *at, const char *key, json_t **ret,
                   struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *value;
    if (lookup(object, key, &value) == 0) {
        return 0;
    }
    if (!json_is_array(value)) {
        return json_fail(&path, value, err, "must be an array");
    }
    *ret = value;
    return 1;
}

int json_get_strings(const json_t *object, const struct json_path *at, const char *key,
                     struct strv *ret, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *array;
    int r = json_get_array(object, at, key, &array, err);
    if (r <= 0) {
        return r;
    }
    size_t i;
    json_t *item;
    json_array_foreach (array, i, item) {
        const struct json_path item_path = {.parent = &path, .index = i};
        if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item)) {
            return json_fail(&item_path, item, err, "must be a string without NUL bytes");
        }
        r = strv_add(ret, json_string_value(item));
        if (r < 0) {
            return err_set(err, -r, "read %s", key);
        }
    }
    return 1;
}

json_t *json_from_strv(const struct strv *list)
{
    json_t *array = json_array();
    for (size_t i = 0; array != NULL && i < list->count; i++) {
        if (json_array_append_new(array, json_string(list->items[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}
