#include "container/spec_fields.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/macros.h"
#include "base/str.h"

#define CHUNK_SIZE ((size_t)4096)

struct spec_arena {
    struct spec_arena *next;
    size_t used;
    size_t size;
    _Alignas(16) char data[];
};

void *spec_alloc(struct spec *spec, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2) {
        return NULL;
    }
    bytes = (bytes + 15) & ~(size_t)15;
    struct spec_arena *chunk = spec->arena;
    if (chunk == NULL || chunk->size - chunk->used < bytes) {
        size_t room = MAX(bytes, CHUNK_SIZE - sizeof(*chunk));
        chunk = calloc(1, sizeof(*chunk) + room);
        if (chunk == NULL) {
            return NULL;
        }
        chunk->size = room;
        chunk->next = spec->arena;
        spec->arena = chunk;
    }
    void *memory = chunk->data + chunk->used;
    chunk->used += bytes;
    return memory;
}

void spec_free(struct spec *spec)
{
    if (spec == NULL) {
        return;
    }
    while (spec->arena != NULL) {
        struct spec_arena *next = spec->arena->next;
        free(spec->arena);
        spec->arena = next;
    }
    json_decref(spec->json);
    free(spec);
}

static int read_strings(struct spec *spec, const json_t *object, const struct json_path *at,
                        const char *key, struct spec_strings *ret, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *array;
    int r = json_get_array(object, at, key, &array, err);
    if (r <= 0) {
        return r;
    }
    size_t count = json_array_size(array);
    char **items = spec_alloc(spec, count + 1, sizeof(*items));
    if (items == NULL) {
        return err_set(err, ENOMEM, "read %s", key);
    }
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(array, i);
        const struct json_path item_path = {.parent = &path, .index = i};
        if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item)) {
            return json_fail(&item_path, item, err, "must be a string without NUL bytes");
        }
        /* The document is ours and nobody writes to it; argv and environ want char *. */
        items[i] = (char *)(uintptr_t)json_string_value(item);
    }
    ret->items = items;
    ret->count = count;
    return 1;
}

static int read_number(const json_t *object, const struct json_path *at,
                       const struct spec_field *field, struct spec_number *ret, struct err *err)
{
    bool limited = field->min != 0 || field->max != 0;
    int r = json_get_int(object, at, field->key, limited ? field->min : INT64_MIN,
                         limited ? field->max : INT64_MAX, &ret->value, err);
    ret->set = r > 0 || ret->set;
    return r;
}

static int read_field(struct spec *spec, const json_t *object, const struct json_path *at,
                      const struct spec_field *field, void *target, struct err *err)
{
    int64_t number;
    bool flag;
    int r;
    switch (field->kind) {
    case FIELD_STRING:
        r = json_get_string(object, at, field->key, target, err);
        if (r > 0 && **(const char **)target == '\0') {
            *(const char **)target = NULL;
        }
        return r;
    case FIELD_BOOL:
        return json_get_bool(object, at, field->key, target, err);
    case FIELD_U16:
        r = json_get_int(object, at, field->key, 0, UINT16_MAX, &number, err);
        if (r > 0) {
            *(uint16_t *)target = (uint16_t)number;
        }
        return r;
    case FIELD_U32:
        r = json_get_int(object, at, field->key, 0, UINT32_MAX, &number, err);
        if (r > 0) {
            *(uint32_t *)target = (uint32_t)number;
        }
        return r;
    case FIELD_U64:
        r = json_get_int(object, at, field->key, INT64_MIN, INT64_MAX, &number, err);
        if (r > 0) {
            *(uint64_t *)target = (uint64_t)number;
        }
        return r;
    case FIELD_NUMBER:
        return read_number(object, at, field, target, err);
    case FIELD_FLAG:
        r = json_get_bool(object, at, field->key, &flag, err);
        if (r > 0) {
            *(struct spec_number *)target = (struct spec_number){.set = true, .value = flag};
        }
        return r;
    case FIELD_STRINGS:
        return read_strings(spec, object, at, field->key, target, err);
    }
    return -EINVAL;
}

int spec_read_fields(struct spec *spec, const json_t *object, const struct json_path *at,
                     const struct spec_field *fields, void *base, struct err *err)
{
    for (; fields->key != NULL; fields++) {
        int r = read_field(spec, object, at, fields, (char *)base + fields->offset, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int spec_read_array(struct spec *spec, const json_t *object, const struct json_path *at,
                    const char *key, size_t size, spec_item_fn *fn, void **ret_items,
                    size_t *ret_count, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *array;
    int r = json_get_array(object, at, key, &array, err);
    if (r <= 0) {
        return r;
    }
    size_t count = json_array_size(array);
    char *items = spec_alloc(spec, count, size);
    if (items == NULL) {
        return err_set(err, ENOMEM, "read %s", key);
    }
    for (size_t i = 0; i < count; i++) {
        const struct json_path item_path = {.parent = &path, .index = i};
        const json_t *item = json_array_get(array, i);
        if (!json_is_object(item)) {
            return json_fail(&item_path, item, err, "must be an object");
        }
        r = fn(spec, item, &item_path, items + i * size, err);
        if (r < 0) {
            return r;
        }
    }
    *ret_items = items;
    *ret_count = count;
    return 1;
}

int spec_read_pairs(struct spec *spec, const json_t *object, const struct json_path *at,
                    const char *key, struct spec_pairs *ret, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *map;
    int r = json_get_object(object, at, key, &map, err);
    if (r <= 0) {
        return r;
    }
    struct spec_pair *items = spec_alloc(spec, json_object_size(map), sizeof(*items));
    if (items == NULL) {
        return err_set(err, ENOMEM, "read %s", key);
    }
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach (map, name, value) {
        const struct json_path item_path = {.parent = &path, .key = name};
        if (!json_is_string(value) ||
            strlen(json_string_value(value)) != json_string_length(value)) {
            return json_fail(&item_path, value, err, "must be a string without NUL bytes");
        }
        items[count++] = (struct spec_pair){.name = name, .value = json_string_value(value)};
    }
    ret->items = items;
    ret->count = count;
    return 1;
}

static int read_id_map(struct spec *spec, const json_t *item, const struct json_path *at,
                       void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"containerID", FIELD_U32, offsetof(struct spec_id_map, container_id), 0, 0},
        {"hostID", FIELD_U32, offsetof(struct spec_id_map, host_id), 0, 0},
        {"size", FIELD_U32, offsetof(struct spec_id_map, size), 0, 0},
        {0},
    };
    struct spec_id_map *map = element;
    static const char *const keys[] = {"containerID", "hostID", "size"};
    for (size_t i = 0; i < COUNT(keys); i++) {
        int r = spec_require(item, at, keys[i], err);
        if (r < 0) {
            return r;
        }
    }
    int r = spec_read_fields(spec, item, at, fields, map, err);
    if (r < 0) {
        return r;
    }
    if (map->size == 0 || map->size > UINT32_MAX - map->host_id ||
        map->size > UINT32_MAX - map->container_id) {
        return json_fail(at, item, err, "size is 0 or reaches past the last id");
    }
    return 0;
}

int spec_read_id_maps(struct spec *spec, const json_t *object, const struct json_path *at,
                      const char *key, struct spec_id_maps *ret, struct err *err)
{
    void *items = NULL;
    size_t count = 0;
    int r = spec_read_array(spec, object, at, key, sizeof(struct spec_id_map), read_id_map, &items,
                            &count, err);
    ret->items = items;
    ret->count = count;
    return r;
}

int spec_require(const json_t *object, const struct json_path *at, const char *key, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    const json_t *value = json_object_get(object, key);
    if (value == NULL || json_is_null(value)) {
        return json_fail(&path, NULL, err, "is missing");
    }
    return 0;
}
