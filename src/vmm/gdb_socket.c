/* Where a debugger connects. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "vmm/gdb.h"

static int listen_tcp(const char *where, struct err *err)
{
    static const char host[] = "127.0.0.1:";
    uint64_t port = 0;
    if (!str_starts(where, host) || parse_u64(where + strlen(host), 10, &port) < 0 || port == 0 ||
        port > UINT16_MAX) {
        return err_say(err, EINVAL, "'%s' is neither unix:PATH nor 127.0.0.1:PORT", where);
    }
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr = {htonl(INADDR_LOOPBACK)},
    };
    int one = 1;
    AUTO(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0) {
        return err_set(err, errno, "listen on '%s'", where);
    }
    return TAKE_FD(fd);
}

static int listen_unix(const char *path, char **ret_path, struct err *err)
{
    AUTO(closep) int fd = unix_listen(path, SOCK_STREAM, 0600);
    if (fd < 0) {
        return err_set(err, -fd, "listen on '%s'", path);
    }
    *ret_path = strdup(path);
    int r = *ret_path == NULL ? -ENOMEM : set_nonblock(fd, true);
    return r < 0 ? err_set(err, -r, "listen on '%s'", path) : TAKE_FD(fd);
}

int gdb_socket(const char *where, char **ret_path, struct err *err)
{
    static const char unix_prefix[] = "unix:";
    *ret_path = NULL;
    return str_starts(where, unix_prefix) ? listen_unix(where + strlen(unix_prefix), ret_path, err)
                                          : listen_tcp(where, err);
}
