/*
 * fs_process.h - isola-fs, the process that serves one share, and how isola-vmm talks to it.
 *
 * A connected stream socket. First isola-fs sends FS_HELLO, when it is ready and jailed. Then each
 * request is a struct fs_request and its bytes, each answer a struct fs_answer and its bytes, in
 * the order of the requests: also requests without an answer get one of no bytes. Both processes
 * are of one build; integers are the host's. The end of the socket is the end of either.
 */
#ifndef VMM_FS_FS_PROCESS_H
#define VMM_FS_FS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct err;

#define FS_HELLO "isolafs1"
#define FS_HELLO_SIZE 8

/* Of a request, and of its answer: FUSE data of 1 MiB with its headers. */
#define FS_MESSAGE_MAX ((uint32_t)(1 << 20) + 65536)

struct fs_request {
    uint32_t id;
    uint32_t length;
    uint32_t room; /* for the answer */
};

struct fs_answer {
    uint32_t id;
    uint32_t length;
};

struct fs_share {
    const char *tag;  /* for messages */
    const char *path; /* a directory, or one file */
    bool read_only;
};

/*
 * Starts the isola-fs that lies beside the running program, and waits until it is ready. *ret is
 * the socket, the caller's; when it is closed the process ends. The process is a child that gets
 * SIGKILL when the calling thread ends. -EIO: it said why on standard error.
 */
int fs_process_start(const struct fs_share *share, int *ret, struct err *err);

/* The program itself, from the command line to the end. */
int fs_main(int argc, char **argv);

#endif
