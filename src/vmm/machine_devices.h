/*
 * machine_devices.h - a machine's virtio devices, from its description.
 */
#ifndef VMM_MACHINE_DEVICES_H
#define VMM_MACHINE_DEVICES_H

struct err;
struct machine;
struct virtio;
struct vmm_config;

/* Opens what the description names and puts the devices on the board, in its order. */
int machine_add_devices(struct machine *machine, const struct vmm_config *config, struct err *err);

/* The machine's; NULL: it has none. */
struct virtio *machine_vsock(struct machine *machine);
struct virtio *machine_balloon(struct machine *machine);

#endif
