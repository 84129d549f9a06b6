#include "base/path.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NAME_LENGTH_MAX ((size_t)128)

int open_resolved(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0,
        .resolve = resolve,
    };
    /* A rename on the way makes the kernel answer EAGAIN; an attacker may keep that up. */
    for (int i = 0; i < 128; i++) {
        int fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
        if (fd >= 0) {
            return fd;
        }
        if (errno != EAGAIN && errno != EINTR) {
            return -errno;
        }
    }
    return -EAGAIN;
}

int open_in_root(int root_fd, const char *path, int flags, mode_t mode)
{
    return open_resolved(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int mkdir_in_root(int root_fd, const char *path, mode_t mode)
{
    int fd = open_in_root(root_fd, path, O_PATH | O_DIRECTORY, 0);
    if (fd != -ENOENT) {
        return fd;
    }
    /*
     * Walks the parts from the start. Each prefix is resolved inside the root as a whole, so that a
     * link in the middle means the same as it will for the final name.
     */
    AUTO(freep) char *prefix = strdup(path);
    if (prefix == NULL) {
        return -ENOMEM;
    }
    AUTO(closep) int parent = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
    if (parent < 0) {
        return -errno;
    }
    size_t at = 0;
    while (path[at] != '\0') {
        size_t start = at + strspn(path + at, "/");
        size_t end = start + strcspn(path + start, "/");
        if (start == end) {
            break;
        }
        memcpy(prefix, path, end);
        prefix[end] = '\0';
        fd = open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, 0);
        if (fd == -ENOENT) {
            if (!path_is_plain_name(prefix + start)) {
                return -ENOENT;
            }
            if (mkdirat(parent, prefix + start, mode) < 0 && errno != EEXIST) {
                return -errno;
            }
            fd = open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, 0);
        }
        if (fd < 0) {
            return fd;
        }
        (void)close_fd(parent);
        parent = fd;
        at = end;
    }
    return TAKE_FD(parent);
}

int mkdir_parents(const char *path, mode_t mode)
{
    if (mkdir(path, mode) == 0 || errno == EEXIST) {
        return 0;
    }
    if (errno != ENOENT) {
        return -errno;
    }
    AUTO(freep) char *copy = strdup(path);
    if (copy == NULL) {
        return -ENOMEM;
    }
    for (char *p = copy + 1; *p != '\0'; p++) {
        if (*p != '/') {
            continue;
        }
        *p = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST) {
            return -errno;
        }
        *p = '/';
    }
    return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

/* Levels that are walked with a descriptor each; deeper ones are moved up first. */
#define REMOVE_DEPTH_MAX 128
#define MOVE_TRIES 1000

/* A tree on its way out. */
struct removal {
    int top_fd;
    unsigned moved; /* directories that lay too deep and are now in the top one */
};

static int remove_children(struct removal *removal, int dir_fd, dev_t dev, int depth);

/*
 * Each level costs a descriptor and stack, and whoever filled the tree chose its depth: what lies
 * too deep is moved up and removed from there.
 */
static int move_up(struct removal *removal, int dir_fd, const char *name)
{
    for (int try = 0; try < MOVE_TRIES; try++) {
        char up[32];
        (void)snprintf(up, sizeof(up), ".removed-%u", removal->moved++);
        if (renameat(dir_fd, name, removal->top_fd, up) == 0) {
            return 0;
        }
        /* Else the name is taken, by the tree itself. */
        if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) {
            return -errno;
        }
    }
    return -ELOOP;
}

/* Removes what goes at once. 1: a directory that is not empty. */
static int remove_simple(int dir_fd, const char *name)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return -errno;
    }
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
        return 0;
    }
    return errno == ENOTEMPTY || errno == EEXIST ? 1 : -errno;
}

static int remove_entry(struct removal *removal, int dir_fd, const char *name, dev_t dev, int depth)
{
    int r = remove_simple(dir_fd, name);
    if (r <= 0) {
        return r;
    }
    if (depth >= REMOVE_DEPTH_MAX) {
        return move_up(removal, dir_fd, name);
    }
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    r = remove_children(removal, fd, dev, depth + 1);
    if (r < 0) {
        return r;
    }
    return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

/* Takes dir_fd over. */
static int remove_children(struct removal *removal, int dir_fd, dev_t dev, int depth)
{
    struct stat st;
    if (fstat(dir_fd, &st) < 0 || (dev != 0 && st.st_dev != dev)) {
        (void)close_fd(dir_fd);
        return -EXDEV;
    }
    AUTO(closedirp) DIR *dir = fdopendir(dir_fd);
    if (dir == NULL) {
        int r = -errno;
        (void)close_fd(dir_fd);
        return r;
    }
    int result = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            return errno != 0 ? -errno : result;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        int r = remove_entry(removal, dirfd(dir), entry->d_name, st.st_dev, depth);
        if (r < 0 && result == 0) {
            result = r;
        }
    }
}

int remove_tree_at(int dir_fd, const char *name)
{
    int r = remove_simple(dir_fd, name);
    if (r <= 0) {
        return r;
    }
    AUTO(closep) int top = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (top < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    struct removal removal = {.top_fd = top};
    unsigned before;
    do {
        before = removal.moved;
        int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = fd < 0 ? -errno : remove_children(&removal, fd, 0, 1);
    } while (r == 0 && removal.moved != before);
    if (r < 0) {
        return r;
    }
    return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static uint64_t entry_size(int dir_fd, const char *name, dev_t dev, int depth)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (dev != 0 && st.st_dev != dev)) {
        return 0;
    }
    uint64_t bytes = (uint64_t)st.st_blocks * 512;
    if (!S_ISDIR(st.st_mode) || depth > REMOVE_DEPTH_MAX) {
        return bytes;
    }
    AUTO(closep) int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        return bytes;
    }
    (void)TAKE_FD(fd);
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            bytes += entry_size(dirfd(dir), entry->d_name, st.st_dev, depth + 1);
        }
    }
    return bytes;
}

uint64_t tree_size_at(int dir_fd, const char *name)
{
    return entry_size(dir_fd, name, 0, 0);
}

int read_link_at(int dir_fd, const char *path, char **ret)
{
    for (size_t size = 256; size <= (size_t)1 << 16; size *= 2) {
        AUTO(freep) char *text = malloc(size);
        if (text == NULL) {
            return -ENOMEM;
        }
        ssize_t n = readlinkat(dir_fd, path, text, size);
        if (n < 0) {
            return -errno;
        }
        if ((size_t)n < size) {
            text[n] = '\0';
            *ret = TAKE_PTR(text);
            return 0;
        }
    }
    return -ENAMETOOLONG;
}

int path_of_fd(int fd, char **ret)
{
    char link[64];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return read_link_at(AT_FDCWD, link, ret);
}

bool path_is_plain_name(const char *name)
{
    return name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           strchr(name, '/') == NULL;
}

bool name_is_safe(const char *name)
{
    if (name == NULL || !isalnum((unsigned char)name[0]) || strlen(name) > NAME_LENGTH_MAX) {
        return false;
    }
    for (const char *p = name; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("_.+-", *p) == NULL) {
            return false;
        }
    }
    return true;
}
