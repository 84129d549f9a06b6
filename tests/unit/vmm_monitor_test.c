/*
 * The process outside of the jail, before one inside that a guest has taken over: this program
 * starts itself anew as that one, which then does what it must not.
 */
#include "vmm/monitor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "base/unix_socket.h"
#include "unit.h"
#include "vmm/monitor_program.h"
#include "vmm/virtio/vsock.h"

#define ROLE "ISOLA_TEST_ROLE"

static int calls_fd, asks_fd;

static void answer(int result, const char *text)
{
    struct monitor_answer what = {.result = result};
    (void)snprintf(what.text, sizeof(what.text), "%s", text);
    (void)send(calls_fd, &what, sizeof(what), MSG_NOSIGNAL);
}

static void take_call(void)
{
    struct monitor_call call;
    int fds[8];
    size_t count = COUNT(fds);
    if (unix_recv_fds(calls_fd, &call, sizeof(call), fds, &count) <= 0) {
        _exit(0);
    }
    if (call.verb == MONITOR_START && count > 0) {
        asks_fd = fds[0];
    }
}

/* What is given for a port; *ret_fd is -1 without a descriptor. */
static int ask(uint32_t port, int *ret_fd)
{
    const struct monitor_ask what = {.port = port};
    struct monitor_given given = {.result = -EPROTO};
    size_t count = 1;
    *ret_fd = -1;
    (void)send(asks_fd, &what, sizeof(what), 0);
    (void)unix_recv_fds(asks_fd, &given, sizeof(given), ret_fd, &count);
    return given.result;
}

static void says_nonsense(void)
{
    struct monitor_answer what = {.result = 5};
    memset(what.text, 0x1b, sizeof(what.text)); /* an escape of the terminal, without an end */
    (void)send(calls_fd, &what, sizeof(what), 0);
    take_call();
    answer(-INT32_MAX, "\033[2J\xff");
    take_call();
}

static void answers_too_little(void)
{
    (void)send(calls_fd, "x", 1, 0);
    (void)pause();
}

static void never_answers(void)
{
    (void)pause();
}

static void kills_itself(void)
{
    (void)kill(getpid(), SIGKILL); /* of process 1: nothing happens */
    abort();
}

/* Its results go out as the code of its end. */
static void asks_for_all(void)
{
    char big[4096] = {0};
    int fd;
    (void)send(asks_fd, big, sizeof(big), 0); /* no answer */
    (void)send(asks_fd, "x", 1, 0);
    int own = ask(VSOCK_OWN_PORT, &fd);
    int seven = ask(7, &fd);
    char byte = 0;
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    bool talks = fd >= 0 && poll(&poller, 1, 10000) == 1 && read(fd, &byte, 1) == 1 && byte == '7';
    int eight = ask(8, &fd);
    answer(0, "");
    take_call();
    answer(own == 0 && seven == 0 && talks && eight == -ENOENT ? 0 : -EBADE, "asked in vain");
    take_call();
}

/* As many as it can without reading an answer. */
static void floods(void)
{
    const struct monitor_ask what = {.port = 8};
    answer(0, "");
    for (;;) {
        (void)send(asks_fd, &what, sizeof(what), MSG_NOSIGNAL | MSG_DONTWAIT);
        struct monitor_call call;
        if (recv(calls_fd, &call, sizeof(call), MSG_DONTWAIT) == (ssize_t)sizeof(call)) {
            answer(0, "");
        }
    }
}

static const struct {
    const char *name;
    void (*play)(void);
} roles[] = {
    {"says_nonsense", says_nonsense}, {"answers_too_little", answers_too_little},
    {"never_answers", never_answers}, {"kills_itself", kills_itself},
    {"asks_for_all", asks_for_all},   {"floods", floods},
};

static _Noreturn void play(const char *fd)
{
    const char *role = getenv(ROLE);
    calls_fd = atoi(fd);
    take_call();
    for (size_t i = 0; role != NULL && i < COUNT(roles); i++) {
        if (strcmp(roles[i].name, role) == 0) {
            roles[i].play();
        }
    }
    _exit(3);
}

struct scene {
    struct loop *loop;
    struct monitor *monitor;
    struct err err;
    char folder[40];
    char uds[64], seven[64];
    int own_fd, seven_fd;
    pid_t server;
    bool ended;
};

static void on_ended(struct monitor *monitor, void *data)
{
    struct scene *scene = data;
    (void)monitor;
    scene->ended = true;
    loop_quit(scene->loop, 0);
}

/* Who listens at port 7. */
static void serve_seven(struct scene *scene)
{
    scene->server = fork();
    ck_assert_int_ge(scene->server, 0);
    if (scene->server == 0) {
        int fd = accept(scene->seven_fd, NULL, NULL);
        _exit(write(fd, "7", 1) == 1 ? 0 : 1);
    }
}

static int scene_open(struct scene *scene, const char *role)
{
    const struct monitor_options options = {.config_fd = -1, .gdb_fd = -1, .uds = scene->uds};
    *scene = (struct scene){.folder = "/tmp/isola-monitor-XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(scene->folder));
    (void)snprintf(scene->uds, sizeof(scene->uds), "%s/v", scene->folder);
    (void)snprintf(scene->seven, sizeof(scene->seven), "%s/v_7", scene->folder);
    scene->own_fd = unix_listen(scene->uds, SOCK_STREAM, 0600);
    scene->seven_fd = unix_listen(scene->seven, SOCK_STREAM, 0600);
    ck_assert_int_ge(MIN(scene->own_fd, scene->seven_fd), 0);
    serve_seven(scene);
    ck_assert_int_eq(loop_new(&scene->loop), 0);
    ck_assert_int_eq(setenv(ROLE, role, 1), 0);
    return monitor_start(&options, scene->loop, on_ended, scene, &scene->monitor, &scene->err);
}

static void scene_close(struct scene *scene)
{
    monitor_free(scene->monitor);
    loop_free(scene->loop);
    (void)kill(scene->server, SIGKILL);
    (void)waitpid(scene->server, NULL, 0);
    (void)close(scene->own_fd);
    (void)close(scene->seven_fd);
    (void)unlink(scene->uds);
    (void)unlink(scene->seven);
    ck_assert_int_eq(rmdir(scene->folder), 0);
}

START_TEST(what_it_says_is_cleaned)
{
    struct scene scene;
    ck_assert_int_eq(scene_open(&scene, "says_nonsense"), -EPROTO);
    const char *text = err_text(&scene.err);
    ck_assert_uint_ge(strlen(text), 100);
    ck_assert_uint_eq(strspn(text, "?"), strlen(text));
    scene_close(&scene);
}
END_TEST

START_TEST(one_that_answers_too_little_is_gone)
{
    struct scene scene;
    ck_assert_int_eq(scene_open(&scene, "answers_too_little"), -ESRCH);
    scene_close(&scene);
}
END_TEST

START_TEST(one_that_fails_is_gone)
{
    struct scene scene;
    ck_assert_int_eq(scene_open(&scene, "kills_itself"), -ESRCH);
    scene_close(&scene);
}
END_TEST

/* The signal waits, blocked as the loop blocks it. */
START_TEST(one_that_never_answers_is_killed_when_we_are_to_end)
{
    struct scene scene;
    sigset_t term;
    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    ck_assert_int_eq(sigprocmask(SIG_BLOCK, &term, NULL), 0);
    ck_assert_int_eq(raise(SIGTERM), 0);
    int64_t start = clock_monotonic_ns();
    ck_assert_int_eq(scene_open(&scene, "never_answers"), -ESRCH);
    ck_assert_int_lt(clock_monotonic_ns() - start, 3 * NS_PER_SEC);
    scene_close(&scene);
}
END_TEST

START_TEST(it_is_given_ports_of_vsock_and_nothing_else)
{
    struct scene scene;
    /* It asks while we wait for its first answer. */
    int r = scene_open(&scene, "asks_for_all");
    ck_assert_msg(r == 0, "%s", err_text(&scene.err));
    r = monitor_call(scene.monitor, MONITOR_PAUSE, 0, NULL, 0, NULL, &scene.err);
    ck_assert_msg(r == 0, "%s", err_text(&scene.err));
    scene_close(&scene);
}
END_TEST

static void on_time(struct loop_source *source, void *data)
{
    (void)source;
    loop_quit(data, 0);
}

START_TEST(asking_without_end_keeps_us_from_nothing)
{
    struct scene scene;
    struct loop_source *timer = NULL;
    ck_assert_int_eq(scene_open(&scene, "floods"), 0);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(monitor_call(scene.monitor, MONITOR_PAUSE, 0, NULL, 0, NULL, &scene.err),
                         0);
    }
    ck_assert_int_eq(loop_add_timer(scene.loop, NS_PER_SEC / 5, on_time, scene.loop, &timer), 0);
    ck_assert_int_eq(loop_run(scene.loop), 0);
    ck_assert(!scene.ended);
    monitor_stop(scene.monitor);
    monitor_stop(scene.monitor);
    ck_assert_int_eq(loop_run(scene.loop), 0);
    ck_assert(scene.ended);
    ck_assert_int_eq(monitor_exit_code(scene.monitor), 126);
    loop_remove(timer);
    scene_close(&scene);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], MONITOR_OPTION) == 0) {
        play(argv[2]);
    }
    const TTest *const tests[] = {
        what_it_says_is_cleaned,
        one_that_answers_too_little_is_gone,
        one_that_fails_is_gone,
        one_that_never_answers_is_killed_when_we_are_to_end,
        it_is_given_ports_of_vsock_and_nothing_else,
        asking_without_end_keeps_us_from_nothing,
        NULL,
    };
    return unit_run("vmm_monitor", tests);
}
