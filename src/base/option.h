/*
 * option.h - command line options as tables.
 *
 * GNU style: --name value, --name=value, -n value, -nvalue, grouped short flags, "--" ends options.
 * Tables are walked once for parsing, once for --help, once for completion.
 */
#ifndef BASE_OPTION_H
#define BASE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum option_kind {
    OPTION_FLAG,     /* bool *: --name, --name=true, --name=false */
    OPTION_STRING,   /* const char **: points into argv */
    OPTION_LIST,     /* struct strv *: may be repeated, keeps order */
    OPTION_INT,      /* int64_t * */
    OPTION_SIZE,     /* uint64_t *: bytes, parse_size() */
    OPTION_DURATION, /* uint64_t *: nanoseconds, parse_duration() */
    OPTION_CALL,     /* option_fn: value and target are handed over */
};

/* Returns 0 or a negative errno with err set. */
typedef int option_fn(const char *value, void *target, struct err *err);

struct option_spec {
    const char *name; /* long name without dashes; NULL ends the table */
    char letter;      /* short name or 0 */
    enum option_kind kind;
    size_t offset;     /* of the target in the struct that option_parse() gets */
    const char *value; /* what --help calls the value; NULL for flags */
    const char *help;  /* one line; NULL: accepted but not shown */
    option_fn *fn;     /* OPTION_CALL only */
};

struct option_parse {
    const struct option_spec *specs; /* ends with a NULL name */
    void *target;                    /* offsets count from here */
    bool stop_at_operand;            /* the first operand ends options (run IMAGE CMD -x) */
};

/*
 * Parses argv[1..]; operands are moved to the front of argv. Returns the number of operands,
 * argv[1..n], or -EINVAL with err set. "--help" and "-h" set *ret_help and return 0 at once, unless
 * the table has them itself.
 */
int option_parse(const struct option_parse *parse, int argc, char **argv, bool *ret_help,
                 struct err *err);

/* The options part of --help, one line each, in the order of the table. */
void option_print_help(const struct option_spec *specs);

#endif
