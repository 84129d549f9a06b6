/* container_create(): the runtime's side of making a container. init.c is the other side. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/log.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "base/user_namespace.h"
#include "container/birth.h"
#include "container/hooks.h"
#include "container/idmap.h"
#include "container/init.h"
#include "container/kernel.h"
#include "container/labels.h"
#include "container/names.h"
#include "container/process.h"
#include "container/rdt.h"
#include "container/state.h"
#include "container/systemd.h"

struct builder {
    const struct container_create_args *args;
    const struct spec *spec;
    struct init_plan plan;
    struct state_record record;
    int root_fd;
    int state_fd;
    int bundle_fd;
    int sync_fd; /* our end */
    int pidfd;
    pid_t pid;
    char *bundle;
    char *rootfs;
    char *state_format;
    char *cgroup_names;
    struct dbus *bus; /* to systemd, while the container is made; NULL: cgroups are our own */
    struct systemd_unit unit;
    bool made_scope;
    struct rdt_group rdt;
    bool made_rdt;
    char time_offsets[128];
    bool is_root;
    bool made_state;
    bool done;
};

static void builder_done(struct builder *b)
{
    if (!b->done) {
        if (b->pidfd >= 0) {
            (void)pidfd_signal(b->pidfd, SIGKILL);
            if (b->args->io.adopt) {
                struct pollfd wait = {.fd = b->pidfd, .events = POLLIN};
                (void)poll(&wait, 1, 5000);
            } else {
                int status;
                (void)process_wait(b->pid, &status);
            }
        }
        cgroup_done(&b->plan.cgroup);
        cgroup_undo(&b->plan.cgroup);
        if (b->made_rdt) {
            (void)rdt_remove(RDT_ROOT, &b->rdt, b->args->id, NULL);
        }
        if (b->made_scope) {
            (void)systemd_stop(b->unit.name, b->unit.user, NULL);
        }
        if (b->made_state) {
            (void)remove_tree_at(b->root_fd, b->args->id);
        }
        if (b->args->io.pid_file != NULL && b->pid > 0) {
            (void)unlink(b->args->io.pid_file);
        }
    }
    cgroup_done(&b->plan.cgroup);
    mount_plan_done(&b->plan.mounts);
    seccomp_filter_done(&b->plan.filter);
    for (size_t i = 0; i < SPEC_NS_COUNT; i++) {
        (void)close_fd(b->plan.namespaces[i]);
    }
    const int fds[] = {b->root_fd, b->state_fd,     b->bundle_fd,     b->sync_fd,
                       b->pidfd,   b->plan.sync_fd, b->plan.notify_fd};
    for (size_t i = 0; i < COUNT(fds); i++) {
        (void)close_fd(fds[i]);
    }
    if (b->plan.start_fd != b->args->start_fd) {
        (void)close_fd(b->plan.start_fd);
    }
    if (b->plan.console_fd != b->args->io.console_fd) {
        (void)close_fd(b->plan.console_fd);
    }
    free(b->bundle);
    free(b->rootfs);
    free(b->state_format);
    free(b->cgroup_names);
    dbus_close(b->bus);
}

static int check_args(const struct container_create_args *args, struct err *err)
{
    const struct spec_process *process = &args->spec->process;
    bool console = args->io.console_fd >= 0 || args->io.console_path != NULL;
    if (args->start && !args->spec->has_process) {
        return err_say(err, EINVAL, "config.json: process: is missing");
    }
    if (args->spec->has_process && process->terminal && !console) {
        return err_say(err, EINVAL,
                       "process.terminal = true: needs a console socket (--console-socket)");
    }
    if (args->spec->has_process && !process->terminal && console) {
        return err_say(err, EINVAL, "a console socket needs process.terminal = true");
    }
    return labels_check(&args->spec->process, args->spec->mount_label, err);
}

/* Absolute paths for the state: the bundle, and the root below it. */
static int open_bundle(struct builder *b, struct err *err)
{
    const struct spec *spec = b->spec;
    b->bundle = realpath(b->args->bundle, NULL);
    b->bundle_fd = b->bundle == NULL ? -1 : open(b->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (b->bundle_fd < 0) {
        return err_set(err, errno, "open bundle '%s'", b->args->bundle);
    }
    b->rootfs = spec->root_path[0] == '/' ? strdup(spec->root_path)
                                          : str_printf("%s/%s", b->bundle, spec->root_path);
    return b->rootfs == NULL ? err_set(err, ENOMEM, "open bundle") : 0;
}

static int open_namespaces(struct builder *b, struct err *err)
{
    for (size_t i = 0; i < SPEC_NS_COUNT; i++) {
        const char *path = b->spec->namespaces[i].path;
        if (path == NULL) {
            continue;
        }
        b->plan.namespaces[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (b->plan.namespaces[i] < 0) {
            return err_set(err, errno, "linux.namespaces: open %s namespace '%s'",
                           namespace_kinds[i].name, path);
        }
    }
    return 0;
}

static int open_sockets(struct builder *b, struct err *err)
{
    const struct container_io *io = &b->args->io;
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        return err_set(err, errno, "make a socket pair");
    }
    b->sync_fd = fds[0];
    b->plan.sync_fd = fds[1];
    b->plan.console_fd = io->console_fd;
    if (io->console_path != NULL) {
        b->plan.console_fd = unix_connect(io->console_path, SOCK_STREAM);
        if (b->plan.console_fd < 0) {
            return err_set(err, -b->plan.console_fd, "connect to console socket '%s'",
                           io->console_path);
        }
    }
    if (b->spec->seccomp.has_notify) {
        b->plan.notify_fd = unix_connect(b->spec->seccomp.listener_path, SOCK_STREAM);
        if (b->plan.notify_fd < 0) {
            return err_set(err, -b->plan.notify_fd, "linux.seccomp.listenerPath = \"%s\": connect",
                           b->spec->seccomp.listener_path);
        }
    }
    if (b->args->start) {
        return 0;
    }
    if (b->args->start_fd >= 0) {
        /* The name marks the container as created; container_start_fd() takes it away. */
        b->plan.start_fd = b->args->start_fd;
        int fd = openat(b->state_fd, STATE_SOCKET, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) {
            return err_set(err, errno, "write the state");
        }
        (void)close(fd);
        return 0;
    }
    AUTO(freep) char *path = str_printf("%s/%s/%s", b->args->root, b->args->id, STATE_SOCKET);
    b->plan.start_fd = path == NULL ? -ENOMEM : unix_listen(path, SOCK_SEQPACKET, 0600);
    return b->plan.start_fd < 0 ? err_set(err, -b->plan.start_fd, "make the start socket") : 0;
}

static bool wants_limits(const struct spec_resources *res)
{
    return res->memory.limit.set || res->pids_limit.set || res->cpu.quota.set ||
           res->cpu.shares.set || res->cpu.cpus != NULL || res->unified.count > 0;
}

static bool may_do_without(const struct builder *b)
{
    return b->args->cgroup_optional && !wants_limits(&b->spec->resources);
}

static int do_without(struct builder *b, struct err *err)
{
    log_debug("no cgroup: %s", err_text(err));
    if (err != NULL) {
        *err = (struct err)ERR_NONE;
    }
    dbus_close(TAKE_PTR(b->bus));
    cgroup_done(&b->plan.cgroup);
    return cgroup_init(&b->plan.cgroup, "", err);
}

/* Where the scope will be: it needs a process, and is made once there is one. */
static int find_scope(struct builder *b, struct err *err)
{
    char path[sizeof(b->plan.cgroup.path)];
    bool user = !user_is_host_root();
    AUTO(dbus_closep) struct dbus *bus = NULL;
    int r = systemd_unit_init(&b->unit, b->spec->cgroups_path, b->args->id, user, err);
    r = r < 0 ? r : dbus_open(user, &bus, err);
    r = r < 0 ? r : systemd_find_path(bus, &b->unit, path, sizeof(path), err);
    if (r < 0 && may_do_without(b)) {
        return do_without(b, err);
    }
    if (r < 0 && b->args->cgroup_optional) {
        (void)err_say(err, -r,
                      "limits of an ordinary user come from his systemd manager, which "
                      "does not answer below XDG_RUNTIME_DIR");
        err_hint(err, "log in again, or as root: loginctl enable-linger NAME");
        return r;
    }
    r = r < 0 ? r : cgroup_init(&b->plan.cgroup, path, err);
    b->plan.cgroup.managed = true;
    b->bus = TAKE_PTR(bus);
    return r;
}

static int make_scope(struct builder *b, struct err *err)
{
    struct cgroup *cgroup = &b->plan.cgroup;
    const struct cgroup_hierarchy *memory = cgroup_find(cgroup, "memory");
    bool unified = memory == NULL || memory->unified;
    int r = systemd_start_scope(b->bus, &b->unit, b->pid, b->spec, unified, cgroup->path, err);
    if (r < 0 && may_do_without(b)) {
        b->record.systemd_unit = NULL;
        b->record.cgroup_names = "";
        return do_without(b, err);
    }
    if (r < 0) {
        return r; /* a scope that failed half-way ends with the first process */
    }
    b->made_scope = true;
    r = cgroup_create(cgroup, false, err);
    return r < 0 ? r : cgroup_apply(cgroup, &b->spec->resources, false, err);
}

static int make_cgroup(struct builder *b, struct err *err)
{
    if (b->args->systemd_cgroup && !b->args->no_cgroup) {
        return find_scope(b, err);
    }
    char path[sizeof(b->plan.cgroup.path)];
    int r = cgroup_path_for(b->spec, b->args->id, path, sizeof(path), err);
    r = r < 0 ? r : cgroup_init(&b->plan.cgroup, b->args->no_cgroup ? "" : path, err);
    bool limits = wants_limits(&b->spec->resources);
    r = r < 0 ? r : cgroup_create(&b->plan.cgroup, !limits, err);
    if ((r == -EACCES || r == -EPERM || r == -EROFS) && limits && !user_is_host_root()) {
        err_hint(err, "limits of an ordinary user need cgroup v2 and his systemd manager, to be "
                      "found by XDG_RUNTIME_DIR (log in, or loginctl enable-linger), or a cgroup "
                      "delegated to him and named by --cgroup-parent");
    }
    /* Rules without a device cgroup protect nothing, but an unprivileged user cannot make one. */
    return r < 0 ? r : cgroup_apply(&b->plan.cgroup, &b->spec->resources, false, err);
}

static void format_offsets(struct builder *b)
{
    const struct {
        const char *name;
        const struct spec_time_offset *offset;
    } rows[] = {{"monotonic", &b->spec->monotonic}, {"boottime", &b->spec->boottime}};
    size_t used = 0;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (rows[i].offset->set) {
            int n =
                snprintf(b->time_offsets + used, sizeof(b->time_offsets) - used, "%s %lld %u\n",
                         rows[i].name, (long long)rows[i].offset->secs, rows[i].offset->nanosecs);
            used += n > 0 ? (size_t)n : 0;
        }
    }
}

static bool is_new(const struct spec *spec, enum spec_namespace_kind kind)
{
    return spec->namespaces[kind].listed && spec->namespaces[kind].path == NULL;
}

/* The directories and files that the container is made of. */
static int open_all(struct builder *b, struct err *err)
{
    int r = open_bundle(b, err);
    if (r == 0) {
        r = b->root_fd = state_open_root(b->args->root, true, err);
    }
    if (r >= 0) {
        r = b->state_fd = state_make(b->root_fd, b->args->id, err);
        b->made_state = r >= 0;
    }
    return r < 0 ? r : open_namespaces(b, err);
}

static bool wants_idmap(const struct mount_plan *mounts)
{
    for (size_t i = 0; i < mounts->spec->mount_count; i++) {
        if (mounts->options[i].idmap) {
            return true;
        }
    }
    return false;
}

static int prepare(struct builder *b, struct err *err)
{
    const struct spec *spec = b->spec;
    struct init_plan *plan = &b->plan;
    int r = check_args(b->args, err);
    if (r == 0 && spec->rdt.set) {
        r = rdt_find(RDT_ROOT, &spec->rdt, b->args->id, &b->rdt, err);
    }
    r = r < 0 ? r : open_all(b, err);
    r = r < 0 ? r : mount_plan_init(&plan->mounts, spec, b->bundle_fd, b->args->rootfs_fd, err);
    /* Before the cgroup: whatever happens from here on, it tells which cgroup to remove. */
    r = r < 0 ? r : state_write_config(b->state_fd, spec, err);
    r = r < 0 ? r : seccomp_filter_init(&plan->filter, spec, b->root_fd, err);
    r = r < 0 ? r : open_sockets(b, err);
    r = r < 0 ? r : make_cgroup(b, err);
    if (r < 0) {
        return r;
    }
    bool user = spec->namespaces[SPEC_NS_USER].listed;
    plan->mounts.cgroup = &plan->cgroup;
    plan->mounts.copies_socket = b->args->copies_fd;
    plan->parent_opens_mounts = b->is_root;
    plan->parent_sets_limits = user && b->is_root;
    plan->wait_for_go = user || wants_idmap(&plan->mounts) || spec->process.oom_score_adj.set ||
                        b->bus != NULL || spec->rdt.set;
    format_offsets(b);
    b->cgroup_names = cgroup_names(&plan->cgroup);
    b->record = (struct state_record){
        .id = b->args->id,
        .bundle = b->bundle,
        .rootfs = b->rootfs,
        .cgroup = plan->cgroup.path,
        .cgroup_names = b->cgroup_names,
        .rdt = spec->rdt.set ? &b->rdt : NULL,
        .systemd_unit = b->bus != NULL ? b->unit.name : NULL,
        .systemd_user = b->unit.user,
        .created_ns = clock_realtime_ns(),
        .spec = spec,
    };
    b->state_format = state_text(&b->record, "creating");
    plan->state_format = b->state_format;
    plan->bundle = b->bundle;
    if (b->state_format == NULL || b->cgroup_names == NULL) {
        return err_set(err, ENOMEM, "describe the state");
    }
    return b->is_root && spec->namespaces[SPEC_NS_MOUNT].path == NULL
               ? mounts_open(&plan->mounts, err)
               : 0;
}

static int give_birth(struct builder *b, struct err *err)
{
    static const enum spec_namespace_kind at_birth[] = {SPEC_NS_MOUNT,   SPEC_NS_UTS, SPEC_NS_IPC,
                                                        SPEC_NS_NETWORK, SPEC_NS_PID, SPEC_NS_USER};
    struct birth birth = {
        .user_fd = b->plan.namespaces[SPEC_NS_USER],
        .pid_fd = b->plan.namespaces[SPEC_NS_PID],
        .cgroup_fd = cgroup_clone_fd(&b->plan.cgroup),
        .adopt = b->args->io.adopt,
        .time_offsets = is_new(b->spec, SPEC_NS_TIME) ? b->time_offsets : NULL,
    };
    for (size_t i = 0; i < COUNT(at_birth); i++) {
        if (is_new(b->spec, at_birth[i])) {
            birth.flags |= (uint64_t)namespace_kinds[at_birth[i]].clone_flag;
        }
    }
    /* Nothing of this process may be read through /proc by what it is about to make. */
    if (b->is_root) {
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
    pid_t pid = birth_process(&birth, &b->pidfd, &b->plan.born_in_unified, err);
    if (pid == 0) {
        b->sync_fd = close_fd(b->sync_fd);
        init_main(&b->plan);
    }
    if (pid < 0) {
        return (int)pid;
    }
    b->pid = pid;
    b->plan.sync_fd = close_fd(b->plan.sync_fd);
    return 0;
}

/* What only the process outside may do, before the first process goes on. */
static int help_child(struct builder *b, struct err *err)
{
    const struct spec *spec = b->spec;
    int r = 0;
    if (!b->plan.wait_for_go) {
        return 0;
    }
    if (b->bus != NULL) {
        r = make_scope(b, err);
    }
    if (r == 0 && spec->rdt.set) {
        r = rdt_enter(RDT_ROOT, &spec->rdt, b->args->id, b->pid, &b->rdt, err);
        b->made_rdt = r == 0;
    }
    if (r == 0 && is_new(spec, SPEC_NS_USER)) {
        r = idmap_write(b->pid, &spec->uid_maps, &spec->gid_maps, err);
    }
    r = r < 0 ? r : process_set_oom_score(b->pid, &spec->process, err);
    if (r == 0 && b->plan.parent_sets_limits) {
        r = process_raise_rlimits(b->pid, &spec->process, err);
    }
    if (r == 0 && b->plan.parent_opens_mounts) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)b->pid);
        AUTO(closep)
        int user = spec->namespaces[SPEC_NS_USER].listed ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        r = mounts_idmap(&b->plan.mounts, user, err);
    }
    if (r == 0 && send(b->sync_fd, "g", 1, MSG_NOSIGNAL) < 0 && errno != EPIPE) {
        r = err_set(err, errno, "wake the first process");
    }
    return r;
}

static int record_child(struct builder *b, struct err *err)
{
    b->record.pid = b->pid;
    int r = process_start_time(b->pid, &b->record.start_time);
    if (r < 0) {
        return err_set(err, -r, "read the start time of the first process");
    }
    r = state_write(b->state_fd, &b->record, err);
    if (r == 0 && b->args->io.pid_file != NULL) {
        r = container_write_pid_file(b->args->io.pid_file, b->pid, err);
    }
    return r;
}

static int run_runtime_hooks(struct builder *b, struct err *err)
{
    AUTO(freep) char *state = state_text(&b->record, "creating");
    if (state == NULL) {
        return err_set(err, ENOMEM, "describe the state");
    }
    int r = hooks_run(b->spec, SPEC_HOOK_PRESTART, state, err);
    return r < 0 ? r : hooks_run(b->spec, SPEC_HOOK_CREATE_RUNTIME, state, err);
}

/* How the first process ended, for the case that it could not say so itself. */
static int explain_death(struct builder *b, struct err *err)
{
    if (b->args->io.adopt) {
        return err_say(err, ECHILD, "the first process died before the workload started");
    }
    int status = 0;
    (void)process_wait(b->pid, &status);
    b->pidfd = close_fd(b->pidfd);
    return err_say(err, ECHILD, "the first process died before the workload started (%s %d)%s",
                   WIFSIGNALED(status) ? "signal" : "exit code",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                   WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                       ? "; its memory limit may be too low"
                       : "");
}

static int follow_child(struct builder *b, bool *ret_exec_failed, struct err *err)
{
    for (;;) {
        struct init_message message;
        ssize_t n = recv(b->sync_fd, &message, sizeof(message), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n != (ssize_t)sizeof(message)) {
            if (!b->args->start) {
                return explain_death(b, err);
            }
            return 0; /* closed by the exec */
        }
        switch (message.kind) {
        case INIT_HOOKS: {
            int r = run_runtime_hooks(b, err);
            if (r < 0) {
                return r;
            }
            if (send(b->sync_fd, "g", 1, MSG_NOSIGNAL) < 0) {
                return explain_death(b, err);
            }
            break;
        }
        case INIT_CREATED:
            return 0;
        case INIT_EXEC_FAILED:
        case INIT_FAILED:
            *ret_exec_failed = message.kind == INIT_EXEC_FAILED;
            message.err.text[sizeof(message.err.text) - 1] = '\0';
            if (err != NULL) {
                *err = message.err;
            }
            return message.err.code > 0 ? -message.err.code : -EIO;
        }
    }
}

int container_create(const struct container_create_args *args, struct container_process *ret,
                     bool *ret_exec_failed, struct err *err)
{
    bool exec_failed = false;
    AUTO(builder_done)
    struct builder b = {
        .args = args,
        .spec = args->spec,
        .plan = {.args = args,
                 .spec = args->spec,
                 .mounts = {.rootfs_fd = -1},
                 .sync_fd = -1,
                 .start_fd = -1,
                 .console_fd = -1,
                 .notify_fd = -1},
        .is_root = geteuid() == 0,
        .root_fd = -1,
        .state_fd = -1,
        .bundle_fd = -1,
        .sync_fd = -1,
        .pidfd = -1,
    };
    for (size_t i = 0; i < SPEC_NS_COUNT; i++) {
        b.plan.namespaces[i] = -1;
    }
    b.plan.mounts.spec = args->spec;
    int r = prepare(&b, err);
    r = r < 0 ? r : give_birth(&b, err);
    r = r < 0 ? r : help_child(&b, err);
    r = r < 0 ? r : record_child(&b, err);
    r = r < 0 ? r : follow_child(&b, &exec_failed, err);
    if (r == 0 && args->start && args->spec->hooks[SPEC_HOOK_POSTSTART].count > 0) {
        AUTO(freep) char *state = state_text(&b.record, "running");
        r = state == NULL ? err_set(err, ENOMEM, "describe the state")
                          : hooks_run(args->spec, SPEC_HOOK_POSTSTART, state, err);
    }
    if (ret_exec_failed != NULL) {
        *ret_exec_failed = exec_failed;
    }
    if (r < 0) {
        return r;
    }
    b.done = true;
    *ret = (struct container_process){
        .pid = b.pid, .start_time = b.record.start_time, .pidfd = TAKE_FD(b.pidfd)};
    return 0;
}

int container_write_pid_file(const char *path, pid_t pid, struct err *err)
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%d", (int)pid);
    const char *slash = strrchr(path, '/');
    AUTO(freep)
    char *dir = slash == NULL   ? strdup(".")
                : slash == path ? strdup("/")
                                : strndup(path, (size_t)(slash - path));
    AUTO(closep) int fd = dir == NULL ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno
                   : replace_file_at(fd, slash != NULL ? slash + 1 : path, text, (size_t)n, 0644,
                                     false);
    return r < 0 ? err_set(err, -r, "write pid file '%s'", path) : 0;
}
