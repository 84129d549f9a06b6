#include "netlink/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/process.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "base/user_namespace.h"
#include "netlink/message.h"

/* The kernel builds dump answers of at most 32 KiB, as long as the reader offers as much. */
#define RECEIVE_SIZE ((size_t)32768)

int nl_socket_open(int protocol)
{
    AUTO(closep) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0) {
        return -errno;
    }
    static const int on = 1;
    /* Error texts, and acknowledgements without a copy of the request. Both may be refused. */
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
    return TAKE_FD(fd);
}

/* In a child, which does not come back: it sends the socket and ends. */
static int open_by_child(int netns_fd, int protocol)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    AUTO(closep) int ours = pair[0];
    AUTO(closep) int theirs = pair[1];
    pid_t pid = fork();
    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        int fd = setns(netns_fd, CLONE_NEWNET) < 0 ? -errno : nl_socket_open(protocol);
        int r = fd < 0 ? fd : unix_send_fds(theirs, "", 1, &fd, 1);
        _exit(r < 0 ? MIN(-r, 255) : 0);
    }
    int status = 0;
    int r = process_wait(pid, &status);
    if (r < 0 || status != 0) {
        return r < 0 ? r : WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
    }
    int fd = -1;
    size_t count = 1;
    char byte;
    ssize_t n = unix_recv_fds(ours, &byte, 1, &fd, &count);
    return n < 0 ? (int)n : count == 1 ? fd : -EPROTO;
}

int nl_socket_open_in(int netns_fd, int protocol)
{
    if (!user_owns_network()) {
        return open_by_child(netns_fd, protocol);
    }
    AUTO(closep) int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0) {
        return -errno;
    }
    if (setns(netns_fd, CLONE_NEWNET) < 0) {
        return -errno;
    }
    int fd = nl_socket_open(protocol);
    if (setns(home, CLONE_NEWNET) < 0) {
        /* All further work would happen in the workload's namespace. */
        abort();
    }
    return fd;
}

/* Large batches (a range of ports) need a larger buffer than the default. */
static void grow_buffers(int fd, size_t len)
{
    int size = 0;
    socklen_t size_len = sizeof(size);
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &size_len) == 0 && (size_t)size < 2 * len &&
        len < (size_t)1 << 28) {
        int want = (int)(2 * len);
        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &want, sizeof(want)) < 0) {
            (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &want, sizeof(want));
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &want, sizeof(want));
    }
}

static int transmit(int fd, struct nl_batch *batch)
{
    if (batch->error < 0) {
        return batch->error;
    }
    if (batch->buf.len > 65536) {
        grow_buffers(fd, batch->buf.len);
    }
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t n = 0;
    do {
        n = sendto(fd, batch->buf.data, batch->buf.len, 0, (struct sockaddr *)&kernel,
                   sizeof(kernel));
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

/* One datagram from the kernel. Returns its length or a negative errno. */
static ssize_t receive(int fd, void *data, size_t size)
{
    struct sockaddr_nl from = {0};
    for (;;) {
        socklen_t from_len = sizeof(from);
        ssize_t n =
            recvfrom(fd, data, size, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from, &from_len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (from.nl_pid != 0) {
            continue; /* another process, not the kernel */
        }
        return (size_t)n > size ? -EMSGSIZE : n;
    }
}

/* payload: a struct nlmsgerr. Returns the error in it (0: acknowledged) and the kernel's text. */
static int read_error(const struct nlmsghdr *header, const uint8_t *payload, size_t len, char *text,
                      size_t size)
{
    struct nlmsgerr e;
    text[0] = '\0';
    if (len < sizeof(e)) {
        return -EPROTO;
    }
    memcpy(&e, payload, sizeof(e));
    if ((header->nlmsg_flags & NLM_F_ACK_TLVS) != 0) {
        size_t skip = sizeof(e);
        if ((header->nlmsg_flags & NLM_F_CAPPED) == 0 && e.msg.nlmsg_len >= sizeof(e.msg)) {
            skip += NLMSG_ALIGN(e.msg.nlmsg_len) - sizeof(e.msg);
        }
        struct nl_attribute message;
        if (nl_attribute_find(nl_attributes_after(payload, len, skip), NLMSGERR_ATTR_MSG,
                              &message)) {
            (void)nl_get_str(&message, text, size);
        }
    }
    return e.error > 0 ? -EPROTO : e.error;
}

struct answer {
    struct nlmsghdr header;
    const uint8_t *payload;
    size_t len;
};

/* Takes the next message out of a datagram; false at its end. */
static bool next_answer(const uint8_t **data, size_t *left, struct answer *ret)
{
    if (*left < sizeof(ret->header)) {
        return false;
    }
    memcpy(&ret->header, *data, sizeof(ret->header));
    size_t len = ret->header.nlmsg_len;
    if (len < sizeof(ret->header) || len > *left) {
        return false;
    }
    ret->payload = *data + sizeof(ret->header);
    ret->len = len - sizeof(ret->header);
    size_t step = NLMSG_ALIGN(len) < *left ? NLMSG_ALIGN(len) : *left;
    *data += step;
    *left -= step;
    return true;
}

static int set_kernel_error(struct err *err, int error, const char *text)
{
    return text[0] != '\0' ? err_set(err, -error, "netlink: %s", text)
                           : err_set(err, -error, "netlink");
}

int nl_send(int fd, struct nl_batch *batch, uint32_t *ret_failed, struct err *err)
{
    if (batch->count == 0) {
        return batch->error;
    }
    if (batch->acked == 0) {
        nl_ask_answer(batch);
    }
    int r = transmit(fd, batch);
    if (r < 0) {
        return err_set(err, -r, "netlink: send");
    }
    int first = 0;
    bool done = false;
    uint8_t data[8192];
    while (!done) {
        ssize_t n = receive(fd, data, sizeof(data));
        if (n == -EAGAIN) {
            break;
        }
        if (n < 0) {
            return err_set(err, (int)-n, "netlink: receive");
        }
        const uint8_t *at = data;
        size_t left = (size_t)n;
        struct answer answer;
        while (next_answer(&at, &left, &answer)) {
            if (answer.header.nlmsg_type != NLMSG_ERROR) {
                continue;
            }
            char text[256];
            r = read_error(&answer.header, answer.payload, answer.len, text, sizeof(text));
            if (r < 0 && first == 0) {
                first = set_kernel_error(err, r, text);
                if (ret_failed != NULL) {
                    *ret_failed = answer.header.nlmsg_seq - 1;
                }
            }
            done = done || answer.header.nlmsg_seq == batch->acked;
        }
    }
    if (!done && first == 0) {
        return err_say(err, EPROTO, "netlink: the kernel did not answer");
    }
    return first;
}

int nl_query(int fd, struct nl_batch *batch, nl_message_fn *fn, void *data, struct err *err)
{
    int r = transmit(fd, batch);
    if (r < 0) {
        return err_set(err, -r, "netlink: send");
    }
    AUTO(freep) uint8_t *room = malloc(RECEIVE_SIZE);
    if (room == NULL) {
        return err_set(err, ENOMEM, "netlink");
    }
    int result = 0;
    bool interrupted = false;
    for (;;) {
        ssize_t n = receive(fd, room, RECEIVE_SIZE);
        if (n == -EAGAIN) {
            return result; /* a single object ends without a word */
        }
        if (n < 0) {
            return err_set(err, (int)-n, "netlink: receive");
        }
        const uint8_t *at = room;
        size_t left = (size_t)n;
        struct answer answer;
        while (next_answer(&at, &left, &answer)) {
            interrupted = interrupted || (answer.header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            if (answer.header.nlmsg_type == NLMSG_DONE) {
                return result == 0 && interrupted
                           ? err_say(err, EINTR, "the list changed while it was read")
                           : result;
            }
            if (answer.header.nlmsg_type == NLMSG_ERROR) {
                char text[256];
                r = read_error(&answer.header, answer.payload, answer.len, text, sizeof(text));
                return r < 0 && result == 0 ? set_kernel_error(err, r, text) : result;
            }
            /* The rest is read even then, or it would be taken for the answer to the next. */
            if (result == 0 && answer.header.nlmsg_type >= NLMSG_MIN_TYPE) {
                result = fn(answer.header.nlmsg_type, answer.payload, answer.len, data);
                result = result > 0 ? 0 : result;
            }
        }
    }
}
