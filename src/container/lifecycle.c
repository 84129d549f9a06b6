/* What happens to a container after its creation: start, signals, pause, limits, removal. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "base/user_namespace.h"
#include "container/cgroup.h"
#include "container/hooks.h"
#include "container/init.h"
#include "container/rdt.h"
#include "container/state.h"
#include "container/systemd.h"

#define KILL_TIMEOUT_MS 10000

/* The spec as it was at creation. */
static int load_config(const char *root, const char *id, struct spec **ret, struct err *err)
{
    AUTO(closep) int root_fd = state_open_root(root, false, err);
    if (root_fd < 0) {
        return root_fd;
    }
    AUTO(freep) char *path = str_printf("%s/config.json", id);
    return path == NULL ? err_set(err, ENOMEM, "read the configuration")
                        : spec_load(root_fd, path, ret, err);
}

static int run_late_hooks(const char *root, const struct container_state *state,
                          enum spec_hook_kind kind, struct err *err)
{
    AUTO(spec_freep) struct spec *spec = NULL;
    int r = load_config(root, state->id, &spec, err);
    if (r < 0 || spec->hooks[kind].count == 0) {
        return r;
    }
    const struct state_record record = {
        .id = state->id, .bundle = state->bundle, .pid = state->pid, .spec = spec};
    AUTO(freep)
    char *text = state_text(&record, kind == SPEC_HOOK_POSTSTOP ? "stopped" : "running");
    return text == NULL ? err_set(err, ENOMEM, "describe the state")
                        : hooks_run(spec, kind, text, err);
}

/* Wakes the first process; the answer is an error, or the end of file that its exec makes. */
static int start_through(int fd, bool *ret_exec_failed, struct err *err)
{
    struct init_message message;
    ssize_t n = send(fd, "s", 1, MSG_NOSIGNAL);
    if (n < 0) {
        return err_set(err, errno, "wake the first process");
    }
    do {
        n = recv(fd, &message, sizeof(message), 0);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return 0;
    }
    if (n != (ssize_t)sizeof(message)) {
        return err_say(err, EPROTO, "the first process gave no clear answer");
    }
    if (ret_exec_failed != NULL) {
        *ret_exec_failed = message.kind == INIT_EXEC_FAILED;
    }
    message.err.text[sizeof(message.err.text) - 1] = '\0';
    if (err != NULL) {
        *err = message.err;
    }
    return message.err.code > 0 ? -message.err.code : -EIO;
}

int container_start_fd(const char *root, const char *id, int start_fd, bool *ret_exec_failed,
                       struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    AUTO(closep) int root_fd = state_open_root(root, false, err);
    int r = root_fd < 0 ? root_fd : state_read(root_fd, id, &state, err);
    r = r < 0 ? r : start_through(start_fd, ret_exec_failed, err);
    AUTO(freep) char *marker = str_printf("%s/%s", id, STATE_SOCKET);
    if (r == 0 && marker != NULL) {
        (void)unlinkat(root_fd, marker, 0);
    }
    return r < 0 ? r : run_late_hooks(root, &state, SPEC_HOOK_POSTSTART, err);
}

int container_start(const char *root, const char *id, bool *ret_exec_failed, struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    int r = container_state(root, id, &state, err);
    if (r < 0) {
        return r;
    }
    if (state.status != CONTAINER_CREATED) {
        return err_say(err, EINVAL, "cannot start container '%s': it is %s, not created", id,
                       container_status_name(state.status));
    }
    AUTO(freep) char *path = str_printf("%s/%s/%s", root, id, STATE_SOCKET);
    AUTO(closep) int fd = path == NULL ? -ENOMEM : unix_connect(path, SOCK_SEQPACKET);
    if (fd < 0) {
        return err_set(err, -fd, "reach the first process of container '%s'", id);
    }
    return container_start_fd(root, id, fd, ret_exec_failed, err);
}

/* A pidfd of the first process that surely is it: checked again once it is open. */
static int open_first(const struct container_state *state)
{
    if (state->pid <= 0) {
        return -ESRCH;
    }
    int pidfd = pidfd_open_pid(state->pid);
    if (pidfd >= 0 && !process_is_alive(state->pid, state->start_time)) {
        (void)close_fd(pidfd);
        return -ESRCH;
    }
    return pidfd;
}

int container_kill(const char *root, const char *id, int signal, bool all, struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    int r = container_state(root, id, &state, err);
    if (r < 0) {
        return r;
    }
    if (all) {
        struct cgroup cgroup;
        r = state_cgroup(&state, &cgroup, err);
        return r < 0 ? r : cgroup_signal(&cgroup, signal, err);
    }
    AUTO(closep) int pidfd = open_first(&state);
    r = pidfd < 0 ? pidfd : pidfd_signal(pidfd, signal);
    if (r == -ESRCH) {
        return err_say(err, ESRCH, "container '%s' is not running", id);
    }
    if (r == 0 && signal == SIGKILL && state.status == CONTAINER_PAUSED) {
        /* A frozen v1 process takes the signal only when it thaws. */
        struct cgroup cgroup;
        if (state_cgroup(&state, &cgroup, NULL) == 0 && cgroup_has_v1(&cgroup)) {
            (void)cgroup_freeze(&cgroup, false, NULL);
        }
    }
    return r < 0 ? err_set(err, -r, "signal container '%s'", id) : 0;
}

static int kill_and_wait(const struct container_state *state, const struct cgroup *cgroup,
                         struct err *err)
{
    AUTO(closep) int pidfd = open_first(state);
    if (pidfd < 0) {
        return 0;
    }
    (void)pidfd_signal(pidfd, SIGKILL);
    if (cgroup->count > 0 && cgroup_has_v1(cgroup) && cgroup_is_frozen(cgroup)) {
        (void)cgroup_freeze(cgroup, false, NULL);
    }
    struct pollfd wait = {.fd = pidfd, .events = POLLIN};
    int n;
    do {
        n = poll(&wait, 1, KILL_TIMEOUT_MS);
    } while (n < 0 && errno == EINTR);
    return n > 0 ? 0
                 : err_say(err, ETIMEDOUT, "container '%s': process %d did not die", state->id,
                           (int)state->pid);
}

/* The scope itself ends with its last process; hierarchies of v1 keep directories. */
static int find_scope(const struct spec *spec, const char *id, char *path, size_t size)
{
    AUTO(dbus_closep) struct dbus *bus = NULL;
    struct systemd_unit unit;
    bool user = !user_is_host_root();
    int r = systemd_unit_init(&unit, spec->cgroups_path, id, user, NULL);
    r = r < 0 ? r : dbus_open(user, &bus, NULL);
    return r < 0 ? r : systemd_find_path(bus, &unit, path, size, NULL);
}

/* A creation that was killed before the state was written: the configuration names the cgroup. */
static int half_made_cgroup(const char *root, const char *id, struct cgroup *cgroup,
                            struct err *err)
{
    AUTO(spec_freep) struct spec *spec = NULL;
    char path[sizeof(cgroup->path)] = "";
    if (load_config(root, id, &spec, NULL) == 0 && spec->cgroups_path != NULL &&
        systemd_is_unit_path(spec->cgroups_path)) {
        (void)find_scope(spec, id, path, sizeof(path));
    } else if (spec != NULL) {
        (void)cgroup_path_for(spec, id, path, sizeof(path), NULL);
    }
    /* A path that does not carry the id may be shared: its processes are not ours to kill. */
    if (strstr(path, id) == NULL) {
        path[0] = '\0';
    }
    return cgroup_init(cgroup, path, err);
}

/* The scope of systemd that a container lives in, or NULL. */
static const char *unit_of(const struct container_state *state)
{
    return json_string_value(json_object_get(state->json, "systemdUnit"));
}

static bool is_user_unit(const struct container_state *state)
{
    return json_is_true(json_object_get(state->json, "systemdUser"));
}

static int remove_rdt(const struct container_state *state, struct err *err)
{
    struct rdt_group group = {0};
    const char *name = json_string_value(json_object_get(state->json, "rdtGroup"));
    if (name == NULL || !path_is_plain_name(name) || strlen(name) >= sizeof(group.name)) {
        return 0;
    }
    (void)strcpy(group.name, name);
    group.made = json_is_true(json_object_get(state->json, "rdtMade"));
    group.monitored = json_is_true(json_object_get(state->json, "rdtMonitored"));
    return rdt_remove(RDT_ROOT, &group, state->id, err);
}

/* The files that are always there first: mostly the directory is empty then. */
static int remove_state(int root_fd, const char *id)
{
    static const char *const files[] = {"state.json", "config.json"};
    AUTO(closep) int dir = openat(root_fd, id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    for (size_t i = 0; dir >= 0 && i < COUNT(files); i++) {
        (void)unlinkat(dir, files[i], 0);
    }
    return unlinkat(root_fd, id, AT_REMOVEDIR) == 0 ? 0 : remove_tree_at(root_fd, id);
}

int container_delete(const char *root, const char *id, bool force, struct err *err)
{
    AUTO(closep) int root_fd = state_open_root(root, false, NULL);
    AUTO(container_state_donep) struct container_state state = {0};
    int r = root_fd < 0 ? -ENOENT : state_read(root_fd, id, &state, err);
    if (r == -ENOENT) {
        return force ? 0 : err_say(err, ENOENT, "container '%s' does not exist", id);
    }
    if (r < 0) {
        return r;
    }
    if (!force && (state.status == CONTAINER_RUNNING || state.status == CONTAINER_PAUSED)) {
        return err_say(err, EBUSY,
                       "cannot delete container '%s': it is %s; stop it first or use --force", id,
                       container_status_name(state.status));
    }
    struct cgroup cgroup;
    r = state.status == CONTAINER_CREATING ? half_made_cgroup(root, id, &cgroup, err)
                                           : state_cgroup(&state, &cgroup, err);
    r = r < 0 ? r : kill_and_wait(&state, &cgroup, err);
    r = r < 0 ? r : cgroup_remove(&cgroup, err);
    if (r < 0) {
        return r;
    }
    r = remove_rdt(&state, err);
    if (r < 0) {
        return r;
    }
    if (unit_of(&state) != NULL) {
        /* Empty it ends by itself, only later; without systemd there is nothing left of it. */
        (void)systemd_stop(unit_of(&state), is_user_unit(&state), NULL);
    }
    state.pid = 0;
    /* The spec: errors of poststop hooks do not keep a container from going. */
    if (json_is_true(json_object_get(state.json, "poststop"))) {
        (void)run_late_hooks(root, &state, SPEC_HOOK_POSTSTOP, NULL);
    }
    r = remove_state(root_fd, id);
    return r < 0 ? err_set(err, -r, "remove the state of container '%s'", id) : 0;
}

static int open_cgroup(const char *root, const char *id, bool must_run, struct cgroup *cgroup,
                       struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    int r = container_state(root, id, &state, err);
    if (r < 0) {
        return r;
    }
    if (must_run && state.status == CONTAINER_STOPPED) {
        return err_say(err, ESRCH, "container '%s' is not running", id);
    }
    return state_cgroup(&state, cgroup, err);
}

int container_pause(const char *root, const char *id, struct err *err)
{
    struct cgroup cgroup;
    int r = open_cgroup(root, id, true, &cgroup, err);
    return r < 0 ? r : cgroup_freeze(&cgroup, true, err);
}

int container_resume(const char *root, const char *id, struct err *err)
{
    struct cgroup cgroup;
    int r = open_cgroup(root, id, true, &cgroup, err);
    if (r == 0 && !cgroup_is_frozen(&cgroup)) {
        return err_say(err, EINVAL, "container '%s' is not paused", id);
    }
    return r < 0 ? r : cgroup_freeze(&cgroup, false, err);
}

int container_update(const char *root, const char *id, const struct spec_resources *resources,
                     struct err *err)
{
    struct cgroup cgroup;
    AUTO(container_state_donep) struct container_state state = {0};
    int r = container_state(root, id, &state, err);
    r = r < 0 ? r : open_cgroup(root, id, true, &cgroup, err);
    if (r == 0 && unit_of(&state) != NULL) {
        const struct cgroup_hierarchy *memory = cgroup_find(&cgroup, "memory");
        r = systemd_update(unit_of(&state), is_user_unit(&state), resources,
                           memory == NULL || memory->unified, err);
    }
    return r < 0 ? r : cgroup_apply(&cgroup, resources, true, err);
}

int container_stats(const char *root, const char *id, struct container_stats *ret, struct err *err)
{
    struct cgroup cgroup;
    int r = open_cgroup(root, id, false, &cgroup, err);
    if (r == 0) {
        *ret = (struct container_stats){0};
        r = cgroup_stats(&cgroup, ret);
        r = r < 0 ? err_set(err, -r, "read the statistics of container '%s'", id) : 0;
    }
    return r;
}

int container_oom_kills(const char *root, const char *id, uint64_t *ret, struct err *err)
{
    struct cgroup cgroup;
    int r = open_cgroup(root, id, false, &cgroup, err);
    if (r == 0) {
        *ret = cgroup_oom_kills(&cgroup);
    }
    return r;
}

/*
 * Without a cgroup (an ordinary user): the processes of the first process's pid namespace, or it
 * alone when that is not the container's own.
 */
static int namespace_pids(const char *root, const char *id, pid_t **ret, size_t *ret_count,
                          struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    AUTO(freep) pid_t *pids = NULL;
    AUTO(closedirp) DIR *proc = opendir("/proc");
    struct stat theirs;
    struct stat own;
    size_t count = 0;
    int r = container_state(root, id, &state, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *path = str_printf("/proc/%d/ns/pid", (int)state.pid);
    if (proc == NULL || path == NULL || stat(path, &theirs) < 0 ||
        stat("/proc/self/ns/pid", &own) < 0) {
        return err_set(err, errno, "list the processes of container '%s'", id);
    }
    bool shared = theirs.st_ino == own.st_ino;
    const struct dirent *entry = NULL;
    while ((entry = readdir(proc)) != NULL) {
        struct stat st;
        uint64_t pid;
        AUTO(freep) char *link = str_printf("/proc/%s/ns/pid", entry->d_name);
        if (parse_u64(entry->d_name, 10, &pid) < 0 || link == NULL || stat(link, &st) < 0 ||
            st.st_ino != theirs.st_ino || (shared && pid != (uint64_t)state.pid)) {
            continue;
        }
        pid_t *more = reallocarray(pids, count + 1, sizeof(*pids));
        if (more == NULL) {
            return err_set(err, ENOMEM, "list the processes of container '%s'", id);
        }
        more[count++] = (pid_t)pid;
        pids = more;
    }
    *ret = TAKE_PTR(pids);
    *ret_count = count;
    return 0;
}

int container_pids(const char *root, const char *id, pid_t **ret, size_t *ret_count,
                   struct err *err)
{
    struct cgroup cgroup;
    int r = open_cgroup(root, id, false, &cgroup, err);
    if (r == 0 && cgroup.count == 0) {
        return namespace_pids(root, id, ret, ret_count, err);
    }
    if (r == 0) {
        r = cgroup_pids(&cgroup, ret, ret_count);
        r = r < 0 ? err_set(err, -r, "list the processes of container '%s'", id) : 0;
    }
    return r;
}

int container_exec_spec(const char *root, const char *id, struct spec **ret_spec, struct err *err)
{
    return load_config(root, id, ret_spec, err);
}

bool container_is_scope_path(const char *cgroups_path)
{
    return systemd_is_unit_path(cgroups_path);
}

bool container_has_user_scopes(void)
{
    struct statfs fs;
    return !user_is_host_root() && statfs(CGROUP_ROOT, &fs) == 0 &&
           fs.f_type == CGROUP2_SUPER_MAGIC && dbus_has_user();
}

char *container_user_controllers(struct err *err)
{
    AUTO(dbus_closep) struct dbus *bus = NULL;
    AUTO(buf_donep) struct buf text = {0};
    char manager[PATH_MAX];
    int r = dbus_open(true, &bus, err);
    r = r < 0 ? r : systemd_manager_path(bus, manager, sizeof(manager), err);
    AUTO(freep)
    char *path = r < 0 ? NULL : str_printf("%s%s/cgroup.controllers", CGROUP_ROOT, manager);
    r = r == 0 && path == NULL ? -ENOMEM : r;
    r = r < 0 ? r : read_file(path, 4096, &text);
    if (r < 0) {
        (void)err_wrap(err, -r, "the controllers of systemd's user manager");
        return NULL;
    }
    return text.data != NULL ? buf_take(&text) : strdup("");
}
