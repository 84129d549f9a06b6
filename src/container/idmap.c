#include "container/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "base/str.h"
#include "container/kernel.h"

static int map_text(const struct spec_id_maps *maps, struct buf *out)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < maps->count; i++) {
        r = buf_printf(out, "%u %u %u\n", maps->items[i].container_id, maps->items[i].host_id,
                       maps->items[i].size);
    }
    return r;
}

static int write_map(pid_t pid, const char *file, const struct spec_id_maps *maps)
{
    char path[64];
    AUTO(buf_donep) struct buf text = {0};
    int r = map_text(maps, &text);
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    return r < 0 ? r : write_file(path, text.data);
}

static int run_helper(const char *program, pid_t pid, const struct spec_id_maps *maps,
                      struct err *err)
{
    AUTO(strv_donep) struct strv argv = {0};
    int r = strv_add(&argv, program);
    if (r == 0) {
        r = strv_addf(&argv, "%d", (int)pid);
    }
    for (size_t i = 0; r == 0 && i < maps->count; i++) {
        const struct spec_id_map *map = &maps->items[i];
        r = strv_addf(&argv, "%u", map->container_id);
        r = r < 0 ? r : strv_addf(&argv, "%u", map->host_id);
        r = r < 0 ? r : strv_addf(&argv, "%u", map->size);
    }
    return r < 0 ? err_set(err, ENOMEM, "run %s", program) : process_run(argv.items, NULL, err);
}

/* Without privilege the kernel takes one line that maps oneself, after giving up setgroups(). */
static bool maps_only_self(const struct spec_id_maps *maps, uint32_t self)
{
    return maps->count == 1 && maps->items[0].size == 1 && maps->items[0].host_id == self;
}

int idmap_write(pid_t pid, const struct spec_id_maps *uids, const struct spec_id_maps *gids,
                struct err *err)
{
    bool alone = maps_only_self(uids, geteuid()) && maps_only_self(gids, getegid());
    if (geteuid() != 0 && alone) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/%d/setgroups", (int)pid);
        int r = write_file(path, "deny");
        if (r < 0 && r != -ENOENT) {
            return err_set(err, -r, "write '%s'", path);
        }
    }
    int r = write_map(pid, "gid_map", gids);
    if (r == -EPERM && geteuid() != 0) {
        r = run_helper("newgidmap", pid, gids, err);
        if (r < 0) {
            return err_wrap(err, -r, "linux.gidMappings");
        }
    }
    if (r < 0) {
        return err_set(err, -r, "linux.gidMappings: write gid_map");
    }
    r = write_map(pid, "uid_map", uids);
    if (r == -EPERM && geteuid() != 0) {
        r = run_helper("newuidmap", pid, uids, err);
        if (r < 0) {
            return err_wrap(err, -r, "linux.uidMappings");
        }
    }
    return r < 0 ? err_set(err, -r, "linux.uidMappings: write uid_map") : 0;
}

int idmap_user_namespace(const struct spec_id_maps *uids, const struct spec_id_maps *gids,
                         struct err *err)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = sys_clone3(&args);
    if (pid < 0) {
        return err_set(err, errno, "make a user namespace");
    }
    if (pid == 0) {
        for (;;) {
            (void)pause();
        }
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int r = fd < 0 ? err_set(err, errno, "open '%s'", path) : idmap_write(pid, uids, gids, err);
    (void)kill(pid, SIGKILL);
    int status;
    (void)process_wait(pid, &status);
    if (r < 0) {
        (void)close_fd(fd);
        return r;
    }
    return fd;
}
