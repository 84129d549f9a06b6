#include "base/option.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"

static const struct option_spec *find_long(const struct option_spec *specs, const char *name,
                                           size_t len)
{
    for (; specs->name != NULL; specs++) {
        if (strncmp(specs->name, name, len) == 0 && specs->name[len] == '\0') {
            return specs;
        }
    }
    return NULL;
}

static const struct option_spec *find_short(const struct option_spec *specs, char letter)
{
    for (; specs->name != NULL; specs++) {
        if (specs->letter == letter && letter != '\0') {
            return specs;
        }
    }
    return NULL;
}

static int bad_value(const struct option_spec *spec, const char *value, const char *want,
                     struct err *err)
{
    return err_say(err, EINVAL, "--%s: '%s' is not %s", spec->name, value, want);
}

static int set_flag(const struct option_spec *spec, const char *value, bool *target,
                    struct err *err)
{
    if (value == NULL || str_eq(value, "true") || str_eq(value, "1")) {
        *target = true;
        return 0;
    }
    if (str_eq(value, "false") || str_eq(value, "0")) {
        *target = false;
        return 0;
    }
    return bad_value(spec, value, "true or false", err);
}

static int set_value(const struct option_spec *spec, const char *value, void *base, struct err *err)
{
    void *target = (char *)base + spec->offset;
    switch (spec->kind) {
    case OPTION_FLAG:
        return set_flag(spec, value, target, err);
    case OPTION_STRING:
        *(const char **)target = value;
        return 0;
    case OPTION_LIST:
        return strv_add(target, value) < 0 ? err_set(err, ENOMEM, "--%s", spec->name) : 0;
    case OPTION_INT:
        return parse_i64(value, target) < 0 ? bad_value(spec, value, "a whole number", err) : 0;
    case OPTION_SIZE:
        return parse_size(value, target) < 0
                   ? bad_value(spec, value, "a size such as 512m or 2g", err)
                   : 0;
    case OPTION_DURATION:
        return parse_duration(value, target) < 0
                   ? bad_value(spec, value, "a duration such as 10s or 1m30s", err)
                   : 0;
    case OPTION_CALL: {
        int r = spec->fn(value, target, err);
        return r < 0 ? err_wrap(err, -r, "--%s", spec->name) : 0;
    }
    }
    return -EINVAL;
}

struct parser {
    const struct option_parse *parse;
    int argc;
    char **argv;
    int at;
    bool *ret_help;
};

static bool wants_help(struct parser *p, const char *arg)
{
    if ((strcmp(arg, "--help") == 0 && find_long(p->parse->specs, "help", 4) == NULL) ||
        (strcmp(arg, "-h") == 0 && find_short(p->parse->specs, 'h') == NULL)) {
        *p->ret_help = true;
        return true;
    }
    return false;
}

static int parse_long(struct parser *p, const char *arg, struct err *err)
{
    const char *name = arg + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct option_spec *spec = find_long(p->parse->specs, name, len);
    if (spec == NULL) {
        return err_say(err, EINVAL, "unknown option --%.*s", (int)len, name);
    }
    const char *value = equals != NULL ? equals + 1 : NULL;
    if (value == NULL && spec->value != NULL) {
        if (p->at >= p->argc) {
            return err_say(err, EINVAL, "--%s needs a value (%s)", spec->name, spec->value);
        }
        value = p->argv[p->at++];
    }
    return set_value(spec, value, p->parse->target, err);
}

static int parse_short(struct parser *p, const char *arg, struct err *err)
{
    for (const char *letter = arg + 1; *letter != '\0'; letter++) {
        const struct option_spec *spec = find_short(p->parse->specs, *letter);
        if (spec == NULL) {
            return err_say(err, EINVAL, "unknown option -%c in '%s'", *letter, arg);
        }
        if (spec->value == NULL) {
            bool off = letter[1] == '=';
            int r = set_value(spec, off ? letter + 2 : NULL, p->parse->target, err);
            if (r < 0 || off) {
                return r;
            }
            continue;
        }
        const char *value = letter[1] == '=' ? letter + 2 : letter + 1;
        if (letter[1] == '\0') {
            if (p->at >= p->argc) {
                return err_say(err, EINVAL, "-%c needs a value (%s)", spec->letter, spec->value);
            }
            value = p->argv[p->at++];
        }
        return set_value(spec, value, p->parse->target, err);
    }
    return 0;
}

int option_parse(const struct option_parse *parse, int argc, char **argv, bool *ret_help,
                 struct err *err)
{
    struct parser p = {.parse = parse, .argc = argc, .argv = argv, .at = 1, .ret_help = ret_help};
    int operands = 0;
    bool only_operands = false;
    *ret_help = false;
    while (p.at < argc) {
        char *arg = argv[p.at++];
        if (only_operands || arg[0] != '-' || arg[1] == '\0') {
            argv[++operands] = arg;
            only_operands = only_operands || parse->stop_at_operand;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            only_operands = true;
            continue;
        }
        if (wants_help(&p, arg)) {
            return 0;
        }
        int r = arg[1] == '-' ? parse_long(&p, arg, err) : parse_short(&p, arg, err);
        if (r < 0) {
            return r;
        }
    }
    argv[operands + 1] = NULL;
    return operands;
}

void option_print_help(const struct option_spec *specs)
{
    for (; specs->name != NULL; specs++) {
        if (specs->help == NULL) {
            continue;
        }
        char left[128];
        char letter[8] = "    ";
        if (specs->letter != '\0') {
            (void)snprintf(letter, sizeof(letter), "-%c, ", specs->letter);
        }
        (void)snprintf(left, sizeof(left), "  %s--%s%s%s", letter, specs->name,
                       specs->value != NULL ? " " : "", specs->value != NULL ? specs->value : "");
        if (strlen(left) <= 32) {
            (void)printf("%-33s %s\n", left, specs->help);
        } else {
            (void)printf("%s\n%33s %s\n", left, "", specs->help);
        }
    }
}
