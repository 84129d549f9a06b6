#include "image/layer_stack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/err.h"
#include "base/path.h"

#define WALK_DEPTH_MAX 1024

int layer_stack_open(const struct strv *paths, struct layer_stack *ret, struct err *err)
{
    AUTO(layer_stack_closep) struct layer_stack stack = {0};
    stack.fds = calloc(paths->count + 1, sizeof(*stack.fds));
    if (stack.fds == NULL) {
        return err_set(err, ENOMEM, "open layers");
    }
    for (; stack.count < paths->count; stack.count++) {
        const char *path = paths->items[stack.count];
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) {
            return err_set(err, errno, "open layer '%s'", path);
        }
        stack.fds[stack.count] = fd;
    }
    *ret = stack;
    stack = (struct layer_stack){0};
    return 0;
}

void layer_stack_close(struct layer_stack *stack)
{
    for (size_t i = 0; i < stack->count; i++) {
        (void)close_fd(stack->fds[i]);
    }
    free(stack->fds);
    *stack = (struct layer_stack){0};
}

bool stat_is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

bool directory_is_opaque(int dir_fd)
{
    char value[2];
    return (fgetxattr(dir_fd, "trusted.overlay.opaque", value, sizeof(value)) == 1 &&
            value[0] == 'y') ||
           (fgetxattr(dir_fd, "user.overlay.opaque", value, sizeof(value)) == 1 && value[0] == 'y');
}

/*
 * What one layer says about path: 0 and its stat, 1 "ask the layers below", -ENOENT hidden for
 * those below, or another error.
 */
static int stat_in_layer(int layer_fd, const char *path, struct stat *ret_st)
{
    int fd = open_resolved(layer_fd, path, O_PATH | O_NOFOLLOW, 0,
                           RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if (fd >= 0) {
        int r = fstat(fd, ret_st) < 0 ? -errno : 0;
        (void)close(fd);
        return r == 0 && stat_is_whiteout(ret_st) ? -ENOENT : r;
    }
    if (fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP) {
        return fd;
    }
    /* Something on the way is missing, or is no directory: find out where. */
    AUTO(freep) char *prefix = strdup(path);
    if (prefix == NULL) {
        return -ENOMEM;
    }
    AUTO(closep) int at = openat(layer_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *save = NULL;
    bool opaque = false;
    for (char *part = strtok_r(prefix, "/", &save); part != NULL && at >= 0;
         part = strtok_r(NULL, "/", &save)) {
        struct stat st;
        opaque = opaque || directory_is_opaque(at);
        if (fstatat(at, part, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            return errno == ENOENT ? (opaque ? -ENOENT : 1) : -errno;
        }
        if (!S_ISDIR(st.st_mode)) {
            return stat_is_whiteout(&st) ? -ENOENT : -ENOTDIR;
        }
        int next = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        (void)close_fd(at);
        at = next;
    }
    return at < 0 ? -errno : -ENOENT;
}

bool layer_hides_below(int layer_fd, const char *path)
{
    AUTO(freep) char *prefix = strdup(path);
    AUTO(closep) int at = openat(layer_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *save = NULL;
    for (char *part = prefix != NULL ? strtok_r(prefix, "/", &save) : NULL; part != NULL && at >= 0;
         part = strtok_r(NULL, "/", &save)) {
        int next = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0) {
            return errno != ENOENT;
        }
        (void)close_fd(at);
        at = next;
        if (directory_is_opaque(at)) {
            return true;
        }
    }
    return false;
}

int layer_stack_stat(const struct layer_stack *stack, const char *path, size_t *ret_layer,
                     struct stat *ret_st)
{
    for (size_t i = 0; i < stack->count; i++) {
        int r = stat_in_layer(stack->fds[i], path, ret_st);
        if (r == 0) {
            *ret_layer = i;
        }
        if (r <= 0) {
            return r;
        }
    }
    return -ENOENT;
}

struct walk {
    const struct layer_stack *lower;
    change_fn *fn;
    void *data;
    struct err *err;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int list_names(int dir_fd, struct strv *names)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int r = -errno;
        (void)close_fd(fd);
        return r;
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            return -errno;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        int r = strv_add(names, entry->d_name);
        if (r < 0) {
            return r;
        }
    }
}

int layer_stack_list(const struct layer_stack *lower, const char *path, struct strv *names)
{
    path = path[0] != '\0' ? path : ".";
    for (size_t i = 0; i < lower->count; i++) {
        struct stat st;
        int r = stat_in_layer(lower->fds[i], path, &st);
        if (r == 1) {
            continue;
        }
        if (r < 0 || !S_ISDIR(st.st_mode)) {
            return 0;
        }
        AUTO(closep)
        int fd = open_resolved(lower->fds[i], path, O_RDONLY | O_DIRECTORY, 0,
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
        AUTO(strv_donep) struct strv here = {0};
        r = fd < 0 ? fd : list_names(fd, &here);
        for (size_t k = 0; r >= 0 && k < here.count; k++) {
            r = strv_has(names, here.items[k]) ? 0 : strv_add(names, here.items[k]);
        }
        if (r < 0) {
            return r;
        }
        if (layer_hides_below(lower->fds[i], path)) {
            return 0;
        }
    }
    return 0;
}

static int walk_directory(const struct walk *walk, int dir_fd, const char *path, bool fresh,
                          int depth);

static int walk_entry(const struct walk *walk, int dir_fd, const char *path, const char *name,
                      bool fresh, int depth)
{
    AUTO(freep) char *child = str_printf("%s%s%s", path, path[0] != '\0' ? "/" : "", name);
    AUTO(freep) char *shown = child != NULL ? str_printf("/%s", child) : NULL;
    struct stat st;
    struct stat lower_st = {0};
    size_t layer;
    if (shown == NULL) {
        return -ENOMEM;
    }
    int found = fresh ? -ENOENT : layer_stack_stat(walk->lower, child, &layer, &lower_st);
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        /* Of an opaque directory's lower names: it is not in the upper one. */
        return errno == ENOENT ? walk->fn(walk->data, CHANGE_DELETED, shown) : -errno;
    }
    if (stat_is_whiteout(&st)) {
        return found == 0 ? walk->fn(walk->data, CHANGE_DELETED, shown) : 0;
    }
    int r = walk->fn(walk->data, found == 0 ? CHANGE_MODIFIED : CHANGE_ADDED, shown);
    if (r < 0 || !S_ISDIR(st.st_mode)) {
        return r;
    }
    AUTO(closep)
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    return walk_directory(walk, fd, child, fresh || found != 0 || !S_ISDIR(lower_st.st_mode),
                          depth + 1);
}

/* fresh: the lower layers have no such directory. */
static int walk_directory(const struct walk *walk, int dir_fd, const char *path, bool fresh,
                          int depth)
{
    if (depth > WALK_DEPTH_MAX) {
        return -ELOOP;
    }
    AUTO(strv_donep) struct strv names = {0};
    int r = list_names(dir_fd, &names);
    if (r == 0 && !fresh && directory_is_opaque(dir_fd)) {
        r = layer_stack_list(walk->lower, path, &names);
    }
    if (r < 0) {
        return err_set(walk->err, -r, "list '/%s'", path);
    }
    if (names.count > 0) {
        qsort(names.items, names.count, sizeof(*names.items), compare_names);
    }
    for (size_t i = 0; r >= 0 && i < names.count; i++) {
        if (i > 0 && strcmp(names.items[i], names.items[i - 1]) == 0) {
            continue;
        }
        r = walk_entry(walk, dir_fd, path, names.items[i], fresh, depth);
    }
    return r;
}

int layer_stack_diff(const struct layer_stack *lower, int upper_fd, change_fn *fn, void *data,
                     struct err *err)
{
    const struct walk walk = {.lower = lower, .fn = fn, .data = data, .err = err};
    int r = walk_directory(&walk, upper_fd, "", false, 0);
    if (r < 0 && (err == NULL || err->code == 0)) {
        return err_set(err, -r, "compare the layers");
    }
    return r;
}
