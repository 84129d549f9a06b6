#include "user/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "user/user.h"

static const char usage[] =
    "Usage: isola-emu-aarch64 [OPTIONS] PROGRAM [ARGUMENT...]\n"
    "Run a Linux program for AArch64.\n"
    "\n"
    "  -L DIR           look for the program's interpreter below DIR first (or ISOLA_LD_PREFIX)\n"
    "  -0, --argv0 NAME the program's name for itself\n"
    "      --strace     say each system call on standard error\n"
    "      --counters   say at the end what was translated\n"
    "      --interpret  make no code for this CPU\n"
    "      --help, --version\n";

/* The word behind an option that wants one, or NULL. */
static const char *value(int argc, char **argv, int *at)
{
    return *at + 1 < argc ? argv[++*at] : NULL;
}

int user_main(int argc, char **argv, char **envp)
{
    struct user_options options = {.envp = envp, .prefix = getenv("ISOLA_LD_PREFIX")};
    const char *name = NULL;
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        const char *word = argv[at];
        if (str_eq(word, "--")) {
            at++;
            break;
        }
        if (str_eq(word, "--help")) {
            (void)fputs(usage, stdout);
            return 0;
        }
        if (str_eq(word, "--version")) {
            (void)puts("isola-emu-aarch64 " ISOLA_VERSION);
            return 0;
        }
        bool good = true;
        if (str_eq(word, "-L")) {
            options.prefix = value(argc, argv, &at);
            good = options.prefix != NULL;
        } else if (str_eq(word, "-0") || str_eq(word, "--argv0")) {
            name = value(argc, argv, &at);
            good = name != NULL;
        } else if (str_eq(word, "--strace")) {
            options.trace = true;
        } else if (str_eq(word, "--counters")) {
            options.counters = true;
        } else if (str_eq(word, "--interpret")) {
            options.interpret = true;
        } else {
            good = false;
        }
        if (!good) {
            (void)fprintf(
                stderr, "isola-emu-aarch64: %s: unknown, or without its value; see --help\n", word);
            return 125;
        }
    }
    if (at >= argc) {
        (void)fputs(usage, stderr);
        return 125;
    }
    options.program = argv[at];
    options.argv = argv + at;
    if (name != NULL) {
        options.argv[0] = (char *)(uintptr_t)name;
    }
    struct err err = ERR_NONE;
    int r = user_run(&options, &err);
    if (r < 0) {
        (void)fprintf(stderr, "isola-emu-aarch64: %s\n", err_text(&err));
        return r == -ENOENT ? 127 : 126;
    }
    return r;
}
