/*
 * guest_machine.h - a "machine" for tests: the real agent as process 1 of namespaces of its own,
 * with Unix sockets where a virtual machine has vsock.
 */
#ifndef UNIT_GUEST_MACHINE_H
#define UNIT_GUEST_MACHINE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "container/guest_protocol.h"
#include "unit.h"

#define MACHINE_PORTS 8 /* the host listens on 1 to 7; 5 to 7 are for exec */
#define MACHINE_TIMEOUT_MS 20000

struct machine {
    char dir[64];
    pid_t pid; /* of the process that waits for the agent */
    int ports[MACHINE_PORTS];
    int control; /* the connection of `start` */
};

static inline void machine_mkdir(const struct machine *m, const char *name)
{
    AUTO(freep) char *path = str_printf("%s/%s", m->dir, name);
    ck_assert_int_eq(mkdir_parents(path, 0755), 0);
}

static inline void machine_write(const struct machine *m, const char *name, const char *text)
{
    AUTO(freep) char *path = str_printf("%s/%s", m->dir, name);
    AUTO(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write_full(fd, text, strlen(text)), 0);
}

/* The busybox layer below, and one above it that changes something. */
static inline void machine_make_layers(struct machine *m)
{
    static const char *const dirs[] = {"sock",     "low/bin", "low/etc", "low/dev",
                                       "low/proc", "low/sys", "low/tmp", "top/etc"};
    AUTO(freep) char *copy = NULL;
    (void)strcpy(m->dir, "/var/tmp/isola-guest-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(m->dir));
    for (size_t i = 0; i < COUNT(dirs); i++) {
        machine_mkdir(m, dirs[i]);
    }
    machine_write(m, "low/etc/which", "low");
    machine_write(m, "top/etc/which", "top");
    copy = str_printf("cp /bin/busybox %s/low/bin/busybox && cd %s/low/bin && for i in sh cat echo "
                      "sleep stty mkdir dd ip ps wc ls kill hostname grep true readlink; do ln -s "
                      "busybox $i; done",
                      m->dir, m->dir);
    ck_assert_int_eq(system(copy), 0);
}

static inline _Noreturn void machine_run(const struct machine *m, const char *prepare)
{
    AUTO(freep) char *sockets = str_printf("%s/sock", m->dir);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* The pid namespace last: its first child is the agent, not a shell. */
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        (prepare != NULL && system(prepare) != 0) || unshare(CLONE_NEWPID) < 0) {
        _exit(100);
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close_fds_from(3);
        (void)execl(ISOLA_GUEST, "isola-guest", "--unix", sockets, (char *)NULL);
        _exit(101);
    }
    int status = 0;
    (void)process_wait(pid, &status);
    /* The kernel reports a machine that was switched off as killed by SIGINT. */
    _exit(WIFSIGNALED(status) ? WTERMSIG(status) : 99);
}

static inline int machine_accept(const struct machine *m, int port)
{
    struct pollfd p = {.fd = m->ports[port], .events = POLLIN};
    ck_assert_msg(poll(&p, 1, MACHINE_TIMEOUT_MS) == 1, "nobody connects to port %d", port);
    int fd = accept4(m->ports[port], NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* A stream that the test does not look at: the agent would wait for its end. */
static inline void machine_discard(const struct machine *m, int port)
{
    (void)close(machine_accept(m, port));
}

/* prepare: a shell command in the machine's namespaces before it starts, or NULL. */
static inline void machine_start(struct machine *m, const char *prepare)
{
    *m = (struct machine){.control = -1};
    machine_make_layers(m);
    for (int i = 1; i < MACHINE_PORTS; i++) {
        AUTO(freep) char *path = str_printf("%s/sock/%d", m->dir, i);
        m->ports[i] = unix_listen(path, SOCK_STREAM, 0600);
        ck_assert_int_ge(m->ports[i], 0);
    }
    m->pid = fork();
    ck_assert_int_ge(m->pid, 0);
    if (m->pid == 0) {
        machine_run(m, prepare);
    }
    AUTO(closep) int events = machine_accept(m, GUEST_PORT_EVENTS);
    AUTO(json_unrefp) json_t *ready = NULL;
    struct err err = ERR_NONE;
    ck_assert_int_eq(guest_receive(events, MACHINE_TIMEOUT_MS, &ready, &err), 0);
    ck_assert_str_eq(guest_message_type(ready), "ready");
}

/* Waits until it is switched off, as it must be, and removes its files. */
static inline void machine_end(struct machine *m)
{
    int status = 0;
    m->control = close_fd(m->control);
    ck_assert_int_eq(process_wait(m->pid, &status), 0);
    for (int i = 1; i < MACHINE_PORTS; i++) {
        (void)close_fd(m->ports[i]);
    }
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, m->dir), 0);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == SIGINT,
                  "the machine was not switched off: status %#x", status);
}

static inline int machine_connect(const struct machine *m)
{
    AUTO(freep) char *path = str_printf("%s/sock/%d", m->dir, GUEST_PORT_CONTROL);
    int fd = unix_connect(path, SOCK_STREAM);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static inline json_t *machine_receive(int fd)
{
    struct err err = ERR_NONE;
    json_t *answer = NULL;
    int r = guest_receive(fd, MACHINE_TIMEOUT_MS, &answer, &err);
    ck_assert_msg(r == 0, "%s", err_text(&err));
    return answer;
}

/* Sends the request (taken over) on fd and returns the answer. */
static inline json_t *machine_ask_on(int fd, json_t *request)
{
    struct err err = ERR_NONE;
    ck_assert_ptr_nonnull(request);
    ck_assert_int_eq(guest_send(fd, request, &err), 0);
    json_decref(request);
    return machine_receive(fd);
}

/* The same on a connection of its own. */
static inline json_t *machine_ask(const struct machine *m, json_t *request)
{
    AUTO(closep) int fd = machine_connect(m);
    return machine_ask_on(fd, request);
}

static inline void machine_expect(json_t *answer, const char *type)
{
    struct err err = ERR_NONE;
    int r = guest_answer_check(answer, type, NULL, &err);
    ck_assert_msg(r == 0, "%s", err_text(&err));
    json_decref(answer);
}

/* A whole "configure" for `sh -c script`. */
static inline json_t *machine_configuration(const struct machine *m, const char *script, bool tty)
{
    AUTO(freep) char *low = str_printf("%s/low", m->dir);
    AUTO(freep) char *top = str_printf("%s/top", m->dir);
    AUTO(freep) char *cgroup = str_printf("/isola-guest-test-%d", (int)getpid());
    json_t *oci = json_pack(
        "{s:s, s:{s:s}, s:{s:b, s:s, s:[s,s,s], s:[s,s], s:{s:i,s:i}}, "
        "s:[{s:s,s:s,s:s},{s:s,s:s,s:s},{s:s,s:s,s:s,s:[s,s,s]}], "
        "s:{s:s, s:[{s:s},{s:s},{s:s},{s:s},{s:s},{s:s}]}}",
        "ociVersion", "1.2.0", "root", "path", "/of/the/host", "process", "terminal", tty, "cwd",
        "/", "args", "/bin/sh", "-c", script, "env", "PATH=/bin", "TERM=vt100", "user", "uid", 0,
        "gid", 0, "mounts", "destination", "/proc", "type", "proc", "source", "proc", "destination",
        "/dev", "type", "tmpfs", "source", "tmpfs", "destination", "/dev/pts", "type", "devpts",
        "source", "devpts", "options", "newinstance", "ptmxmode=0666", "mode=0620", "linux",
        "cgroupsPath", cgroup, "namespaces", "type", "mount", "type", "pid", "type", "ipc", "type",
        "uts", "type", "network", "type", "user");
    json_t *message =
        json_pack("{s:s, s:s, s:b, s:o, s:{s:[{s:s},{s:s}]}}", "type", "configure", "id", "web",
                  "stdin", 1, "config", oci, "root", "layers", "directory", top, "directory", low);
    ck_assert_ptr_nonnull(message);
    return message;
}

/* What comes on a connection until its end, as a string that the caller frees. */
static inline char *machine_read_all(int fd)
{
    struct buf text = {0};
    ck_assert_int_eq(read_fd(fd, (size_t)64 << 20, &text), 0);
    return buf_take(&text);
}

/* Configures and starts; m->control is told the end. */
static inline void machine_begin(struct machine *m, json_t *configuration)
{
    machine_expect(machine_ask(m, configuration), "ok");
    m->control = machine_connect(m);
    machine_expect(machine_ask_on(m->control, json_pack("{s:s}", "type", "start")), "started");
}

static inline int machine_exit_code(int fd)
{
    AUTO(json_unrefp) json_t *message = machine_receive(fd);
    struct guest_exit exit = {0};
    struct err err = ERR_NONE;
    int r = guest_exit_read(message, &exit, &err);
    ck_assert_msg(r == 0, "%s", err_text(&err));
    return exit.code;
}

#endif
