/*
 * clock.h - times as nanoseconds.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define NS_PER_SEC 1000000000LL
#define NS_PER_MS 1000000LL

/* Room for any text that format_time() writes. */
#define TIME_TEXT_SIZE ((size_t)40)

/* Nanoseconds since 1970 (UTC). */
int64_t clock_realtime_ns(void);

/* Nanoseconds of CLOCK_MONOTONIC. */
int64_t clock_monotonic_ns(void);

/* RFC 3339 in UTC with nine digits of fraction: 2026-01-02T03:04:05.000000006Z */
void format_time(int64_t ns, char out[TIME_TEXT_SIZE]);

/*
 * RFC 3339 (any zone; date alone, or without zone: UTC), Unix seconds with fraction, or a Go
 * duration, which means so long before now. 0 or -EINVAL.
 */
int parse_time(const char *s, int64_t now_ns, int64_t *ret_ns);

/* "5 seconds", "About a minute", "3 hours": how Docker's users read ages. */
void format_age(int64_t ns, char *out, size_t size);

#endif
