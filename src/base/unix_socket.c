#include "base/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

#define FDS_MAX ((size_t)8)

/* Fills addr for path; *ret_dir keeps the directory open while the address is used. */
static int make_address(const char *path, struct sockaddr_un *addr, int *ret_dir)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    *ret_dir = -1;
    if (strlen(path) < sizeof(addr->sun_path)) {
        (void)snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path);
        return 0;
    }
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return -ENAMETOOLONG;
    }
    AUTO(freep) char *dir = strndup(path, (size_t)(slash - path));
    if (dir == NULL) {
        return -ENOMEM;
    }
    AUTO(closep) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int n = snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d/%s", fd, slash + 1);
    if (n < 0 || (size_t)n >= sizeof(addr->sun_path)) {
        return -ENAMETOOLONG;
    }
    *ret_dir = TAKE_FD(fd);
    return 0;
}

int unix_connect(const char *path, int type)
{
    struct sockaddr_un addr;
    AUTO(closep) int dir = -1;
    int r = make_address(path, &addr, &dir);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return -errno;
    }
    return TAKE_FD(fd);
}

int unix_listen(const char *path, int type, mode_t mode)
{
    struct sockaddr_un addr;
    AUTO(closep) int dir = -1;
    int r = make_address(path, &addr, &dir);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    /* The mode of the socket file is that of the descriptor at bind time. */
    if (fchmod(fd, mode) < 0) {
        return -errno;
    }
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        if (errno != EADDRINUSE) {
            return -errno;
        }
        AUTO(closep) int other = unix_connect(path, type);
        if (other != -ECONNREFUSED) {
            return -EADDRINUSE;
        }
        if (unlink(path) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
            return -errno;
        }
    }
    if (listen(fd, SOMAXCONN) < 0) {
        return -errno;
    }
    return TAKE_FD(fd);
}

int unix_send_fds(int fd, const void *data, size_t len, const int *fds, size_t fd_count)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count > FDS_MAX) {
        return -EINVAL;
    }
    if (fd_count > 0) {
        msg.msg_control = control.space;
        msg.msg_controllen = (unsigned)CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = (unsigned)CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, fd_count * sizeof(int));
    }
    ssize_t n;
    do {
        n = sendmsg(fd, &msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    return (size_t)n == len ? 0 : -EMSGSIZE;
}

static void keep_fds(struct cmsghdr *cmsg, int *fds, size_t room, size_t *count)
{
    size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
        int got;
        memcpy(&got, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
        if (*count < room) {
            fds[(*count)++] = got;
        } else {
            (void)close(got);
        }
    }
}

static ssize_t receive(int fd, void *data, size_t len, int *fds, size_t *fd_count, int flags)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = data, .iov_len = len};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.space,
        .msg_controllen = sizeof(control.space),
    };
    ssize_t n;
    do {
        n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | flags);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    size_t room = *fd_count;
    *fd_count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            keep_fds(c, fds, room, fd_count);
        }
    }
    return n;
}

ssize_t unix_recv_fds(int fd, void *data, size_t len, int *fds, size_t *fd_count)
{
    return receive(fd, data, len, fds, fd_count, 0);
}

ssize_t unix_peek_fds(int fd, void *data, size_t len, int *fds, size_t *fd_count)
{
    return receive(fd, data, len, fds, fd_count, MSG_PEEK | MSG_DONTWAIT);
}
