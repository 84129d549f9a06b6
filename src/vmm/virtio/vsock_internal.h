/*
 * vsock_internal.h - what the files of the vsock device share.
 *
 * All of it runs with the device's lock held, on the loop's thread where not said otherwise.
 */
#ifndef VMM_VIRTIO_VSOCK_INTERNAL_H
#define VMM_VIRTIO_VSOCK_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "vmm/virtio/virtio.h"
#include "vmm/virtio/vsock.h"

#define VSOCK_HOST_CID 2
#define VSOCK_HEADER_SIZE ((size_t)44)
#define VSOCK_TYPE_STREAM 1
#define VSOCK_PORTS_MAX 16
#define VSOCK_RESETS_MAX 256
#define VSOCK_HASH_SIZE 64

enum vsock_op {
    VSOCK_REQUEST = 1,
    VSOCK_RESPONSE = 2,
    VSOCK_RST = 3,
    VSOCK_SHUTDOWN = 4,
    VSOCK_RW = 5,
    VSOCK_CREDIT_UPDATE = 6,
    VSOCK_CREDIT_REQUEST = 7,
};

/* Halves that an end has given up (5.10.6.5). */
#define VSOCK_NO_RECEIVE 1u
#define VSOCK_NO_SEND 2u
#define VSOCK_NEITHER (VSOCK_NO_RECEIVE | VSOCK_NO_SEND)

struct vsock_header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port;
    uint32_t len;
    uint16_t type, op;
    uint32_t flags;
    uint32_t buf_alloc, fwd_cnt;
};

enum vsock_state {
    VSOCK_HELLO,     /* a host program that has not said CONNECT yet */
    VSOCK_REQUESTED, /* the guest has not answered yet */
    VSOCK_OPEN,
    VSOCK_ORPHAN, /* the guest's end is gone; what it sent is being written */
    VSOCK_CLOSED, /* to be freed */
};

struct vsock_port {
    uint32_t port;
    int read_fd, write_fd; /* -1, -1: a connection has them */
};

struct vsock_connection {
    struct vsock *owner;
    LIST_ENTRY(vsock_connection) all;
    LIST_ENTRY(vsock_connection) same_hash;
    TAILQ_ENTRY(vsock_connection) in_news;
    bool hashed, has_news;
    enum vsock_state state;
    uint32_t host_port, guest_port;
    struct vsock_port *port; /* whose descriptors these are, or NULL */
    bool give_back;          /* to the port, when freed */
    /* The host's side. Sockets: the same descriptor twice. -1: closed. */
    int read_fd, write_fd;
    struct loop_source *read_source, *write_source;
    bool readable, writable; /* until the kernel says EAGAIN */
    bool gone;               /* nobody is there any more at the host's side */
    /* What is to be told to the guest: bits 1 << op */
    unsigned pending;
    unsigned guest_done, host_done, told; /* VSOCK_NO_* */
    bool write_ended, read_ended;
    /* From the guest */
    uint32_t promised; /* buf_alloc */
    uint32_t received; /* bytes, modulo 2^32 */
    uint32_t forwarded, forwarded_told;
    uint8_t *out; /* a ring of promised bytes; NULL while empty */
    uint32_t out_at, out_len;
    /* To the guest */
    uint32_t peer_alloc, peer_forwarded, sent;
    bool credit_asked;
    int64_t deadline_ns; /* monotonic; 0: none */
};

LIST_HEAD(vsock_list, vsock_connection);
TAILQ_HEAD(vsock_news, vsock_connection);

struct vsock {
    struct virtio virtio;
    uint64_t guest_cid;
    bool reset_event; /* TRANSPORT_RESET is to be told */
    struct vsock_list all, hash[VSOCK_HASH_SIZE];
    struct vsock_list closed; /* by their `all` link */
    struct vsock_news news;   /* who has something for the guest */
    unsigned count;
    uint32_t promised; /* of all connections */
    uint32_t next_port;
    uint64_t packets; /* taken from the guest */
    /* RSTs for connections that do not exist; what does not fit is not said. */
    struct vsock_reset {
        uint32_t host_port, guest_port;
    } reset[VSOCK_RESETS_MAX];
    unsigned reset_at, reset_count;
    struct vsock_port port[VSOCK_PORTS_MAX];
    unsigned port_count;
    /* Host's side */
    char *uds;
    int dir_fd;                  /* that uds goes through; -1: none */
    vsock_connect_fn *connector; /* NULL: we connect */
    void *connector_data;
    int listen_fd;
    struct loop_source *listen_source, *timer;
    bool listen_ready;
    bool held; /* whoever connects is left waiting */
    bool timer_wanted, timer_armed;
    int wake_fd; /* from other threads */
    struct loop_source *wake_source;
};

/* vsock.c */
/* A packet of the guest; chain is borrowed. */
void vsock_receive(struct vsock *vs, const struct virtq_chain *chain);
/* Ends every entry from the loop: packets for the guest, dead connections, timer. */
void vsock_settle(struct vsock *vs);
void vsock_reply_reset(struct vsock *vs, uint32_t host_port, uint32_t guest_port);

/* vsock_connection.c */
/* NULL: too many, or no memory. */
struct vsock_connection *vsock_connection_new(struct vsock *vs);
void vsock_connection_free(struct vsock_connection *c);
struct vsock_connection *vsock_find(struct vsock *vs, uint32_t host_port, uint32_t guest_port);
void vsock_connection_name(struct vsock_connection *c, uint32_t host_port, uint32_t guest_port);
/* Asks the guest for a connection: a HELLO becomes REQUESTED. */
void vsock_connection_request(struct vsock_connection *c, uint32_t guest_port);
/* A packet for this connection, of which len bytes of data follow the header in chain. */
void vsock_connection_packet(struct vsock_connection *c, const struct vsock_header *h,
                             const struct virtq_chain *chain);
/* The next packet for the guest into chain, which has room for the header and a byte. 0: none. */
uint32_t vsock_connection_next(struct vsock_connection *c, const struct virtq_chain *chain);
bool vsock_connection_has_news(const struct vsock_connection *c);
/* After a change on the host's side: writes what waits, moves on. */
void vsock_connection_advance(struct vsock_connection *c);
/* The guest's end does not exist any more. Any thread. */
void vsock_connection_orphan(struct vsock_connection *c);
/* Ends it now. Any thread. */
void vsock_connection_close(struct vsock_connection *c);
/* The same, and tells the guest. */
void vsock_connection_abort(struct vsock_connection *c);
void vsock_put_header(const struct vsock *vs, const struct virtq_chain *chain,
                      const struct vsock_header *h);

/* vsock_unix.c */
int vsock_unix_open(struct vsock *vs, const char *uds, struct err *err);
int vsock_unix_connect_own(struct vsock *vs);
void vsock_unix_close(struct vsock *vs);
/* Programs that wait to be let in. */
void vsock_unix_accept(struct vsock *vs);
/* Connects the host's side of what the guest asks for, by host_port. 0 or a negative errno. */
int vsock_host_connect(struct vsock_connection *c);
/* Says OK to the program that asked. */
int vsock_host_accepted(struct vsock_connection *c);
void vsock_host_hello(struct vsock_connection *c);
ssize_t vsock_host_read(struct vsock_connection *c, const struct iovec *iov, int count);
ssize_t vsock_host_write(struct vsock_connection *c, const struct iovec *iov, int count);
/* No more will be written. */
void vsock_host_end_write(struct vsock_connection *c);
void vsock_host_end_read(struct vsock_connection *c);
/* Closes both, or gives them back to the port. */
void vsock_host_drop(struct vsock_connection *c);

#endif
