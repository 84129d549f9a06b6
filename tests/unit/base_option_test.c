#include "base/option.h"

#include <errno.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "unit.h"

struct target {
    bool detach;
    bool tty;
    const char *name;
    struct strv env;
    int64_t tail;
    uint64_t memory;
};

static const struct option_spec specs[] = {
    {"detach", 'd', OPTION_FLAG, offsetof(struct target, detach), NULL, "x", NULL},
    {"tty", 't', OPTION_FLAG, offsetof(struct target, tty), NULL, "x", NULL},
    {"name", 'n', OPTION_STRING, offsetof(struct target, name), "NAME", "x", NULL},
    {"env", 'e', OPTION_LIST, offsetof(struct target, env), "K=V", "x", NULL},
    {"tail", 0, OPTION_INT, offsetof(struct target, tail), "N", "x", NULL},
    {"memory", 'm', OPTION_SIZE, offsetof(struct target, memory), "BYTES", "x", NULL},
    {0},
};

static int parse(struct target *t, char **argv, struct err *err)
{
    int argc = 0;
    bool help = false;
    while (argv[argc] != NULL) {
        argc++;
    }
    const struct option_parse p = {.specs = specs, .target = t, .stop_at_operand = true};
    return option_parse(&p, argc, argv, &help, err);
}

START_TEST(options_end_at_the_first_operand)
{
    struct target t = {0};
    char *argv[] = {"x",   "-dt",   "--name=web", "-eA=1", "-e",   "B=2", "-m",
                    "64m", "image", "sh",         "-c",    "true", NULL};
    ck_assert_int_eq(parse(&t, argv, NULL), 4);
    ck_assert(t.detach && t.tty);
    ck_assert_str_eq(t.name, "web");
    ck_assert_uint_eq(t.env.count, 2);
    ck_assert_str_eq(t.env.items[1], "B=2");
    ck_assert_uint_eq(t.memory, 64 << 20);
    ck_assert_str_eq(argv[1], "image");
    ck_assert_str_eq(argv[3], "-c");
    ck_assert_ptr_null(argv[5]);
    strv_done(&t.env);
}
END_TEST

START_TEST(errors_name_the_option_and_the_value)
{
    static const struct {
        char *argv[4];
        const char *text;
    } cases[] = {
        {{"x", "--nam", "y"}, "unknown option --nam"},
        {{"x", "-dz"}, "unknown option -z in '-dz'"},
        {{"x", "--name"}, "--name needs a value (NAME)"},
        {{"x", "--tail=many"}, "--tail: 'many' is not a whole number"},
        {{"x", "--tty=perhaps"}, "--tty: 'perhaps' is not true or false"},
        {{"x", "-m1x"}, "--memory: '1x' is not a size such as 512m or 2g"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct target t = {0};
        struct err err = ERR_NONE;
        char *argv[4];
        memcpy(argv, cases[i].argv, sizeof(argv));
        ck_assert_int_eq(parse(&t, argv, &err), -EINVAL);
        ck_assert_str_eq(err_text(&err), cases[i].text);
    }
}
END_TEST

int main(void)
{
    return unit_run("base/option", (const TTest *const[]){
                                       options_end_at_the_first_operand,
                                       errors_name_the_option_and_the_value,
                                       NULL,
                                   });
}
