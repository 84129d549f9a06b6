#include "image/tar_extract.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "base/user_namespace.h"
#include "image/extract_internal.h"

#define NAME_SHOWN_MAX 200

/* Prints hostile names without their control characters. */
static int fail(struct err *err, int code, const char *what, const char *name)
{
    char shown[NAME_SHOWN_MAX + 4];
    size_t n = 0;
    for (; name[n] != '\0' && n < NAME_SHOWN_MAX; n++) {
        unsigned char c = (unsigned char)name[n];
        shown[n] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    (void)snprintf(shown + n, sizeof(shown) - n, "%s", name[n] != '\0' ? "..." : "");
    if (err != NULL && err->code != 0) {
        return err_wrap(err, code, "%s '%s'", what, shown);
    }
    return err_set(err, code, "%s '%s'", what, shown);
}

/* umask(2) can only be read by changing it, for all threads. */
static mode_t read_umask(void)
{
    AUTO(buf_donep) struct buf text = {0};
    const char *line = NULL;
    if (read_file("/proc/self/status", 65536, &text) == 0) {
        line = strstr(text.data, "\nUmask:");
    }
    return line != NULL ? (mode_t)strtoul(line + 7, NULL, 8) : 0777;
}

int extract_clean_name(const char *name, struct buf *out)
{
    buf_clear(out);
    while (*name != '\0') {
        size_t n = strcspn(name, "/");
        const char *part = name;
        name += n + strspn(name + n, "/");
        if (n == 0 || (n == 1 && part[0] == '.')) {
            continue;
        }
        if (n == 2 && part[0] == '.' && part[1] == '.') {
            if (out->len == 0) {
                return -EINVAL;
            }
            char *slash = strrchr(out->data, '/');
            out->len = slash != NULL ? (size_t)(slash - out->data) : 0;
            out->data[out->len] = '\0';
            continue;
        }
        if ((out->len > 0 && buf_add_char(out, '/') < 0) || buf_add(out, part, n) < 0) {
            return -ENOMEM;
        }
    }
    return buf_add(out, "", 0) < 0 || buf_reserve(out, 1) < 0 ? -ENOMEM : 0;
}

int extract_rename_top(const struct extractor *x, struct buf *name)
{
    if (x->rules->rename_top == NULL || name->len == 0) {
        return 0;
    }
    AUTO(freep) char *rest = strdup(name->data + strcspn(name->data, "/"));
    buf_clear(name);
    return rest == NULL || buf_printf(name, "%s%s", x->rules->rename_top, rest) < 0 ? -ENOMEM : 0;
}

int extract_remember_time(struct extractor *x, const char *real, struct timespec mtime)
{
    if (x->time_count == x->time_size) {
        size_t size = MAX(x->time_size * 2, (size_t)64);
        struct directory_time *times = reallocarray(x->times, size, sizeof(*times));
        if (times == NULL) {
            return -ENOMEM;
        }
        x->times = times;
        x->time_size = size;
    }
    char *copy = strdup(real);
    if (copy == NULL) {
        return -ENOMEM;
    }
    x->times[x->time_count++] = (struct directory_time){.real = copy, .mtime = mtime};
    return 0;
}

static int made_implied(void *data, const char *real, const struct stat *like)
{
    return extract_remember_time(data, real, like->st_mtim);
}

int extract_open_parent(struct extractor *x, const struct buf *path, bool make,
                        const struct extract_level **ret_level, const char **ret_name,
                        struct err *err)
{
    const char *slash = strrchr(path->data, '/');
    *ret_name = slash != NULL ? slash + 1 : path->data;
    if (strlen(*ret_name) > 255) {
        return -ENAMETOOLONG;
    }
    return extract_dirs_get(&x->dirs, path->data, slash != NULL ? (size_t)(slash - path->data) : 0,
                            make, ret_level, err);
}

static int extract_entry(struct extractor *x, const struct tar_entry *entry, struct err *err)
{
    int r = extract_clean_name(entry->name, &x->name);
    if (r < 0) {
        return r == -EINVAL ? err_say(err, EINVAL, "the name leads out of the root") : r;
    }
    r = extract_rename_top(x, &x->name);
    if (r < 0) {
        return r;
    }
    if (x->name.len == 0) {
        return extract_root(x, entry);
    }
    if (entry->type == TAR_HARDLINK) {
        return extract_hardlink(x, entry, err);
    }
    const struct extract_level *level;
    const char *name;
    r = extract_open_parent(x, &x->name, true, &level, &name, err);
    if (r < 0) {
        return r;
    }
    if (x->rules->whiteouts == TAR_WHITEOUTS_OVERLAY && str_starts(name, WHITEOUT_PREFIX)) {
        return extract_whiteout(x, level, name);
    }
    if (entry->type == TAR_DIRECTORY) {
        return extract_directory(x, level, name, entry);
    }
    if (entry->type == TAR_FILE) {
        return extract_file(x, level->fd, name, entry, err);
    }
    return extract_special(x, level->fd, name, entry, err);
}

/* overlayfs takes no notice of an opaque root: hide each name of the layers below. */
static int hide_root(struct extractor *x, struct err *err)
{
    x->dirs.used_parent = true;
    int r = extract_dirs_parent(&x->dirs, err);
    if (r <= 0) {
        return r;
    }
    AUTO(strv_donep) struct strv names = {0};
    r = layer_stack_list(x->rules->parent, ".", &names);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        AUTO(freep) char *whiteout = str_printf(WHITEOUT_PREFIX "%s", names.items[i]);
        r = whiteout != NULL ? extract_whiteout(x, &x->dirs.levels[0], whiteout) : -ENOMEM;
    }
    return r;
}

static int set_directory_times(struct extractor *x)
{
    extract_dirs_forget(&x->dirs);
    for (size_t i = 0; i < x->time_count; i++) {
        const struct directory_time *time = &x->times[i];
        AUTO(closep)
        int fd = open_resolved(x->dirs.root_fd, time->real[0] != '\0' ? time->real : ".",
                               O_RDONLY | O_DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
        if (fd < 0) {
            continue; /* replaced later in the archive */
        }
        const struct timespec times[2] = {time->mtime, time->mtime};
        if (futimens(fd, times) < 0) {
            return -errno;
        }
    }
    return 0;
}

static int extract_all(struct extractor *x, struct err *err)
{
    for (;;) {
        const struct tar_entry *entry;
        int r = tar_reader_next(x->reader, &entry, err);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            break;
        }
        x->result.entries++;
        r = extract_entry(x, entry, err);
        if (r == -EINVAL && (err == NULL || err->code == 0) && !user_is_host_root()) {
            (void)err_say(err, EINVAL,
                          "owner %u:%u is outside your ranges of user ids; see "
                          "subuid(5)",
                          entry->uid, entry->gid);
        }
        if (r < 0) {
            return fail(err, -r, "extract", entry->name);
        }
    }
    extract_drop_hidden(x);
    int r = x->root_opaque ? hide_root(x, err) : 0;
    r = r < 0 ? r : set_directory_times(x);
    if (r < 0) {
        return err != NULL && err->code != 0 ? r : err_set(err, -r, "finish the archive");
    }
    return tar_reader_drain(x->reader, err);
}

int tar_extract_reader(struct tar_reader *reader, int root_fd, const struct extract_rules *rules,
                       struct extract_result *ret, struct err *err)
{
    AUTO(freep) struct extractor *x = calloc(1, sizeof(*x));
    if (x == NULL || extract_dirs_init(&x->dirs, root_fd) < 0) {
        return err_set(err, ENOMEM, "extract archive");
    }
    x->rules = rules;
    x->reader = reader;
    x->umask = read_umask();
    x->euid = geteuid();
    x->egid = getegid();
    x->dirs.opaque = rules->user_xattrs ? "user.overlay.opaque" : "trusted.overlay.opaque";
    x->dirs.parent = rules->parent;
    x->dirs.parent_given = rules->parent != NULL;
    x->dirs.parent_wait = rules->parent_wait;
    x->dirs.parent_wait_data = rules->parent_wait_data;
    x->dirs.made = made_implied;
    x->dirs.made_data = x;
    /* err tells an entry's own error from one that this function set. */
    struct err own = ERR_NONE;
    int r = extract_all(x, &own);
    if (r < 0 && err != NULL) {
        *err = own;
    }
    x->result.used_parent = x->dirs.used_parent;
    if (r == 0 && ret != NULL) {
        *ret = x->result;
    }
    extract_dirs_done(&x->dirs);
    for (size_t i = 0; i < x->time_count; i++) {
        free(x->times[i].real);
    }
    free(x->times);
    tdestroy(x->copied, free);
    buf_done(&x->name);
    buf_done(&x->link);
    return r;
}

int tar_extract(int fd, int root_fd, const char *path, const struct extract_rules *rules,
                struct extract_result *ret, struct err *err)
{
    AUTO(tar_fd_input_donep) struct tar_fd_input input = {.fd = fd};
    AUTO(tar_reader_freep) struct tar_reader *reader = NULL;
    int r = tar_reader_new(tar_fd_input_read, &input, &rules->limits, &reader);
    if (r < 0) {
        return err_set(err, -r, "extract archive");
    }
    AUTO(closep)
    int dir = open_in_root(root_fd, path[0] != '\0' ? path : ".", O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0) {
        return err_set(err, -dir, "open '%s'", path);
    }
    return tar_extract_reader(reader, dir, rules, ret, err);
}
