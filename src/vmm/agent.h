/*
 * agent.h - what the monitor itself hears of and says to the agent in the guest (docs/vm-guest.md):
 * how the workload ended, and that the terminal has another size.
 *
 * On the loop's thread. What the agent sends is the guest's and only decides about this machine.
 */
#ifndef VMM_AGENT_H
#define VMM_AGENT_H

#include <stdbool.h>

#include "base/cleanup.h"

struct agent;
struct err;
struct loop;
struct virtio;

struct agent_options {
    struct virtio *vsock; /* borrowed, for as long as the agent is there */
    struct loop *loop;
    bool boots; /* whoever connects to it waits until the agent has spoken */
    /* The workload has ended and all that it wrote has come. May be NULL. */
    void (*ended)(void *data);
    void *data;
};

/* Binds the ports of our standard descriptors and of the agent's events to the vsock device. */
int agent_new(const struct agent_options *options, struct agent **ret, struct err *err);
void agent_free(struct agent *agent);
DEFINE_FREEP(struct agent *, agent_free)

/* False while the workload has not ended, as far as the agent said. */
bool agent_has_exit(struct agent *agent, int *ret_code);

/* How many processes of the workload the guest's kernel killed for want of memory, as it says. */
int64_t agent_oom_kills(const struct agent *agent);

#endif
