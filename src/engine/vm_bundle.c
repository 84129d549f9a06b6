#include "engine/vm_bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dirs.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "engine/bundle.h"
#include "engine/vm_disk.h"
#include "engine/vm_kernel.h"
#include "netlink/ip.h"
#include "vmm/config.h"
#include "vmm/layout.h"
#include "wall/vm.h"

#define MIB ((uint64_t)1 << 20)
#define GUEST_CID 3
#define FILE_TEXT_MAX ((size_t)256 << 10)

/*
 * Beside what the board adds. A panic ends the machine at once; the agent is process 1 and its
 * messages go to the console. Nobody waits for random numbers.
 */
#define KERNEL_ARGUMENTS "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t random.trust_cpu=on"

int vm_bundle_check(const struct workload_config *config, struct err *err)
{
    const char *apparmor = bundle_security_option(config, "apparmor");
    const struct {
        bool given;
        const char *option;
        const char *why;
    } refused[] = {
        {config->device.count > 0, "--device", "the host's devices are not the machine's"},
        {config->device_cgroup_rule.count > 0, "--device-cgroup-rule",
         "the host's devices are not the machine's"},
        {str_eq(config->pid, "host") ||
             (config->pid != NULL && str_starts(config->pid, "container:")),
         "--pid", "processes of another kernel cannot be shared"},
        {str_eq(config->ipc, "host") ||
             (config->ipc != NULL && str_starts(config->ipc, "container:")),
         "--ipc", "memory of another kernel cannot be shared"},
        {str_eq(config->uts, "host"), "--uts", "the machine has its own host name"},
        {str_eq(config->cgroupns, "host"), "--cgroupns", "the machine has its own cgroups"},
        {config->userns != NULL && !str_eq(config->userns, "host"), "--userns",
         "root of a machine has no rights outside it"},
        {config->memory_swap != 0, "--memory-swap", "the machine has the memory that it has"},
        {config->memory_reservation != 0, "--memory-reservation",
         "the machine has the memory that it has"},
        {config->cpuset_mems != NULL, "--cpuset-mems", "the machine has one memory node"},
        {apparmor != NULL && !str_eq(apparmor, "unconfined"), "--security-opt apparmor",
         "profiles are the host's, and the machine's kernel has none"},
    };
    for (size_t i = 0; i < COUNT(refused); i++) {
        if (refused[i].given) {
            return err_say(err, EOPNOTSUPP, "%s cannot go with --isolation vm: %s",
                           refused[i].option, refused[i].why);
        }
    }
    for (size_t i = 0; i < config->network.count; i++) {
        const char *network = config->network.items[i];
        if (str_eq(network, "host") || str_starts(network, "container:")) {
            return err_say(err, EOPNOTSUPP,
                           "--network %s cannot go with --isolation vm: the machine has a network "
                           "card of its own",
                           network);
        }
    }
    if (config->memory != 0 && config->memory < VM_MEMORY_MIN) {
        return err_say(err, EINVAL, "--memory %llu: a machine needs at least 80m",
                       (unsigned long long)config->memory);
    }
    return 0;
}

static json_t *bind_of(const char *from, const char *to, bool write)
{
    return json_pack("{s:s, s:s, s:b}", "from", from, "to", to, "write", write);
}

static void add_drive(json_t *machine, json_t *binds, const char *id, const char *path, bool write)
{
    char to[64];
    (void)snprintf(to, sizeof(to), "/disks/%s", id);
    (void)json_array_append_new(binds, bind_of(path, to, write));
    (void)json_array_append_new(
        json_object_get(machine, "drives"),
        json_pack("{s:s, s:s, s:b}", "drive_id", id, "path_on_host", to, "is_read_only", !write));
}

static int add_disks(const struct vm_bundle_inputs *in, const char *scratch, json_t *machine,
                     json_t *guest, json_t *binds)
{
    json_t *layers = json_array();
    for (size_t i = 0; i < in->layers->count; i++) {
        char id[32];
        (void)snprintf(id, sizeof(id), "layer%zu", i);
        add_drive(machine, binds, id, in->layers->items[i], false);
        (void)json_array_append_new(layers, json_pack("{s:s}", "serial", id));
    }
    add_drive(machine, binds, "scratch", scratch, true);
    return json_object_set_new(guest, "root",
                               json_pack("{s:o, s:{s:s, s:s}}", "layers", layers, "scratch",
                                         "serial", "scratch", "fstype", "ext4"));
}

static void format_mac(const uint8_t mac[6], char text[18])
{
    (void)snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                   mac[4], mac[5]);
}

/* The same card on both sides, with the addresses and routes that a container's would get. */
static int add_networks(const struct vm_bundle_inputs *in, json_t *vm, json_t *machine,
                        json_t *guest)
{
    json_t *interfaces = json_array();
    json_t *routes = json_array();
    json_t *taps = json_array();
    bool has_route[2] = {false, false};
    for (size_t i = 0; i < in->lease->endpoint_count; i++) {
        const struct network_endpoint *e = &in->lease->endpoints[i];
        char mac[18];
        format_mac(e->mac, mac);
        json_t *addresses = json_array();
        for (size_t f = 0; f < 2; f++) {
            char address[IP_TEXT_SIZE];
            if (e->ip[f].address.family == 0) {
                continue;
            }
            (void)json_array_append_new(addresses,
                                        json_sprintf("%s/%u", ip_format(&e->ip[f].address, address),
                                                     (unsigned)e->ip[f].length));
            if (!e->internal && !has_route[f]) {
                has_route[f] = true;
                (void)json_array_append_new(routes, json_pack("{s:s, s:s, s:s}", "to",
                                                              f == 0 ? "0.0.0.0/0" : "::/0", "via",
                                                              ip_format(&e->gateway[f], address),
                                                              "interface", e->interface));
            }
        }
        (void)json_array_append_new(taps, json_string(e->veth));
        (void)json_array_append_new(interfaces, json_pack("{s:s, s:s, s:i, s:o}", "mac", mac,
                                                          "name", e->interface, "mtu", (int)e->mtu,
                                                          "addresses", addresses));
        (void)json_array_append_new(json_object_get(machine, "network-interfaces"),
                                    json_pack("{s:s, s:i, s:s}", "iface_id", e->interface, "tap_fd",
                                              3 + (int)i, "guest_mac", mac));
    }
    (void)json_object_set_new(vm, "taps", taps);
    return json_object_set_new(guest, "network",
                               json_pack("{s:o, s:o}", "interfaces", interfaces, "routes", routes));
}

static int add_files(const struct vm_bundle_inputs *in, json_t *guest, struct err *err)
{
    static const char *const names[] = {"hosts", "hostname", "resolv.conf"};
    json_t *files = json_array();
    (void)json_object_set_new(guest, "files", files);
    for (size_t i = 0; i < COUNT(names); i++) {
        AUTO(buf_donep) struct buf text = {0};
        AUTO(freep) char *from = str_printf("%s/%s", in->root_dir, names[i]);
        AUTO(freep) char *to = str_printf("/etc/%s", names[i]);
        int r = from == NULL || to == NULL ? -ENOMEM : read_file(from, FILE_TEXT_MAX, &text);
        if (r < 0) {
            return err_set(err, -r, "read '%s' of the workload", names[i]);
        }
        if (json_array_append_new(files, json_pack("{s:s, s:s, s:i}", "path", to, "text",
                                                   text.data == NULL ? "" : text.data, "mode",
                                                   0644)) < 0) {
            return err_set(err, ENOMEM, "the machine's files");
        }
    }
    return 0;
}

/*
 * The kernel is the workload's own, so it may set what it likes; in the machine before there is a
 * container. The first two as Docker has them, so that low ports and ping need no capability.
 */
static int add_sysctls(const struct workload_config *config, json_t *guest, struct err *err)
{
    json_t *list =
        json_pack("[{s:s, s:s}, {s:s, s:s}]", "name", "net.ipv4.ip_unprivileged_port_start",
                  "value", "0", "name", "net.ipv4.ping_group_range", "value", "0 2147483647");
    (void)json_object_set_new(guest, "sysctls", list);
    for (size_t i = 0; i < config->sysctl.count; i++) {
        const char *item = config->sysctl.items[i];
        const char *value = strchr(item, '=');
        if (value == NULL) {
            return err_say(err, EINVAL, "--sysctl '%s' is not KEY=VALUE", item);
        }
        if (json_array_append_new(list, json_pack("{s:s%, s:s}", "name", item, value - item,
                                                  "value", value + 1)) < 0) {
            return err_set(err, ENOMEM, "--sysctl");
        }
    }
    return 0;
}

/* Whole CPUs: what is more than the quota is held back by the cgroup. */
static int cpu_count(const struct workload_config *config)
{
    int64_t whole = (config->nano_cpus + 999999999) / 1000000000;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return (int)(whole <= 0 ? 1 : MIN(whole, (int64_t)online));
}

static json_t *make_machine(const struct workload_config *config)
{
    uint64_t memory = config->memory != 0 ? config->memory : VM_MEMORY_DEFAULT;
    return json_pack(
        "{s:{s:s, s:s, s:s}, s:{s:i, s:I, s:b}, s:[], s:[], s:{s:i, s:s, s:b}, s:{s:b}, s:{}, s:s}",
        "boot-source", "kernel_image_path", "/kernel", "initrd_path", "/initrd", "boot_args",
        KERNEL_ARGUMENTS, "machine-config", "vcpu_count", cpu_count(config), "mem_size_mib",
        (json_int_t)((memory + MIB - 1) / MIB), "require_hardware", true, "drives",
        "network-interfaces", "vsock", "guest_cid", GUEST_CID, "uds_path", "/run/" VM_SOCKET,
        "stdio_ports", true, "balloon", "free_page_reporting", true, "entropy", "stdio", "crash");
}

/* What isola-vmm shares lies at MACHINE_SHARES/INDEX in its own root. */
#define MACHINE_SHARES "/shares"
#define SHARED_FILE "file"

char *vm_share_source(const struct mount_spec *mount, size_t index)
{
    struct stat st;
    bool is_file = stat(mount->source, &st) == 0 && !S_ISDIR(st.st_mode);
    return str_printf(VM_GUEST_SHARES "/%zu%s", index, is_file ? "/" SHARED_FILE : "");
}

int vm_shares_check(const struct mount_specs *mounts, struct err *err)
{
    for (size_t i = 0; i < mounts->count; i++) {
        const struct mount_spec *mount = &mounts->items[i];
        const char *propagation = mount->propagation;
        if (propagation != NULL && !str_eq(propagation, "rprivate") &&
            !str_eq(propagation, "private")) {
            return err_say(err, EOPNOTSUPP,
                           "mount on '%s': propagation %s cannot go with --isolation vm: mounts do "
                           "not pass between kernels",
                           mount->target, propagation);
        }
    }
    return 0;
}

static int add_share(const struct mount_spec *mount, size_t index, json_t *machine, json_t *guest,
                     json_t *binds, struct err *err)
{
    struct stat st;
    char tag[32];
    char to[64];
    char at[64];
    if (stat(mount->source, &st) < 0) {
        return err_set(err, errno, "mount '%s'", mount->source);
    }
    bool is_file = S_ISREG(st.st_mode);
    if (!is_file && !S_ISDIR(st.st_mode)) {
        return err_say(err, EOPNOTSUPP,
                       "mount '%s': a machine can share directories and regular files only",
                       mount->source);
    }
    (void)snprintf(tag, sizeof(tag), "share%zu", index);
    (void)snprintf(to, sizeof(to), MACHINE_SHARES "/%zu%s", index, is_file ? "/" SHARED_FILE : "");
    (void)snprintf(at, sizeof(at), VM_GUEST_SHARES "/%zu", index);
    json_t *bind = bind_of(mount->source, to, !mount->read_only);
    if (mount->type == MOUNT_BIND && !mount->recursive) {
        (void)json_object_set_new(bind, "shallow", json_true());
    }
    if (json_array_append_new(binds, bind) < 0 ||
        json_array_append_new(json_object_get(machine, "fs"),
                              json_pack("{s:s, s:s, s:b}", "tag", tag, "path_on_host", to,
                                        "is_read_only", mount->read_only)) < 0 ||
        json_array_append_new(json_object_get(guest, "shares"),
                              json_pack("{s:s, s:s, s:b}", "tag", tag, "path", at, "read_only",
                                        mount->read_only)) < 0) {
        return err_set(err, ENOMEM, "describe the machine");
    }
    return 0;
}

static int add_shares(const struct vm_bundle_inputs *in, json_t *machine, json_t *guest,
                      json_t *binds, struct err *err)
{
    AUTO(freep) char *program = dirs_helper("isola-fs");
    int r = 0;
    bool any = false;
    (void)json_object_set_new(machine, "fs", json_array());
    (void)json_object_set_new(guest, "shares", json_array());
    for (size_t i = 0; r == 0 && i < in->mounts->count; i++) {
        if (in->mounts->items[i].type != MOUNT_TMPFS) {
            any = true;
            r = add_share(&in->mounts->items[i], i, machine, guest, binds, err);
        }
    }
    if (r == 0 && any &&
        (program == NULL ||
         json_array_append_new(binds, bind_of(program, "/isola-fs", false)) < 0)) {
        r = err_set(err, ENOMEM, "describe the machine");
    }
    return r;
}

/*
 * On PCI an interrupt is a message that costs the guest no access to the device, and there is room
 * for more of them. A kernel that does not show its driver may know devices in memory only.
 */
#define OTHER_DEVICES 3 /* sockets, balloon, entropy */

static void choose_bus(json_t *machine, bool kernel_has_pci)
{
    size_t devices = OTHER_DEVICES + json_array_size(json_object_get(machine, "drives")) +
                     json_array_size(json_object_get(machine, "network-interfaces")) +
                     json_array_size(json_object_get(machine, "fs"));
    if (kernel_has_pci || devices > LAYOUT_VIRTIO_MMIO_MAX) {
        (void)json_object_set_new(json_object_get(machine, "machine-config"), "pci", json_true());
    }
}

/* The board always has a way to power off; the drives are the layers and one to write to. */
#define BOARD_DEVICES 1
#define SCRATCH_DRIVES 1

int vm_bundle_devices(const struct workload_config *config, size_t layers, size_t *ret,
                      struct err *err)
{
    AUTO(json_unrefp) json_t *machine = make_machine(config);
    AUTO(freep) char *text = machine == NULL ? NULL : json_dumps(machine, JSON_COMPACT);
    AUTO(vmm_config_donep) struct vmm_config parsed = {0};
    if (text == NULL) {
        return err_set(err, ENOMEM, "describe the machine");
    }
    int r = vmm_config_parse(text, strlen(text), "machine", &parsed, err);
    if (r < 0) {
        return r;
    }
    size_t networks = 0;
    for (size_t i = 0; i < config->network.count; i++) {
        networks += !str_eq(config->network.items[i], "none");
    }
    networks = config->network.count == 0 ? 1 : networks; /* the default bridge */
    size_t shares = 0;
    AUTO(mount_specs_donep) struct mount_specs mounts = {0};
    r = mount_specs_parse(config, &mounts, err);
    for (size_t i = 0; r == 0 && i < mounts.count; i++) {
        shares += mounts.items[i].type != MOUNT_TMPFS;
    }
    if (r < 0) {
        return r;
    }
    *ret = BOARD_DEVICES + layers + SCRATCH_DRIVES + networks + shares + parsed.vsock.present +
           parsed.balloon.present + parsed.entropy + parsed.serial + parsed.rtc + parsed.i8042 +
           parsed.pvpanic + parsed.debug_exit + parsed.pit;
    return 0;
}

int vm_bundle_build(const struct vm_bundle_inputs *in, json_t **ret, struct err *err)
{
    AUTO(freep) char *kernel = NULL;
    AUTO(freep) char *initrd = NULL;
    AUTO(freep) char *scratch = NULL;
    AUTO(freep) char *program = dirs_helper("isola-vmm");
    AUTO(freep) char *machine_file = str_printf("%s/vm-machine.json", in->run_dir);
    AUTO(freep) char *sockets = str_printf("%s/%s", in->run_dir, VM_SOCKET_DIR);
    bool kernel_has_pci = false;
    int r = vm_kernel_find(in->root, in->config->kernel, &kernel, &initrd, &kernel_has_pci, err);
    r = r < 0 ? r : vm_disk_scratch(in->root, in->root_dir, &scratch, err);
    if (r < 0) {
        return r;
    }
    json_t *binds = json_array();
    json_t *guest = json_pack("{s:s, s:b}", "hostname", in->hostname == NULL ? "" : in->hostname,
                              "stdin", in->config->interactive);
    json_t *machine = make_machine(in->config);
    AUTO(json_unrefp)
    json_t *vm = json_pack("{s:s, s:o, s:o, s:o}", "program", program, "machine", machine, "guest",
                           guest, "binds", binds);
    if (vm == NULL || machine_file == NULL || sockets == NULL) {
        return err_set(err, ENOMEM, "describe the machine");
    }
    (void)json_array_append_new(binds, bind_of(kernel, "/kernel", false));
    (void)json_array_append_new(binds, bind_of(initrd, "/initrd", false));
    (void)json_array_append_new(binds, bind_of(machine_file, "/machine.json", false));
    (void)json_array_append_new(binds, bind_of(sockets, "/run", true));
    if (add_disks(in, scratch, machine, guest, binds) < 0 ||
        add_networks(in, vm, machine, guest) < 0) {
        return err_set(err, ENOMEM, "describe the machine");
    }
    r = in->idle ? 0 : add_files(in, guest, err);
    r = r < 0 ? r : add_sysctls(in->config, guest, err);
    r = r < 0 ? r : add_shares(in, machine, guest, binds, err);
    if (r == 0) {
        choose_bus(machine, kernel_has_pci);
        /* What a share has not written yet the guest writes when it is switched off. */
        bool forgets =
            in->config->rm && !in->idle && json_array_size(json_object_get(machine, "fs")) == 0;
        (void)json_object_set_new(json_object_get(machine, "vsock"), "ends_with_agent",
                                  json_boolean(forgets));
        *ret = TAKE_PTR(vm);
    }
    return r;
}
