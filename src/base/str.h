/*
 * str.h - strings, string lists, numbers with units.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macros.h"

static inline bool str_eq(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static inline bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix);

/* A string that the caller frees, or NULL without memory. */
char *str_printf(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* A whole unsigned number in base 10 (or 0x..., 0... when base is 0). 0, -EINVAL or -ERANGE. */
int parse_u64(const char *s, int base, uint64_t *ret);
int parse_i64(const char *s, int64_t *ret);

/* "512", "64k", "1.5g", "2GiB": bytes, powers of 1024. 0, -EINVAL or -ERANGE. */
int parse_size(const char *s, uint64_t *ret_bytes);

/* Go's durations: "1h30m", "1.5s", "250ms", "10us"; a plain number is seconds. */
int parse_duration(const char *s, uint64_t *ret_ns);

/* Writes "1.5GB"-like text in powers of 1000 (as Docker prints sizes) into out. */
void format_size(uint64_t bytes, char *out, size_t size);

/* A list of owned strings, always followed by a NULL entry once not empty. */
struct strv {
    char **items;
    size_t count;
    size_t size; /* places in items */
};

void strv_done(struct strv *list);
DEFINE_DONEP(struct strv, strv_done)

/* Copies s. 0 or -ENOMEM. */
int strv_add(struct strv *list, const char *s);
int strv_addf(struct strv *list, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Takes s over, also on failure; s == NULL is -ENOMEM. */
int strv_push(struct strv *list, char *s);
int strv_copy(const struct strv *from, struct strv *to);
bool strv_has(const struct strv *list, const char *s);
/* Splits at any character of separators; empty parts are left out. */
int strv_split(struct strv *list, const char *s, const char *separators);

/* The value of NAME in a list of NAME=value, or NULL. */
const char *env_get(const struct strv *list, const char *name);
/* Replaces or appends NAME=value given as one string. */
int env_set(struct strv *list, const char *assignment);

#endif
