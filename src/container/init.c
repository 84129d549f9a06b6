#include "container/init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/path.h"
#include "base/str.h"
#include "container/hooks.h"
#include "container/kernel.h"
#include "container/labels.h"
#include "container/names.h"
#include "container/process.h"

int init_send(int fd, enum init_message_kind kind, const struct err *err)
{
    struct init_message message = {.kind = kind};
    if (err != NULL) {
        message.err = *err;
    }
    ssize_t n;
    do {
        n = send(fd, &message, sizeof(message), MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* The other side says "go on", or is gone. */
static int wait_for(int fd)
{
    char c;
    ssize_t n;
    do {
        n = recv(fd, &c, 1, 0);
    } while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : -EPIPE;
}

static int join_namespaces(const struct init_plan *plan, struct err *err)
{
    /* The user namespace was joined before this process was born; the pid namespace by its parent.
     * The mount namespace comes last: paths mean something else behind it. */
    static const enum spec_namespace_kind order[] = {SPEC_NS_UTS,    SPEC_NS_IPC,  SPEC_NS_NETWORK,
                                                     SPEC_NS_CGROUP, SPEC_NS_TIME, SPEC_NS_MOUNT};
    for (size_t i = 0; i < COUNT(order); i++) {
        int fd = plan->namespaces[order[i]];
        const struct namespace_kind *kind = &namespace_kinds[order[i]];
        if (fd >= 0 && setns(fd, kind->clone_flag) < 0) {
            return err_set(err, errno, "linux.namespaces: join %s namespace '%s'", kind->name,
                           plan->spec->namespaces[order[i]].path);
        }
    }
    return 0;
}

/* In a new user namespace: become its root, where it has one. */
void init_become_root(void)
{
    /* Without id 0 in the maps the capabilities of the new namespace have to do. */
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
        log_debug("the user namespace has no root: %m");
    }
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static int set_names(const struct spec *spec, struct err *err)
{
    if (spec->hostname != NULL && sethostname(spec->hostname, strlen(spec->hostname)) < 0) {
        return err_set(err, errno, "hostname = \"%s\"", spec->hostname);
    }
    if (spec->domainname != NULL && setdomainname(spec->domainname, strlen(spec->domainname)) < 0) {
        return err_set(err, errno, "domainname = \"%s\"", spec->domainname);
    }
    return 0;
}

/* A procfs of our own, attached nowhere: nothing in it can be a disguise (CVE-2025-52881). */
static int open_private_proc(struct err *err)
{
    int fd = mount_new("proc", "proc", NULL, 0,
                       MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
    return fd;
}

static int write_sysctl(int proc_fd, const struct spec_pair *pair, struct err *err)
{
    char path[300];
    int n = snprintf(path, sizeof(path), "sys/%s", pair->name);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return err_set(err, ENAMETOOLONG, "linux.sysctl.%s", pair->name);
    }
    /* "net.ipv4.conf.eth0/1.forwarding" and "net/ipv4/conf/eth0.1/forwarding" are the same. */
    if (pair->name[strcspn(pair->name, "./")] == '.') {
        for (char *p = path + strlen("sys/"); *p != '\0'; p++) {
            *p = (char)(*p == '.' ? '/' : *p == '/' ? '.' : *p);
        }
    }
    AUTO(closep)
    int fd = open_resolved(proc_fd, path, O_WRONLY, 0,
                           RESOLVE_NO_XDEV | RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    struct statfs fs;
    if (fd < 0) {
        return err_set(err, -fd, "linux.sysctl.%s", pair->name);
    }
    if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC) {
        return err_say(err, EXDEV, "linux.sysctl.%s: is not a file of /proc", pair->name);
    }
    int r = write_full(fd, pair->value, strlen(pair->value));
    return r < 0 ? err_set(err, -r, "linux.sysctl.%s = \"%s\"", pair->name, pair->value) : 0;
}

static int write_sysctls(int proc_fd, const struct spec *spec, struct err *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < spec->sysctl.count; i++) {
        r = write_sysctl(proc_fd, &spec->sysctl.items[i], err);
    }
    return r;
}

/* Our pid as the host sees it: the host's /proc is still there. */
static int host_pid(void)
{
    char text[32] = "";
    ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);
    return n > 0 ? atoi(text) : 0;
}

/* What the steps after the mounts need, made before the host's tree is gone. */
struct prepared {
    int slave_fd;
    int proc_fd;
    int reply_fd; /* where errors of the exec go */
    char *state;
    char *notify_state;
};

static int run_hooks(struct init_plan *plan, const struct prepared *p, struct err *err)
{
    const struct spec *spec = plan->spec;
    if (spec->hooks[SPEC_HOOK_PRESTART].count > 0 ||
        spec->hooks[SPEC_HOOK_CREATE_RUNTIME].count > 0) {
        int r = init_send(plan->sync_fd, INIT_HOOKS, NULL);
        r = r < 0 ? r : wait_for(plan->sync_fd);
        if (r < 0) {
            return err_say(err, EPIPE, "the runtime gave up");
        }
    }
    return hooks_run(spec, SPEC_HOOK_CREATE_CONTAINER, p->state, err);
}

static int build_tree(struct init_plan *plan, struct prepared *p, struct err *err)
{
    const struct spec *spec = plan->spec;
    int r = 0;
    if (!plan->parent_opens_mounts) {
        /* Again, by its path in this mount namespace: the kernel clones no foreign mounts. */
        plan->mounts.bundle_fd = open(plan->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
        r = plan->mounts.bundle_fd < 0 ? err_set(err, errno, "open bundle '%s'", plan->bundle)
                                       : mounts_open(&plan->mounts, err);
    }
    if (r == 0 && !plan->parent_opens_mounts) {
        r = mounts_idmap(&plan->mounts, -1, err);
    }
    r = r < 0 ? r : mounts_attach(&plan->mounts, err);
    if (r == 0 && spec->has_process && spec->process.terminal) {
        r = init_make_terminal(plan->mounts.rootfs_fd, plan->console_fd, &spec->process,
                               &p->slave_fd, err);
        r = r < 0 ? r : console_attach(plan->mounts.rootfs_fd, p->slave_fd, err);
    }
    r = r < 0 ? r : run_hooks(plan, p, err);
    r = r < 0 ? r : mounts_finish(&plan->mounts, err);
    return r < 0 ? r : mounts_enter(&plan->mounts, plan->args->no_pivot, err);
}

char *init_notify_state(const struct spec *spec, json_t *state)
{
    const char *metadata = spec->seccomp.listener_metadata;
    AUTO(json_unrefp)
    json_t *message =
        json_pack("{s:s, s:[s], s:i, s:s, s:O}", "ociVersion", SPEC_VERSION, "fds", "seccompFd",
                  "pid", host_pid(), "metadata", metadata != NULL ? metadata : "", "state", state);
    return message == NULL ? NULL : json_dumps(message, JSON_COMPACT);
}

static int prepare_state(struct init_plan *plan, struct prepared *p, struct err *err)
{
    const struct spec *spec = plan->spec;
    bool notify = plan->notify_fd >= 0;
    if (!notify && spec->hooks[SPEC_HOOK_CREATE_CONTAINER].count == 0 &&
        spec->hooks[SPEC_HOOK_START_CONTAINER].count == 0) {
        return 0;
    }
    json_t *state = json_loads(plan->state_format, 0, NULL);
    (void)json_object_set_new(state, "pid", json_integer(host_pid()));
    p->state = json_dumps(state, JSON_COMPACT);
    p->notify_state = notify ? init_notify_state(spec, state) : NULL;
    json_decref(state);
    return p->state == NULL || (notify && p->notify_state == NULL)
               ? err_set(err, ENOMEM, "describe the state")
               : 0;
}

static int prepare(struct init_plan *plan, struct prepared *p, struct err *err)
{
    const struct spec *spec = plan->spec;
    int r = 0;
    if (plan->wait_for_go && wait_for(plan->sync_fd) < 0) {
        return err_say(err, EPIPE, "the runtime gave up");
    }
    /* Not before: the go-between of a user namespace that is joined must not count as the parent.
     */
    if (plan->args->io.parent_death_signal != 0) {
        (void)prctl(PR_SET_PDEATHSIG, plan->args->io.parent_death_signal, 0, 0, 0);
    }
    (void)setsid();
    /* By the host's ids and in the host's namespaces. */
    r = cgroup_enter(&plan->cgroup, !plan->born_in_unified, err);
    if (r == 0 && spec->namespaces[SPEC_NS_USER].listed) {
        init_become_root();
    }
    r = r < 0 ? r : prepare_state(plan, p, err);
    r = r < 0 ? r : join_namespaces(plan, err);
    if (r == 0 && spec->namespaces[SPEC_NS_CGROUP].listed &&
        spec->namespaces[SPEC_NS_CGROUP].path == NULL && unshare(CLONE_NEWCGROUP) < 0) {
        return err_set(err, errno, "linux.namespaces: new cgroup namespace");
    }
    r = r < 0 ? r : set_names(spec, err);
    if (r == 0 && spec->sysctl.count > 0) {
        p->proc_fd = open_private_proc(err);
        r = p->proc_fd < 0 ? p->proc_fd : write_sysctls(p->proc_fd, spec, err);
    }
    if (r == 0 && labels_wanted(&spec->process)) {
        p->proc_fd = p->proc_fd < 0 ? open_private_proc(err) : p->proc_fd;
        r = p->proc_fd < 0 ? p->proc_fd : labels_try(p->proc_fd, &spec->process, err);
    }
    r = r < 0 ? r : init_set_stdio(&plan->args->io, &spec->process, err);
    if (r == 0 && spec->namespaces[SPEC_NS_MOUNT].path == NULL) {
        r = build_tree(plan, p, err);
    } else if (r == 0 && spec->process.terminal) {
        /* A tree that was built before: its own /dev/pts serves. */
        AUTO(closep) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        r = root < 0
                ? err_set(err, errno, "open '/'")
                : init_make_terminal(root, plan->console_fd, &spec->process, &p->slave_fd, err);
    }
    if (r == 0 && p->slave_fd >= 0) {
        r = init_take_terminal(p->slave_fd, err);
    }
    return r < 0 ? r : process_set_priorities(&spec->process, err);
}

/* Created: sleeps until somebody starts the container. A stranger who only connects is passed by.
 */
static int wait_for_start(struct init_plan *plan, struct prepared *p)
{
    if (plan->args->start_fd >= 0) {
        p->reply_fd = plan->start_fd;
        return wait_for(plan->start_fd);
    }
    for (;;) {
        int fd = accept4(plan->start_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno == EINTR) {
            continue;
        }
        if (fd < 0) {
            return -errno;
        }
        if (wait_for(fd) == 0) {
            plan->start_fd = close_fd(plan->start_fd);
            p->reply_fd = fd;
            return 0;
        }
        (void)close_fd(fd);
    }
}

static int become(struct init_plan *plan, struct prepared *p, struct err *err)
{
    AUTO(freep) char *keyring = str_printf("_ses.%s", plan->args->id);
    const struct process_plan process = {
        .process = &plan->spec->process,
        .filter = &plan->filter,
        .notify_fd = plan->notify_fd,
        .notify_state = p->notify_state,
        .preserve_fds = plan->args->io.preserve_fds,
        .parent_death_signal = plan->args->io.parent_death_signal,
        .keyring = plan->args->no_new_keyring ? NULL : keyring,
        .personality_set = plan->spec->personality_set,
        .personality = plan->spec->personality,
        .label_fd = p->proc_fd,
    };
    int r = hooks_run(plan->spec, SPEC_HOOK_START_CONTAINER, p->state, err);
    /* Late: the limit on open files is for the workload, not for building its tree. */
    r = r < 0 ? r : process_set_rlimits(0, &plan->spec->process, err);
    r = r < 0 ? r : process_enter_cwd(&plan->spec->process, true, err);
    return r < 0 ? r : process_become(&process, err);
}

_Noreturn void init_main(struct init_plan *plan)
{
    struct err err = ERR_NONE;
    struct prepared p = {.slave_fd = -1, .proc_fd = -1, .reply_fd = plan->sync_fd};
    init_reset_signals();
    enum init_message_kind kind = INIT_FAILED;
    int r = prepare(plan, &p, &err);
    if (r == 0 && !plan->args->start && plan->spec->has_process) {
        r = process_find(&plan->spec->process, &err);
        kind = r < 0 ? INIT_EXEC_FAILED : INIT_FAILED;
    }
    if (r == 0 && !plan->args->start) {
        r = init_send(plan->sync_fd, INIT_CREATED, NULL);
        plan->sync_fd = close_fd(plan->sync_fd);
        p.reply_fd = -1;
        if (r < 0 || wait_for_start(plan, &p) < 0) {
            _exit(1);
        }
    }
    r = r < 0 ? r : become(plan, &p, &err);
    if (r == 0) {
        r = process_exec(&plan->spec->process, &err);
        kind = INIT_EXEC_FAILED;
    }
    if (err.code == 0) {
        err.code = -r;
    }
    (void)init_send(p.reply_fd, kind, &err);
    _exit(r == -ENOENT && kind == INIT_EXEC_FAILED ? 127 : 126);
}
