/*
 * stream - standard input into a socket, and what comes back to standard output, until both have
 * ended. busybox knows nothing of vsock, and its nc stops when one of the two has ended.
 *
 *   stream tcp PORT ADDRESS     and
 *   stream tcp-listen PORT
 *   stream vsock PORT           in a guest: to the host
 *   stream vsock-listen PORT    in a guest: one connection from the host
 *   stream listen PATH          at the host: one connection of a guest, at uds_path_PORT
 *   stream connect PATH PORT    at the host: to a guest's port, by uds_path
 */
#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int open_socket(int domain, const struct sockaddr *address, socklen_t size, bool listens)
{
    int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        fail("socket");
    }
    if (!listens) {
        for (int i = 0; connect(fd, address, size) < 0; i++) {
            if (i == 100) {
                fail("connect");
            }
            (void)usleep(100000);
        }
        return fd;
    }
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, address, size) < 0 || listen(fd, 1) < 0) {
        fail("listen");
    }
    int connection = accept(fd, NULL, NULL);
    return connection < 0 ? (fail("accept"), -1) : connection;
}

static void put(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n <= 0) {
            fail("write");
        }
        data += n;
        len -= (size_t)n;
    }
}

/* False at the end. */
static bool copy(int from, int to)
{
    char data[65536];
    ssize_t n = read(from, data, sizeof(data));
    if (n < 0) {
        fail("read");
    }
    put(to, data, (size_t)n);
    return n > 0;
}

static void copy_both(int fd)
{
    struct pollfd polled[] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    while ((polled[0].fd >= 0 || polled[1].fd >= 0) && poll(polled, 2, -1) > 0) {
        if (polled[1].revents != 0 && !copy(0, fd)) {
            (void)shutdown(fd, SHUT_WR);
            polled[1].fd = -1;
        }
        if (polled[0].revents != 0 && !copy(fd, 1)) {
            polled[0].fd = -1;
        }
    }
}

/* False when nobody listens in the guest, yet. */
static bool say_hello(int fd, const char *port)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "CONNECT %s\n", port);
    put(fd, text, (size_t)n);
    do {
        if (read(fd, text, 1) != 1) {
            return false;
        }
    } while (text[0] != '\n');
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        return 2;
    }
    bool listens = strstr(argv[1], "listen") != NULL;
    if (strncmp(argv[1], "vsock", 5) == 0) {
        struct sockaddr_vm address = {
            .svm_family = AF_VSOCK,
            .svm_port = (unsigned)strtoul(argv[2], NULL, 10),
            .svm_cid = listens ? VMADDR_CID_ANY : VMADDR_CID_HOST,
        };
        copy_both(open_socket(AF_VSOCK, (struct sockaddr *)&address, sizeof(address), listens));
        return 0;
    }
    if (strncmp(argv[1], "tcp", 3) == 0) {
        struct sockaddr_in address = {
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10)),
            .sin_addr.s_addr = listens || argc < 4 ? INADDR_ANY : inet_addr(argv[3]),
        };
        copy_both(open_socket(AF_INET, (struct sockaddr *)&address, sizeof(address), listens));
        return 0;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[2]);
    int fd = open_socket(AF_UNIX, (struct sockaddr *)&address, sizeof(address), listens);
    for (int i = 0; argc > 3 && !say_hello(fd, argv[3]); i++) {
        (void)close(fd);
        if (i == 100) {
            fail("no answer");
        }
        (void)usleep(100000);
        fd = open_socket(AF_UNIX, (struct sockaddr *)&address, sizeof(address), false);
    }
    copy_both(fd);
    return 0;
}
