/*
 * The agent, from the host: through the machine's socket.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "container/guest_protocol.h"
#include "wall/vm.h"

/* Until the machine has made its socket. */
#define RETRY_MS 2

/*
 * "OK PORT\n" and no byte more; -EAGAIN when the guest does not take the connection (yet), or not
 * in time. While it boots the monitor lets us wait.
 */
static int read_greeting(int fd, int pidfd, int timeout_ms)
{
    char line[32];
    size_t len = 0;
    while (len < sizeof(line)) {
        struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
        int r = poll(polled, COUNT(polled), timeout_ms);
        if (r <= 0 || polled[0].revents == 0) {
            return r < 0 && errno != EINTR ? -errno : -EAGAIN;
        }
        ssize_t n = recv(fd, line + len, 1, 0);
        if (n <= 0) {
            return -EAGAIN;
        }
        if (line[len++] == '\n') {
            return len > 3 && memcmp(line, "OK ", 3) == 0 ? 0 : -EPROTO;
        }
    }
    return -EPROTO;
}

static int try_connect(const char *path, int pidfd, int timeout_ms)
{
    char words[32];
    int n = snprintf(words, sizeof(words), "CONNECT %d\n", GUEST_PORT_CONTROL);
    AUTO(closep) int fd = unix_connect(path, SOCK_STREAM);
    if (fd < 0) {
        return fd == -ENOENT || fd == -ECONNREFUSED ? -EAGAIN : fd;
    }
    if (send(fd, words, (size_t)n, MSG_NOSIGNAL) != n) {
        return -EAGAIN;
    }
    int r = read_greeting(fd, pidfd, timeout_ms);
    return r < 0 ? r : TAKE_FD(fd);
}

static bool has_ended(int pidfd, int wait_ms)
{
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
    return poll(&poll_fd, pidfd < 0 ? 0 : 1, wait_ms) > 0;
}

int vm_connect(const char *bundle, int pidfd, int timeout_ms, struct err *err)
{
    AUTO(freep) char *path = str_printf("%s/%s/%s", bundle, VM_SOCKET_DIR, VM_SOCKET);
    if (path == NULL) {
        return err_set(err, ENOMEM, "reach the machine");
    }
    int64_t end = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
    for (;;) {
        int64_t left_ms = (end - clock_monotonic_ns()) / NS_PER_MS;
        int fd = try_connect(path, pidfd, (int)MAX(left_ms, (int64_t)0));
        if (fd >= 0) {
            return fd;
        }
        if (fd != -EAGAIN) {
            return err_set(err, -fd, "reach the machine at '%s'", path);
        }
        if (has_ended(pidfd, RETRY_MS)) {
            return err_say(err, ECHILD, "the virtual machine ended before its agent answered");
        }
        if (clock_monotonic_ns() >= end) {
            (void)err_say(err, ETIMEDOUT, "the agent in the virtual machine does not answer");
            err_hint(err, "see what its kernel says: isola logs");
            return -ETIMEDOUT;
        }
    }
}

int vm_ask(int fd, const json_t *request, const char *want, json_t **ret, bool *ret_exec_failed,
           struct err *err)
{
    AUTO(json_unrefp) json_t *answer = NULL;
    int r = guest_send(fd, request, err);
    r = r < 0 ? r : guest_receive(fd, -1, &answer, err);
    r = r < 0 ? r : guest_answer_check(answer, want, ret_exec_failed, err);
    if (r == 0 && ret != NULL) {
        *ret = TAKE_PTR(answer);
    }
    return r < 0 ? r : 0;
}
