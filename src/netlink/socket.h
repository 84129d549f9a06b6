/*
 * socket.h - a netlink socket: batches out, acknowledgements and dumps in.
 *
 * The kernel answers while the send is still under way, so nothing here ever waits.
 */
#ifndef NETLINK_SOCKET_H
#define NETLINK_SOCKET_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct nl_batch;

/*
 * Opens a socket of NETLINK_ROUTE or NETLINK_NETFILTER in the network namespace of this thread.
 * Returns the descriptor, the caller's, or a negative errno.
 */
int nl_socket_open(int protocol);

/*
 * The same in another network namespace: the thread visits it and comes back. Must be called with
 * no other thread depending on the namespace of this one (setns() is per thread).
 */
int nl_socket_open_in(int netns_fd, int protocol);

/*
 * Sends the batch and reads the answers. The messages of a route batch are carried out in order,
 * also behind one that fails; an nftables batch is all or nothing. Returns 0 or the first error,
 * with the kernel's own text when it has one; *ret_failed (may be NULL) is then the index of that
 * message. The batch may be changed (sequence numbers) but stays the caller's.
 */
int nl_send(int fd, struct nl_batch *batch, uint32_t *ret_failed, struct err *err);

/* type: of the answer; payload: behind the netlink header. A negative result ends the walk. */
typedef int nl_message_fn(uint16_t type, const void *payload, size_t len, void *data);

/*
 * Sends the batch, which is one request for a dump or a single object, and hands every answer to
 * fn. Returns 0, fn's error or the kernel's; -EINTR when what is listed changed meanwhile, so that
 * something may have been left out: ask again.
 */
#define NL_DUMP_TRIES 10
int nl_query(int fd, struct nl_batch *batch, nl_message_fn *fn, void *data, struct err *err);

#endif
