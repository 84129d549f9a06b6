#include "engine/files_serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/macros.h"
#include "base/path.h"
#include "base/str.h"
#include "engine/user.h"
#include "image/layer_stack.h"
#include "image/tar_extract.h"
#include "image/tar_writer.h"

typedef int serve_fn(int argc, char **argv, int root_fd, struct err *err);

static bool is_yes(const char *word)
{
    return str_eq(word, "1");
}

static int serve_type(int argc, char **argv, int root_fd, struct err *err)
{
    (void)argc;
    struct stat st;
    AUTO(closep)
    int fd = open_in_root(root_fd, argv[1], O_PATH | (is_yes(argv[2]) ? 0 : O_NOFOLLOW), 0);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return err_set(err, fd < 0 ? -fd : errno, "'%s'", argv[1]);
    }
    (void)printf("%o\n", st.st_mode);
    return 0;
}

static int serve_read(int argc, char **argv, int root_fd, struct err *err)
{
    const struct tar_tree_rules rules = {
        .follow_top = is_yes(argv[2]),
        .name_as = argc > 3 ? argv[3] : NULL,
    };
    return tar_write_tree(STDOUT_FILENO, root_fd, argv[1], &rules, err);
}

static int serve_export(int argc, char **argv, int root_fd, struct err *err)
{
    (void)argc;
    (void)argv;
    const struct tar_tree_rules rules = {.one_file_system = true};
    return tar_write_tree(STDOUT_FILENO, root_fd, "", &rules, err);
}

static int serve_write(int argc, char **argv, int root_fd, struct err *err)
{
    (void)argc;
    const struct extract_rules rules = {
        .whiteouts = TAR_WHITEOUTS_PLAIN,
        .ignore_owner = !is_yes(argv[2]),
    };
    return tar_extract(STDIN_FILENO, root_fd, argv[1], &rules, NULL, err);
}

static int print_change(void *data, enum change_kind kind, const char *path)
{
    (void)data;
    return printf("%c%s", kind, path) < 0 || putchar('\0') == EOF ? -EIO : 0;
}

static int open_layers(struct layer_stack *ret, struct err *err)
{
    AUTO(strv_donep) struct strv paths = {0};
    struct stat st;
    int r = 0;
    for (size_t i = 0; r == 0; i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), FILES_LAYERS "/%zu", i);
        if (stat(path, &st) < 0) {
            break;
        }
        r = strv_add(&paths, path);
    }
    return r < 0 ? err_set(err, -r, "open layers") : layer_stack_open(&paths, ret, err);
}

static int open_upper(struct err *err)
{
    int upper = open(FILES_UPPER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return upper < 0 ? err_set(err, errno, "open '" FILES_UPPER "'") : upper;
}

static int serve_diff(int argc, char **argv, int root_fd, struct err *err)
{
    (void)argc;
    (void)argv;
    (void)root_fd;
    AUTO(layer_stack_closep) struct layer_stack lower = {0};
    AUTO(closep) int upper = open_upper(err);
    int r = upper < 0 ? upper : open_layers(&lower, err);
    return r < 0 ? r : layer_stack_diff(&lower, upper, print_change, NULL, err);
}

static int serve_layer(int argc, char **argv, int root_fd, struct err *err)
{
    (void)argc;
    (void)argv;
    (void)root_fd;
    const struct tar_tree_rules rules = {.whiteouts = true};
    AUTO(closep) int upper = open_upper(err);
    return upper < 0 ? upper : tar_write_tree(STDOUT_FILENO, upper, ".", &rules, err);
}

static int serve_user(int argc, char **argv, int root_fd, struct err *err)
{
    AUTO(user_donep) struct user user = {0};
    AUTO(strv_donep) struct strv more = {0};
    int r = 0;
    for (int i = 2; r == 0 && i < argc; i++) {
        r = strv_add(&more, argv[i]);
    }
    r = r < 0 ? err_set(err, -r, "user '%s'", argv[1])
              : user_resolve(root_fd, argv[1], &more, &user, err);
    if (r < 0) {
        return r;
    }
    (void)printf("%u %u %s\n", user.uid, user.gid, user.home);
    for (size_t i = 0; i < user.group_count; i++) {
        (void)printf("%u\n", user.groups[i]);
    }
    return 0;
}

int files_serve(int argc, char **argv, int root_fd, struct err *err)
{
    static const struct {
        const char *word;
        int min;
        int max;
        serve_fn *fn;
    } table[] = {
        {"diff", 1, 1, serve_diff},   {"export", 1, 1, serve_export}, {"layer", 1, 1, serve_layer},
        {"read", 3, 4, serve_read},   {"type", 3, 3, serve_type},     {"user", 2, 64, serve_user},
        {"write", 3, 3, serve_write},
    };
    for (size_t i = 0; i < COUNT(table) && argc > 0; i++) {
        if (str_eq(argv[0], table[i].word) && argc >= table[i].min && argc <= table[i].max) {
            int r = table[i].fn(argc, argv, root_fd, err);
            if (r == 0 && (fflush(stdout) != 0 || ferror(stdout))) {
                r = err_set(err, EIO, "write the answer");
            }
            return r;
        }
    }
    return err_say(err, EINVAL, "isola-files: runs in a virtual machine; see isola-cp(1)");
}
