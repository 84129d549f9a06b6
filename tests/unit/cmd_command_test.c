#include "cmd/command.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>

#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "unit.h"

struct pull_options {
    bool quiet;
    struct strv list;
    int64_t count;
};

static const struct option_spec pull_specs[] = {
    {"quiet", 'q', OPTION_FLAG, offsetof(struct pull_options, quiet), NULL, "Be quiet", NULL},
    {"list", 'l', OPTION_LIST, offsetof(struct pull_options, list), "X", "A list", NULL},
    {"count", 0, OPTION_INT, offsetof(struct pull_options, count), "N", "A number", NULL},
    {0},
};

static void pull_defaults(void *options)
{
    ((struct pull_options *)options)->count = 7;
}

static int run_pull(struct command_context *context, void *options, int argc, char **argv,
                    struct err *err)
{
    const struct pull_options *o = options;
    if (strcmp(argv[0], "bad") == 0) {
        return err_set(err, ENOENT, "pull '%s'", argv[0]);
    }
    (void)printf("%s %s %d %zu %lld %s\n", context->program, argv[0], argc, o->list.count,
                 (long long)o->count, context->global->root != NULL ? context->global->root : "-");
    return o->quiet ? 3 : 0;
}

static const struct command table[] = {
    {.name = "pull",
     .operands = "IMAGE",
     .summary = "Get an image",
     .options = pull_specs,
     .options_size = sizeof(struct pull_options),
     .operands_min = 1,
     .operands_max = 1,
     .run = run_pull,
     .defaults = pull_defaults},
    {.name = "run",
     .operands = "IMAGE",
     .summary = "Run",
     .operands_min = 1,
     .operands_max = -1,
     .stop_at_operand = true,
     .options = pull_specs,
     .options_size = sizeof(struct pull_options),
     .run = run_pull,
     .failure = EXIT_ENGINE},
    {.group = "image",
     .name = "pull",
     .operands = "IMAGE",
     .summary = "Get an image",
     .options = pull_specs,
     .options_size = sizeof(struct pull_options),
     .operands_min = 1,
     .operands_max = 1,
     .run = run_pull,
     .defaults = pull_defaults},
    {.name = "gone", .summary = "Run by another program", .helper = "isola-no-such-program"},
    {0},
};

/* Runs the line in a child; out gets standard output and standard error. Returns the exit code. */
static int run_line(const char *line, char *out, size_t size)
{
    struct strv args = {0};
    ck_assert_int_eq(strv_split(&args, line, " "), 0);
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(fds[1], 1);
        (void)dup2(fds[1], 2);
        (void)close(fds[0]);
        (void)close(fds[1]);
        const struct command *const tables[] = {table, NULL};
        int code = command_main("isola", tables, (int)args.count, args.items);
        _exit(code); /* the parser has moved the list's items */
    }
    (void)close(fds[1]);
    ssize_t n = read_upto(fds[0], out, size - 1);
    ck_assert_int_ge(n, 0);
    out[n] = '\0';
    (void)close(fds[0]);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    strv_done(&args);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(a_command_line_finds_its_row)
{
    static const struct {
        const char *line;
        int code;
        const char *text;
    } cases[] = {
        {"isola pull x", 0, "isola x 1 0 7 -\n"},
        {"isola --root /r image pull -l a --list=b --count 9 x", 0, "isola x 1 2 9 /r\n"},
        {"isola pull -q x", 3, "isola x 1 0 7 -\n"},
        {"isola pull bad", 1, "isola: pull 'bad': No such file or directory\n"},
        {"isola run bad", 125, "isola: pull 'bad': No such file or directory\n"},
        {"isola run x -y", 0, "isola x 2 0 0 -\n"},
        {"isola pull", 1,
         "isola: 'pull' needs at least 1 operand (IMAGE); see 'isola pull --help'\n"},
        {"isola image pull a b", 1,
         "isola: 'pull' needs at most 1 operand (IMAGE); see 'isola image pull --help'\n"},
        {"isola pul x", 1, "isola: 'pul' is not a command; did you mean 'pull'?\n"},
        {"isola imag pull", 1, "isola: 'imag' is not a command; did you mean 'image'?\n"},
        {"isola image pll", 1, "isola: 'image pll' is not a command; did you mean 'image pull'?\n"},
        {"isola zzzzzz", 1, "isola: 'zzzzzz' is not a command; see 'isola --help'\n"},
        {"isola --rot x", 125, "isola: unknown option --rot; see 'isola --help'\n"},
        {"isola --version", 0, "isola version " ISOLA_VERSION "\n"},
    };
    char out[4096];
    for (size_t i = 0; i < COUNT(cases); i++) {
        int code = run_line(cases[i].line, out, sizeof(out));
        ck_assert_str_eq(out, cases[i].text);
        ck_assert_int_eq(code, cases[i].code);
    }
}
END_TEST

START_TEST(help_is_found_by_every_way_to_ask)
{
    static const struct {
        const char *line;
        const char *part;
    } cases[] = {
        {"isola --help", "Usage: isola [OPTIONS] COMMAND"},
        {"isola help", "Usage: isola [OPTIONS] COMMAND"},
        {"isola help pull", "Usage: isola pull [OPTIONS] IMAGE"},
        {"isola pull --help", "--count N"},
        {"isola help image pull", "Usage: isola image pull [OPTIONS] IMAGE"},
        {"isola image --help", "Usage: isola image COMMAND"},
        {"isola image", "pull         Get an image"},
        {"isola help image", "Usage: isola image COMMAND"},
    };
    char out[4096];
    for (size_t i = 0; i < COUNT(cases); i++) {
        ck_assert_int_eq(run_line(cases[i].line, out, sizeof(out)), 0);
        ck_assert_msg(strstr(out, cases[i].part) != NULL, "%s: %s", cases[i].line, out);
    }
}
END_TEST

START_TEST(a_missing_helper_program_is_named)
{
    char out[4096];
    ck_assert_int_eq(run_line("isola gone --anything", out, sizeof(out)), EXIT_ENGINE);
    ck_assert_ptr_nonnull(strstr(out, "isola-no-such-program': No such file or directory\n"));
}
END_TEST

int main(void)
{
    return unit_run("cmd/command", (const TTest *const[]){
                                       a_command_line_finds_its_row,
                                       help_is_found_by_every_way_to_ask,
                                       a_missing_helper_program_is_named,
                                       NULL,
                                   });
}
