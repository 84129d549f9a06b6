/*
 * unix_socket.h - Unix sockets and descriptors sent through them.
 */
#ifndef BASE_UNIX_SOCKET_H
#define BASE_UNIX_SOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Connects to or binds path, which may be longer than sun_path: the directory is opened and reached
 * by /proc/self/fd. Type is SOCK_STREAM or SOCK_SEQPACKET. Returns the descriptor or a negative
 * errno. unix_listen() replaces a socket that nobody listens on any more.
 */
int unix_connect(const char *path, int type);
int unix_listen(const char *path, int type, mode_t mode);

/* One message with up to 8 descriptors. 0 or a negative errno. */
int unix_send_fds(int fd, const void *data, size_t len, const int *fds, size_t fd_count);

/*
 * Receives one message; descriptors are close-on-exec and the caller's. On entry *fd_count is the
 * room in fds. Returns the bytes (0: closed) or a negative errno.
 */
ssize_t unix_recv_fds(int fd, void *data, size_t len, int *fds, size_t *fd_count);

/* The same, and the message stays for others. -EAGAIN when there is none. */
ssize_t unix_peek_fds(int fd, void *data, size_t len, int *fds, size_t *fd_count);

#endif
