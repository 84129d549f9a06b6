/*
 * machine_devices.h - a machine's virtio devices, from its description.
 */
#ifndef VMM_MACHINE_DEVICES_H
#define VMM_MACHINE_DEVICES_H

#include <stddef.h>

struct config_drive;
struct config_net;
struct err;
struct machine;
struct virtio;
struct vmm_config;

/* Opens what the description names and puts the devices on the board, in its order. */
int machine_add_devices(struct machine *machine, const struct vmm_config *config, struct err *err);

/* The machine's; NULL: it has none. */
struct virtio *machine_vsock(struct machine *machine);
struct virtio *machine_balloon(struct machine *machine);

/*
 * What the description now says of a drive's or interface's limits, from now on, with full buckets.
 * index: as in the description.
 */
int machine_set_drive_limit(struct machine *machine, size_t index, const struct config_drive *drive,
                            struct err *err);
int machine_set_net_limits(struct machine *machine, size_t index, const struct config_net *net,
                           struct err *err);

#endif
