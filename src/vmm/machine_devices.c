/*
 * The devices that a description names, each with its place on the board.
 */
#include "vmm/machine_devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/config.h"
#include "vmm/disk/disk.h"
#include "vmm/fs/fs_process.h"
#include "vmm/io_thread.h"
#include "vmm/layout.h"
#include "vmm/machine_internal.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/fs.h"
#include "vmm/virtio/mmio.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/net_backend.h"
#include "vmm/virtio/pci.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/virtio.h"
#include "vmm/virtio/vsock.h"

/* Takes v over, also on failure. */
static int attach_mmio(struct machine *machine, struct virtio *v, struct err *err)
{
    AUTO(virtio_freep) struct virtio *own = v;
    size_t slot = machine->acpi.virtio_count;
    if (slot == LAYOUT_VIRTIO_MMIO_MAX) {
        return err_say(err, ENOSPC,
                       "device '%s' is one too many: without \"pci\": true in machine-config there "
                       "may be %d",
                       v->device.instance, LAYOUT_VIRTIO_MMIO_MAX);
    }
    struct acpi_virtio_mmio place = {
        .base = LAYOUT_VIRTIO_MMIO + slot * LAYOUT_VIRTIO_MMIO_SIZE,
        .size = (uint32_t)LAYOUT_VIRTIO_MMIO_SIZE,
        .gsi = (uint32_t)(LAYOUT_GSI_VIRTIO + slot),
    };
    char name[40];
    (void)snprintf(name, sizeof(name), "%s-mmio", v->device.instance);
    struct irq irq = IRQ_NONE;
    int r = irq_init_line(&irq, machine->board.engine, place.gsi, err);
    if (r < 0) {
        return r;
    }
    struct virtio_mmio *mmio = NULL;
    r = virtio_mmio_new(name, v, machine->board.mmio, place.base, irq, &mmio, err);
    if (r < 0) {
        irq_done(&irq);
        return r;
    }
    machine->acpi.virtio[machine->acpi.virtio_count++] = place;
    machine->irq[machine->irq_count++] = irq;
    machine_add_device(machine, virtio_mmio_device(mmio));
    machine_add_device(machine, &TAKE_PTR(own)->device);
    return 0;
}

/* Takes v over, also on failure. */
static int attach_pci(struct machine *machine, struct virtio *v, struct err *err)
{
    AUTO(virtio_freep) struct virtio *own = v;
    struct virtio_pci *function = NULL;
    char name[40];
    (void)snprintf(name, sizeof(name), "%s-pci", v->device.instance);
    int r = virtio_pci_new(name, v, machine->pci, machine->board.engine, &function, err);
    if (r < 0) {
        return r;
    }
    machine_add_device(machine, virtio_pci_device(function));
    machine_add_device(machine, &TAKE_PTR(own)->device);
    return 0;
}

static int attach(struct machine *machine, struct virtio *v, struct err *err)
{
    if (machine->shares_cpus) {
        virtio_share_cpus(v);
    }
    return machine->pci == NULL ? attach_mmio(machine, v, err) : attach_pci(machine, v, err);
}

/* A loop of its own when that is asked for: *ret is its thread, which the machine has; else NULL.
 */
static int choose_loop(struct machine *machine, bool own, struct io_thread **ret,
                       struct loop **ret_loop, struct err *err)
{
    *ret = NULL;
    *ret_loop = machine->board.loop;
    if (!own) {
        return 0;
    }
    int r = io_thread_new(ret, err);
    if (r == 0) {
        machine->io_thread[machine->io_thread_count++] = *ret;
        *ret_loop = io_thread_loop(*ret);
    }
    return r;
}

static struct limit_bucket_options bucket_of(const struct config_bucket *from)
{
    return (struct limit_bucket_options){
        .size = from->size, .one_time_burst = from->burst, .refill_ms = from->refill_ms};
}

static struct limit_options limit_of(const struct config_limit *from)
{
    return (struct limit_options){.bytes = bucket_of(&from->bytes),
                                  .operations = bucket_of(&from->ops)};
}

static int add_drive(struct machine *machine, size_t index, const struct config_drive *drive,
                     struct err *err)
{
    AUTO(disk_freep) struct disk *disk = NULL;
    struct disk_options options = {
        .format = drive->format == NULL ? "raw" : drive->format,
        .read_only = drive->read_only,
        .direct = drive->direct,
        .dir_fd = -1,
    };
    struct io_thread *thread = NULL;
    struct loop *loop = NULL;
    int r = choose_loop(machine, drive->io_thread, &thread, &loop, err);
    r = r < 0 ? r : disk_open(drive->path, -1, &options, loop, &disk, err);
    if (r < 0) {
        return err_wrap(err, -r, "drive '%s'", drive->id);
    }
    struct virtio_blk_config config = {
        .disk = disk,
        .serial = drive->id,
        .queues = drive->queues,
        .write_through = drive->write_through,
        .limit = limit_of(&drive->limit),
    };
    struct virtio *v = NULL;
    r = virtio_blk_new(drive->id, &config, machine->memory, loop, &v, err);
    if (r < 0) {
        return err_wrap(err, -r, "drive '%s'", drive->id);
    }
    disk = NULL; /* the device's now */
    v->device.io_thread = thread;
    r = attach(machine, v, err);
    machine->drive[index] = r < 0 ? NULL : v;
    return r;
}

static int add_console(struct machine *machine, struct err *err)
{
    struct virtio_console_config config = {.in_fd = STDIN_FILENO, .out_fd = STDOUT_FILENO};
    struct virtio *v = NULL;
    int r = virtio_console_new("console", &config, machine->memory, machine->board.loop, &v, err);
    return r < 0 ? r : attach(machine, v, err);
}

static int add_rng(struct machine *machine, struct err *err)
{
    struct virtio *v = NULL;
    int r = virtio_rng_new("entropy", machine->memory, machine->board.loop, &v, err);
    return r < 0 ? r : attach(machine, v, err);
}

static int add_balloon(struct machine *machine, const struct vmm_config *from, struct err *err)
{
    struct virtio_balloon_config config = {
        .deflate_on_oom = from->balloon.deflate_on_oom,
        .report_free = from->balloon.report_free,
    };
    struct virtio *v = NULL;
    int r = virtio_balloon_new("balloon", &config, machine->memory, machine->board.loop, &v, err);
    if (r < 0) {
        return r;
    }
    virtio_balloon_set_target(v, from->balloon.bytes);
    r = attach(machine, v, err);
    if (r == 0) {
        machine->balloon = v;
    }
    return r;
}

static int open_backend(const struct config_net *net, struct net_backend **ret, struct err *err)
{
    if (net->passt != NULL) {
        return net_passt_connect(net->passt, ret, err);
    }
    return net->fd >= 0 ? net_tap_adopt(&net->fd, 1, ret, err)
                        : net_tap_open(net->tap, net->queues, ret, err);
}

/* Locally administered, and the same for the same machine: the description's id decides. */
static void choose_mac(const char *id, uint8_t mac[6])
{
    uint32_t hash = 2166136261u;
    for (; *id != '\0'; id++) {
        hash = (hash ^ (uint8_t)*id) * 16777619u;
    }
    mac[0] = 0x02;
    mac[1] = 0x15;
    store_le32(mac + 2, hash);
}

static int add_net(struct machine *machine, size_t index, const struct config_net *net,
                   struct err *err)
{
    struct net_backend *backend = NULL;
    struct net_options options = {
        .mtu = net->mtu == 0 ? 1500 : net->mtu,
        .receive_limit = limit_of(&net->receive),
        .send_limit = limit_of(&net->transmit),
    };
    if (net->queues > 1 && net->tap == NULL) {
        return err_say(err, EOPNOTSUPP,
                       "network interface '%s': only a tap by host_dev_name has several queues",
                       net->id);
    }
    memcpy(options.mac, net->mac, sizeof(options.mac));
    if (!net->has_mac) {
        choose_mac(net->id, options.mac);
    }
    struct virtio *v = NULL;
    struct io_thread *thread = NULL;
    struct loop *loop = NULL;
    int r = choose_loop(machine, net->io_thread, &thread, &loop, err);
    r = r < 0 ? r : open_backend(net, &backend, err);
    r = r < 0 ? r : net_new(net->id, &options, backend, machine->memory, loop, &v, err);
    if (r < 0) {
        return err_wrap(err, -r, "network interface '%s'", net->id);
    }
    v->device.io_thread = thread;
    r = attach(machine, v, err);
    machine->net[index] = r < 0 ? NULL : v;
    return r;
}

static void on_share_lost(void *data)
{
    const struct machine_share *share = data;
    struct machine *machine = share->machine;
    machine_note_end(machine, BOARD_SHARE_LOST, (uint32_t)(share - machine->share), NULL, NULL);
}

static int add_share(struct machine *machine, const struct config_share *share, struct err *err)
{
    AUTO(closep) int fd = -1;
    char name[16];
    const struct fs_share served = {
        .tag = share->tag,
        .path = share->path,
        .read_only = share->read_only,
    };
    struct machine_share *ours = &machine->share[machine->share_count];
    (void)snprintf(name, sizeof(name), "fs%zu", machine->share_count++);
    (void)snprintf(ours->tag, sizeof(ours->tag), "%s", share->tag);
    ours->machine = machine;
    struct virtio *v = NULL;
    int r = fs_process_start(&served, &fd, err);
    if (r < 0) {
        return r;
    }
    const struct virtio_fs_config config = {
        .tag = share->tag,
        .fd = fd,
        .lost = on_share_lost,
        .data = ours,
    };
    r = virtio_fs_new(name, &config, machine->memory, machine->board.loop, &v, err);
    if (r < 0) {
        return r;
    }
    fd = -1; /* the device's now */
    return attach(machine, v, err);
}

static int add_vsock(struct machine *machine, const struct vmm_config *config, struct err *err)
{
    struct virtio *v = NULL;
    int r = vsock_new("vsock", config->vsock.cid, config->vsock.path, machine->memory,
                      machine->board.loop, &v, err);
    r = r < 0 ? r : attach(machine, v, err);
    if (r == 0) {
        machine->vsock = v;
    }
    return r;
}

struct virtio *machine_vsock(struct machine *machine)
{
    return machine->vsock;
}

struct virtio *machine_balloon(struct machine *machine)
{
    return machine->balloon;
}

int machine_add_devices(struct machine *machine, const struct vmm_config *config, struct err *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < config->drive_count; i++) {
        r = add_drive(machine, i, &config->drive[i], err);
    }
    for (size_t i = 0; r == 0 && i < config->net_count; i++) {
        r = add_net(machine, i, &config->net[i], err);
    }
    for (size_t i = 0; r == 0 && i < config->share_count; i++) {
        r = add_share(machine, &config->share[i], err);
    }
    if (r == 0 && config->vsock.present) {
        r = add_vsock(machine, config, err);
    }
    if (r == 0 && config->stdio == CONFIG_STDIO_CONSOLE) {
        r = add_console(machine, err);
    }
    if (r == 0 && config->entropy) {
        r = add_rng(machine, err);
    }
    if (r == 0 && config->balloon.present) {
        r = add_balloon(machine, config, err);
    }
    return r;
}

/* New limits on their way to the thread of a device. */
struct new_limits {
    struct virtio *v;
    struct limit_options first, second;
    int result;
};

static void set_drive_limit(void *data)
{
    struct new_limits *new = data;
    new->result = virtio_blk_set_limit(new->v, &new->first);
}

int machine_set_drive_limit(struct machine *machine, size_t index, const struct config_drive *drive,
                            struct err *err)
{
    struct new_limits new = {.v = machine->drive[index], .first = limit_of(&drive->limit)};
    io_thread_call(new.v->device.io_thread, set_drive_limit, &new);
    return new.result < 0 ? err_set(err, -new.result, "limit drive '%s'", drive->id) : 0;
}

static void set_net_limits(void *data)
{
    struct new_limits *new = data;
    new->result = net_set_limits(new->v, &new->first, &new->second);
}

int machine_set_net_limits(struct machine *machine, size_t index, const struct config_net *net,
                           struct err *err)
{
    struct new_limits new = {
        .v = machine->net[index],
        .first = limit_of(&net->receive),
        .second = limit_of(&net->transmit),
    };
    io_thread_call(new.v->device.io_thread, set_net_limits, &new);
    return new.result < 0 ? err_set(err, -new.result, "limit network interface '%s'", net->id) : 0;
}
