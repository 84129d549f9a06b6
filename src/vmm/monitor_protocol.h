/*
 * monitor_protocol.h - what the process that was started (monitor.h) and the jailed one that runs
 * the machine (monitor_program.h) say to each other.
 *
 * Two pairs of SOCK_SEQPACKET sockets; both processes are of one build. On the first, calls: one
 * struct monitor_call, one struct monitor_answer, strictly in turn. On the second, asks of the
 * jailed process for what it may not do itself: connections of the guest to ports of vsock, the
 * only thing that is opened for it once the guest runs. So a guest that has taken the jailed
 * process over reaches the Unix sockets that its vsock device leads to anyway, and no other.
 */
#ifndef VMM_MONITOR_PROTOCOL_H
#define VMM_MONITOR_PROTOCOL_H

#include <stdint.h>

#include "base/err.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/balloon.h"

enum monitor_verb {
    /* Descriptors: asks, and those that has names, in its order. Answered when the guest runs. */
    MONITOR_START,
    MONITOR_STATE,
    MONITOR_PAUSE,
    MONITOR_RESUME,
    MONITOR_CTRL_ALT_DEL,
    MONITOR_POWER_BUTTON,
    MONITOR_SAVE,  /* value: enum snapshot_kind; empty files for the state and the memory */
    MONITOR_SAVED, /* they have their names */
    MONITOR_GET_BALLOON,
    MONITOR_SET_BALLOON, /* value: MiB */
    MONITOR_SET_LIMITS,  /* descriptor: the description with other limits */
};

#define MONITOR_HAS_CONFIG 1u   /* the description */
#define MONITOR_HAS_SNAPSHOT 2u /* instead: state, memory, and as many bases as the value says */
#define MONITOR_HAS_GDB 4u      /* a socket that listens */
#define MONITOR_RUNS_ON 8u      /* of a snapshot: it is resumed */
#define MONITOR_TRACKS 16u      /* and what is written is noted */
#define MONITOR_BASES_SHIFT 8
#define MONITOR_FDS_MAX (4 + SNAPSHOT_BASES_MAX) /* what one message can hold: 8 */

#define MONITOR_ID_MAX 128

struct monitor_call {
    uint32_t verb;
    uint32_t value; /* START: MONITOR_HAS_* */
    uint32_t identity;
    char id[MONITOR_ID_MAX]; /* START: of the machine, for messages; "": none */
};

struct monitor_answer {
    int32_t result; /* 0 or a negative errno, then text says more */
    uint32_t paused;
    struct virtio_balloon_info balloon;
    char text[ERR_TEXT_SIZE];
};

struct monitor_ask {
    uint32_t port; /* or VSOCK_OWN_PORT */
};

struct monitor_given {
    int32_t result; /* 0: with a descriptor */
};

#endif
