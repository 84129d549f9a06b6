#include "engine/shim_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "base/unix_socket.h"
#include "base/user_namespace.h"
#include "container/self.h"
#include "engine/rootless.h"
#include "engine/shim_protocol.h"
#include "engine/status.h"

#define CONTROL_FD 3
#define ROOTFS_FD 4
#define PROGRAM_FD 5
#define LOG_FILES_DEFAULT 1
#define CONNECT_WAIT_NS (10 * NS_PER_SEC)
#define CONNECT_TRIES 20

static int add(struct strv *argv, const char *option, const char *value)
{
    int r = strv_add(argv, option);
    return r < 0 || value == NULL ? r : strv_add(argv, value);
}

static int add_log_options(const struct workload_config *config, struct strv *argv)
{
    for (size_t i = 0; i < config->log_opt.count; i++) {
        const char *option = config->log_opt.items[i];
        const char *value = strchr(option, '=');
        int r =
            value == NULL
                ? 0
                : add(argv, str_starts(option, "max-size=") ? "--log-max-size" : "--log-max-files",
                      value + 1);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int add_number(struct strv *argv, const char *option, uint64_t value)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return value == 0 ? 0 : add(argv, option, text);
}

static int add_health_options(const struct workload_config *config, struct strv *argv)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < config->health_test.count; i++) {
        r = add(argv, "--health", config->health_test.items[i]);
    }
    if (r < 0 || config->health_test.count == 0) {
        return r;
    }
    r |= add_number(argv, "--health-interval", config->health_interval);
    r |= add_number(argv, "--health-timeout", config->health_timeout);
    r |= add_number(argv, "--health-start-period", config->health_start_period);
    r |= add_number(argv, "--health-retries", (uint64_t)config->health_retries);
    return r;
}

static int build_argv(const struct shim_process *process, struct strv *argv)
{
    const struct workload_config *config = &process->workload->config;
    const struct engine *engine = process->engine;
    AUTO(freep) char *isola = dirs_helper("isola");
    const struct {
        const char *option;
        const char *value;
    } options[] = {
        {"--id", process->workload->id},
        {"--run-dir", process->run_dir},
        {"--containers", engine->containers_dir},
        {"--isola", isola},
        {"--root", engine->dirs.root},
        {"--run", engine->dirs.run},
        {"--wall", config->isolation != NULL ? config->isolation : "container"},
        {"--control-fd", "3"},
        {"--rootfs-fd", "4"},
    };
    int r = isola == NULL ? -ENOMEM : strv_add(argv, "isola-shim");
    for (size_t i = 0; r == 0 && i < COUNT(options); i++) {
        r = add(argv, options[i].option, options[i].value);
    }
    if (r == 0 && process->log_dir != NULL) {
        r = add(argv, "--log-dir", process->log_dir);
    }
    if (r == 0 && config->tty) {
        r = add(argv, "--tty", NULL);
    }
    if (r == 0 && config->interactive) {
        r = add(argv, "--stdin", NULL);
    }
    if (r == 0) {
        r = add_log_options(config, argv);
    }
    if (r == 0) {
        r = add_health_options(config, argv);
    }
    return r;
}

struct birth_of_shim {
    const char *run; /* RUN */
    char *const *argv;
    char *const *environment;
    int program_fd;
    int control_fd;
    int rootfs_fd;
};

/* In the child: only the three descriptors, a session of its own, nothing on stdio. */
static int become_shim(void *data)
{
    const struct birth_of_shim *birth = data;
    int high[3];
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int wanted[] = {birth->control_fd, birth->rootfs_fd, birth->program_fd};
    rootless_note(birth->run);
    (void)setsid();
    signals_reset();
    /* First out of the way, then to their places: sources and places may overlap. */
    for (int i = 0; i < 3; i++) {
        high[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, 16);
        if (high[i] < 0) {
            _exit(125);
        }
    }
    for (int i = 0; i < 3; i++) {
        (void)dup2(null_fd, i);
    }
    if (dup2(high[0], CONTROL_FD) < 0 || dup2(high[1], ROOTFS_FD) < 0 ||
        dup3(high[2], PROGRAM_FD, O_CLOEXEC) < 0) {
        _exit(125);
    }
    (void)close_fds_from(PROGRAM_FD + 1);
    if (chdir("/") < 0) {
        _exit(125);
    }
    (void)fexecve(PROGRAM_FD, birth->argv, birth->environment);
    _exit(125);
}

int shim_process_spawn(const struct shim_process *process, struct shim_identity *ret,
                       struct err *err)
{
    AUTO(strv_donep) struct strv argv = {0};
    AUTO(freep) char *program = dirs_helper("isola-shim");
    int pair[2];
    int r = program == NULL ? -ENOMEM : build_argv(process, &argv);
    if (r < 0) {
        return err_set(err, -r, "start isola-shim");
    }
    AUTO(closep) int program_fd = self_open(program, err);
    if (program_fd < 0) {
        return err_wrap(err, -program_fd, "start '%s'", program);
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return err_set(err, errno, "start isola-shim");
    }
    AUTO(closep) int ours = pair[0];
    AUTO(closep) int theirs = pair[1];
    /* Where systemd's user manager is found: for the scope's start and end, and for `isola reap`.
     */
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    AUTO(freep) char *variable = str_printf("XDG_RUNTIME_DIR=%s", runtime != NULL ? runtime : "");
    if (variable == NULL) {
        return err_set(err, ENOMEM, "start isola-shim");
    }
    char *const environment[] = {
        runtime != NULL && !user_is_host_root() ? variable : NULL,
        NULL,
    };
    /* It outlives us, or we it, and then it has nothing left to do: nobody waits for it. */
    struct birth_of_shim birth = {
        .run = process->engine->dirs.run,
        .argv = argv.items,
        .environment = environment,
        .program_fd = program_fd,
        .control_fd = theirs,
        .rootfs_fd = process->rootfs_fd,
    };
    pid_t pid = process_vfork(become_shim, &birth);
    if (pid < 0) {
        return err_set(err, (int)-pid, "start isola-shim");
    }
    *ret = (struct shim_identity){.pid = pid};
    (void)process_start_time(pid, &ret->start_time);
    return TAKE_FD(ours);
}

static bool shim_is_alive(struct engine *engine, const char *id,
                          const struct shim_identity *identity)
{
    if (identity != NULL && process_is_alive(identity->pid, identity->start_time)) {
        return true;
    }
    struct workload_status status = {0};
    AUTO(freep) char *path = workload_run_path(engine, id, NULL);
    AUTO(closep) int dir = path != NULL ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    return dir >= 0 && status_read(dir, &status) == 0 && status_shim_alive(&status);
}

/* Connects; a shim that lives will listen, unless it leaves. */
static int reach(struct engine *engine, const char *id, const struct shim_identity *identity)
{
    AUTO(freep) char *path = workload_run_path(engine, id, "shim.sock");
    int64_t deadline = clock_monotonic_ns() + CONNECT_WAIT_NS;
    for (int64_t wait = NS_PER_MS;; wait = MIN(wait * 2, 20 * NS_PER_MS)) {
        bool alive = shim_is_alive(engine, id, identity);
        int fd = path != NULL ? unix_connect(path, SOCK_SEQPACKET) : -ENOMEM;
        if (fd >= 0 || (fd != -ENOENT && fd != -ECONNREFUSED) || !alive ||
            clock_monotonic_ns() > deadline) {
            return fd;
        }
        const struct timespec ts = {.tv_nsec = wait};
        (void)nanosleep(&ts, NULL);
    }
}

static int say_hello(int fd, uint32_t roles, const struct shim_seen *seen)
{
    struct {
        struct shim_message message;
        struct shim_seen seen;
    } hello = {.message = {.type = SHIM_HELLO, .value = roles}};
    size_t len = sizeof(hello.message);
    if (seen != NULL) {
        hello.seen = *seen;
        len = sizeof(hello);
    }
    return send(fd, &hello, len, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The shim listens as long as it lives. */
static int reach_held(int held_fd)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", held_fd);
    return unix_connect(path, SOCK_SEQPACKET);
}

static int connect_as(struct engine *engine, const char *id, int held_fd,
                      const struct shim_identity *identity, uint32_t roles,
                      const struct shim_seen *seen, struct err *err)
{
    int r = -EPIPE;
    /* More than once: the one that listened may be killed before it reads. */
    for (int try = 0; r == -EPIPE && try < CONNECT_TRIES; try++) {
        AUTO(closep) int fd = held_fd >= 0 ? reach_held(held_fd) : reach(engine, id, identity);
        r = fd < 0 ? fd : say_hello(fd, roles, seen);
        if (r == 0) {
            return TAKE_FD(fd);
        }
    }
    return err_set(err, -r, "reach the shim of workload %.12s", id);
}

int shim_process_connect(struct engine *engine, const struct workload *workload, uint32_t roles,
                         struct err *err)
{
    return connect_as(engine, workload->id, -1, NULL, roles, NULL, err);
}

int shim_process_hold(struct engine *engine, const char *id)
{
    AUTO(freep) char *path = workload_run_path(engine, id, "shim.sock");
    int fd = path != NULL ? open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
    return fd >= 0 ? fd : path != NULL ? -errno : -ENOMEM;
}

int shim_process_reconnect(struct engine *engine, const char *id, int held_fd,
                           const struct shim_identity *identity, uint32_t roles,
                           const struct shim_seen *seen, struct err *err)
{
    return connect_as(engine, id, held_fd, identity, roles | SHIM_RESUME, seen, err);
}

int shim_process_dns(struct engine *engine, const struct workload *workload, struct err *err)
{
    AUTO(closep) int fd = shim_process_connect(engine, workload, 0, err);
    const struct shim_message ask = {.type = SHIM_DNS};
    if (fd < 0 || send(fd, &ask, sizeof(ask), MSG_NOSIGNAL) < 0) {
        return fd < 0 ? fd : err_set(err, errno, "reach the shim of '%s'", workload->name);
    }
    for (;;) {
        struct {
            struct shim_message message;
            struct err err;
        } answer = {.message = {.type = 0}};
        ssize_t n = recv(fd, &answer, sizeof(answer), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < (ssize_t)sizeof(answer.message)) {
            return err_say(err, EPIPE, "the shim of '%s' went away", workload->name);
        }
        if (answer.message.type == SHIM_DNS) {
            answer.err.text[sizeof(answer.err.text) - 1] = '\0';
            return answer.message.value == 0
                       ? 0
                       : err_say(err, (int)answer.message.value, "%s", err_text(&answer.err));
        }
    }
}

int shim_process_files(struct engine *engine, const struct workload *workload, struct err *err)
{
    AUTO(closep) int fd = shim_process_connect(engine, workload, 0, err);
    const struct shim_message ask = {.type = SHIM_FILES};
    if (fd < 0 || send(fd, &ask, sizeof(ask), MSG_NOSIGNAL) < 0) {
        return fd < 0 ? fd : err_set(err, errno, "reach the shim of '%s'", workload->name);
    }
    for (;;) {
        struct shim_message answer = {.type = 0};
        size_t count = 1;
        AUTO(closep) int dir = -1;
        ssize_t n = unix_recv_fds(fd, &answer, sizeof(answer), &dir, &count);
        if (n < (ssize_t)sizeof(answer)) {
            return err_say(err, EPIPE, "the shim of '%s' went away", workload->name);
        }
        if (answer.type == SHIM_FILES && answer.value == 0 && count == 1) {
            return TAKE_FD(dir);
        }
        if (answer.type == SHIM_FILES) {
            return err_set(err, answer.value != 0 ? (int)answer.value : EPROTO,
                           "find the files of '%s'", workload->name);
        }
    }
}

/* The end as the database has it, once the shim is gone. */
static int exit_code_in_db(struct engine *engine, const char *id, int *ret, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    int r = workload_find(engine, id, &workload, err);
    if (r == 0) {
        *ret = (int)workload.run.exit_code;
    }
    return r;
}

int shim_process_wait(struct engine *engine, const struct workload *workload, int64_t timeout_ns,
                      int *ret_exit_code, struct err *err)
{
    int64_t deadline = timeout_ns < 0 ? -1 : clock_monotonic_ns() + timeout_ns;
    AUTO(closep) int fd = shim_process_connect(engine, workload, 0, NULL);
    if (fd < 0) {
        return exit_code_in_db(engine, workload->id, ret_exit_code, err);
    }
    for (;;) {
        int64_t left = deadline < 0 ? -1 : MAX(deadline - clock_monotonic_ns(), (int64_t)0);
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int n = poll(&poll_fd, 1, left < 0 ? -1 : (int)((left + NS_PER_MS - 1) / NS_PER_MS));
        if (n < 0 && errno != EINTR) {
            return err_set(err, errno, "wait for '%s'", workload->name);
        }
        if (n == 0) {
            return err_set(err, ETIMEDOUT, "wait for '%s'", workload->name);
        }
        struct shim_message message;
        ssize_t got = n < 0 ? -1 : recv(fd, &message, sizeof(message), 0);
        if (got == (ssize_t)sizeof(message) && message.type == SHIM_EXITED) {
            *ret_exit_code = (int)message.value;
            return 0;
        }
        if (got == 0 || (got < 0 && n > 0 && errno != EINTR)) {
            (void)close_fd(fd);
            fd = shim_process_connect(engine, workload, 0, NULL);
            if (fd < 0) {
                return exit_code_in_db(engine, workload->id, ret_exit_code, err);
            }
        }
    }
}
