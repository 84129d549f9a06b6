/*
 * shim_protocol.h - what isola and isola-shim say to each other.
 *
 * A SOCK_SEQPACKET Unix socket, RUN/workloads/ID/shim.sock (mode 0600) or the socket pair the shim
 * was started with. Each packet is a struct shim_message and up to SHIM_DATA_MAX bytes. Both ends
 * are Isola's of one version range: a shim outlives an upgrade, so types are only ever added.
 */
#ifndef ENGINE_SHIM_PROTOCOL_H
#define ENGINE_SHIM_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

#define SHIM_DATA_MAX ((size_t)8192)

enum shim_message_type {
    /* To the shim */
    /*
     * value: enum shim_role bits; first message of a connection. With SHIM_RESUME data: struct
     * shim_seen. Answered by what a client with these roles would know by now: SHIM_CREATED,
     * SHIM_STARTED, SHIM_FAILED, SHIM_EXITED.
     */
    SHIM_HELLO = 1,
    SHIM_START = 2,  /* execute the created workload */
    SHIM_STDIN = 3,  /* data for standard input; none: end of input */
    SHIM_RESIZE = 4, /* value: rows << 16 | columns */
    SHIM_REAPED = 5, /* a client with SHIM_REAPER has ended the run in the database */
    /* Read RUN/workloads/ID/dns and proxy again. Answered by SHIM_DNS, value: errno or 0, data:
       struct err */
    SHIM_DNS = 6,
    /*
     * Answered by SHIM_FILES, value: errno, or 0 and a descriptor of the directory in which the
     * workload's hosts, hostname and resolv.conf lie, those that are ours.
     */
    SHIM_FILES = 7,
    /* From the shim */
    SHIM_CREATED = 16, /* value: pid; namespaces exist, nothing is executed */
    SHIM_STARTED = 17,
    SHIM_FAILED = 18, /* value: exit code 125 to 127; data: struct err */
    SHIM_STDOUT = 19,
    SHIM_STDERR = 20,
    SHIM_EXITED = 21, /* value: exit code; all output was sent before */
    SHIM_SEEN = 22,   /* data: struct shim_seen: the output before what comes now */
    /*
     * To one client with SHIM_REMOVER; value: exit code. As SHIM_EXITED, but what holds the
     * workload is still being taken down: who removes the workload now leaves that to the shim, and
     * says SHIM_REAPED.
     */
    SHIM_ENDING = 23,
};

enum shim_role {
    SHIM_WATCH = 1,    /* wants SHIM_STDOUT, SHIM_STDERR */
    SHIM_INPUT = 2,    /* its end is the end of standard input, unless there is a terminal */
    SHIM_REAPER = 4,   /* will end the run itself after SHIM_EXITED */
    SHIM_STARTER = 8,  /* its death before SHIM_START ends the workload */
    SHIM_RESUME = 16,  /* was connected before: the worker died */
    SHIM_REMOVER = 32, /* with SHIM_REAPER: it will remove the workload */
};

struct shim_message {
    uint32_t type;
    uint32_t value;
};

/* Bytes of output, since the start, that a client has: standard output and standard error. */
struct shim_seen {
    uint64_t bytes[2];
};

#endif
