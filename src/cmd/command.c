#include "cmd/command.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

/* A suggestion must be nearer than this many edits to be worth printing. */
#define SUGGEST_DISTANCE_MAX 2
#define NAME_SIZE 64

struct globals {
    struct global_options options;
    bool version;
};

static const struct option_spec global_specs[] = {
    {"root", 0, OPTION_STRING, offsetof(struct globals, options.root), "DIR",
     "Keep images, volumes and workloads in DIR", NULL},
    {"run-dir", 0, OPTION_STRING, offsetof(struct globals, options.run_dir), "DIR",
     "Keep sockets and process states in DIR", NULL},
    {"debug", 'D', OPTION_FLAG, offsetof(struct globals, options.debug), NULL,
     "Say on standard error what is done", NULL},
    {"version", 'v', OPTION_FLAG, offsetof(struct globals, version), NULL, "Print the version",
     NULL},
    {0},
};

static const struct option_spec no_specs[] = {{0}};

struct cli {
    const char *program;
    const struct command *const *tables;
    struct globals globals;
    char **whole; /* the whole command line, unparsed */
};

const struct option_spec *command_global_options(void)
{
    return global_specs;
}

const struct command *command_find(const struct command *const *tables, const char *group,
                                   const char *name)
{
    for (; *tables != NULL; tables++) {
        for (const struct command *c = *tables; c->name != NULL; c++) {
            if (str_eq(c->group, group) && str_eq(c->name, name)) {
                return c;
            }
        }
    }
    return NULL;
}

static bool is_group(const struct cli *cli, const char *name)
{
    for (const struct command *const *t = cli->tables; *t != NULL; t++) {
        for (const struct command *c = *t; c->name != NULL; c++) {
            if (c->group != NULL && strcmp(c->group, name) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Edits (insert, delete, replace) between two short names. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_SIZE + 1];
    size_t n = strnlen(b, NAME_SIZE);
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != '\0' && i < NAME_SIZE; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t above = row[j + 1];
            size_t best = MIN(row[j], above) + 1;
            row[j + 1] = MIN(best, diagonal + (a[i] != b[j] ? 1 : 0));
            diagonal = above;
        }
    }
    return row[n];
}

static void say_error(const struct cli *cli, const struct err *err)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "%s: %s\n", cli->program, err_text(err));
}

static int unknown_command(const struct cli *cli, const char *group, const char *name)
{
    const char *best = NULL;
    size_t best_distance = SUGGEST_DISTANCE_MAX + 1;
    for (const struct command *const *t = cli->tables; *t != NULL; t++) {
        for (const struct command *c = *t; c->name != NULL; c++) {
            const char *candidate = str_eq(c->group, group) ? c->name : c->group;
            if (c->hidden || candidate == NULL || (group != NULL && candidate == c->group)) {
                continue;
            }
            size_t distance = edit_distance(name, candidate);
            if (distance < best_distance && distance < strlen(name)) {
                best_distance = distance;
                best = candidate;
            }
        }
    }
    (void)fprintf(stderr, "%s: '%s%s%s' is not a command; ", cli->program,
                  group != NULL ? group : "", group != NULL ? " " : "", name);
    if (best != NULL) {
        (void)fprintf(stderr, "did you mean '%s%s%s'?\n", group != NULL ? group : "",
                      group != NULL ? " " : "", best);
    } else {
        (void)fprintf(stderr, "see '%s --help'\n", cli->program);
    }
    return EXIT_FAILURE;
}

/* Rows of one group, or the groups themselves with their number of commands. */
static void print_rows(const struct cli *cli, const char *group)
{
    for (const struct command *const *t = cli->tables; *t != NULL; t++) {
        for (const struct command *c = *t; c->name != NULL; c++) {
            if (!c->hidden && str_eq(c->group, group)) {
                (void)printf("  %-12s %s\n", c->name, c->summary);
            }
        }
    }
}

static void print_groups(const struct cli *cli)
{
    struct strv seen = {0};
    for (const struct command *const *t = cli->tables; *t != NULL; t++) {
        for (const struct command *c = *t; c->name != NULL; c++) {
            if (c->hidden || c->group == NULL || strv_has(&seen, c->group) ||
                strv_add(&seen, c->group) < 0) {
                continue;
            }
            (void)printf("%s  %-12s see '%s %s --help'\n", seen.count == 1 ? "\nGroups:\n" : "",
                         c->group, cli->program, c->group);
        }
    }
    strv_done(&seen);
}

static int print_help(const struct cli *cli)
{
    (void)printf("Usage: %s [OPTIONS] COMMAND [ARG...]\n\nOptions:\n", cli->program);
    option_print_help(global_specs);
    (void)printf("\nCommands:\n");
    print_rows(cli, NULL);
    print_groups(cli);
    (void)printf("\nRun '%s COMMAND --help' for a command's options.\n", cli->program);
    return EXIT_SUCCESS;
}

static int print_group_help(const struct cli *cli, const char *group)
{
    (void)printf("Usage: %s %s COMMAND [ARG...]\n\nCommands:\n", cli->program, group);
    print_rows(cli, group);
    return EXIT_SUCCESS;
}

static int print_command_help(const struct cli *cli, const struct command *c)
{
    (void)printf("Usage: %s %s%s%s%s%s%s\n\n%s\n", cli->program, c->group != NULL ? c->group : "",
                 c->group != NULL ? " " : "", c->name, c->options != NULL ? " [OPTIONS]" : "",
                 c->operands != NULL && c->operands[0] != '\0' ? " " : "",
                 c->operands != NULL ? c->operands : "", c->summary);
    if (c->options != NULL) {
        (void)printf("\nOptions:\n");
        option_print_help(c->options);
    }
    return EXIT_SUCCESS;
}

/* Returns only when the helper cannot be executed. */
static int exec_helper(const struct cli *cli, const struct command *c)
{
    AUTO(freep) char *path = dirs_helper(c->helper);
    if (path != NULL) {
        (void)execv(path, cli->whole);
    }
    struct err err = ERR_NONE;
    (void)err_set(&err, errno, "execute '%s'", path != NULL ? path : c->helper);
    say_error(cli, &err);
    return EXIT_ENGINE;
}

static void options_free(const struct option_spec *specs, void *options)
{
    for (; specs->name != NULL; specs++) {
        if (specs->kind == OPTION_LIST) {
            strv_done((struct strv *)(void *)((char *)options + specs->offset));
        }
    }
    free(options);
}

static int wrong_count(const struct command *c, int count, struct err *err)
{
    bool few = count < c->operands_min;
    int limit = few ? c->operands_min : c->operands_max;
    if (limit == 0) {
        return err_say(err, EINVAL, "'%s' takes no operands", c->name);
    }
    return err_say(err, EINVAL, "'%s' needs at %s %d operand%s (%s)", c->name,
                   few ? "least" : "most", limit, limit == 1 ? "" : "s", c->operands);
}

/* argv[0] is the name of the command. */
static int run_command(const struct cli *cli, const struct command *c, int argc, char **argv)
{
    if (c->helper != NULL) {
        return exec_helper(cli, c);
    }
    const struct option_spec *specs = c->options != NULL ? c->options : no_specs;
    int failure = c->failure != 0 ? c->failure : EXIT_FAILURE;
    struct err err = ERR_NONE;
    void *options = calloc(1, MAX(c->options_size, (size_t)1));
    if (options == NULL) {
        (void)err_set(&err, ENOMEM, "%s", c->name);
        say_error(cli, &err);
        return failure;
    }
    if (c->defaults != NULL) {
        c->defaults(options);
    }
    bool help = false;
    const struct option_parse parse = {
        .specs = specs, .target = options, .stop_at_operand = c->stop_at_operand};
    int r = option_parse(&parse, argc, argv, &help, &err);
    if (r >= 0 && help) {
        options_free(specs, options);
        return print_command_help(cli, c);
    }
    if (r >= 0 && (r < c->operands_min || (c->operands_max >= 0 && r > c->operands_max))) {
        r = wrong_count(c, r, &err);
    }
    if (r < 0) {
        err_hint(&err, "see '%s %s%s%s --help'", cli->program, c->group != NULL ? c->group : "",
                 c->group != NULL ? " " : "", c->name);
    } else {
        struct command_context context = {.global = &cli->globals.options,
                                          .command = c,
                                          .program = cli->program,
                                          .whole = cli->whole};
        r = c->run(&context, options, r, argv + 1, &err);
    }
    options_free(specs, options);
    if (r < 0) {
        if (err.code == 0) {
            (void)err_set(&err, -r, "%s", c->name);
        }
        say_error(cli, &err);
        return failure;
    }
    return r;
}

static int run_help(const struct cli *cli, int argc, char **argv)
{
    if (argc == 0) {
        return print_help(cli);
    }
    bool group = is_group(cli, argv[0]);
    if (group && argc == 1 && command_find(cli->tables, NULL, argv[0]) == NULL) {
        return print_group_help(cli, argv[0]);
    }
    const char *name = group && argc > 1 ? argv[1] : argv[0];
    const struct command *c = command_find(cli->tables, group && argc > 1 ? argv[0] : NULL, name);
    if (c == NULL) {
        return unknown_command(cli, group && argc > 1 ? argv[0] : NULL, name);
    }
    return c->helper != NULL ? exec_helper(cli, c) : print_command_help(cli, c);
}

/* argv[0..argc-1]: what follows the global options. */
static int dispatch(const struct cli *cli, int argc, char **argv)
{
    if (strcmp(argv[0], "help") == 0 && command_find(cli->tables, NULL, "help") == NULL) {
        return run_help(cli, argc - 1, argv + 1);
    }
    const struct command *c = command_find(cli->tables, NULL, argv[0]);
    if (c != NULL) {
        return run_command(cli, c, argc, argv);
    }
    if (!is_group(cli, argv[0])) {
        return unknown_command(cli, NULL, argv[0]);
    }
    if (argc == 1 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        return print_group_help(cli, argv[0]);
    }
    c = command_find(cli->tables, argv[0], argv[1]);
    if (c == NULL) {
        return unknown_command(cli, argv[0], argv[1]);
    }
    return run_command(cli, c, argc - 1, argv + 1);
}

static int flush_output(const struct cli *cli, int code)
{
    /* Output that was lost (disk full) must not look like success; a closed pipe is no news. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && errno != EPIPE) {
        (void)fprintf(stderr, "%s: write to standard output: %s\n", cli->program, strerror(errno));
        return code == EXIT_SUCCESS ? EXIT_FAILURE : code;
    }
    return code;
}

int command_main(const char *program, const struct command *const *tables, int argc, char **argv)
{
    AUTO(freep) char **whole = calloc((size_t)argc + 1, sizeof(*whole));
    struct cli cli = {.program = program, .tables = tables, .whole = whole};
    struct err err = ERR_NONE;
    if (whole == NULL) {
        (void)err_set(&err, ENOMEM, "start");
        say_error(&cli, &err);
        return EXIT_ENGINE;
    }
    memcpy(whole, argv, (size_t)argc * sizeof(*whole));

    bool help = false;
    const struct option_parse parse = {
        .specs = global_specs, .target = &cli.globals, .stop_at_operand = true};
    int r = option_parse(&parse, argc, argv, &help, &err);
    if (r < 0) {
        err_hint(&err, "see '%s --help'", program);
        say_error(&cli, &err);
        return EXIT_ENGINE;
    }
    if (help) {
        return flush_output(&cli, print_help(&cli));
    }
    if (cli.globals.version) {
        (void)printf("%s version " ISOLA_VERSION "\n", program);
        return flush_output(&cli, EXIT_SUCCESS);
    }
    if (cli.globals.options.debug) {
        (void)setenv("ISOLA_DEBUG", "1", 1);
    }
    if (r == 0) {
        (void)print_help(&cli);
        return EXIT_FAILURE;
    }
    return flush_output(&cli, dispatch(&cli, r, argv + 1));
}
