/*
 * A machine's serial port on a terminal.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/unix_socket.h"
#include "cmd/machine.h"
#include "cmd/terminal.h"

#define ESCAPE '\001' /* C-a */
#define FULL_WAIT_MS 20
#define LOG_MAX ((off_t)512 << 10)

enum machine_key machine_keys_pass(struct machine_keys *keys, const char *data, size_t n, int fd)
{
    for (size_t i = 0; i < n; i++) {
        if (!keys->escaped && data[i] == ESCAPE) {
            keys->escaped = true;
            continue;
        }
        if (keys->escaped && (data[i] == 'x' || data[i] == 'X')) {
            return MACHINE_KEYS_LEAVE;
        }
        /* C-a C-a and C-a a are the key itself; behind others it was meant for the guest, too. */
        static const char escape = ESCAPE;
        bool itself = data[i] == ESCAPE || data[i] == 'a';
        if (keys->escaped && write_full(fd, &escape, 1) < 0) {
            return MACHINE_KEYS_LEAVE;
        }
        if ((!keys->escaped || !itself) && write_full(fd, &data[i], 1) < 0) {
            return MACHINE_KEYS_LEAVE;
        }
        keys->escaped = false;
    }
    return MACHINE_KEYS_GO_ON;
}

int machine_console(const struct machine_place *place, struct err *err)
{
    AUTO(terminal_restorep) struct terminal terminal = {.fd = -1};
    AUTO(closep) int fd = unix_connect(place->console, SOCK_STREAM);
    struct machine_keys keys = {0};
    char data[4096];
    if (fd < 0) {
        return err_say(err, ESRCH, "there is no detached machine '%s'", place->name);
    }
    if (isatty(STDIN_FILENO) == 1) {
        (void)fprintf(stderr, "[console of '%s'; C-a x leaves it]\r\n", place->name);
        (void)terminal_set_raw(&terminal, STDIN_FILENO);
    }
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        if (poll(fds, COUNT(fds), -1) < 0) {
            if (errno != EINTR) {
                return err_set(err, errno, "wait for machine '%s'", place->name);
            }
            continue;
        }
        if (fds[0].revents != 0) {
            ssize_t n = read(fd, data, sizeof(data));
            if (n <= 0 || write_full(STDOUT_FILENO, data, (size_t)n) < 0) {
                return 0; /* the machine ended, or nobody reads */
            }
        }
        if (fds[1].revents != 0) {
            ssize_t n = read(STDIN_FILENO, data, sizeof(data));
            if (n <= 0) {
                fds[1].fd = -1; /* the output still counts */
            } else if (machine_keys_pass(&keys, data, (size_t)n, fd) == MACHINE_KEYS_LEAVE) {
                return 0;
            }
        }
    }
}

/* The log and the one before it: what was said last, in bounded room. */
static int write_log(const struct machine_place *place, int fd, const char *data, size_t n)
{
    if (write_full(fd, data, n) < 0 || lseek(fd, 0, SEEK_CUR) < LOG_MAX) {
        return fd; /* a full disk does not stop the machine */
    }
    (void)rename(place->log, place->log_old);
    (void)close_fd(fd);
    return open(place->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

/* One who does not read is let go: the guest does not wait for him. */
static bool pass_on(int client, const char *data, size_t n)
{
    return send(client, data, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
}

int machine_keep_console(const struct machine_place *place, int listen_fd, int in_fd, int out_fd)
{
    AUTO(closep) int log = open(place->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    AUTO(closep) int client = -1;
    char data[PIPE_BUF];
    for (;;) {
        /* Keys are taken only when the machine takes them: what it says must not wait for that. */
        struct pollfd takes = {.fd = in_fd, .events = POLLOUT};
        bool room = poll(&takes, 1, 0) == 1;
        struct pollfd fds[] = {{.fd = out_fd, .events = POLLIN},
                               {.fd = listen_fd, .events = POLLIN},
                               {.fd = room ? client : -1, .events = POLLIN}};
        if (poll(fds, COUNT(fds), room ? -1 : FULL_WAIT_MS) < 0) {
            if (errno != EINTR) {
                return -errno;
            }
            continue;
        }
        if (fds[0].revents != 0) {
            ssize_t n = read(out_fd, data, sizeof(data));
            if (n <= 0) {
                return n < 0 ? -errno : 0;
            }
            log = write_log(place, log, data, (size_t)n);
            if (client >= 0 && !pass_on(client, data, (size_t)n)) {
                client = close_fd(client);
            }
        }
        if (client >= 0 && fds[2].revents != 0) {
            ssize_t n = recv(client, data, sizeof(data), MSG_DONTWAIT);
            if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
                (n > 0 && write_full(in_fd, data, (size_t)n) < 0)) {
                client = close_fd(client);
            }
        }
        if (fds[1].revents != 0) {
            int next = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
            (void)close_fd(next >= 0 ? client : -1);
            client = next >= 0 ? next : client; /* who comes takes the console over */
        }
    }
}
