/*
 * shim_shared.h - the memory that the two processes of a shim share, and that a worker leaves to
 * the next.
 *
 * Anonymous and shared, made by the waiter before its first fork. A process may be killed between
 * any two instructions: each step is one store, and what is made of several is valid only by the
 * store after them.
 */
#ifndef ENGINE_SHIM_SHARED_H
#define ENGINE_SHIM_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "engine/log_file.h"
#include "engine/shim_protocol.h"

/* What a builder, a forked child, answers. */
struct shim_build {
    _Atomic bool done;
    bool exec_failed;
    int error; /* positive errno, 0: success */
    pid_t pid;
    uint64_t start_time;
    struct err err;
};

#define SHIM_EXITED_BIT (1ULL << 32)

struct shim_shared {
    /* Of the waiter */
    struct shim_build create;
    _Atomic bool created;    /* create is final */
    _Atomic uint64_t exited; /* SHIM_EXITED_BIT | wait status of the first process */

    /* Of the worker, for the next one */
    struct shim_build start;
    _Atomic bool start_asked; /* SHIM_START came */
    _Atomic bool input_ended; /* the waiter is to close its end of standard input */
    _Atomic uint64_t final;   /* SHIM_EXITED_BIT | exit code that the status file has */
    _Atomic bool ended;       /* the database knows of the end, or somebody is told to see to it */
    _Atomic bool removed;     /* shim_report_removed() */
    _Atomic uint32_t roles;   /* enum shim_role bits of the clients */
    struct log_note log;

    /*
     * Output on its way. It goes from the workload's pipe to the scratch pipe (splice), from there
     * into data, then to log and clients. len != 0: data[0, len) less what the scratch pipe still
     * holds is valid, and is not yet with all of them.
     */
    _Atomic uint32_t stream;
    _Atomic uint32_t len;
    _Atomic uint64_t offset;   /* of data in all output of the stream */
    _Atomic uint64_t total[2]; /* a stream's bytes that are with log and clients */
    /*
     * A terminal can be neither spliced nor read twice: it is read straight into data, which is 0
     * before. While reading is set and len is not, data up to its last byte that is not 0 is what
     * was read.
     */
    _Atomic bool reading;
    _Atomic uint32_t dirty; /* data beyond is 0 */
    _Atomic uint64_t tail;  /* valid bytes of the file of shim_tail.c */
    _Alignas(4096) char data[SHIM_DATA_MAX];
};

#endif
