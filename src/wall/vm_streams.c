/*
 * Streams between this process and one in a machine: the agent connects them to ports of the host,
 * which are Unix sockets beside the machine's own.
 */
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/err.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "wall/vm.h"

/* Unique by our pid, above those that are fixed. */
#define PORT_OF(stream) (0x10000u + (unsigned)getpid() * 4u + (unsigned)(stream))
#define CONNECT_TIMEOUT_MS 10000

int vm_streams_listen(struct vm_streams *streams, const char *bundle, const bool wanted[3],
                      struct err *err)
{
    for (int i = 0; i < 3; i++) {
        if (!wanted[i]) {
            continue;
        }
        streams->path[i] = str_printf("%s/%s/%s_%u", bundle, VM_SOCKET_DIR, VM_SOCKET, PORT_OF(i));
        streams->listener[i] =
            streams->path[i] == NULL ? -ENOMEM : unix_listen(streams->path[i], SOCK_STREAM, 0600);
        if (streams->listener[i] < 0) {
            return err_set(err, -streams->listener[i], "listen for the machine's streams");
        }
    }
    return 0;
}

int vm_streams_describe(const struct vm_streams *streams, json_t *request)
{
    static const char *const keys[] = {"stdin", "stdout", "stderr"};
    int r = 0;
    for (int i = 0; r == 0 && i < 3; i++) {
        r = json_object_set_new(
            request, keys[i], json_integer(streams->listener[i] < 0 ? 0 : (json_int_t)PORT_OF(i)));
    }
    return r < 0 ? -ENOMEM : 0;
}

/* The agent has connected them before it answers. */
int vm_streams_accept(struct vm_streams *streams, struct err *err)
{
    for (int i = 0; i < 3; i++) {
        struct pollfd poll_fd = {.fd = streams->listener[i], .events = POLLIN};
        if (streams->listener[i] < 0) {
            continue;
        }
        streams->fd[i] = poll(&poll_fd, 1, CONNECT_TIMEOUT_MS) == 1
                             ? accept4(streams->listener[i], NULL, NULL, SOCK_CLOEXEC)
                             : -1;
        if (streams->fd[i] < 0) {
            return err_say(err, ETIMEDOUT, "the machine does not connect its streams");
        }
    }
    return 0;
}

void vm_streams_unlisten(struct vm_streams *streams)
{
    for (int i = 0; i < 3; i++) {
        if (streams->listener[i] >= 0) {
            (void)unlink(streams->path[i]);
        }
        streams->listener[i] = close_fd(streams->listener[i]);
        free(streams->path[i]);
        streams->path[i] = NULL;
    }
}

int vm_terminal_open(int console_fd, struct err *err)
{
    AUTO(closep) int master = -1;
    AUTO(closep) int slave = -1;
    struct termios raw;
    if (openpty(&master, &slave, NULL, NULL, NULL) < 0 || tcgetattr(slave, &raw) < 0) {
        return err_set(err, errno, "make a terminal");
    }
    cfmakeraw(&raw);
    (void)tcsetattr(slave, TCSANOW, &raw);
    int r = unix_send_fds(console_fd, "pty", 3, &master, 1);
    return r < 0 ? err_set(err, -r, "hand the terminal over") : TAKE_FD(slave);
}
