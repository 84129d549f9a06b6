/*
 * spec_fields.h - reading JSON objects into structs by tables; for the spec_*.c files only.
 */
#ifndef CONTAINER_SPEC_FIELDS_H
#define CONTAINER_SPEC_FIELDS_H

#include "base/json.h"
#include "container/spec.h"

enum spec_field_kind {
    FIELD_STRING,  /* const char *; "" counts as absent */
    FIELD_BOOL,    /* bool */
    FIELD_U16,     /* uint16_t */
    FIELD_U32,     /* uint32_t */
    FIELD_U64,     /* uint64_t; all 64 bits */
    FIELD_NUMBER,  /* struct spec_number, min..max */
    FIELD_FLAG,    /* struct spec_number from true or false */
    FIELD_STRINGS, /* struct spec_strings */
};

struct spec_field {
    const char *key; /* NULL ends the table */
    enum spec_field_kind kind;
    size_t offset;
    int64_t min; /* FIELD_NUMBER only; both 0: any value */
    int64_t max;
};

/* Absent keys leave the struct alone. 0 or a negative errno. */
int spec_read_fields(struct spec *spec, const json_t *object, const struct json_path *at,
                     const struct spec_field *fields, void *base, struct err *err);

/*
 * Calls fn for each object of the array object[key]; *ret_items gets a zeroed array of elements of
 * size bytes and *ret_count their number.
 */
typedef int spec_item_fn(struct spec *spec, const json_t *item, const struct json_path *at,
                         void *element, struct err *err);
int spec_read_array(struct spec *spec, const json_t *object, const struct json_path *at,
                    const char *key, size_t size, spec_item_fn *fn, void **ret_items,
                    size_t *ret_count, struct err *err);

/* object[key] as names and texts (numbers are spelled out). */
int spec_read_pairs(struct spec *spec, const json_t *object, const struct json_path *at,
                    const char *key, struct spec_pairs *ret, struct err *err);

int spec_read_id_maps(struct spec *spec, const json_t *object, const struct json_path *at,
                      const char *key, struct spec_id_maps *ret, struct err *err);

/* Fails unless object has the key. */
int spec_require(const json_t *object, const struct json_path *at, const char *key,
                 struct err *err);

/* The parts of a spec, each in the file of its name. */
int spec_read_process(struct spec *spec, const json_t *object, const struct json_path *at,
                      struct err *err);
int spec_read_linux(struct spec *spec, const json_t *object, const struct json_path *at,
                    struct err *err);
int spec_read_resources(struct spec *spec, const json_t *object, const struct json_path *at,
                        struct err *err);
int spec_read_seccomp(struct spec *spec, const json_t *object, const struct json_path *at,
                      struct err *err);
/* What only the whole can tell: maps without a namespace, sysctls of the host's kernel. */
int spec_check(const struct spec *spec, struct err *err);

#endif
