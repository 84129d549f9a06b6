#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/macros.h"
#include "base/str.h"

int64_t clock_realtime_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

int64_t clock_monotonic_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

void format_time(int64_t ns, char out[TIME_TEXT_SIZE])
{
    time_t seconds = (time_t)(ns / NS_PER_SEC);
    struct tm tm;
    if (gmtime_r(&seconds, &tm) == NULL) {
        tm = (struct tm){.tm_year = 70, .tm_mday = 1};
    }
    size_t n = strftime(out, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out + n, TIME_TEXT_SIZE - n, ".%09uZ", (unsigned)(ns % NS_PER_SEC));
}

/* A fraction behind a dot as nanoseconds; leaves *s behind it. */
static int64_t parse_fraction(const char **s)
{
    int64_t ns = 0;
    if (**s != '.') {
        return 0;
    }
    int64_t unit = NS_PER_SEC / 10;
    for ((*s)++; isdigit((unsigned char)**s); (*s)++) {
        ns += unit * (**s - '0');
        unit /= 10;
    }
    return ns;
}

static int parse_zone(const char *s, int64_t *ret_offset)
{
    int hours;
    int minutes;
    int used = 0;
    if (*s == '\0' || strcmp(s, "Z") == 0 || strcmp(s, "z") == 0) {
        *ret_offset = 0;
        return 0;
    }
    if ((*s != '+' && *s != '-') || sscanf(s + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 ||
        s[1 + used] != '\0') {
        return -EINVAL;
    }
    *ret_offset = (int64_t)(hours * 60 + minutes) * 60 * (*s == '-' ? -1 : 1);
    return 0;
}

static int parse_rfc3339(const char *s, int64_t *ret_ns)
{
    struct tm tm = {0};
    int used = 0;
    if (sscanf(s, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &used) != 3) {
        return -EINVAL;
    }
    s += used;
    int64_t fraction = 0;
    if (*s == 'T' || *s == 't' || *s == ' ') {
        used = 0;
        if (sscanf(s + 1, "%2d:%2d%n", &tm.tm_hour, &tm.tm_min, &used) != 2) {
            return -EINVAL;
        }
        s += 1 + used;
        if (*s == ':') {
            if (sscanf(s + 1, "%2d%n", &tm.tm_sec, &used) != 1) {
                return -EINVAL;
            }
            s += 1 + used;
        }
        fraction = parse_fraction(&s);
    }
    int64_t offset;
    int r = parse_zone(s, &offset);
    if (r < 0) {
        return r;
    }
    /* 60: a leap second. */
    if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour < 0 ||
        tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60) {
        return -EINVAL;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    /* Nanoseconds reach from 1678 to 2261; Go's zero time, the year 1, is not in it. */
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)timegm(&tm) - offset, NS_PER_SEC, &ns) ||
        __builtin_add_overflow(ns, fraction, ret_ns)) {
        return -EINVAL;
    }
    return 0;
}

int parse_time(const char *s, int64_t now_ns, int64_t *ret_ns)
{
    if (s == NULL || !isdigit((unsigned char)s[0])) {
        return -EINVAL;
    }
    if (strlen(s) > 4 && s[4] == '-') {
        return parse_rfc3339(s, ret_ns);
    }
    if (strspn(s, "0123456789.") == strlen(s)) {
        const char *rest = s + strspn(s, "0123456789");
        char whole[32];
        (void)snprintf(whole, sizeof(whole), "%.*s", (int)(rest - s), s);
        int64_t seconds;
        if (parse_i64(whole, &seconds) < 0 || seconds > INT64_MAX / NS_PER_SEC - 1) {
            return -EINVAL;
        }
        *ret_ns = seconds * NS_PER_SEC + parse_fraction(&rest);
        return *rest == '\0' ? 0 : -EINVAL;
    }
    uint64_t ago;
    if (parse_duration(s, &ago) < 0 || ago > INT64_MAX) {
        return -EINVAL;
    }
    *ret_ns = now_ns - (int64_t)ago;
    return 0;
}

void format_age(int64_t ns, char *out, size_t size)
{
    int64_t s = ns / NS_PER_SEC;
    int64_t m = s / 60;
    int64_t h = (m + 30) / 60;
    if (s < 1) {
        (void)snprintf(out, size, "Less than a second");
    } else if (s == 1) {
        (void)snprintf(out, size, "1 second");
    } else if (s < 60) {
        (void)snprintf(out, size, "%d seconds", (int)s);
    } else if (m == 1) {
        (void)snprintf(out, size, "About a minute");
    } else if (m < 60) {
        (void)snprintf(out, size, "%d minutes", (int)m);
    } else if (h == 1) {
        (void)snprintf(out, size, "About an hour");
    } else if (h < 48) {
        (void)snprintf(out, size, "%d hours", (int)h);
    } else if (h < 24 * 14) {
        (void)snprintf(out, size, "%d days", (int)(h / 24));
    } else if (h < 24 * 60) {
        (void)snprintf(out, size, "%d weeks", (int)(h / 24 / 7));
    } else if (h < 24 * 365 * 2) {
        (void)snprintf(out, size, "%d months", (int)(h / 24 / 30));
    } else {
        (void)snprintf(out, size, "%d years", (int)(h / 24 / 365));
    }
}
