#include "vmm/monitor_program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "vmm/agent.h"
#include "vmm/control.h"
#include "vmm/gdb.h"
#include "vmm/machine.h"
#include "vmm/machine_devices.h"
#include "vmm/monitor_protocol.h"
#include "vmm/report.h"

#define EXIT_NOT_MADE 125
#define EXIT_GUEST_FAILED 126
/* How long a slow reader of what the guest wrote may take when the machine has ended. */
#define DRAIN_NS (30 * NS_PER_SEC)

struct program {
    struct control control;
    struct gdb *gdb;
    int calls_fd, asks_fd;
    struct loop_source *calls_source;
    char id[MONITOR_ID_MAX];
};

/* The descriptors of a call, each of them ours. */
struct given {
    int fds[MONITOR_FDS_MAX];
    size_t count, taken;
};

static void given_done(struct given *given)
{
    for (size_t i = 0; i < given->count; i++) {
        (void)close_fd(given->fds[i]);
    }
}
DEFINE_DONEP(struct given, given_done)

/* Stays given's; -1: there are no more. */
static int next_fd(struct given *given)
{
    return given->taken < given->count ? given->fds[given->taken++] : -1;
}

static bool receive(int fd, struct monitor_call *call, struct given *given)
{
    given->count = MONITOR_FDS_MAX;
    ssize_t n = unix_recv_fds(fd, call, sizeof(*call), given->fds, &given->count);
    if (n < 0) {
        given->count = 0;
    }
    return n == (ssize_t)sizeof(*call);
}

static bool answer(int fd, int result, const struct err *err, struct monitor_answer *what)
{
    what->result = result < 0 ? result : 0;
    if (result < 0) {
        (void)snprintf(what->text, sizeof(what->text), "%s", err_text(err));
    }
    return send(fd, what, sizeof(*what), MSG_NOSIGNAL) == (ssize_t)sizeof(*what);
}

/* A vsock_connect_fn: the process outside connects. */
static int ask_for_port(uint32_t port, void *data)
{
    const struct program *program = data;
    const struct monitor_ask ask = {.port = port};
    struct monitor_given given = {0};
    int fd = -1;
    size_t count = 1;
    int r = unix_send_fds(program->asks_fd, &ask, sizeof(ask), NULL, 0);
    if (r < 0) {
        return r;
    }
    ssize_t n = unix_recv_fds(program->asks_fd, &given, sizeof(given), &fd, &count);
    if (n != (ssize_t)sizeof(given) || given.result < 0 || count != 1) {
        if (n > 0 && count == 1) {
            (void)close(fd);
        }
        return n == (ssize_t)sizeof(given) && given.result < 0 ? given.result : -ECONNREFUSED;
    }
    return fd;
}

static int act(struct control *control, const struct monitor_call *call, struct given *given,
               struct monitor_answer *what, struct err *err)
{
    bool paused = false;
    int r = 0;
    switch (call->verb) {
    case MONITOR_STATE:
        r = control_is_paused(control, &paused, err);
        what->paused = paused;
        return r;
    case MONITOR_PAUSE:
        return control_pause(control, err);
    case MONITOR_RESUME:
        return control_resume(control, err);
    case MONITOR_CTRL_ALT_DEL:
        return control_ctrl_alt_del(control, err);
    case MONITOR_POWER_BUTTON:
        return control_power_button(control, err);
    case MONITOR_SAVE: {
        int state_fd = next_fd(given);
        return control_save_files(control, (enum snapshot_kind)call->value, state_fd,
                                  next_fd(given), err);
    }
    case MONITOR_SAVED:
        snapshot_written(control->machine);
        return 0;
    case MONITOR_GET_BALLOON:
        return control_get_balloon(control, &what->balloon, err);
    case MONITOR_SET_BALLOON:
        return control_set_balloon(control, call->value, err);
    case MONITOR_SET_LIMITS: {
        AUTO(buf_donep) struct buf text = {0};
        r = read_fd(next_fd(given), CONFIG_FILE_MAX, &text);
        return r < 0 ? err_set(err, -r, "read the machine's limits")
                     : control_take_limits(control, &text, err);
    }
    default:
        return err_set(err, ENOSYS, "call %u", call->verb);
    }
}

static void on_call(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source, (void)events;
    struct program *program = data;
    AUTO(given_donep) struct given given = {0};
    struct monitor_call call;
    struct monitor_answer what = {0};
    struct err err = ERR_NONE;
    bool good = receive(fd, &call, &given);
    if (good) {
        int r = act(&program->control, &call, &given, &what, &err);
        good = answer(fd, r, &err, &what);
    }
    if (!good) {
        /* Who started us is gone; so it ends. */
        loop_remove(TAKE_PTR(program->calls_source));
        machine_stop(program->control.machine, BOARD_STOPPED);
    }
}

static void on_signal(const struct signalfd_siginfo *info, void *data)
{
    const struct control *control = data;
    (void)info;
    if (control->machine == NULL) {
        loop_quit(control->loop, 0);
    } else {
        machine_stop(control->machine, BOARD_STOPPED);
    }
}

static int on_made(struct control *control, void *data, struct err *err)
{
    return gdb_attach(data, control->machine, err);
}

static int load_text(struct control *control, int fd, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : read_fd(fd, CONFIG_FILE_MAX, &text);
    return r < 0 ? err_set(err, -r, "read the machine's description")
                 : control_load_text(control, &text, "description", err);
}

static int start(struct program *program, const struct monitor_call *call, struct given *given,
                 struct err *err)
{
    static const struct snapshot_paths names = {
        .state = "the state",
        .memory = "the memory",
        .base = {"the first base", "the second base", "the third base", "the fourth base"},
    };
    struct control *control = &program->control;
    control->identity = call->identity;
    control->track_dirty = (call->value & MONITOR_TRACKS) != 0;
    (void)snprintf(program->id, sizeof(program->id), "%.*s", (int)sizeof(call->id) - 1, call->id);
    control->id = program->id[0] == '\0' ? NULL : program->id;
    int asks = next_fd(given);
    program->asks_fd = asks < 0 ? -1 : fcntl(asks, F_DUPFD_CLOEXEC, 3);
    int config = (call->value & MONITOR_HAS_CONFIG) != 0 ? next_fd(given) : -1;
    struct snapshot_files files = {.state_fd = -1, .memory_fd = -1};
    if ((call->value & MONITOR_HAS_SNAPSHOT) != 0) {
        files.state_fd = next_fd(given);
        files.memory_fd = next_fd(given);
        files.base_count = MIN((call->value >> MONITOR_BASES_SHIFT) & 0xff, SNAPSHOT_BASES_MAX);
        for (size_t i = 0; i < files.base_count; i++) {
            files.base_fd[i] = next_fd(given);
        }
    }
    int r = loop_add_signal(control->loop, SIGTERM, on_signal, control);
    r = r < 0 ? r : loop_add_signal(control->loop, SIGINT, on_signal, control);
    if (r < 0) {
        return err_set(err, -r, "listen for signals");
    }
    if ((call->value & MONITOR_HAS_GDB) != 0) {
        int listener = fcntl(next_fd(given), F_DUPFD_CLOEXEC, 3);
        r = listener < 0 ? err_set(err, errno, "listen to a debugger")
                         : gdb_new(listener, control->loop, &program->gdb, err);
        control->made = on_made;
        control->made_data = program->gdb;
    }
    if (r < 0) {
        return r;
    }
    if (files.state_fd >= 0) {
        return control_restore_files(control, &files, &names, (call->value & MONITOR_RUNS_ON) != 0,
                                     err);
    }
    r = load_text(control, config, err);
    return r < 0 ? r : control_start(control, err);
}

/* What the guest sent last is still to reach its readers; the agent's word goes before ours. */
static bool ask_agent(struct machine *machine, struct agent *agent, int *ret_code)
{
    if (machine_vsock(machine) != NULL) {
        (void)vsock_drain(machine_vsock(machine), DRAIN_NS);
    }
    return agent != NULL && agent_has_exit(agent, ret_code);
}

int monitor_finish(struct control *control, struct vmm_report *ret)
{
    int code = 0;
    *ret = (struct vmm_report){.size = sizeof(*ret)};
    if (control->machine == NULL) {
        return 0;
    }
    if (ask_agent(control->machine, control->agent, &code)) {
        ret->oom_kills = (uint32_t)MIN(agent_oom_kills(control->agent), (int64_t)UINT32_MAX);
        if (ret->oom_kills > 0) {
            (void)fprintf(stderr, "isola-vmm: the machine ran out of memory, and its kernel killed "
                                  "processes of the workload\n");
        }
        return code;
    }
    control_show_console(control);
    const struct machine_ending *ending = machine_ending(control->machine);
    char text[256];
    switch (ending->why) {
    case BOARD_RUNS:
    case BOARD_POWER_OFF:
    case BOARD_RESET:
    case BOARD_STOPPED:
        return 0;
    case BOARD_DEBUG_EXIT:
        return (int)(ending->code & 0xff);
    case BOARD_SHUTDOWN:
        ret->why = VMM_REPORT_SHUTDOWN;
        break;
    case BOARD_PANIC:
        ret->why = VMM_REPORT_PANIC;
        break;
    case BOARD_UNEMULATED:
        ret->why = VMM_REPORT_UNEMULATED;
        break;
    case BOARD_SHARE_LOST:
        ret->why = VMM_REPORT_SHARE_LOST;
        break;
    }
    machine_describe_ending(control->machine, text, sizeof(text));
    (void)fprintf(stderr, "isola-vmm: %s%s%s\n", control->id == NULL ? "" : control->id,
                  control->id == NULL ? "" : ": ", text);
    return EXIT_GUEST_FAILED;
}

/* Until the guest runs: the first call and its answer. False: it does not. */
static bool begin(struct program *program)
{
    AUTO(given_donep) struct given given = {0};
    struct monitor_call call;
    struct monitor_answer what = {0};
    struct err err = ERR_NONE;
    if (!receive(program->calls_fd, &call, &given) || call.verb != MONITOR_START) {
        return false;
    }
    int r = start(program, &call, &given, &err);
    return answer(program->calls_fd, r, &err, &what) && r == 0;
}

static int run(struct program *program, struct loop *loop)
{
    struct control *control = &program->control;
    if (control_init(control, loop, NULL, NULL) < 0) {
        return EXIT_NOT_MADE;
    }
    control->place = CONTROL_ALONE;
    control->connect = ask_for_port;
    control->connect_data = program;
    if (!begin(program)) {
        return EXIT_NOT_MADE;
    }
    int r = loop_add_fd(loop, program->calls_fd, EPOLLIN, on_call, program, &program->calls_source);
    r = r < 0 ? r : loop_run(loop);
    struct vmm_report report;
    return r < 0 ? EXIT_GUEST_FAILED : monitor_finish(control, &report);
}

void monitor_main(const char *calls_fd)
{
    uint64_t fd = 0;
    if (calls_fd == NULL || parse_u64(calls_fd, 10, &fd) < 0 || fd > INT32_MAX ||
        set_cloexec((int)fd, true) < 0) {
        (void)fprintf(stderr, "isola-vmm: %s is isola-vmm's own\n", MONITOR_OPTION);
        _exit(EXIT_NOT_MADE);
    }
    (void)prctl(PR_SET_NAME, "isola-vmm"); /* not "exe" */
    struct program program = {.calls_fd = (int)fd, .asks_fd = -1};
    struct loop *loop = NULL;
    int code = loop_new(&loop) < 0 ? EXIT_NOT_MADE : run(&program, loop);
    gdb_free(program.gdb);
    control_done(&program.control);
    (void)fflush(NULL);
    _exit(code);
}
