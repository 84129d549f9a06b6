#include "user/program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "base/err.h"
#include "base/str.h"
#include "user/user.h"

static const char usage[] =
    "Usage: isola-emu-aarch64 [OPTIONS] PROGRAM [ARGUMENT...]\n"
    "Run a Linux program for AArch64.\n"
    "\n"
    "  -L DIR           look for the program's interpreter below DIR first (or ISOLA_LD_PREFIX)\n"
    "  -0, --argv0 NAME the program's name for itself\n"
    "      --cache DIR  keep translations there (or ISOLA_EMU_CACHE; \"none\": nowhere)\n"
    "      --strace     say each system call on standard error\n"
    "      --counters   say at the end what was translated\n"
    "      --interpret  make no code for this CPU\n"
    "      --or-native  run a program for this CPU as it is\n"
    "      --root DIR   chroot(2) into DIR first, in which /proc should be mounted\n"
    "      --help, --version\n";

/* The word behind an option that wants one, or NULL. */
static const char *value(int argc, char **argv, int *at)
{
    return *at + 1 < argc ? argv[++*at] : NULL;
}

/* As a shell finds it. Returns name itself where the search finds nothing. */
static const char *find_program(const char *name, char *room, size_t size)
{
    const char *path = getenv("PATH");
    if (strchr(name, '/') != NULL || path == NULL) {
        return name;
    }
    for (const char *end; *path != '\0'; path = *end == '\0' ? end : end + 1) {
        end = path + strcspn(path, ":");
        int n = snprintf(room, size, "%.*s/%s", (int)(end - path), path, name);
        if (n > 0 && (size_t)n < size && access(room, X_OK) == 0) {
            return room;
        }
    }
    return name;
}

/* A script becomes its interpreter; with --or-native a program for this CPU takes our place. */
static int take_program(struct user_options *options, int argc, struct err *err)
{
    static char path[PATH_MAX];
    static char line[PATH_MAX];
    char *word[2] = {NULL, NULL};
    options->program = find_program(options->program, path, sizeof(path));
    if (process_is_foreign(options->program)) {
        return 0;
    }
    size_t words = process_read_script(options->program, line, sizeof(line), word);
    if (words > 0 && process_is_foreign(word[0])) {
        char **argv = calloc((size_t)argc + words + 2, sizeof(char *));
        if (argv == NULL) {
            return err_set(err, ENOMEM, "run '%s'", options->program);
        }
        memcpy((void *)argv, (const void *)word, words * sizeof(char *));
        argv[words] = (char *)(uintptr_t)options->program;
        for (int i = 1; i < argc; i++) {
            argv[words + (size_t)i] = options->argv[i];
        }
        options->argv = argv;
        options->program = word[0];
        return 0;
    }
    if (options->or_native && access(options->program, F_OK) == 0) {
        (void)execve(options->program, options->argv, options->envp);
        return err_set(err, errno, "execute '%s'", options->program);
    }
    return 0; /* the loader says what is wrong with it */
}

/* What is started there is carried on to by /proc/self/exe. */
static int change_root(const char *dir, struct err *err)
{
    if (dir == NULL) {
        return 0;
    }
    if (chroot(dir) < 0 || chdir("/") < 0) {
        return err_set(err, errno, "change the root to '%s'", dir);
    }
    if (access("/proc/self/exe", X_OK) < 0) {
        (void)fprintf(stderr,
                      "isola-emu-aarch64: no /proc is mounted in '%s': programs that others "
                      "start will not be found\n",
                      dir);
    }
    return 0;
}

static int say(int r, const struct err *err)
{
    if (r < 0) {
        (void)fprintf(stderr, "isola-emu-aarch64: %s\n", err_text(err));
        return r == -ENOENT ? 127 : 126;
    }
    return r;
}

/*
 * By binfmt_misc (Documentation/admin-guide/binfmt-misc.rst): the path and, with its flag P, the
 * program's own name are in front of its arguments; with O it is open already.
 */
static int run_for_kernel(struct user_options *options, int argc, char **argv)
{
    enum { PRESERVE_ARGV0 = 1 }; /* linux/binfmts.h, AT_FLAGS_PRESERVE_ARGV0 */
    struct err err = ERR_NONE;
    bool named = (getauxval(AT_FLAGS) & PRESERVE_ARGV0) != 0;
    if (argc < (named ? 3 : 2)) {
        (void)fputs(usage, stderr);
        return 125;
    }
    options->program = argv[1];
    options->program_fd = (int)getauxval(AT_EXECFD);
    options->argv = argv + (named ? 2 : 1);
    return say(user_run(options, &err), &err);
}

/* 0 is a descriptor, too. */
static bool is_for_kernel(void)
{
    errno = 0;
    return getauxval(AT_EXECFD) != 0 || errno != ENOENT;
}

int user_main(int argc, char **argv, char **envp)
{
    struct user_options options = {.program_fd = -1,
                                   .envp = envp,
                                   .prefix = secure_getenv("ISOLA_LD_PREFIX"),
                                   .cache = secure_getenv("ISOLA_EMU_CACHE")};
    if (is_for_kernel()) {
        return run_for_kernel(&options, argc, argv);
    }
    const char *name = NULL;
    const char *root = NULL;
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
        } else if (str_eq(word, "--cache")) {
            options.cache = value(argc, argv, &at);
            good = options.cache != NULL;
        } else if (str_eq(word, "--root")) {
            root = value(argc, argv, &at);
            good = root != NULL;
        } else if (str_eq(word, "-0") || str_eq(word, "--argv0")) {
            name = value(argc, argv, &at);
            good = name != NULL;
        } else if (str_eq(word, "--strace")) {
            options.trace = true;
        } else if (str_eq(word, "--counters")) {
            options.counters = true;
        } else if (str_eq(word, "--interpret")) {
            options.interpret = true;
        } else if (str_eq(word, "--or-native")) {
            options.or_native = true;
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
    int r = change_root(root, &err);
    r = r < 0 ? r : take_program(&options, argc - at, &err);
    r = r < 0 ? r : user_run(&options, &err);
    return say(r, &err);
}
