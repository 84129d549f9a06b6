/*
 * file.c - calls whose flags or structures are others on x86-64 (include/uapi/asm of both).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/macros.h"
#include "user/host_call.h"
#include "user/proc_view.h"
#include "user/user.h"

#define HOST_LARGEFILE 0100000
/* arm64's of asm/fcntl.h, and x86's, which are asm-generic's. */
static const struct {
    int guest, host;
} open_flags[] = {
    {040000, O_DIRECTORY},
    {0100000, O_NOFOLLOW},
    {0200000, O_DIRECT},
    {0400000, HOST_LARGEFILE},
};

static int translate(int flags, bool to_host)
{
    int all = 0;
    int r = 0;
    for (size_t i = 0; i < COUNT(open_flags); i++) {
        int from = to_host ? open_flags[i].guest : open_flags[i].host;
        all |= from;
        r |= (flags & from) != 0 ? (to_host ? open_flags[i].host : open_flags[i].guest) : 0;
    }
    return (flags & ~all) | r;
}

/* What the guest means: itself, or with -L what the directory has in the host's place. */
static const char *resolve(const struct user *user, uint64_t at, char *room, size_t size)
{
    const char *path = user_pointer(at);
    if (path == NULL || path[0] != '/') {
        return path;
    }
    const char *real = proc_view_exe(user, path, room, size);
    if (real != path) {
        return real;
    }
    if (user->options->prefix != NULL) {
        int n = snprintf(room, size, "%s%s", user->options->prefix, path);
        if (n > 0 && (size_t)n < size &&
            faccessat(AT_FDCWD, room, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            return room;
        }
    }
    return path;
}

int64_t file_openat(struct thread *thread, const uint64_t *a)
{
    char room[PATH_MAX];
    const char *path = resolve(thread->user, a[1], room, sizeof(room));
    int flags = translate((int)a[2], true);
    int view = path == NULL ? -ENOENT : proc_view_open(thread->user, path, flags);
    if (view != -ENOENT) {
        return view;
    }
    const uint64_t args[6] = {a[0], (uint64_t)(uintptr_t)path, (uint64_t)flags, a[3]};
    return host_call(SYS_openat, args, &thread->signals.pending);
}

int64_t file_openat2(struct thread *thread, const uint64_t *a)
{
    struct open_how how = {0};
    if (a[3] < sizeof(how)) {
        return -EINVAL;
    }
    if (a[3] > sizeof(how)) {
        return -E2BIG;
    }
    memcpy(&how, user_pointer(a[2]), sizeof(how));
    how.flags = (how.flags & ~(uint64_t)UINT32_MAX) | (uint32_t)translate((int)how.flags, true);
    char room[PATH_MAX];
    /* What it forbids on the way holds for the path that was asked for. */
    const char *path =
        how.resolve == 0 ? resolve(thread->user, a[1], room, sizeof(room)) : user_pointer(a[1]);
    const uint64_t args[6] = {a[0], (uint64_t)(uintptr_t)path, (uint64_t)(uintptr_t)&how,
                              sizeof(how)};
    return host_call(SYS_openat2, args, &thread->signals.pending);
}

int64_t file_fcntl(struct thread *thread, const uint64_t *a)
{
    uint64_t value = a[2];
    if ((int)a[1] == F_SETFL) {
        value = (uint64_t)translate((int)value, true);
    }
    const uint64_t args[6] = {a[0], a[1], value}; /* F_SETLKW waits */
    int64_t r = host_call(SYS_fcntl, args, &thread->signals.pending);
    return r >= 0 && (int)a[1] == F_GETFL ? translate((int)r, false) : r;
}

/* struct stat of asm-generic/stat.h. */
struct guest_stat {
    uint64_t st_dev, st_ino;
    uint32_t st_mode, st_nlink, st_uid, st_gid;
    uint64_t st_rdev, pad1;
    int64_t st_size;
    int32_t st_blksize, pad2;
    int64_t st_blocks;
    int64_t st_atime_s, st_atime_ns, st_mtime_s, st_mtime_ns, st_ctime_s, st_ctime_ns;
    uint32_t unused[2];
};

static int64_t give_stat(const struct stat *from, uint64_t at)
{
    const struct guest_stat st = {
        .st_dev = from->st_dev,
        .st_ino = from->st_ino,
        .st_mode = from->st_mode,
        .st_nlink = (uint32_t)from->st_nlink,
        .st_uid = from->st_uid,
        .st_gid = from->st_gid,
        .st_rdev = from->st_rdev,
        .st_size = from->st_size,
        .st_blksize = (int32_t)from->st_blksize,
        .st_blocks = from->st_blocks,
        .st_atime_s = from->st_atim.tv_sec,
        .st_atime_ns = from->st_atim.tv_nsec,
        .st_mtime_s = from->st_mtim.tv_sec,
        .st_mtime_ns = from->st_mtim.tv_nsec,
        .st_ctime_s = from->st_ctim.tv_sec,
        .st_ctime_ns = from->st_ctim.tv_nsec,
    };
    memcpy(user_pointer(at), &st, sizeof(st));
    return 0;
}

int64_t file_fstat(struct user *user, const uint64_t *a)
{
    struct stat st;
    (void)user;
    return fstat((int)a[0], &st) < 0 ? -errno : give_stat(&st, a[1]);
}

int64_t file_newfstatat(struct user *user, const uint64_t *a)
{
    struct stat st;
    char room[PATH_MAX];
    const char *path = resolve(user, a[1], room, sizeof(room));
    long r = syscall(SYS_newfstatat, (int)a[0], path, &st, (int)a[3]);
    return r < 0 ? -errno : give_stat(&st, a[2]);
}

int64_t file_statx(struct user *user, const uint64_t *a)
{
    char room[PATH_MAX];
    const char *path = resolve(user, a[1], room, sizeof(room));
    long r = syscall(SYS_statx, (int)a[0], path, a[2], a[3], a[4]);
    return r < 0 ? -errno : r;
}

int64_t file_faccessat(struct user *user, const uint64_t *a)
{
    char room[PATH_MAX];
    const char *path = resolve(user, a[1], room, sizeof(room));
    return syscall(SYS_faccessat, (int)a[0], path, a[2]) < 0 ? -errno : 0;
}

int64_t file_faccessat2(struct user *user, const uint64_t *a)
{
    char room[PATH_MAX];
    const char *path = resolve(user, a[1], room, sizeof(room));
    return syscall(SYS_faccessat2, (int)a[0], path, a[2], a[3]) < 0 ? -errno : 0;
}

int64_t file_readlinkat(struct user *user, const uint64_t *a)
{
    char room[PATH_MAX];
    const char *path = resolve(user, a[1], room, sizeof(room));
    long r = syscall(SYS_readlinkat, (int)a[0], path, a[2], a[3]);
    return r < 0 ? -errno : r;
}

/* x86's is packed. */
struct guest_epoll_event {
    uint32_t events, pad;
    uint64_t data;
};

int64_t file_epoll_ctl(struct user *user, const uint64_t *a)
{
    struct epoll_event event = {.events = 0};
    (void)user;
    if (a[3] != 0) {
        const struct guest_epoll_event *from = user_pointer(a[3]);
        event.events = from->events;
        event.data.u64 = from->data;
    }
    return epoll_ctl((int)a[0], (int)a[1], (int)a[2], a[3] == 0 ? NULL : &event) < 0 ? -errno : 0;
}

#define EPOLL_AT_ONCE 64

static int64_t wait_for_events(struct thread *thread, long number, const uint64_t *a)
{
    struct epoll_event events[EPOLL_AT_ONCE];
    struct guest_epoll_event *to = user_pointer(a[1]);
    int max = MIN((int)a[2], EPOLL_AT_ONCE);
    const uint64_t args[6] = {a[0], (uint64_t)(uintptr_t)events, (uint64_t)max, a[3], a[4], a[5]};
    int64_t n = host_call(number, args, &thread->signals.pending);
    for (int64_t i = 0; i < n; i++) {
        to[i] = (struct guest_epoll_event){.events = events[i].events, .data = events[i].data.u64};
    }
    return n;
}

int64_t file_epoll_pwait(struct thread *thread, const uint64_t *a)
{
    return wait_for_events(thread, SYS_epoll_pwait, a);
}

int64_t file_epoll_pwait2(struct thread *thread, const uint64_t *a)
{
    return wait_for_events(thread, SYS_epoll_pwait2, a);
}
