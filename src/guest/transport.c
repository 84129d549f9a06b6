#include "guest/transport.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
/* After sys/socket.h, which it needs. */
#include <linux/vm_sockets.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "base/unix_socket.h"

#define BACKLOG 64

static char *unix_path(const struct transport *transport, unsigned port)
{
    return str_printf("%s/%u", transport->unix_dir, port);
}

int transport_listen(const struct transport *transport, unsigned port)
{
    if (transport->unix_dir != NULL) {
        AUTO(freep) char *path = unix_path(transport, port);
        AUTO(closep) int fd = path == NULL ? -ENOMEM : unix_listen(path, SOCK_STREAM, 0600);
        int r = fd < 0 ? fd : set_nonblock(fd, true);
        return r < 0 ? r : TAKE_FD(fd);
    }
    AUTO(closep) int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_vm addr = {.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_ANY};
    if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(fd, BACKLOG) < 0) {
        return -errno;
    }
    return TAKE_FD(fd);
}

int transport_accept(const struct transport *transport, int listen_fd)
{
    struct sockaddr_vm addr = {0};
    socklen_t len = sizeof(addr);
    bool is_unix = transport->unix_dir != NULL;
    for (;;) {
        AUTO(closep)
        int fd = accept4(listen_fd, is_unix ? NULL : (struct sockaddr *)&addr,
                         is_unix ? NULL : &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno == EINTR) {
            continue;
        }
        if (fd < 0) {
            return -errno;
        }
        /* Not the workload, by way of a loopback. */
        if (is_unix || addr.svm_cid == VMADDR_CID_HOST) {
            return TAKE_FD(fd);
        }
    }
}

int transport_connect(const struct transport *transport, unsigned port)
{
    if (transport->unix_dir != NULL) {
        AUTO(freep) char *path = unix_path(transport, port);
        return path == NULL ? -ENOMEM : unix_connect(path, SOCK_STREAM);
    }
    AUTO(closep) int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_vm addr = {
        .svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_HOST};
    if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return -errno;
    }
    return TAKE_FD(fd);
}
