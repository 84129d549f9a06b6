/* Hard links, into the layers below as well, and whiteouts. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/err.h"
#include "base/path.h"
#include "base/str.h"
#include "image/extract_internal.h"

/* A file that a hard link has brought here from the layers below. */
struct copied_file {
    struct copied_file *next;
    ino_t inode;
    char real[];
};

static int compare_copied(const void *a, const void *b)
{
    return strcmp(((const struct copied_file *)a)->real, ((const struct copied_file *)b)->real);
}

static int remember_copied(struct extractor *x, const struct extract_level *level, const char *name,
                           ino_t inode)
{
    size_t size = strlen(level->real) + strlen(name) + 2;
    struct copied_file *file = malloc(sizeof(*file) + size);
    if (file == NULL) {
        return -ENOMEM;
    }
    file->inode = inode;
    (void)snprintf(file->real, size, "%s/%s", level->real, name);
    struct copied_file **node = tsearch(file, &x->copied, compare_copied);
    if (node == NULL || *node != file) {
        if (node != NULL) {
            (*node)->inode = inode;
        }
        free(file);
        return node != NULL ? 0 : -ENOMEM;
    }
    file->next = x->copied_first;
    x->copied_first = file;
    return 0;
}

/* A file that only a link has brought here is one of the layers below: a whiteout hides it. */
static int drop_copied(struct extractor *x, const struct extract_level *level, const char *name)
{
    struct stat st;
    if (x->copied == NULL || fstatat(level->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return 0;
    }
    size_t size = strlen(level->real) + strlen(name) + 2;
    AUTO(freep) struct copied_file *key = malloc(sizeof(*key) + size);
    if (key == NULL) {
        return -ENOMEM;
    }
    (void)snprintf(key->real, size, "%s/%s", level->real, name);
    struct copied_file *const *node = tfind(key, &x->copied, compare_copied);
    return node != NULL && (*node)->inode == st.st_ino && unlinkat(level->fd, name, 0) < 0 ? -errno
                                                                                           : 0;
}

static void drop_hidden(const struct extractor *x, const struct copied_file *file)
{
    const char *name = strrchr(file->real, '/') + 1;
    AUTO(freep) char *parent = strndup(file->real, (size_t)(name - 1 - file->real));
    if (parent == NULL || (!x->root_opaque && !layer_hides_below(x->dirs.root_fd, parent))) {
        return;
    }
    struct stat st;
    AUTO(closep)
    int dir = open_resolved(x->dirs.root_fd, parent[0] != '\0' ? parent : ".",
                            O_RDONLY | O_DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if (dir >= 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == file->inode) {
        (void)unlinkat(dir, name, 0);
    }
}

void extract_drop_hidden(const struct extractor *x)
{
    for (const struct copied_file *file = x->copied_first; file != NULL; file = file->next) {
        drop_hidden(x, file);
    }
}

/*
 * The file that a hard link names: of this archive, or of the layers below, then copied up to its
 * place as overlayfs does (the OCI image-spec allows it, "Hardlinks"). *ret_dir is the caller's.
 */
static int find_link_target(struct extractor *x, int *ret_dir, const char **ret_name,
                            struct stat *ret_st, struct err *err)
{
    const struct extract_level *level;
    int r = extract_open_parent(x, &x->link, false, &level, ret_name, err);
    bool here = r == 0 && fstatat(level->fd, *ret_name, ret_st, AT_SYMLINK_NOFOLLOW) == 0;
    if (r < 0 && r != -ENOENT) {
        return r;
    }
    if (!here && x->dirs.parent_given && !x->root_opaque) {
        r = extract_open_parent(x, &x->link, true, &level, ret_name, err);
        here = r == 0 && fstatat(level->fd, *ret_name, ret_st, AT_SYMLINK_NOFOLLOW) == 0;
    }
    if (r == 0 && !here && x->dirs.parent_given && !x->root_opaque) {
        uint64_t bytes = 0;
        r = extract_copy_up(&x->dirs, level, *ret_name, &bytes, err);
        here = r == 0 && fstatat(level->fd, *ret_name, ret_st, AT_SYMLINK_NOFOLLOW) == 0;
        x->result.bytes += bytes;
        r = here ? remember_copied(x, level, *ret_name, ret_st->st_ino) : r;
    }
    if (r < 0 && r != -ENOENT && r != -EPERM) {
        return r;
    }
    if (r == -EPERM || (here && S_ISDIR(ret_st->st_mode))) {
        return err_say(err, EPERM, "hard link to a directory");
    }
    if (!here || stat_is_whiteout(ret_st)) {
        return err_say(err, ENOENT, "hard link to a file that is not in this archive%s",
                       x->dirs.parent_given ? ", nor in the layers below" : "");
    }
    /* The next lookup may close it. */
    *ret_dir = fcntl(level->fd, F_DUPFD_CLOEXEC, 3);
    return *ret_dir < 0 ? -errno : 0;
}

int extract_hardlink(struct extractor *x, const struct tar_entry *entry, struct err *err)
{
    const char *name;
    AUTO(closep) int from = -1;
    struct stat st;
    int r = extract_clean_name(entry->link, &x->link);
    r = r < 0 ? r : extract_rename_top(x, &x->link);
    if (r < 0 || x->link.len == 0) {
        return err_say(err, r == -ENOMEM ? ENOMEM : EINVAL, "hard link out of the root");
    }
    r = find_link_target(x, &from, &name, &st, err);
    if (r < 0) {
        return r;
    }
    const struct extract_level *to;
    const char *new_name;
    r = extract_open_parent(x, &x->name, true, &to, &new_name, err);
    if (r < 0) {
        return r;
    }
    struct stat now;
    if (fstatat(to->fd, new_name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == st.st_ino &&
        now.st_dev == st.st_dev) {
        return 0;
    }
    r = extract_make_room(x, to->fd, new_name, NULL);
    extract_dirs_forget(&x->dirs);
    r = r < 0 ? r : extract_open_parent(x, &x->name, true, &to, &new_name, err);
    if (r < 0) {
        return r;
    }
    return linkat(from, name, to->fd, new_name, 0) < 0 ? -errno : 0;
}

int extract_whiteout(struct extractor *x, const struct extract_level *level, const char *name)
{
    int dir_fd = level->fd;
    x->result.whiteouts++;
    if (strcmp(name, WHITEOUT_OPAQUE) == 0) {
        if (dir_fd == x->dirs.root_fd) {
            x->root_opaque = true;
            return 0;
        }
        return extract_set_opaque(x, dir_fd);
    }
    if (str_starts(name, WHITEOUT_META)) {
        return 0; /* aufs' own notes */
    }
    const char *hidden = name + strlen(WHITEOUT_PREFIX);
    if (!path_is_plain_name(hidden)) {
        return -EINVAL;
    }
    int r = drop_copied(x, level, hidden);
    if (r < 0) {
        return r;
    }
    if (mknodat(dir_fd, hidden, S_IFCHR | 0600, makedev(0, 0)) == 0) {
        return 0;
    }
    if (errno != EEXIST) {
        return -errno;
    }
    /* This layer has the name itself: it stays, and hides what a directory below holds. */
    AUTO(closep)
    int fd = openat(dir_fd, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? extract_set_opaque(x, fd) : 0;
}
