/*
 * console.h - the console device (virtio 1.2, 5.3) with one port, between two descriptors and the
 * guest.
 *
 * Nothing is lost and nothing is stored: while the host's reader is slow the guest's chains stay in
 * their queue; while the guest gives no buffers the host's writer waits.
 */
#ifndef VMM_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_CONSOLE_H

#include <stdint.h>

struct err;
struct loop;
struct memory;
struct virtio;

struct virtio_console_config {
    /*
     * Borrowed and left as they are: terminals and pipes are opened anew where that makes them
     * non-blocking for us alone. -1: no input; output is thrown away, as it is when the reader has
     * gone. SIGPIPE must be ignored by the process.
     */
    int in_fd, out_fd;
    uint16_t columns, rows; /* 0: not known */
};

/* To be freed with virtio_free(). */
int virtio_console_new(const char *instance, const struct virtio_console_config *config,
                       struct memory *memory, struct loop *loop, struct virtio **ret,
                       struct err *err);

/* The terminal has another size now. Any thread; takes the device's lock. */
void virtio_console_resize(struct virtio *v, uint16_t columns, uint16_t rows);

#endif
