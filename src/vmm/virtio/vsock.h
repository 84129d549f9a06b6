/*
 * vsock.h - sockets between guest and host (virtio 1.2, 5.10), Unix sockets on the host's side.
 *
 * Host to guest: a program connects to the Unix socket UDS, writes "CONNECT PORT\n" and reads
 * "OK HOSTPORT\n"; what follows is the stream. Guest to host: a connection to port P of CID 2 goes
 * to whoever listens on the Unix socket "UDS_P", or to descriptors that were bound to P.
 *
 * Back-pressure is the credit of the protocol: what a guest may send ahead of a slow reader is
 * bounded for each connection and for all together (3 MiB), and memory is taken only while a
 * reader is slow. A reset or the guest's end loses nothing that the guest had sent before: it is
 * still written to the host's side. After a restore all connections are gone and the guest is
 * told so (TRANSPORT_RESET).
 *
 * The process must ignore SIGPIPE.
 */
#ifndef VMM_VIRTIO_VSOCK_H
#define VMM_VIRTIO_VSOCK_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct loop;
struct memory;
struct virtio;

/* Connections at a time, those that are still being set up included. */
#define VSOCK_CONNECTIONS_MAX 256

/*
 * guest_cid: the guest's address, 3 to 2^32 - 2. uds: path of the Unix socket, made here and
 * removed with the device; NULL: bound descriptors only. To be called on the loop's thread or
 * before it runs; so is virtio_free().
 */
int vsock_new(const char *instance, uint64_t guest_cid, const char *uds, struct memory *memory,
              struct loop *loop, struct virtio **ret, struct err *err);

/*
 * The guest's first connection to port of CID 2 gets read_fd (what comes from there goes to the
 * guest) and write_fd; one of them may be -1. They are the device's from then on, also on failure,
 * and become non-blocking, also for others who share their open file description. They are closed
 * when the connection ends; a reset of the device gives them back to the port.
 *
 * The end of read_fd's data is told to the guest. When the guest shuts down its sending side and
 * all it sent is written, write_fd is closed. With read_fd < 0 the guest then reads the end of
 * file: the sign that everything has arrived.
 */
int vsock_bind_port(struct virtio *v, uint32_t port, int read_fd, int write_fd, struct err *err);

/*
 * Held, programs that connect to UDS wait until they are not held any more, rather than being
 * turned away by a guest that does not listen yet. On the loop's thread or before it runs, outside
 * callbacks of this device.
 */
void vsock_hold(struct virtio *v, bool hold);

/*
 * How connections to Unix sockets are made where this process may make none: fn gives a connected,
 * non-blocking descriptor to "UDS_PORT", or to UDS itself for VSOCK_OWN_PORT, or a negative errno.
 * Called on the loop's thread. The socket's name is then not removed at the end.
 */
typedef int vsock_connect_fn(uint32_t port, void *data);
#define VSOCK_OWN_PORT UINT32_MAX
void vsock_set_connector(struct virtio *v, vsock_connect_fn *fn, void *data);

/* A connection of the monitor's own to UDS, as any program's: a descriptor or a negative errno. */
int vsock_connect_own(struct virtio *v);

/*
 * Before the monitor ends, when no CPU runs any more: takes what is left in the guest's queue and
 * writes all that is left for the host's side. On the loop's thread, outside callbacks of this
 * device. 0, or -ETIMEDOUT when a reader was too slow.
 */
int vsock_drain(struct virtio *v, int64_t timeout_ns);

#endif
