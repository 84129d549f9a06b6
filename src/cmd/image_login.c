#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>

#include "base/err.h"
#include "base/io.h"
#include "cmd/image_commands.h"
#include "image/docker_config.h"
#include "image/reference.h"
#include "image/registry.h"

#define SECRET_MAX ((size_t)65536)

struct login_options {
    const char *user;
    const char *password;
    bool password_stdin;
};

static const struct option_spec login_specs[] = {
    {"password", 'p', OPTION_STRING, offsetof(struct login_options, password), "PASSWORD",
     "The password (others on this host can see it: better --password-stdin)", NULL},
    {"password-stdin", 0, OPTION_FLAG, offsetof(struct login_options, password_stdin), NULL,
     "Read the password from standard input", NULL},
    {"username", 'u', OPTION_STRING, offsetof(struct login_options, user), "NAME", "The user name",
     NULL},
    {0},
};

/* One line from the terminal; echo is off for secrets. */
static char *ask(const char *what, bool secret)
{
    struct termios before;
    bool changed = false;
    (void)fprintf(stderr, "%s: ", what);
    if (secret && tcgetattr(STDIN_FILENO, &before) == 0) {
        struct termios quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        changed = tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) == 0;
    }
    char *line = NULL;
    size_t size = 0;
    ssize_t n = getline(&line, &size, stdin);
    if (changed) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        (void)fputc('\n', stderr);
    }
    if (n <= 0) {
        free(line);
        return NULL;
    }
    line[strcspn(line, "\r\n")] = '\0';
    return line;
}

static int get_password(const struct login_options *o, char **ret, struct err *err)
{
    if (o->password != NULL && o->password_stdin) {
        return err_say(err, EINVAL, "--password and --password-stdin exclude each other");
    }
    if (o->password_stdin) {
        AUTO(buf_donep) struct buf text = {0};
        int r = read_fd(STDIN_FILENO, SECRET_MAX, &text);
        if (r < 0) {
            return err_set(err, -r, "read the password");
        }
        *ret = buf_take(&text);
        if (*ret != NULL) {
            (*ret)[strcspn(*ret, "\r\n")] = '\0';
        }
    } else if (o->password != NULL) {
        *ret = strdup(o->password);
    } else if (isatty(STDIN_FILENO)) {
        *ret = ask("Password", true);
    } else {
        return err_say(err, EINVAL, "no terminal to ask for the password; use --password-stdin");
    }
    return *ret != NULL && (*ret)[0] != '\0' ? 0 : err_say(err, EINVAL, "the password is empty");
}

static int login_run(struct command_context *context, void *options, int argc, char **argv,
                     struct err *err)
{
    (void)context;
    const struct login_options *o = options;
    AUTO(credential_donep) struct credential credential = {0};
    AUTO(registry_closep) struct registry *registry = NULL;
    const char *name = argc > 0 ? argv[0] : REFERENCE_DEFAULT_REGISTRY;
    const struct reference ref = {.registry = (char *)(uintptr_t)name};
    if (strchr(name, '/') != NULL) {
        return err_say(err, EINVAL, "'%s' is not a registry's name: give HOST[:PORT] only", name);
    }
    if (o->user == NULL && (o->password_stdin || !isatty(STDIN_FILENO))) {
        return err_say(err, EINVAL, "give the user name with --username");
    }
    credential.user = o->user != NULL ? strdup(o->user) : ask("Username", false);
    if (credential.user == NULL || credential.user[0] == '\0') {
        return err_say(err, EINVAL, "the user name is empty");
    }
    int r = get_password(o, &credential.password, err);
    r = r < 0 ? r : registry_open(&ref, false, &credential, &registry, err);
    r = r < 0 ? r : registry_ping(registry, err);
    r = r < 0 ? r : docker_config_store(name, credential.user, credential.password, err);
    if (r == 0) {
        (void)printf("Login Succeeded\n");
    }
    return r;
}

const struct command image_login_command = {
    .options = login_specs,
    .options_size = sizeof(struct login_options),
    .operands_max = 1,
    .run = login_run,
};
