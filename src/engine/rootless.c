#include "engine/rootless.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dirs.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/process.h"
#include "base/str.h"
#include "base/user_namespace.h"

#define MEMBERS "userns"
#define LOCK_NAME "lock"
#define NAME_SIZE ((size_t)40)

/* The kernel's own: two descriptors of a namespace are of one file. */
static bool is_same(int fd, const char *path)
{
    struct stat ours;
    struct stat theirs;
    return fstat(fd, &theirs) == 0 && stat(path, &ours) == 0 && ours.st_ino == theirs.st_ino &&
           ours.st_dev == theirs.st_dev;
}

/*
 * The user namespace of a process, if it is one that we made: owned by us and directly below ours.
 * -ESRCH: the process is gone; -EPERM: it is none of ours.
 */
static int open_namespace(pid_t pid, uint64_t start_time)
{
    char path[64];
    uid_t owner;
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    /* The number may be another's by now; asked behind the open, which then named the right one. */
    if (!process_is_alive(pid, start_time)) {
        return -ESRCH;
    }
    if (r < 0) {
        return r;
    }
    AUTO(closep) int parent = ioctl(fd, NS_GET_PARENT);
    if (parent < 0 || !is_same(parent, "/proc/self/ns/user") ||
        ioctl(fd, NS_GET_OWNER_UID, &owner) < 0 || owner != geteuid()) {
        return -EPERM;
    }
    return TAKE_FD(fd);
}

/* Joins the namespace of the first member that lives; forgets the dead. 1, 0 (none), or -errno. */
static int join_member(int dir_fd, struct err *err)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int r = -errno;
        (void)close_fd(fd);
        return err_set(err, -r, "read RUN/" MEMBERS);
    }
    const struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) {
        int pid;
        uint64_t start_time;
        if (sscanf(entry->d_name, "%d-%" SCNu64, &pid, &start_time) != 2 || pid <= 0) {
            continue;
        }
        AUTO(closep) int userns = open_namespace((pid_t)pid, start_time);
        if (userns == -ESRCH) {
            (void)unlinkat(dir_fd, entry->d_name, 0);
        }
        if (userns < 0) {
            continue;
        }
        if (setns(userns, CLONE_NEWUSER) < 0) {
            return err_set(err, errno, "join the user namespace of process %d", pid);
        }
        return 1;
    }
    return 0;
}

static void note(int dir_fd)
{
    char name[NAME_SIZE];
    uint64_t start_time;
    if (process_start_time(getpid(), &start_time) == 0) {
        (void)snprintf(name, sizeof(name), "%d-%" PRIu64, (int)getpid(), start_time);
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        (void)close_fd(fd);
    }
}

static int open_members(const char *run)
{
    AUTO(freep) char *path = str_printf("%s/" MEMBERS, run);
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void rootless_note(const char *run)
{
    AUTO(closep) int dir = open_members(run);
    if (dir >= 0) {
        note(dir);
    }
}

/* RUN may be at a name that others can guess: nothing of theirs is believed. */
static int make_members(const char *run, struct err *err)
{
    struct stat st;
    AUTO(freep) char *path = str_printf("%s/" MEMBERS, run);
    if (path == NULL) {
        return err_set(err, ENOMEM, "enter the user namespace");
    }
    if (stat(run, &st) < 0) {
        return err_set(err, errno, "stat '%s'", run);
    }
    if (st.st_uid != geteuid() || (st.st_mode & 022) != 0) {
        (void)err_say(err, EPERM,
                      "directory '%s' belongs to another user or others may write to it", run);
        err_hint(err, "name one of your own with --run-dir or XDG_RUNTIME_DIR");
        return -EPERM;
    }
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return err_set(err, errno, "make directory '%s'", path);
    }
    int fd = open_members(run);
    return fd < 0 ? err_set(err, -fd, "open '%s'", path) : fd;
}

/* Mounts of the host go on to appear; ours never leave. */
static int own_mounts(struct err *err)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) {
        return err_set(err, errno, "make a mount namespace");
    }
    return 0;
}

int rootless_enter(const struct dirs *dirs, struct err *err)
{
    if (geteuid() == 0) {
        rootless_note(dirs->run);
        return 0;
    }
    AUTO(closep) int dir = make_members(dirs->run, err);
    if (dir < 0) {
        return dir;
    }
    /* Two first commands at once must not make two namespaces. */
    AUTO(closep) int lock = lock_file_at(dir, LOCK_NAME, LOCK_EXCLUSIVE, true);
    if (lock < 0) {
        return err_set(err, -lock, "lock '%s/" MEMBERS "'", dirs->run);
    }
    int r = join_member(dir, err);
    if (r == 0) {
        r = user_namespace_enter(err);
    }
    if (r < 0) {
        return r;
    }
    note(dir);
    if (setenv("ISOLA_ROOT", dirs->root, 1) < 0 || setenv("ISOLA_RUN", dirs->run, 1) < 0) {
        return err_set(err, ENOMEM, "enter the user namespace");
    }
    return own_mounts(err);
}
