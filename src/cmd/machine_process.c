/*
 * The process of a machine, and who stays beside it: this program with its terminal, or a keeper of
 * its serial port. Either takes the machine along when it is killed.
 */
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
#include "base/dirs.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/process.h"
#include "base/unix_socket.h"
#include "cmd/machine.h"
#include "cmd/terminal.h"

#define START_NS (60 * NS_PER_SEC)
#define LOOK_US 3000

/* In the child: never returns. */
static void become_monitor(const struct machine_start *start, const char *program, int in_fd,
                           int out_fd, int errors_fd)
{
    const struct machine_place *place = start->place;
    char *argv[9] = {"isola-vmm", "--id", place->name, "--api-sock", place->api};
    size_t count = 5;
    if (start->configured) {
        argv[count++] = (char *)(uintptr_t) "--config-file";
        argv[count++] = place->config;
    }
    if (start->no_jail) {
        argv[count++] = (char *)(uintptr_t) "--no-jail";
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    signals_reset();
    if ((in_fd >= 0 && dup2(in_fd, STDIN_FILENO) < 0) ||
        (out_fd >= 0 && dup2(out_fd, STDOUT_FILENO) < 0) ||
        (errors_fd >= 0 && dup2(errors_fd, STDERR_FILENO) < 0)) {
        _exit(127);
    }
    (void)execv(program, argv);
    (void)fprintf(stderr, "run '%s': %s\n", program, strerror(errno));
    _exit(127);
}

static int note_pid(const struct machine_place *place, pid_t pid, struct err *err)
{
    uint64_t start = 0;
    char text[64];
    AUTO(closep) int folder = open(place->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = folder < 0 ? -errno : process_start_time(pid, &start);
    int n = snprintf(text, sizeof(text), "%d %llu\n", (int)pid, (unsigned long long)start);
    r = r < 0 ? r : replace_file_at(folder, "pid", text, (size_t)n, 0600, false);
    return r < 0 ? err_set(err, -r, "write '%s'", place->pid) : 0;
}

/* Descriptors -1: ours. */
static pid_t start_monitor(const struct machine_start *start, int in_fd, int out_fd, int errors_fd,
                           struct err *err)
{
    AUTO(freep) char *program = dirs_helper("isola-vmm");
    (void)fflush(NULL);
    pid_t pid = program == NULL ? -1 : fork();
    if (pid < 0) {
        return err_set(err, errno, "start machine '%s'", start->place->name);
    }
    if (pid == 0) {
        become_monitor(start, program, in_fd, out_fd, errors_fd);
    }
    int r = note_pid(start->place, pid, err);
    if (r < 0) {
        (void)kill(pid, SIGKILL);
        int status;
        (void)process_wait(pid, &status);
        return r;
    }
    return pid;
}

static bool is_gone(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == pid;
}

/*
 * Until it runs, or a child of ours (the machine or its keeper) has ended: -ECHILD, and it has said
 * why. A snapshot is loaded as soon as it listens.
 */
static int wait_until_runs(const struct machine_start *start, pid_t pid, struct err *err)
{
    const struct machine_place *place = start->place;
    int64_t end = clock_monotonic_ns() + START_NS;
    while (clock_monotonic_ns() < end) {
        AUTO(json_unrefp) json_t *instance = NULL;
        if (machine_call(place, "GET", "/", NULL, &instance, NULL) == 0) {
            const char *state = json_string_value(json_object_get(instance, "state"));
            if (start->state != NULL && str_eq(state, "Not started")) {
                AUTO(json_unrefp)
                json_t *load = json_pack("{s:s, s:s, s:b, s:O}", "snapshot_path", start->state,
                                         "mem_file_path", start->memory, "resume_vm", 1,
                                         "mem_base_paths", start->bases);
                return machine_call(place, "PUT", "/snapshot/load", load, NULL, err);
            }
            if (!str_eq(state, "Not started")) {
                return 0;
            }
        }
        if (is_gone(pid)) {
            return -ECHILD;
        }
        (void)usleep(LOOK_US);
    }
    return err_say(err, ETIMEDOUT, "machine '%s' does not start", place->name);
}

/* Keys to the machine until it ends. */
static void pass_keys(int fd, pid_t pid)
{
    AUTO(terminal_restorep) struct terminal terminal = {.fd = -1};
    AUTO(closep) int pidfd = pidfd_open_pid(pid);
    struct machine_keys keys = {0};
    char data[1024];
    (void)terminal_set_raw(&terminal, STDIN_FILENO);
    struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    while (fds[0].revents == 0) {
        if (poll(fds, COUNT(fds), -1) < 0) {
            fds[0].revents = 0;
            continue; /* a signal */
        }
        if (fds[1].revents == 0) {
            continue;
        }
        ssize_t n = read(STDIN_FILENO, data, sizeof(data));
        if (n <= 0) {
            fds[1].fd = -1;
        } else if (machine_keys_pass(&keys, data, (size_t)n, fd) == MACHINE_KEYS_LEAVE) {
            (void)pidfd_signal(pidfd, SIGTERM);
            fds[1].fd = -1;
        }
    }
}

int machine_run_attached(const struct machine_start *start, struct err *err)
{
    int keys[2] = {-1, -1};
    bool terminal = isatty(STDIN_FILENO) == 1;
    if (terminal && pipe2(keys, O_CLOEXEC) < 0) {
        return err_set(err, errno, "start machine '%s'", start->place->name);
    }
    AUTO(closep) int key_out = keys[0];
    AUTO(closep) int key_in = keys[1];
    if (terminal) {
        (void)fprintf(stderr, "[machine '%s'; C-a x switches it off]\n", start->place->name);
    }
    /* Both are the machine's business: it ends, and then we do. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    pid_t pid = start_monitor(start, key_out, -1, -1, err);
    if (pid < 0) {
        return (int)pid;
    }
    key_out = close_fd(key_out);
    int r = start->state == NULL ? 0 : wait_until_runs(start, pid, err);
    if (r < 0 && r != -ECHILD) {
        (void)kill(pid, SIGTERM);
    } else if (terminal) {
        pass_keys(key_in, pid);
    }
    int status = 0;
    int waited = process_wait(pid, &status);
    if (r < 0 && r != -ECHILD) {
        return r;
    }
    return waited < 0 ? err_set(err, -waited, "wait for machine '%s'", start->place->name)
                      : exit_code_of(status);
}

/* The keeper: its end is the machine's, and cleans up. */
static void keep(const struct machine_start *start, int listen_fd, int errors_fd)
{
    const struct machine_place *place = start->place;
    int in[2];
    int out[2];
    struct err err = ERR_NONE;
    (void)setsid();
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) {
        _exit(1);
    }
    pid_t pid = start_monitor(start, in[0], out[1], errors_fd, &err);
    if (pid < 0) {
        (void)dprintf(errors_fd, "%s\n", err_text(&err));
        _exit(1);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        (void)dup2(null, fd);
    }
    (void)machine_keep_console(place, listen_fd, in[1], out[0]);
    int status = 0;
    (void)process_wait(pid, &status);
    /* One that never ran leaves what it said to who started it. */
    if (exit_code_of(status) != 125) {
        machine_place_remove(place);
    }
    _exit(exit_code_of(status));
}

static int say_errors(const struct machine_place *place, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    static const char prefix[] = "isola-vmm: ";
    if (read_file(place->errors, 4096, &text) < 0 || text.len == 0) {
        return err_say(err, EIO, "machine '%s' ended at once", place->name);
    }
    const char *line = text.data;
    line += str_starts(line, prefix) ? strlen(prefix) : 0;
    return err_say(err, EIO, "machine '%s': %.*s", place->name, (int)strcspn(line, "\n"), line);
}

int machine_run_detached(const struct machine_start *start, struct err *err)
{
    const struct machine_place *place = start->place;
    AUTO(closep) int errors = open(place->errors, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    AUTO(closep) int listener = errors < 0 ? -1 : unix_listen(place->console, SOCK_STREAM, 0600);
    if (errors < 0 || listener < 0) {
        return err_set(err, errors < 0 ? errno : -listener, "start machine '%s'", place->name);
    }
    (void)fflush(NULL);
    pid_t keeper = fork();
    if (keeper < 0) {
        return err_set(err, errno, "start machine '%s'", place->name);
    }
    if (keeper == 0) {
        keep(start, listener, errors);
    }
    int r = wait_until_runs(start, keeper, err);
    if (r == -ECHILD) {
        r = say_errors(place, err);
    } else if (r < 0) {
        (void)kill(keeper, SIGTERM);
        int status;
        (void)process_wait(keeper, &status);
    }
    return r;
}
