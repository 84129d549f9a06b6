#include "image/extract_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/copy.h"
#include "base/err.h"
#include "base/path.h"
#include "base/str.h"

#define LINKS_MAX 40
#define REAL_PATH_MAX ((size_t)4096)
#define XATTRS_SIZE_MAX ((size_t)65536)
#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int extract_dirs_init(struct extract_dirs *dirs, int root_fd)
{
    *dirs = (struct extract_dirs){.root_fd = root_fd, .count = 1};
    dirs->levels[0].fd = root_fd;
    dirs->levels[0].real = strdup("");
    return dirs->levels[0].real != NULL ? 0 : -ENOMEM;
}

static void pop_to(struct extract_dirs *dirs, size_t count)
{
    while (dirs->count > count) {
        struct extract_level *level = &dirs->levels[--dirs->count];
        (void)close_fd(level->fd);
        free(level->real);
    }
    if (dirs->path.data != NULL) {
        dirs->path.len = dirs->levels[count - 1].path_len;
        dirs->path.data[dirs->path.len] = '\0';
    }
}

void extract_dirs_forget(struct extract_dirs *dirs)
{
    pop_to(dirs, 1);
}

void extract_dirs_done(struct extract_dirs *dirs)
{
    if (dirs->count > 0) {
        pop_to(dirs, 1);
        free(dirs->levels[0].real);
    }
    buf_done(&dirs->path);
    dirs->count = 0;
}

int extract_dirs_parent(struct extract_dirs *dirs, struct err *err)
{
    if (!dirs->parent_given) {
        return 0;
    }
    if (!dirs->parent_ready && dirs->parent_wait != NULL) {
        int r = dirs->parent_wait(dirs->parent_wait_data, err);
        if (r < 0) {
            return r;
        }
    }
    dirs->parent_ready = true;
    return dirs->parent != NULL && dirs->parent->count > 0 ? 1 : 0;
}

static int open_below(int fd, const char *real, int flags)
{
    return open_resolved(fd, real[0] != '\0' ? real : ".", flags, 0,
                         RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

int extract_copy_metadata(int from_fd, const struct stat *st, int to_fd)
{
    if (fchown(to_fd, st->st_uid, st->st_gid) < 0 || fchmod(to_fd, st->st_mode & 07777) < 0) {
        return -errno;
    }
    AUTO(freep) char *names = malloc(XATTRS_SIZE_MAX);
    AUTO(freep) char *value = malloc(XATTRS_SIZE_MAX);
    if (names == NULL || value == NULL) {
        return -ENOMEM;
    }
    ssize_t n = flistxattr(from_fd, names, XATTRS_SIZE_MAX);
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
        const char *name = names + at;
        ssize_t size = fgetxattr(from_fd, name, value, XATTRS_SIZE_MAX);
        if (str_starts(name, "trusted.overlay.") || str_starts(name, "user.overlay.") || size < 0) {
            continue;
        }
        if (fsetxattr(to_fd, name, value, (size_t)size, 0) < 0 && errno != ENOTSUP &&
            errno != EPERM) {
            return -errno;
        }
    }
    return 0;
}

/* Makes the directory name in level, like the one that the layers below show there. */
static int make_implied(struct extract_dirs *dirs, int parent_fd, const char *name,
                        const char *real, const struct stat *like, size_t layer)
{
    if (mkdirat(parent_fd, name, 0755) < 0) {
        return -errno;
    }
    AUTO(closep) int fd = openat(parent_fd, name, DIRECTORY_FLAGS);
    if (fd < 0) {
        return -errno;
    }
    int r = fchmod(fd, 0755) < 0 ? -errno : 0;
    if (r == 0 && like != NULL) {
        AUTO(closep) int from = open_below(dirs->parent->fds[layer], real, O_RDONLY | O_DIRECTORY);
        r = from < 0 ? from : extract_copy_metadata(from, like, fd);
        if (r == 0 && dirs->made != NULL) {
            r = dirs->made(dirs->made_data, real, like);
        }
    }
    return r;
}

/* A directory without an entry of its own in the place of a whiteout of this layer. */
static int replace_whiteout(const struct extract_dirs *dirs, int parent_fd, const char *name)
{
    if (unlinkat(parent_fd, name, 0) < 0 || mkdirat(parent_fd, name, 0755) < 0) {
        return -errno;
    }
    AUTO(closep) int fd = openat(parent_fd, name, DIRECTORY_FLAGS);
    if (fd < 0 || fchmod(fd, 0755) < 0 || fsetxattr(fd, dirs->opaque, "y", 1, 0) < 0) {
        return -errno;
    }
    return 0;
}

int extract_copy_up(struct extract_dirs *dirs, const struct extract_level *level, const char *name,
                    uint64_t *ret_bytes, struct err *err)
{
    struct stat st;
    size_t layer;
    int r = extract_dirs_parent(dirs, err);
    if (r <= 0) {
        return r < 0 ? r : -ENOENT;
    }
    dirs->used_parent = true;
    AUTO(freep)
    char *real = str_printf("%s%s%s", level->real, level->real[0] != '\0' ? "/" : "", name);
    if (real == NULL) {
        return -ENOMEM;
    }
    if (layer_hides_below(dirs->root_fd, level->real)) {
        return -ENOENT;
    }
    r = layer_stack_stat(dirs->parent, real, &layer, &st);
    if (r < 0) {
        return r == -ENOTDIR ? -ENOENT : r;
    }
    if (S_ISDIR(st.st_mode)) {
        return -EPERM;
    }
    AUTO(closep)
    int from = open_below(dirs->parent->fds[layer], level->real, O_RDONLY | O_DIRECTORY);
    return from < 0 ? from : copy_name(from, level->fd, name, ret_bytes);
}

enum found { FOUND_DIRECTORY, FOUND_LINK };

/*
 * Looks at one part below the real directory of fd: a directory (made when missing), or a link
 * whose text is returned.
 */
static int look(struct extract_dirs *dirs, int fd, const char *name, const char *real, bool make,
                enum found *ret, char **ret_link, struct err *err)
{
    struct stat st;
    bool hidden = false; /* by a whiteout of this very layer */
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        hidden = stat_is_whiteout(&st);
    } else if (errno != ENOENT) {
        return -errno;
    } else {
        st.st_mode = 0;
    }
    if (st.st_mode != 0 && !hidden) {
        if (S_ISLNK(st.st_mode)) {
            *ret = FOUND_LINK;
            return read_link_at(fd, name, ret_link);
        }
        *ret = FOUND_DIRECTORY;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    }
    if (!make) {
        return -ENOENT;
    }
    if (hidden) {
        /* What was there stays hidden, all of it. */
        *ret = FOUND_DIRECTORY;
        return replace_whiteout(dirs, fd, name);
    }
    int r = extract_dirs_parent(dirs, err);
    if (r < 0) {
        return r;
    }
    size_t layer = 0;
    bool below = false;
    dirs->used_parent =
        true; /* also without layers below: on top of some it would look different */
    if (r == 1) {
        below = layer_stack_stat(dirs->parent, real, &layer, &st) == 0;
    }
    if (below && S_ISLNK(st.st_mode)) {
        AUTO(closep) int link = open_below(dirs->parent->fds[layer], real, O_PATH | O_NOFOLLOW);
        *ret = FOUND_LINK;
        return link < 0 ? link : read_link_at(link, "", ret_link);
    }
    *ret = FOUND_DIRECTORY;
    return make_implied(dirs, fd, name, real, below && S_ISDIR(st.st_mode) ? &st : NULL, layer);
}

/* Walks rest from the real path in real, inside the root, as a kernel would. */
static int resolve(struct extract_dirs *dirs, struct buf *real, const char *rest, bool make,
                   int *links, struct err *err)
{
    while (*rest != '\0') {
        size_t n = strcspn(rest, "/");
        AUTO(freep) char *name = strndup(rest, n);
        if (name == NULL) {
            return -ENOMEM;
        }
        rest += n + strspn(rest + n, "/");
        if (n == 0 || strcmp(name, ".") == 0) {
            continue;
        }
        if (strcmp(name, "..") == 0) {
            char *slash = real->len > 0 ? strrchr(real->data, '/') : NULL;
            if (real->len > 0) {
                real->len = slash != NULL ? (size_t)(slash - real->data) : 0;
                real->data[real->len] = '\0';
            }
            continue;
        }
        size_t before = real->len;
        AUTO(closep)
        int fd = open_below(dirs->root_fd, before > 0 ? real->data : "", O_RDONLY | O_DIRECTORY);
        if (fd < 0 || buf_printf(real, "%s%s", before > 0 ? "/" : "", name) < 0) {
            return fd < 0 ? fd : -ENOMEM;
        }
        enum found found = FOUND_DIRECTORY;
        AUTO(freep) char *target = NULL;
        int r = real->len > REAL_PATH_MAX
                    ? -ENAMETOOLONG
                    : look(dirs, fd, name, real->data, make, &found, &target, err);
        if (r < 0) {
            return r;
        }
        if (found == FOUND_LINK) {
            if (++*links > LINKS_MAX) {
                return -ELOOP;
            }
            real->len = target[0] == '/' ? 0 : before;
            real->data[real->len] = '\0';
            r = resolve(dirs, real, target, make, links, err);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

/* Adds the level of the part name; the common case is one openat(). */
static int push(struct extract_dirs *dirs, const char *name, size_t path_len, bool make,
                struct err *err)
{
    const struct extract_level *top = &dirs->levels[dirs->count - 1];
    if (dirs->count > EXTRACT_DEPTH_MAX) {
        return -ENAMETOOLONG;
    }
    AUTO(buf_donep) struct buf real = {0};
    if (buf_add_str(&real, top->real) < 0) {
        return -ENOMEM;
    }
    AUTO(closep) int fd = openat(top->fd, name, DIRECTORY_FLAGS);
    if (fd >= 0) {
        if (buf_printf(&real, "%s%s", real.len > 0 ? "/" : "", name) < 0) {
            return -ENOMEM;
        }
    } else if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) {
        int links = 0;
        int r = resolve(dirs, &real, name, make, &links, err);
        if (r < 0) {
            return r;
        }
        fd = open_below(dirs->root_fd, real.data, O_RDONLY | O_DIRECTORY);
        if (fd < 0) {
            return fd;
        }
    } else {
        return -errno;
    }
    struct extract_level *level = &dirs->levels[dirs->count];
    level->real = buf_take(&real);
    if (level->real == NULL) {
        return -ENOMEM;
    }
    level->fd = TAKE_FD(fd);
    level->path_len = path_len;
    dirs->count++;
    return 0;
}

int extract_dirs_get(struct extract_dirs *dirs, const char *path, size_t len, bool make,
                     const struct extract_level **ret_level, struct err *err)
{
    /* How many of the open levels lie on the way. */
    size_t keep = 1;
    while (keep < dirs->count) {
        size_t n = dirs->levels[keep].path_len;
        if (n > len || memcmp(dirs->path.data, path, n) != 0 || (n < len && path[n] != '/')) {
            break;
        }
        keep++;
    }
    pop_to(dirs, keep);
    size_t at = dirs->levels[keep - 1].path_len;
    while (at < len) {
        size_t start = at + (path[at] == '/' ? 1 : 0);
        size_t end = start;
        while (end < len && path[end] != '/') {
            end++;
        }
        char name[256];
        if (end - start >= sizeof(name)) {
            return -ENAMETOOLONG;
        }
        memcpy(name, path + start, end - start);
        name[end - start] = '\0';
        int r = push(dirs, name, end, make, err);
        if (r < 0) {
            return r;
        }
        r = buf_add(&dirs->path, path + at, end - at);
        if (r < 0) {
            pop_to(dirs, 1);
            return r;
        }
        at = end;
    }
    *ret_level = &dirs->levels[dirs->count - 1];
    return 0;
}
