#include "cmd/common.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/process.h"
#include "engine/rootless.h"
#include "image/image.h"
#include "image/store.h"

int command_engine(const struct command_context *context, struct engine **ret, struct err *err)
{
    AUTO(dirs_donep) struct dirs dirs = {0};
    int r = dirs_init(context->global->root, context->global->run_dir, &dirs, err);
    r = r < 0 ? r : rootless_enter(&dirs, err);
    return r < 0 ? r : engine_open(dirs.root, dirs.run, ret, err);
}

int command_each(struct engine *engine, int argc, char **argv,
                 int (*fn)(struct engine *engine, const char *name, void *data, struct err *err),
                 void *data)
{
    int exit_code = 0;
    for (int i = 0; i < argc; i++) {
        struct err err = ERR_NONE;
        if (fn(engine, argv[i], data, &err) < 0) {
            (void)fflush(stdout);
            (void)fprintf(stderr, "isola: %s\n", err_text(&err));
            exit_code = 1;
        } else {
            (void)printf("%s\n", argv[i]);
        }
    }
    return exit_code;
}

bool command_confirm(const char *question, bool force)
{
    char answer[16];
    if (force) {
        return true;
    }
    (void)printf("%s [y/N] ", question);
    (void)fflush(stdout);
    return fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int run_program(const char *program, char *const argv[], bool own_output, struct err *err)
{
    AUTO(freep) char *path = dirs_helper(program);
    if (path == NULL) {
        return err_set(err, ENOMEM, "run %s", program);
    }
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        return err_set(err, errno, "run '%s'", path);
    }
    if (pid == 0) {
        if (!own_output) {
            (void)dup2(STDERR_FILENO, STDOUT_FILENO);
        }
        (void)execv(path, argv);
        (void)fprintf(stderr, "isola: run '%s': %s\n", path, strerror(errno));
        _exit(127);
    }
    int status;
    int r = process_wait(pid, &status);
    if (r < 0) {
        return err_set(err, -r, "wait for '%s'", path);
    }
    return status == 0 ? 0 : -ECHILD;
}

int command_run_helper(const char *program, char *const argv[], struct err *err)
{
    return run_program(program, argv, false, err);
}

int command_run_helper_output(const char *program, char *const argv[], struct err *err)
{
    return run_program(program, argv, true, err);
}

int command_run_helper_input(const char *program, char *const argv[],
                             int (*fn)(void *data, int fd, struct err *err), void *data,
                             struct err *err)
{
    int fds[2];
    int status;
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return err_set(err, errno, "run %s", program);
    }
    AUTO(closep) int reader = fds[0];
    AUTO(closep) int writer = fds[1];
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        return err_set(err, errno, "run %s", program);
    }
    if (pid == 0) {
        AUTO(freep) char *path = dirs_helper(program);
        (void)dup2(reader, STDIN_FILENO);
        signals_reset();
        (void)execv(path != NULL ? path : program, argv);
        (void)fprintf(stderr, "isola: run '%s': %s\n", path, strerror(errno));
        _exit(127);
    }
    reader = close_fd(reader);
    int r = fn(data, writer, err);
    if (r < 0) {
        (void)kill(pid, SIGKILL);
    }
    writer = close_fd(writer);
    int waited = process_wait(pid, &status);
    return r < 0         ? r
           : waited < 0  ? err_set(err, -waited, "wait for %s", program)
           : status == 0 ? 0
                         : -ECHILD;
}

void command_print_deleted(const char *what, const struct strv *names)
{
    if (names->count > 0) {
        (void)printf("Deleted %s:\n", what);
    }
    for (size_t i = 0; i < names->count; i++) {
        (void)printf("%s\n%s", names->items[i], i + 1 == names->count ? "\n" : "");
    }
}

int command_ensure_image(struct engine *engine, const char *image, const char *platform,
                         const char *policy, bool quiet, struct err *err)
{
    struct image_store *store;
    struct platform wanted;
    bool always = str_eq(policy, "always");
    if (policy != NULL && !always && !str_eq(policy, "missing") && !str_eq(policy, "never")) {
        return err_say(err, EINVAL, "--pull '%s' is not always, missing or never", policy);
    }
    int r = engine_store(engine, &store, err);
    if (r == 0 && platform != NULL) {
        r = platform_parse(platform, &wanted, err);
    }
    if (r < 0) {
        return r;
    }
    AUTO(image_donep) struct image found = {0};
    r = always ? -ENOENT
               : image_resolve(store, image, platform != NULL ? &wanted : NULL, &found, err);
    if (r != -ENOENT || str_eq(policy, "never")) {
        return r;
    }
    char *argv[12] = {"isola-image", "--root", engine->dirs.root, "pull"};
    size_t n = 4;
    if (platform != NULL) {
        argv[n++] = "--platform";
        argv[n++] = (char *)(uintptr_t)platform;
    }
    if (quiet) {
        argv[n++] = "--quiet";
    }
    argv[n] = (char *)(uintptr_t)image;
    if (!quiet && !always) {
        (void)fprintf(stderr, "isola: image '%s' is not here yet: pulling\n", image);
    }
    *err = ERR_NONE;
    r = command_run_helper("isola-image", argv, err);
    return r == -ECHILD ? err_say(err, ENOENT, "image '%s' could not be pulled", image) : r;
}
