#include "wall/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "container/guest_filter.h"
#include "container/guest_protocol.h"
#include "container/seccomp_filter.h"
#include "vmm/speed.h"

#define TAPS_MAX 8
#define FIRST_TAP_FD 3
/* Nested and emulated machines boot slowly. */
#define BOOT_TIMEOUT_MS 120000
#define ANSWER_TIMEOUT_MS 10000
#define STATS_TIMEOUT_MS 1000
#define KILL_TIMEOUT_MS 10000
#define POWER_OFF_TIMEOUT_MS 60000

/* The outer container's configuration, beside the workload's own. */
#define OUTER_FILE "vm-config.json"
#define MACHINE_FILE "vm-machine.json"

/* In the caller's network namespace, where the engine puts it on its bridge; gone with its last
 * descriptor. */
static int open_tap(const char *name, struct err *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    AUTO(closep) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        (void)err_set(err, errno, "open '/dev/net/tun'");
        err_hint(err, "modprobe tun");
        return -err->code;
    }
    if (strlen(name) >= sizeof(request.ifr_name)) {
        return err_say(err, ENAMETOOLONG, "interface '%s'", name);
    }
    memcpy(request.ifr_name, name, strlen(name) + 1);
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        return err_set(err, errno, "make interface '%s'", name);
    }
    return TAKE_FD(fd);
}

/* So that the descriptors from 3 on are free for the taps: we are a process that is thrown away. */
static int move_up(int *fd)
{
    if (*fd < 0 || *fd >= FIRST_TAP_FD + TAPS_MAX) {
        return 0;
    }
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_TAP_FD + TAPS_MAX);
    if (moved < 0) {
        return -errno;
    }
    *fd = moved;
    return 0;
}

static int place_fds(const json_t *vm, int report_fd, struct container_create_args *create,
                     struct err *err)
{
    const json_t *taps = json_object_get(vm, "taps");
    size_t count = json_array_size(taps);
    int fds[TAPS_MAX];
    if (count > TAPS_MAX) {
        return err_say(err, EINVAL, "a machine has at most %d networks", TAPS_MAX);
    }
    int r = move_up(&report_fd);
    r = r < 0 ? r : move_up(&create->start_fd);
    r = r < 0 ? r : move_up(&create->io.console_fd);
    for (int i = 0; r == 0 && i < 3; i++) {
        r = move_up(&create->io.stdio[i]);
    }
    if (r < 0) {
        return err_set(err, -r, "arrange descriptors");
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(taps, i));
        fds[i] = open_tap(name == NULL ? "" : name, err);
        r = fds[i] < 0 ? fds[i] : move_up(&fds[i]);
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (dup2(fds[i], FIRST_TAP_FD + (int)i) < 0) {
            return err_set(err, errno, "arrange descriptors");
        }
        (void)close(fds[i]);
    }
    create->io.preserve_fds = (unsigned)count;
    if (report_fd >= 0) {
        if (dup2(report_fd, FIRST_TAP_FD + (int)count) < 0) {
            return err_set(err, errno, "arrange descriptors");
        }
        create->io.preserve_fds++;
    }
    return 0;
}

static int write_json(int dir, const char *name, const json_t *json, struct err *err)
{
    AUTO(freep) char *text = json_dumps(json, JSON_COMPACT);
    int r = text == NULL ? -ENOMEM : replace_file_at(dir, name, text, strlen(text), 0600, false);
    return r < 0 ? err_set(err, -r, "write '%s'", name) : 0;
}

/* Files beside config.json, and the empty directories that the machine is bound to. */
static int prepare_bundle(int dir, json_t *vm, bool reports, struct err *err)
{
    AUTO(json_unrefp) json_t *workload = NULL;
    AUTO(json_unrefp) json_t *outer = NULL;
    int report_fd = FIRST_TAP_FD + (int)json_array_size(json_object_get(vm, "taps"));
    int r = json_load_at(dir, "config.json", SPEC_FILE_SIZE_MAX, &workload, err);
    r = r < 0 ? r : vm_outer_spec(vm, workload, reports ? report_fd : -1, &outer, err);
    r = r < 0 ? r : write_json(dir, OUTER_FILE, outer, err);
    r = r < 0 ? r : write_json(dir, MACHINE_FILE, json_object_get(vm, "machine"), err);
    static const char *const directories[] = {"vm-root", VM_SOCKET_DIR};
    for (size_t i = 0; r == 0 && i < COUNT(directories); i++) {
        if (mkdirat(dir, directories[i], 0700) < 0 && errno != EEXIST) {
            r = err_set(err, errno, "make directory '%s'", directories[i]);
        }
    }
    return r;
}

/* Ours is only a pipe with a size: the machine's terminal does what terminals do. */
static int place_terminal(const char *bundle_path, struct container_create_args *create,
                          int *ret_slave, struct err *err)
{
    AUTO(json_unrefp) json_t *workload = NULL;
    AUTO(closep) int bundle = open(bundle_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = json_load_at(bundle, "config.json", SPEC_FILE_SIZE_MAX, &workload, err);
    if (r < 0 || !json_is_true(json_object_get(json_object_get(workload, "process"), "terminal"))) {
        return r;
    }
    int slave = vm_terminal_open(create->io.console_fd, err);
    if (slave < 0) {
        return slave;
    }
    create->io.console_fd = -1;
    for (int i = 0; i < 3; i++) {
        create->io.stdio[i] = slave;
    }
    *ret_slave = slave;
    return 0;
}

static int vm_create(const struct wall_create *args, struct container_process *ret,
                     bool *ret_exec_failed, struct err *err)
{
    AUTO(json_unrefp) json_t *vm = NULL;
    AUTO(spec_freep) struct spec *spec = NULL;
    AUTO(closep) int bundle = open(args->bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (bundle < 0) {
        return err_set(err, errno, "open bundle '%s'", args->bundle);
    }
    struct container_create_args create = CONTAINER_CREATE_ARGS_INIT;
    create.root = args->root;
    create.id = args->id;
    create.bundle = args->bundle;
    create.io = args->io;
    create.start_fd = args->start_fd;
    int r = json_load_at(bundle, VM_FILE, VM_FILE_MAX, &vm, err);
    r = r < 0 ? r : prepare_bundle(bundle, vm, args->report_fd >= 0, err);
    r = r < 0 ? r : spec_load(bundle, OUTER_FILE, &spec, err);
    if (r < 0) {
        return r;
    }
    create.spec = spec;
    /* The rest may lie where the taps go. */
    bundle = close_fd(bundle);
    AUTO(closep) int slave = -1;
    r = place_terminal(args->bundle, &create, &slave, err);
    r = r < 0 ? r : place_fds(vm, args->report_fd, &create, err);
    return r < 0 ? r : container_create(&create, ret, ret_exec_failed, err);
}

/* libseccomp is not in the guest: the program goes there compiled. *ret stays NULL without one. */
static int compile_filter(int bundle, const char *root, char **ret, struct err *err)
{
    AUTO(spec_freep) struct spec *spec = NULL;
    AUTO(seccomp_filter_donep) struct seccomp_filter filter = {0};
    AUTO(closep) int cache = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = spec_load(bundle, "config.json", &spec, err);
    r = r < 0 || !spec->seccomp.set ? r : seccomp_filter_init(&filter, spec, cache, err);
    if (r < 0 || filter.code == NULL) {
        return r;
    }
    *ret = guest_filter_encode(&filter);
    return *ret == NULL ? err_set(err, ENOMEM, "send the system call filter") : 0;
}

/*
 * Shares and sets of CPUs are of the host's: the cgroup around the machine has them. Its own CPUs
 * have other numbers, and a quota would count twice.
 */
static json_t *inner_config(const json_t *oci)
{
    json_t *inner = json_deep_copy(oci);
    json_t *resources = json_object_get(json_object_get(inner, "linux"), "resources");
    (void)json_object_del(resources, "cpu");
    (void)json_object_del(resources, "blockIO");
    return inner;
}

/* The agent's "configure": what the engine wrote, and the workload's own configuration. */
static json_t *make_configure(int bundle, const char *root, const char *id, struct err *err)
{
    AUTO(freep) char *filter = NULL;
    if (compile_filter(bundle, root, &filter, err) < 0) {
        return NULL;
    }
    AUTO(json_unrefp) json_t *vm = NULL;
    AUTO(json_unrefp) json_t *oci = NULL;
    if (json_load_at(bundle, VM_FILE, VM_FILE_MAX, &vm, err) < 0 ||
        json_load_at(bundle, "config.json", SPEC_FILE_SIZE_MAX, &oci, err) < 0) {
        return NULL;
    }
    json_t *message = json_deep_copy(json_object_get(vm, "guest"));
    if (message != NULL && filter != NULL) {
        (void)json_object_set_new(message, "seccomp", json_string(filter));
    }
    if (message == NULL || json_object_set_new(message, "type", json_string("configure")) < 0 ||
        json_object_set_new(message, "id", json_string(id)) < 0 ||
        json_object_set_new(message, "config", inner_config(oci)) < 0 ||
        json_object_set_new(message, "realtime_ns", json_integer(clock_realtime_ns())) < 0) {
        json_decref(message);
        (void)err_set(err, ENOMEM, "configure the machine");
        return NULL;
    }
    return message;
}

/* Without run the workload is made, and waits for a start that does not come. */
static int start_inside(const struct container_state *state, const char *root, const char *id,
                        bool run, bool *ret_exec_failed, struct err *err)
{
    AUTO(closep) int bundle = open(state->bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closep) int pidfd = pidfd_open_pid(state->pid);
    if (bundle < 0 || pidfd < 0) {
        return err_set(err, errno, "open bundle '%s'", state->bundle);
    }
    AUTO(json_unrefp) json_t *configure = make_configure(bundle, root, id, err);
    AUTO(json_unrefp) json_t *start = json_pack("{s:s}", "type", "start");
    if (configure == NULL) {
        return -EINVAL;
    }
    AUTO(closep) int fd = vm_connect(state->bundle, pidfd, BOOT_TIMEOUT_MS, err);
    if (fd < 0) {
        return fd;
    }
    int r = vm_ask(fd, configure, "ok", NULL, ret_exec_failed, err);
    return r < 0 || !run ? r : vm_ask(fd, start, "started", NULL, ret_exec_failed, err);
}

static int start_machine(const char *root, const char *id, int start_fd, bool run,
                         bool *ret_exec_failed, struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    bool outer_failed = false;
    int r = container_start_fd(root, id, start_fd, &outer_failed, err);
    r = r < 0 ? r : container_state(root, id, &state, err);
    r = r < 0 ? r : start_inside(&state, root, id, run, ret_exec_failed, err);
    if (r < 0) {
        (void)container_kill(root, id, SIGKILL, true, NULL);
    }
    return r;
}

static int vm_start(const char *root, const char *id, int start_fd, bool *ret_exec_failed,
                    struct err *err)
{
    return start_machine(root, id, start_fd, true, ret_exec_failed, err);
}

int vm_start_idle(const char *root, const char *id, int start_fd, struct err *err)
{
    return start_machine(root, id, start_fd, false, NULL, err);
}

static int ask_running(const char *root, const char *id, int timeout_ms, const json_t *request,
                       const char *want, json_t **ret, struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    int r = container_state(root, id, &state, err);
    if (r < 0) {
        return r;
    }
    if (state.status != CONTAINER_RUNNING) {
        return err_say(err, ESRCH, "the machine is %s", container_status_name(state.status));
    }
    AUTO(closep) int pidfd = pidfd_open_pid(state.pid);
    AUTO(closep) int fd = vm_connect(state.bundle, pidfd, timeout_ms, err);
    AUTO(json_unrefp) json_t *answer = NULL;
    r = fd < 0 ? fd : guest_send(fd, request, err);
    r = r < 0 ? r : guest_receive(fd, timeout_ms, &answer, err);
    r = r < 0 ? r : guest_answer_check(answer, want, NULL, err);
    if (r >= 0 && ret != NULL) {
        *ret = TAKE_PTR(answer);
    }
    return MIN(r, 0);
}

int vm_processes(const char *root, const char *id, json_t **ret, struct err *err)
{
    const struct json_path top = {.key = "pids"};
    AUTO(json_unrefp) json_t *request = json_pack("{s:s}", "type", "pids");
    AUTO(json_unrefp) json_t *answer = NULL;
    json_t *list = NULL;
    int r = ask_running(root, id, ANSWER_TIMEOUT_MS, request, "pids", &answer, err);
    r = r < 0 ? r : json_get_array(answer, &top, "processes", &list, err);
    if (r == 0) {
        r = err_say(err, EBADMSG, "pids.processes: is missing");
    }
    if (r > 0) {
        *ret = json_incref(list);
    }
    return MIN(r, 0);
}

int vm_power_off(const char *root, const char *id, int pidfd, struct err *err)
{
    AUTO(json_unrefp) json_t *request = json_pack("{s:s}", "type", "power-off");
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    int r = ask_running(root, id, ANSWER_TIMEOUT_MS, request, "ok", NULL, err);
    if (r == 0 && poll(&ended, 1, POWER_OFF_TIMEOUT_MS) != 1) {
        r = err_say(err, ETIMEDOUT, "the virtual machine does not switch off");
    }
    return r;
}

static int vm_resize(const char *root, const char *id, unsigned rows, unsigned columns,
                     struct err *err)
{
    AUTO(json_unrefp)
    json_t *request =
        json_pack("{s:s, s:i, s:i}", "type", "resize", "rows", (int)rows, "columns", (int)columns);
    return ask_running(root, id, ANSWER_TIMEOUT_MS, request, "ok", NULL, err);
}

static int signal_inside(const char *root, const char *id, int signal, bool all, struct err *err)
{
    AUTO(json_unrefp)
    json_t *request = json_pack("{s:s, s:i, s:b}", "type", "signal", "signal", signal, "all", all);
    return ask_running(root, id, ANSWER_TIMEOUT_MS, request, "ok", NULL, err);
}

/*
 * A machine whose power is cut loses what its kernel has not yet written. So the workload is killed
 * inside, and the machine switches off by itself; one that does not is ended after all.
 */
static int kill_gently(const struct container_state *state, const char *root, const char *id)
{
    struct pollfd ended = {.fd = pidfd_open_pid(state->pid), .events = POLLIN};
    int r = ended.fd < 0 ? -ESRCH : signal_inside(root, id, SIGKILL, false, NULL);
    r = r < 0 ? r : poll(&ended, 1, KILL_TIMEOUT_MS) == 1 ? 0 : -ETIMEDOUT;
    (void)close_fd(ended.fd);
    return r;
}

/* Signals are the agent's to deliver, as long as there is one. */
static int vm_signal(const char *root, const char *id, int signal, bool all, struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    int r = container_state(root, id, &state, err);
    if (r < 0) {
        return r;
    }
    if (state.status != CONTAINER_RUNNING) {
        return container_kill(root, id, signal, all || signal == SIGKILL, err);
    }
    if (signal != SIGKILL) {
        return signal_inside(root, id, signal, all, err);
    }
    if (kill_gently(&state, root, id) == 0) {
        return 0;
    }
    return container_kill(root, id, SIGKILL, true, err);
}

/* The container outside is isola-vmm's: the workload's process is what config.json says. */
static int vm_exec_spec(const char *root, const char *id, struct spec **ret_spec, struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    int r = container_state(root, id, &state, err);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int bundle = open(state.bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return bundle < 0 ? err_set(err, errno, "open bundle '%s'", state.bundle)
                      : spec_load(bundle, "config.json", ret_spec, err);
}

/* What an update says again is no change. */
static bool differs(const struct spec_number *asked, const struct spec_number *now)
{
    return asked->set && (!now->set || asked->value != now->value);
}

/* CPUs and weights are the cgroup's; memory is what the machine was started with. */
static int vm_update(const char *root, const char *id, const struct spec_resources *resources,
                     struct err *err)
{
    AUTO(spec_freep) struct spec *now = NULL;
    int r = vm_exec_spec(root, id, &now, err);
    if (r < 0) {
        return r;
    }
    const struct spec_resources *old = &now->resources;
    if (differs(&resources->memory.limit, &old->memory.limit) ||
        differs(&resources->memory.swap, &old->memory.swap) ||
        differs(&resources->memory.reservation, &old->memory.reservation) ||
        differs(&resources->pids_limit, &old->pids_limit)) {
        return err_say(err, EOPNOTSUPP,
                       "memory and process limits of a running machine cannot be changed: stop it, "
                       "update it, and start it");
    }
    struct spec_resources outer = *resources;
    outer.memory.limit.set = outer.memory.swap.set = outer.memory.reservation.set = false;
    outer.pids_limit.set = false;
    return container_update(root, id, &outer, err);
}

/*
 * CPU time, memory and I/O are what the machine takes from this host, which no guest can make
 * smaller than it is; the limit is the machine's memory. How many processes there are only the
 * agent knows: a machine that stands still or does not answer has none to show.
 */
static int vm_stats(const char *root, const char *id, struct container_stats *ret, struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    AUTO(json_unrefp) json_t *vm = NULL;
    AUTO(json_unrefp) json_t *answer = NULL;
    AUTO(json_unrefp) json_t *request = json_pack("{s:s}", "type", "stats");
    struct container_stats inner = {0};
    int r = container_stats(root, id, ret, err);
    r = r < 0 ? r : container_state(root, id, &state, err);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int bundle = open(state.bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (bundle >= 0 && json_load_at(bundle, VM_FILE, VM_FILE_MAX, &vm, NULL) >= 0) {
        const json_t *machine = json_object_get(json_object_get(vm, "machine"), "machine-config");
        ret->memory.limit = (uint64_t)json_integer_value(json_object_get(machine, "mem_size_mib"))
                            << 20;
    }
    bool asked = state.status == CONTAINER_RUNNING &&
                 ask_running(root, id, STATS_TIMEOUT_MS, request, "stats", &answer, NULL) >= 0 &&
                 guest_stats_read(answer, &inner, NULL) >= 0;
    ret->pids = inner.pids;
    ret->pids.set = asked && inner.pids.set;
    return 0;
}

int vm_network_bytes(const char *bundle_path, uint64_t *ret_in, uint64_t *ret_out)
{
    /* What the host's end sends the machine receives. */
    static const char *const files[] = {"tx_bytes", "rx_bytes"};
    uint64_t *const sums[] = {ret_in, ret_out};
    AUTO(json_unrefp) json_t *vm = NULL;
    AUTO(closep) int bundle = open(bundle_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = bundle < 0 ? -errno : json_load_at(bundle, VM_FILE, VM_FILE_MAX, &vm, NULL);
    const json_t *taps = json_object_get(vm, "taps");
    for (size_t i = 0; r >= 0 && i < json_array_size(taps); i++) {
        const char *name = json_string_value(json_array_get(taps, i));
        for (size_t k = 0; name != NULL && k < COUNT(files); k++) {
            AUTO(buf_donep) struct buf text = {0};
            AUTO(freep)
            char *path = str_printf("/sys/class/net/%s/statistics/%s", name, files[k]);
            if (path != NULL && read_file(path, 64, &text) == 0 && text.len > 0) {
                *sums[k] += strtoull(text.data, NULL, 10);
            }
        }
    }
    return MIN(r, 0);
}

static int vm_remove(const char *root, const char *id, struct err *err)
{
    return container_delete(root, id, true, err);
}

static int vm_check(struct err *err)
{
    int64_t ns = 0;
    return speed_check_kvm(-1, &ns, err);
}

const struct wall vm_wall = {
    .name = "vm",
    .summary = "a kernel of its own in a virtual machine",
    .reports = true,
    .check = vm_check,
    .create = vm_create,
    .start = vm_start,
    .exec_spec = vm_exec_spec,
    .exec = vm_exec,
    .resize = vm_resize,
    .signal = vm_signal,
    /* The machine as a whole stands still, its kernel too. */
    .pause = container_pause,
    .resume = container_resume,
    .update = vm_update,
    .stats = vm_stats,
    .oom_kills = container_oom_kills,
    .pids = container_pids,
    .remove = vm_remove,
};
