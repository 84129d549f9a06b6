/*
 * load.h - bytes over a socket, by guest (bench/vm/init.c) and host (bench/vm/race.c).
 */
#ifndef BENCH_VM_LOAD_H
#define BENCH_VM_LOAD_H

#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOAD_HOST "10.9.0.1"
#define LOAD_GUEST "10.9.0.2"
#define LOAD_PORT 5001
#define LOAD_BYTES ((size_t)32 << 20)
#define LOAD_CHUNK ((size_t)128 << 10)
/* What the guest asks the host for; anything else: to receive. */
#define LOAD_SEND 's'
#define LOAD_SEND_LITTLE 'l'

/* Sends bytes and says that there are no more. */
static inline int load_send(int fd, size_t bytes)
{
    static char chunk[LOAD_CHUNK];
    while (bytes > 0) {
        ssize_t n = write(fd, chunk, bytes < LOAD_CHUNK ? bytes : LOAD_CHUNK);
        if (n <= 0) {
            return -1;
        }
        bytes -= (size_t)n;
    }
    return shutdown(fd, SHUT_WR);
}

/* Reads to the end. Returns how much it was. */
static inline size_t load_receive(int fd)
{
    static char chunk[LOAD_CHUNK];
    size_t bytes = 0;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n <= 0) {
            return bytes;
        }
        bytes += (size_t)n;
    }
}

#endif
