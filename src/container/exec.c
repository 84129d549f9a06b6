/* container_exec(): one more process in a running container. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "container/birth.h"
#include "container/cgroup.h"
#include "container/idmap.h"
#include "container/init.h"
#include "container/labels.h"
#include "container/names.h"
#include "container/process.h"
#include "container/state.h"
#include "container/systemd.h"

struct joiner {
    const struct container_exec_args *args;
    struct container_state state;
    struct spec *config; /* of the container: namespaces, filter, personality */
    struct cgroup cgroup;
    struct seccomp_filter filter;
    int first_fd; /* pidfd of the container's first process */
    int pid_ns;
    int user_ns; /* joined before birth, by an ordinary user; else -1 */
    int sync_fd;
    int child_sync_fd;
    int console_fd;
    int notify_fd;    /* to the listener of the filter, or -1 */
    const char *unit; /* the scope of systemd's user manager that it joins, or NULL; of the state */
    int proc_fd;      /* the host's /proc when labels are to be set, else -1 */
    char *notify_state;
    int pidfd;
    pid_t pid;
    bool in_unified;
    bool wait_for_go;
    bool done;
};

static void joiner_done(struct joiner *j)
{
    if (!j->done && j->pidfd >= 0) {
        (void)pidfd_signal(j->pidfd, SIGKILL);
        if (!j->args->io.adopt) {
            int status;
            (void)process_wait(j->pid, &status);
        }
    }
    container_state_done(&j->state);
    spec_free(j->config);
    cgroup_done(&j->cgroup);
    seccomp_filter_done(&j->filter);
    const int fds[] = {j->first_fd,      j->pid_ns, j->user_ns,   j->sync_fd,
                       j->child_sync_fd, j->pidfd,  j->notify_fd, j->proc_fd};
    for (size_t i = 0; i < COUNT(fds); i++) {
        (void)close_fd(fds[i]);
    }
    if (j->console_fd != j->args->io.console_fd) {
        (void)close_fd(j->console_fd);
    }
}

static int check_state(struct joiner *j, struct err *err)
{
    const char *id = j->args->id;
    int r = container_state(j->args->root, id, &j->state, err);
    if (r < 0) {
        return r;
    }
    if (j->state.status == CONTAINER_PAUSED && !j->args->ignore_paused) {
        return err_say(err, EBUSY, "container '%s' is paused", id);
    }
    if (j->state.status == CONTAINER_STOPPED || j->state.status == CONTAINER_CREATING) {
        return err_say(err, ESRCH, "container '%s' is not running", id);
    }
    j->first_fd = pidfd_open_pid(j->state.pid);
    if (j->first_fd < 0 || !process_is_alive(j->state.pid, j->state.start_time)) {
        return err_say(err, ESRCH, "container '%s' is not running", id);
    }
    return 0;
}

static int open_console(struct joiner *j, struct err *err)
{
    const struct container_io *io = &j->args->io;
    bool console = io->console_fd >= 0 || io->console_path != NULL;
    if (j->args->process->terminal != console) {
        return err_say(err, EINVAL,
                       console ? "a console socket needs process.terminal = true"
                               : "process.terminal = true: needs a console socket "
                                 "(--console-socket)");
    }
    j->console_fd = io->console_fd;
    if (io->console_path != NULL) {
        j->console_fd = unix_connect(io->console_path, SOCK_STREAM);
        if (j->console_fd < 0) {
            return err_set(err, -j->console_fd, "connect to console socket '%s'", io->console_path);
        }
    }
    return 0;
}

static int open_namespaces(struct joiner *j, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)j->state.pid);
    j->pid_ns = open(path, O_RDONLY | O_CLOEXEC);
    if (geteuid() != 0 && j->config->namespaces[SPEC_NS_USER].listed) {
        (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)j->state.pid);
        j->user_ns = open(path, O_RDONLY | O_CLOEXEC);
        if (j->user_ns < 0) {
            return err_set(err, errno, "open '%s'", path);
        }
    }
    if (j->pid_ns < 0 || !process_is_alive(j->state.pid, j->state.start_time)) {
        return err_say(err, ESRCH, "container '%s' is not running", j->args->id);
    }
    return 0;
}

static int prepare(struct joiner *j, struct err *err)
{
    AUTO(closep) int root_fd = state_open_root(j->args->root, false, err);
    int r = root_fd < 0 ? root_fd : check_state(j, err);
    r = r < 0 ? r : container_exec_spec(j->args->root, j->args->id, &j->config, err);
    r = r < 0 ? r : labels_check(j->args->process, NULL, err);
    r = r < 0 ? r : open_console(j, err);
    r = r < 0 ? r : seccomp_filter_init(&j->filter, j->config, root_fd, err);
    if (r == 0 && j->filter.notify) {
        const char *listener = j->config->seccomp.listener_path;
        j->notify_fd = unix_connect(listener, SOCK_STREAM);
        r = j->notify_fd < 0 ? err_set(err, -j->notify_fd,
                                       "linux.seccomp.listenerPath = \"%s\": connect", listener)
                             : 0;
    }
    r = r < 0 ? r : state_cgroup(&j->state, &j->cgroup, err);
    r = r < 0 ? r : cgroup_open_enter(&j->cgroup, j->args->cgroup, err);
    if (r == 0 && json_is_true(json_object_get(j->state.json, "systemdUser"))) {
        j->unit = json_string_value(json_object_get(j->state.json, "systemdUnit"));
    }
    if (r < 0) {
        return r;
    }
    r = open_namespaces(j, err);
    if (r < 0) {
        return r;
    }
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
        return err_set(err, errno, "make a socket pair");
    }
    j->sync_fd = fds[0];
    j->child_sync_fd = fds[1];
    j->wait_for_go = j->args->process->oom_score_adj.set ||
                     j->config->namespaces[SPEC_NS_USER].listed || j->unit != NULL;
    return 0;
}

static int join_all(const struct joiner *j, struct err *err)
{
    int flags = 0;
    for (size_t i = 0; i < SPEC_NS_COUNT; i++) {
        /* Born in the pid namespace already, and without root in the user namespace too. */
        if (j->config->namespaces[i].listed && i != SPEC_NS_PID &&
            !(i == SPEC_NS_USER && j->user_ns >= 0)) {
            flags |= namespace_kinds[i].clone_flag;
        }
    }
    if (flags != 0 && setns(j->first_fd, flags) < 0) {
        return err_set(err, errno, "join the namespaces of container '%s'", j->args->id);
    }
    if (j->config->namespaces[SPEC_NS_USER].listed) {
        init_become_root();
    }
    return 0;
}

static int set_affinity(const struct joiner *j, const char *list, const char *field,
                        struct err *err)
{
    return list == NULL || !j->args->process->cpu_affinity_set
               ? 0
               : process_set_affinity(0, list, field, err);
}

/* For the listener, while /proc is still the host's. */
static int describe(struct joiner *j, struct err *err)
{
    if (j->notify_fd < 0) {
        return 0;
    }
    const struct state_record record = {
        .id = j->state.id, .bundle = j->state.bundle, .pid = j->state.pid, .spec = j->config};
    AUTO(freep) char *text = state_text(&record, container_status_name(j->state.status));
    AUTO(json_unrefp) json_t *state = text == NULL ? NULL : json_loads(text, 0, NULL);
    j->notify_state = state == NULL ? NULL : init_notify_state(j->config, state);
    return j->notify_state == NULL ? err_set(err, ENOMEM, "describe the state") : 0;
}

/* The host's: in the container others may have mounted over it, and its root may mount none anew.
 */
static int open_proc(struct joiner *j, struct err *err)
{
    if (!labels_wanted(j->args->process)) {
        return 0;
    }
    j->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return j->proc_fd < 0 ? err_set(err, errno, "open '/proc'")
                          : labels_try(j->proc_fd, j->args->process, err);
}

static int join(struct joiner *j, struct err *err)
{
    const struct spec_process *process = j->args->process;
    char c;
    if (j->wait_for_go && recv(j->child_sync_fd, &c, 1, 0) != 1) {
        return err_say(err, EPIPE, "the runtime gave up");
    }
    if (j->args->io.parent_death_signal != 0) {
        (void)prctl(PR_SET_PDEATHSIG, j->args->io.parent_death_signal, 0, 0, 0);
    }
    (void)setsid();
    int r = describe(j, err);
    r = r < 0 ? r : open_proc(j, err);
    r = r < 0 ? r
              : set_affinity(j, process->cpu_affinity_initial, "process.execCPUAffinity.initial",
                             err);
    r = r < 0 ? r : cgroup_enter(&j->cgroup, !j->in_unified && j->unit == NULL, err);
    r = r < 0 ? r
              : set_affinity(j, process->cpu_affinity_final, "process.execCPUAffinity.final", err);
    r = r < 0 ? r : join_all(j, err);
    r = r < 0 ? r : init_set_stdio(&j->args->io, process, err);
    if (r == 0 && process->terminal) {
        AUTO(closep) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        AUTO(closep) int slave = -1;
        r = root < 0 ? err_set(err, errno, "open '/'")
                     : init_make_terminal(root, j->console_fd, process, &slave, err);
        r = r < 0 ? r : init_take_terminal(slave, err);
    }
    return r < 0 ? r : process_set_priorities(process, err);
}

static int become(const struct joiner *j, struct err *err)
{
    const struct spec_process *process = j->args->process;
    AUTO(freep) char *keyring = str_printf("_ses.%s", j->args->id);
    const struct process_plan plan = {
        .process = process,
        .filter = &j->filter,
        .notify_fd = j->notify_fd,
        .notify_state = j->notify_state,
        .preserve_fds = j->args->io.preserve_fds,
        .parent_death_signal = j->args->io.parent_death_signal,
        .keyring = j->args->no_new_keyring ? NULL : keyring,
        .personality_set = j->config->personality_set,
        .personality = j->config->personality,
        .label_fd = j->proc_fd,
    };
    int r = process_set_rlimits(0, process, err);
    return r < 0 ? r : process_become(&plan, err);
}

static _Noreturn void joined_main(struct joiner *j)
{
    struct err err = ERR_NONE;
    init_reset_signals();
    int r = join(j, &err);
    enum init_message_kind kind = INIT_FAILED;
    if (r == 0) {
        r = process_enter_cwd(j->args->process, false, &err);
        kind = r == -ENOENT ? INIT_EXEC_FAILED : INIT_FAILED;
    }
    r = r < 0 ? r : become(j, &err);
    if (r == 0) {
        r = process_exec(j->args->process, &err);
        kind = INIT_EXEC_FAILED;
    }
    if (err.code == 0) {
        err.code = -r;
    }
    (void)init_send(j->child_sync_fd, kind, &err);
    _exit(r == -ENOENT && kind == INIT_EXEC_FAILED ? 127 : 126);
}

static int give_birth(struct joiner *j, struct err *err)
{
    const struct birth birth = {
        .user_fd = j->user_ns,
        .pid_fd = j->pid_ns,
        .cgroup_fd = cgroup_clone_fd(&j->cgroup),
        .adopt = j->args->io.adopt,
    };
    if (geteuid() == 0) {
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
    pid_t pid = birth_process(&birth, &j->pidfd, &j->in_unified, err);
    if (pid == 0) {
        j->sync_fd = close_fd(j->sync_fd);
        joined_main(j);
    }
    if (pid < 0) {
        return (int)pid;
    }
    j->pid = pid;
    j->child_sync_fd = close_fd(j->child_sync_fd);
    return 0;
}

/*
 * The kernel lets a user move a process only inside what is his; he may have called us from a
 * session's scope, which is not. His manager asks the system's.
 */
static int enter_scope(const struct joiner *j, struct err *err)
{
    const char *sub = j->args->cgroup;
    AUTO(freep)
    char *path = sub != NULL && sub[strspn(sub, "/")] != '\0'
                     ? str_printf("/%s", sub + strspn(sub, "/"))
                     : strdup("");
    return path == NULL ? err_set(err, ENOMEM, "enter systemd unit '%s'", j->unit)
                        : systemd_attach(j->unit, true, j->pid, path, err);
}

static int follow(struct joiner *j, bool *ret_exec_failed, struct err *err)
{
    struct init_message message;
    ssize_t n;
    int r = 0;
    if (j->unit != NULL && !j->in_unified) {
        r = enter_scope(j, err);
    }
    if (r == 0 && j->wait_for_go) {
        r = process_set_oom_score(j->pid, j->args->process, err);
        if (r == 0 && j->config->namespaces[SPEC_NS_USER].listed) {
            r = process_raise_rlimits(j->pid, j->args->process, err);
        }
        if (r == 0 && send(j->sync_fd, "g", 1, MSG_NOSIGNAL) < 0 && errno != EPIPE) {
            r = err_set(err, errno, "wake the new process");
        }
    }
    if (r == 0 && j->args->io.pid_file != NULL) {
        r = container_write_pid_file(j->args->io.pid_file, j->pid, err);
    }
    if (r < 0) {
        return r;
    }
    do {
        n = recv(j->sync_fd, &message, sizeof(message), 0);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(message)) {
        return 0;
    }
    *ret_exec_failed = message.kind == INIT_EXEC_FAILED;
    message.err.text[sizeof(message.err.text) - 1] = '\0';
    if (err != NULL) {
        *err = message.err;
    }
    return message.err.code > 0 ? -message.err.code : -EIO;
}

int container_exec(const struct container_exec_args *args, struct container_process *ret,
                   bool *ret_exec_failed, struct err *err)
{
    bool exec_failed = false;
    AUTO(joiner_done)
    struct joiner j = {
        .args = args,
        .first_fd = -1,
        .pid_ns = -1,
        .user_ns = -1,
        .sync_fd = -1,
        .child_sync_fd = -1,
        .console_fd = -1,
        .notify_fd = -1,
        .proc_fd = -1,
        .pidfd = -1,
    };
    int r = prepare(&j, err);
    r = r < 0 ? r : give_birth(&j, err);
    r = r < 0 ? r : follow(&j, &exec_failed, err);
    if (ret_exec_failed != NULL) {
        *ret_exec_failed = exec_failed;
    }
    if (r < 0) {
        return r;
    }
    j.done = true;
    *ret = (struct container_process){.pid = j.pid, .pidfd = TAKE_FD(j.pidfd)};
    (void)process_start_time(ret->pid, &ret->start_time);
    return 0;
}
