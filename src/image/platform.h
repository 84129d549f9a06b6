/*
 * platform.h - os/architecture[/variant], in Go's names.
 */
#ifndef IMAGE_PLATFORM_H
#define IMAGE_PLATFORM_H

#include <stdbool.h>

struct err;

#define PLATFORM_PART_SIZE 24
#define PLATFORM_TEXT_SIZE (3 * PLATFORM_PART_SIZE)

struct platform {
    char os[PLATFORM_PART_SIZE];
    char architecture[PLATFORM_PART_SIZE];
    char variant[PLATFORM_PART_SIZE]; /* "" when there is none */
};

/* "linux/arm64", "arm64", "linux/arm/v7", also uname's names ("aarch64", "x86_64"). */
int platform_parse(const char *text, struct platform *ret, struct err *err);

/* That of the machine we run on. */
void platform_host(struct platform *ret);

/* "linux/arm64/v8" */
void platform_format(const struct platform *platform, char out[PLATFORM_TEXT_SIZE]);

/*
 * Whether an image of platform have serves one who wants want: 0 no, else larger is better. An
 * empty variant in want takes any; arm64's v8 and amd64's v1 are the same as none; arm v7 also runs
 * v6 and v5.
 */
int platform_match(const struct platform *want, const struct platform *have);

/* Cleans the parts of outside text: known aliases, lower case. 0 or -EINVAL. */
int platform_set(struct platform *platform, const char *os, const char *architecture,
                 const char *variant);

#endif
