/*
 * compare.h - the parts of `isola compare`: one measured run, a picture of all.
 */
#ifndef CMD_COMPARE_H
#define CMD_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/surface.h"

struct buf;
struct cgroup;

struct compare_sample {
    int64_t start_ns; /* until the first byte of standard output; -1: there was none */
    int64_t total_ns; /* until the command that was run had ended */
    int64_t cpu_ns;   /* user and system, of every process that came of it */
    int64_t memory;   /* bytes: the peak of the cgroup, or without one of the largest process */
    bool has_cgroup;
    int exit_code;
    char said[ERR_TEXT_SIZE]; /* the last line of standard error */
};

struct compare_command {
    char *const *argv;
    bool bare;                   /* argv is searched in PATH; else it is for our own program */
    const struct cgroup *cgroup; /* above all that the command makes; NULL: none */
    /* Our own program, to be run when the user interrupts; NULL: nothing to undo. */
    char *const *undo;
};

/*
 * Runs it once with no standard input, and waits for all that comes of it: the caller must be a
 * child subreaper (PR_SET_CHILD_SUBREAPER) without other children, and have one thread. interrupt
 * is a signalfd of blocked signals. -EINTR, with everything undone, when one came.
 */
int compare_run(const struct compare_command *command, int interrupt, struct compare_sample *ret,
                struct err *err);

enum compare_measure {
    COMPARE_START,
    COMPARE_TOTAL,
    COMPARE_MEMORY,
    COMPARE_CPU,
    COMPARE_MEASURES,
};

/* Of all runs; nanoseconds or bytes. */
struct compare_spread {
    bool set; /* not: there is nothing to show */
    int64_t median;
    int64_t min;
    int64_t max;
};

struct compare_row {
    const char *wall; /* "bare" for none */
    bool ran;
    struct err reason; /* why not */
    struct compare_spread measures[COMPARE_MEASURES];
    bool has_cgroup;
    int exit_code;  /* the first that is not 0 */
    int64_t failed; /* how many of the runs had such */
    struct surface surface;
};

struct compare_result {
    const char *image;
    const char *command; /* as one line, UTF-8 */
    int64_t runs;
    const struct compare_row *rows;
    size_t count;
};

/* "12.3 ms", "4.5MiB": the value of a measure. */
void compare_format(enum compare_measure measure, int64_t value, char *out, size_t size);

/* Appends a whole SVG file, which needs no other. 0 or -ENOMEM. */
int compare_svg(const struct compare_result *result, struct buf *out);

#endif
