#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

bool str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s);
    size_t m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

char *str_printf(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : s;
}

int parse_u64(const char *s, int base, uint64_t *ret)
{
    /* strtoull takes signs and blanks, which no number of ours has. */
    if (s == NULL || !isalnum((unsigned char)s[0])) {
        return -EINVAL;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(s, &end, base);
    if (errno == ERANGE) {
        return -ERANGE;
    }
    if (end == s || *end != '\0') {
        return -EINVAL;
    }
    *ret = value;
    return 0;
}

int parse_i64(const char *s, int64_t *ret)
{
    if (s == NULL || (!isdigit((unsigned char)s[0]) && s[0] != '-')) {
        return -EINVAL;
    }
    char *end = NULL;
    errno = 0;
    long long value = strtoll(s, &end, 10);
    if (errno == ERANGE) {
        return -ERANGE;
    }
    if (end == s || *end != '\0') {
        return -EINVAL;
    }
    *ret = value;
    return 0;
}

/*
 * A decimal number with an optional fraction as a fixed-point value: whole and billionths. Own code
 * because strtod() follows the locale and rounds sizes above 2^53.
 */
static int parse_decimal(const char **s, uint64_t *ret_whole, uint64_t *ret_billionths)
{
    const char *p = *s;
    uint64_t whole = 0;
    uint64_t fraction = 0;
    if (!isdigit((unsigned char)*p)) {
        return -EINVAL;
    }
    for (; isdigit((unsigned char)*p); p++) {
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole)) {
            return -ERANGE;
        }
    }
    if (*p == '.') {
        uint64_t unit = 100000000;
        for (p++; isdigit((unsigned char)*p); p++) {
            fraction += unit * (uint64_t)(*p - '0');
            unit /= 10;
        }
    }
    *s = p;
    *ret_whole = whole;
    *ret_billionths = fraction;
    return 0;
}

static int scale(uint64_t whole, uint64_t billionths, uint64_t unit, uint64_t *ret)
{
    unsigned __int128 value =
        (unsigned __int128)whole * unit + (unsigned __int128)billionths * unit / 1000000000;
    if (value > UINT64_MAX) {
        return -ERANGE;
    }
    *ret = (uint64_t)value;
    return 0;
}

int parse_size(const char *s, uint64_t *ret_bytes)
{
    static const char units[] = "bkmgtp";
    uint64_t whole;
    uint64_t fraction;
    if (s == NULL) {
        return -EINVAL;
    }
    int r = parse_decimal(&s, &whole, &fraction);
    if (r < 0) {
        return r;
    }
    uint64_t unit = 1;
    if (*s != '\0') {
        const char *u = strchr(units, tolower((unsigned char)*s));
        if (u == NULL) {
            return -EINVAL;
        }
        unit = (uint64_t)1 << (10 * (u - units));
        s++;
        /* "k", "kb" and "kib" are the same to Docker and to us. */
        if (u != units && tolower((unsigned char)*s) == 'i') {
            s++;
        }
        if (u != units && tolower((unsigned char)*s) == 'b') {
            s++;
        }
        if (*s != '\0') {
            return -EINVAL;
        }
    }
    return scale(whole, fraction, unit, ret_bytes);
}

int parse_duration(const char *s, uint64_t *ret_ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"ns", 1},          {"us", 1000},      {"ms", 1000000}, {"h", 3600000000000},
        {"m", 60000000000}, {"s", 1000000000},
    };
    uint64_t total = 0;
    if (s == NULL || *s == '\0') {
        return -EINVAL;
    }
    bool first = true;
    while (*s != '\0') {
        uint64_t whole;
        uint64_t fraction;
        uint64_t part;
        int r = parse_decimal(&s, &whole, &fraction);
        if (r < 0) {
            return r;
        }
        uint64_t unit = 0;
        if (first && *s == '\0') {
            unit = 1000000000;
        }
        for (size_t i = 0; unit == 0 && i < COUNT(units); i++) {
            if (str_starts(s, units[i].name)) {
                unit = units[i].ns;
                s += strlen(units[i].name);
            }
        }
        if (unit == 0) {
            return -EINVAL;
        }
        r = scale(whole, fraction, unit, &part);
        if (r < 0 || __builtin_add_overflow(total, part, &total)) {
            return -ERANGE;
        }
        first = false;
    }
    *ret_ns = total;
    return 0;
}

void format_size(uint64_t bytes, char *out, size_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000.0 && unit + 1 < COUNT(units)) {
        value /= 1000.0;
        unit++;
    }
    (void)snprintf(out, size, "%.*f%s",
                   unit == 0 || value >= 100.0 ? 0
                   : value >= 10.0             ? 1
                                               : 2,
                   value, units[unit]);
}

void strv_done(struct strv *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct strv){0};
}

int strv_push(struct strv *list, char *s)
{
    if (s == NULL) {
        return -ENOMEM;
    }
    if (list->count + 2 > list->size) {
        size_t size = MAX(list->size * 2, (size_t)8);
        char **items = reallocarray(list->items, size, sizeof(*items));
        if (items == NULL) {
            free(s);
            return -ENOMEM;
        }
        list->items = items;
        list->size = size;
    }
    list->items[list->count++] = s;
    list->items[list->count] = NULL;
    return 0;
}

int strv_add(struct strv *list, const char *s)
{
    return strv_push(list, strdup(s));
}

int strv_addf(struct strv *list, const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return strv_push(list, n < 0 ? NULL : s);
}

int strv_copy(const struct strv *from, struct strv *to)
{
    for (size_t i = 0; i < from->count; i++) {
        int r = strv_add(to, from->items[i]);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

bool strv_has(const struct strv *list, const char *s)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i], s) == 0) {
            return true;
        }
    }
    return false;
}

int strv_split(struct strv *list, const char *s, const char *separators)
{
    while (*s != '\0') {
        size_t n = strcspn(s, separators);
        if (n > 0) {
            int r = strv_push(list, strndup(s, n));
            if (r < 0) {
                return r;
            }
        }
        s += n;
        s += *s != '\0' ? 1 : 0;
    }
    return 0;
}

static char **env_find(const struct strv *list, const char *name, size_t len)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strncmp(list->items[i], name, len) == 0 && list->items[i][len] == '=') {
            return &list->items[i];
        }
    }
    return NULL;
}

const char *env_get(const struct strv *list, const char *name)
{
    size_t len = strlen(name);
    char **item = env_find(list, name, len);
    return item != NULL ? *item + len + 1 : NULL;
}

int env_set(struct strv *list, const char *assignment)
{
    char **item = env_find(list, assignment, strcspn(assignment, "="));
    if (item == NULL) {
        return strv_add(list, assignment);
    }
    char *copy = strdup(assignment);
    if (copy == NULL) {
        return -ENOMEM;
    }
    free(*item);
    *item = copy;
    return 0;
}
