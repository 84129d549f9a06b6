/* What is done to all processes of a cgroup: list, signal, freeze, remove. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "container/cgroup.h"

#define FILE_SIZE_MAX ((size_t)8 << 20)
#define DEPTH_MAX 64
#define WAIT_STEP_NS 1000000L /* 1 ms, growing */
#define WAIT_STEPS_MAX 60     /* about two seconds in all */

static void wait_step(int step)
{
    struct timespec delay = {.tv_nsec = WAIT_STEP_NS * MIN(1 + step, 50)};
    (void)nanosleep(&delay, NULL);
}

struct pid_list {
    pid_t *items;
    size_t count;
    size_t size;
};

static int add_pids(int dir_fd, struct pid_list *list)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = read_file_at(dir_fd, "cgroup.procs", FILE_SIZE_MAX, &text);
    if (r < 0) {
        return r == -EOPNOTSUPP ? 0 : r; /* a threaded v2 cgroup */
    }
    char *p = text.data;
    while (p != NULL && *p != '\0') {
        char *end;
        long pid = strtol(p, &end, 10);
        if (end == p) {
            break;
        }
        p = end + strspn(end, "\n");
        if (list->count == list->size) {
            size_t size = list->size * 2 + 32;
            pid_t *items = reallocarray(list->items, size, sizeof(*items));
            if (items == NULL) {
                return -ENOMEM;
            }
            list->items = items;
            list->size = size;
        }
        /* 0: a process of another pid namespace */
        if (pid > 0) {
            list->items[list->count++] = (pid_t)pid;
        }
    }
    return 0;
}

static int walk_pids(int dir_fd, int depth, struct pid_list *list)
{
    int r = add_pids(dir_fd, list);
    if (r < 0 || depth == DEPTH_MAX) {
        return r;
    }
    int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (dir == NULL) {
        (void)close_fd(copy);
        return errno == ENOENT || errno == ENODEV ? 0 : -errno;
    }
    struct dirent *entry;
    while (r >= 0 && (entry = readdir(dir)) != NULL) {
        if (entry->d_type != DT_DIR || !path_is_plain_name(entry->d_name)) {
            continue;
        }
        AUTO(closep)
        int fd = openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = fd < 0 ? 0 : walk_pids(fd, depth + 1, list);
        r = r == -ENODEV || r == -ENOENT ? 0 : r;
    }
    return r;
}

/* Every process is in every hierarchy: one is enough. */
static const struct cgroup_hierarchy *any_hierarchy(const struct cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        if (cgroup->hierarchies[i].unified) {
            return &cgroup->hierarchies[i];
        }
    }
    return cgroup->count > 0 ? &cgroup->hierarchies[0] : NULL;
}

int cgroup_pids(const struct cgroup *cgroup, pid_t **ret, size_t *ret_count)
{
    const struct cgroup_hierarchy *hierarchy = any_hierarchy(cgroup);
    struct pid_list list = {0};
    if (hierarchy != NULL) {
        char path[PATH_MAX];
        int r = cgroup_file(cgroup, hierarchy, NULL, path);
        AUTO(closep)
        int fd = r < 0 ? r : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = fd < 0 ? -errno : walk_pids(fd, 0, &list);
        if (r < 0 && r != -ENOENT && r != -ENODEV) {
            free(list.items);
            return r;
        }
    }
    *ret = list.items;
    *ret_count = list.count;
    return 0;
}

static bool read_is(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                    const char *file, const char *word)
{
    char path[PATH_MAX];
    char text[256] = "";
    AUTO(closep)
    int fd = cgroup_file(cgroup, hierarchy, file, path) < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read_upto(fd, text, sizeof(text) - 1);
    text[MAX(n, (ssize_t)0)] = '\0';
    return strstr(text, word) != NULL;
}

#define PF_KTHREAD 0x00200000u
#define STILL_ENOUGH 3

/* State and flags of /proc/PATH/stat; false when it is gone. */
static bool read_task(const char *path, char *ret_state, unsigned *ret_flags)
{
    char text[1024] = "";
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read_upto(fd, text, sizeof(text) - 1);
    const char *end = n <= 0 ? NULL : strrchr(text, ')');
    return end != NULL && sscanf(end + 1, " %c %*d %*d %*d %*d %*d %u", ret_state, ret_flags) == 2;
}

static bool is_still(pid_t pid, bool *kernel)
{
    char path[64];
    char state = 'S';
    unsigned flags = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (read_task(path, &state, &flags) && (flags & PF_KTHREAD) != 0) {
        *kernel = true;
        return true;
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    AUTO(closedirp) DIR *dir = opendir(path);
    struct dirent *entry;
    bool still = true;
    while (still && dir != NULL && (entry = readdir(dir)) != NULL) {
        AUTO(freep) char *task = str_printf("/proc/%d/task/%s/stat", (int)pid, entry->d_name);
        still = entry->d_name[0] == '.' || task == NULL || !read_task(task, &state, &flags) ||
                state != 'R';
    }
    return still;
}

/*
 * KVM's thread that takes large pages apart (kvm-nx-lpage-recovery) is in the cgroup of its machine
 * and cannot be frozen, so that the kernel never says "frozen". All others have been told to stop:
 * when none of them runs, none of them will.
 */
static bool only_kernel_runs(const struct cgroup *cgroup)
{
    AUTO(freep) pid_t *pids = NULL;
    size_t count = 0;
    bool kernel = false;
    bool still = cgroup_pids(cgroup, &pids, &count) == 0;
    for (size_t i = 0; still && i < count; i++) {
        still = is_still(pids[i], &kernel);
    }
    return still && kernel;
}

bool cgroup_is_frozen(const struct cgroup *cgroup)
{
    const struct cgroup_hierarchy *hierarchy = cgroup_find(cgroup, "freezer");
    if (hierarchy == NULL) {
        return false;
    }
    return hierarchy->unified ? read_is(cgroup, hierarchy, "cgroup.freeze", "1")
                              : !read_is(cgroup, hierarchy, "freezer.state", "THAWED") &&
                                    read_is(cgroup, hierarchy, "freezer.state", "FR");
}

int cgroup_freeze(const struct cgroup *cgroup, bool frozen, struct err *err)
{
    const struct cgroup_hierarchy *hierarchy = cgroup_find(cgroup, "freezer");
    const char *verb = frozen ? "pause" : "resume";
    if (hierarchy == NULL) {
        return err_say(err, EOPNOTSUPP, "%s: the container has no cgroup with a freezer", verb);
    }
    const char *file = hierarchy->unified ? "cgroup.freeze" : "freezer.state";
    const char *text = hierarchy->unified ? (frozen ? "1" : "0") : (frozen ? "FROZEN" : "THAWED");
    unsigned still = 0; /* looks in a row */
    for (int step = 0; step < WAIT_STEPS_MAX; step++) {
        int r = cgroup_write(cgroup, hierarchy, file, text);
        if (r < 0) {
            return err_set(err, -r, "%s: write '%s'", verb, file);
        }
        const char *want = frozen ? "frozen 1" : "frozen 0";
        if (hierarchy->unified ? read_is(cgroup, hierarchy, "cgroup.events", want)
                               : read_is(cgroup, hierarchy, file, text)) {
            return 0;
        }
        still = frozen && hierarchy->unified && only_kernel_runs(cgroup) ? still + 1 : 0;
        if (still == STILL_ENOUGH) {
            return 0;
        }
        wait_step(step);
    }
    (void)cgroup_write(cgroup, hierarchy, file, hierarchy->unified ? "0" : "THAWED");
    return err_say(err, ETIMEDOUT, "%s: the processes did not all follow in time", verb);
}

int cgroup_signal(const struct cgroup *cgroup, int signal, struct err *err)
{
    const struct cgroup_hierarchy *hierarchy = any_hierarchy(cgroup);
    if (hierarchy == NULL) {
        return err_say(err, EOPNOTSUPP, "signal all: the container has no cgroup");
    }
    if (signal == SIGKILL && hierarchy->unified &&
        cgroup_write(cgroup, hierarchy, "cgroup.kill", "1") == 0) {
        return 0;
    }
    /* Frozen, so that nothing is born behind our back. SIGKILL works on frozen v1 after thawing. */
    bool was_frozen = cgroup_is_frozen(cgroup);
    bool frozen = !was_frozen && cgroup_freeze(cgroup, true, NULL) == 0;
    AUTO(freep) pid_t *pids = NULL;
    size_t count = 0;
    int r = cgroup_pids(cgroup, &pids, &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        if (kill(pids[i], signal) < 0 && errno != ESRCH) {
            r = -errno;
        }
    }
    if (frozen || (was_frozen && signal == SIGKILL)) {
        (void)cgroup_freeze(cgroup, false, NULL);
    }
    return r < 0 ? err_set(err, -r, "signal all processes of cgroup '%s'", cgroup->path) : 0;
}

/* Cgroups that the workload made go first. */
static int remove_below(const char *path, int depth)
{
    AUTO(closedirp) DIR *dir = depth < DEPTH_MAX ? opendir(path) : NULL;
    if (dir == NULL) {
        return errno == ENOENT ? 0 : -errno;
    }
    struct dirent *entry;
    int r = 0;
    while ((entry = readdir(dir)) != NULL) {
        char child[PATH_MAX];
        if (entry->d_type != DT_DIR || !path_is_plain_name(entry->d_name)) {
            continue;
        }
        int n = snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
        if (n < 0 || (size_t)n >= sizeof(child)) {
            return -ENAMETOOLONG;
        }
        int below = remove_below(child, depth + 1);
        r = below < 0 ? below : r;
    }
    return rmdir(path) < 0 && errno != ENOENT ? -errno : r;
}

/* Everybody in this one directory and below it; other hierarchies may hold other processes. */
static void kill_in(const char *path)
{
    struct pid_list list = {0};
    AUTO(closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && walk_pids(fd, 0, &list) == 0) {
        for (size_t i = 0; i < list.count; i++) {
            (void)kill(list.items[i], SIGKILL);
        }
    }
    free(list.items);
}

static int remove_hierarchy(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                            struct err *err)
{
    char path[PATH_MAX];
    int r = cgroup_file(cgroup, hierarchy, NULL, path);
    for (int step = 0; r == 0 && step < WAIT_STEPS_MAX; step++) {
        if (rmdir(path) == 0 || errno == ENOENT) {
            return 0;
        }
        if (errno != EBUSY && errno != ENOTEMPTY) {
            r = -errno;
            break;
        }
        if (remove_below(path, 0) == 0) {
            return 0;
        }
        /* Somebody is still there, or dies but has not left yet. */
        kill_in(path);
        wait_step(step);
    }
    return err_set(err, r < 0 ? -r : EBUSY, "remove cgroup '%s'", path);
}

void cgroup_undo(const struct cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        if (cgroup->hierarchies[i].made) {
            (void)remove_hierarchy(cgroup, &cgroup->hierarchies[i], NULL);
        }
    }
}

int cgroup_remove(const struct cgroup *cgroup, struct err *err)
{
    int result = 0;
    for (size_t i = 0; i < cgroup->count; i++) {
        int r = remove_hierarchy(cgroup, &cgroup->hierarchies[i], result < 0 ? NULL : err);
        result = result < 0 ? result : r;
    }
    return result;
}
