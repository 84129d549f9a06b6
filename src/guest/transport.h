/*
 * transport.h - connections between agent and host: vsock, or Unix sockets where there is no
 * virtual machine (tests): port P is then DIR/P.
 */
#ifndef GUEST_TRANSPORT_H
#define GUEST_TRANSPORT_H

struct transport {
    const char *unix_dir; /* NULL: vsock */
};

/* Descriptors are close-on-exec; or a negative errno. A listener accepts without blocking. */
int transport_listen(const struct transport *transport, unsigned port);

/* A connection from the host; one from elsewhere is closed. -EAGAIN: none is waiting. */
int transport_accept(const struct transport *transport, int listen_fd);

/* Waits for the host's answer, at most two seconds. */
int transport_connect(const struct transport *transport, unsigned port);

#endif
