#include "vmm/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "vmm/cpu_feature.h"
#include "vmm/machine.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/fs.h"

#define MIB ((uint64_t)1 << 20)

enum key_kind {
    KEY_STRING, /* const char * */
    KEY_BOOL,   /* bool */
    KEY_U16,
    KEY_U32,
    KEY_U64,
    KEY_CALL,
};

struct key {
    const char *name;
    enum key_kind kind;
    size_t offset; /* in the struct that the section fills */
    int64_t min, max;
    int (*call)(const json_t *value, const struct json_path *at, void *target, struct err *err);
};

#define LIMIT_MAX ((int64_t)1 << 50)

static int read_number(const struct key *key, const json_t *object, const struct json_path *at,
                       void *target, struct err *err)
{
    int64_t value = 0;
    int r = json_get_int(object, at, key->name, key->min, key->max, &value, err);
    if (r <= 0) {
        return r;
    }
    if (key->kind == KEY_U16) {
        *(uint16_t *)target = (uint16_t)value;
    } else if (key->kind == KEY_U32) {
        *(uint32_t *)target = (uint32_t)value;
    } else {
        *(uint64_t *)target = (uint64_t)value;
    }
    return 1;
}

static int read_key(const struct key *key, const json_t *object, const struct json_path *at,
                    char *into, struct err *err)
{
    void *target = into + key->offset;
    const struct json_path path = {.parent = at, .key = key->name};
    const json_t *value = json_object_get(object, key->name);
    if (value == NULL || json_is_null(value)) {
        return 0;
    }
    switch (key->kind) {
    case KEY_STRING:
        return json_get_string(object, at, key->name, (const char **)target, err);
    case KEY_BOOL:
        return json_get_bool(object, at, key->name, (bool *)target, err);
    case KEY_U16:
    case KEY_U32:
    case KEY_U64:
        return read_number(key, object, at, target, err);
    case KEY_CALL:
        return key->call(value, &path, target, err);
    }
    return 0;
}

/* keys ends with a NULL name. */
static int read_section(const struct key *keys, const json_t *object, const struct json_path *at,
                        void *into, struct err *err)
{
    if (!json_is_object(object)) {
        return json_fail(at, object, err, "must be an object");
    }
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)object, name, value) {
        const struct key *key = keys;
        while (key->name != NULL && !str_eq(key->name, name)) {
            key++;
        }
        if (key->name == NULL) {
            const struct json_path path = {.parent = at, .key = name};
            return json_fail(&path, value, err, "is not known here");
        }
        int r = read_key(key, object, at, into, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* One of the words; *target becomes whether it is the one that means yes. */
static int read_word(const json_t *value, const struct json_path *at, const char *no,
                     const char *also_no, const char *yes, bool *target, struct err *err)
{
    const char *word = json_string_value(value);
    if (word != NULL && str_eq(word, yes)) {
        *target = true;
        return 0;
    }
    if (word != NULL && (str_eq(word, no) || str_eq(word, also_no))) {
        *target = false;
        return 0;
    }
    return json_fail(at, value, err, "must be \"%s\" or \"%s\"", no, yes);
}

static int read_protocol(const json_t *value, const struct json_path *at, void *target,
                         struct err *err)
{
    static const char *const words[] = {"auto", "pvh", "linux64", "multiboot"};
    const char *word = json_string_value(value);
    for (size_t i = 0; word != NULL && i < COUNT(words); i++) {
        if (str_eq(word, words[i])) {
            *(const char **)target = words[i];
            return 0;
        }
    }
    return json_fail(at, value, err, "must be \"auto\", \"pvh\", \"linux64\" or \"multiboot\"");
}

static int read_memory(const json_t *value, const struct json_path *at, void *target,
                       struct err *err)
{
    json_int_t mib = json_is_integer(value) ? json_integer_value(value) : 0;
    if (mib < 1 || mib > (json_int_t)(MACHINE_MEMORY_MAX / MIB)) {
        return json_fail(at, value, err, "must be 1 to %llu",
                         (unsigned long long)(MACHINE_MEMORY_MAX / MIB));
    }
    *(uint64_t *)target = (uint64_t)mib * MIB;
    return 0;
}

static int read_huge_pages(const json_t *value, const struct json_path *at, void *target,
                           struct err *err)
{
    return read_word(value, at, "None", NULL, "Transparent", target, err);
}

static int read_features(const json_t *value, const struct json_path *at, void *target,
                         struct err *err)
{
    const char **names = target;
    if (!json_is_array(value) || json_array_size(value) > CONFIG_FEATURES_MAX) {
        return json_fail(at, value, err, "must be a list of at most %d names", CONFIG_FEATURES_MAX);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const struct json_path path = {.parent = at, .index = i};
        const char *name = json_string_value(json_array_get(value, i));
        if (name == NULL || cpu_feature_find(name) == NULL) {
            return json_fail(&path, json_array_get(value, i), err,
                             "is no CPU feature; names are those of /proc/cpuinfo");
        }
        names[i] = name;
        names[i + 1] = NULL;
    }
    return 0;
}

static const struct key bucket_keys[] = {
    {"size", KEY_U64, offsetof(struct config_bucket, size), 0, LIMIT_MAX, NULL},
    {"one_time_burst", KEY_U64, offsetof(struct config_bucket, burst), 0, LIMIT_MAX, NULL},
    {"refill_time", KEY_U64, offsetof(struct config_bucket, refill_ms), 1, 86400000, NULL},
    {0},
};

static int read_bucket(const json_t *value, const struct json_path *at, void *target,
                       struct err *err)
{
    struct config_bucket *bucket = target;
    int r = read_section(bucket_keys, value, at, bucket, err);
    if (r == 0 && bucket->size != 0 && bucket->refill_ms == 0) {
        return json_fail(at, value, err, "needs refill_time, in milliseconds");
    }
    return r;
}

static const struct key limit_keys[] = {
    {"bandwidth", KEY_CALL, offsetof(struct config_limit, bytes), 0, 0, read_bucket},
    {"ops", KEY_CALL, offsetof(struct config_limit, ops), 0, 0, read_bucket},
    {0},
};

static int read_limit(const json_t *value, const struct json_path *at, void *target,
                      struct err *err)
{
    return read_section(limit_keys, value, at, target, err);
}

static int read_cache(const json_t *value, const struct json_path *at, void *target,
                      struct err *err)
{
    return read_word(value, at, "Unsafe", "Writeback", "Writethrough", target, err);
}

static int read_io_engine(const json_t *value, const struct json_path *at, void *target,
                          struct err *err)
{
    bool is_async = false;
    (void)target; /* both are asynchronous here */
    return read_word(value, at, "Sync", NULL, "Async", &is_async, err);
}

static int read_mac(const json_t *value, const struct json_path *at, void *target, struct err *err)
{
    struct config_net *net = CONTAINER_OF(target, struct config_net, mac);
    const char *text = json_string_value(value);
    unsigned b[6];
    char end;
    if (text == NULL || strlen(text) != 17 ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) !=
            6) {
        return json_fail(at, value, err, "must be six bytes like 06:00:ac:10:00:02");
    }
    if ((b[0] & 1) != 0) {
        return json_fail(at, value, err, "is a group's address, not a card's");
    }
    for (size_t i = 0; i < COUNT(b); i++) {
        net->mac[i] = (uint8_t)b[i];
    }
    net->has_mac = true;
    return 0;
}

#define DRIVE(member) offsetof(struct config_drive, member)
#define NET(member) offsetof(struct config_net, member)
#define SHARE(member) offsetof(struct config_share, member)
#define CONFIG(member) offsetof(struct vmm_config, member)

static const struct key boot_keys[] = {
    {"kernel_image_path", KEY_STRING, CONFIG(boot.kernel), 0, 0, NULL},
    {"initrd_path", KEY_STRING, CONFIG(boot.initrd), 0, 0, NULL},
    {"boot_args", KEY_STRING, CONFIG(boot.arguments), 0, 0, NULL},
    {"board_args", KEY_BOOL, CONFIG(boot.board_arguments), 0, 0, NULL},
    {"protocol", KEY_CALL, CONFIG(boot.protocol), 0, 0, read_protocol},
    {0},
};

static const struct key machine_keys[] = {
    {"vcpu_count", KEY_U32, CONFIG(cpus), 1, MACHINE_CPUS_MAX, NULL},
    {"mem_size_mib", KEY_CALL, CONFIG(memory), 0, 0, read_memory},
    {"huge_pages", KEY_CALL, CONFIG(huge_pages), 0, 0, read_huge_pages},
    {"track_dirty_pages", KEY_BOOL, CONFIG(track_dirty), 0, 0, NULL},
    {"shared_memory", KEY_BOOL, CONFIG(shared_memory), 0, 0, NULL},
    {"cpu_features_off", KEY_CALL, CONFIG(features_off), 0, 0, read_features},
    {"rtc", KEY_BOOL, CONFIG(rtc), 0, 0, NULL},
    {"i8042", KEY_BOOL, CONFIG(i8042), 0, 0, NULL},
    {"pit", KEY_BOOL, CONFIG(pit), 0, 0, NULL},
    {"split_irqchip", KEY_BOOL, CONFIG(split_irqchip), 0, 0, NULL},
    {"pci", KEY_BOOL, CONFIG(pci), 0, 0, NULL},
    {"pvpanic", KEY_BOOL, CONFIG(pvpanic), 0, 0, NULL},
    {"debug_exit", KEY_BOOL, CONFIG(debug_exit), 0, 0, NULL},
    {"require_hardware", KEY_BOOL, CONFIG(require_hardware), 0, 0, NULL},
    {0},
};

static const struct key drive_keys[] = {
    {"drive_id", KEY_STRING, DRIVE(id), 0, 0, NULL},
    {"path_on_host", KEY_STRING, DRIVE(path), 0, 0, NULL},
    {"format", KEY_STRING, DRIVE(format), 0, 0, NULL},
    {"is_root_device", KEY_BOOL, DRIVE(root), 0, 0, NULL},
    {"is_read_only", KEY_BOOL, DRIVE(read_only), 0, 0, NULL},
    {"cache_type", KEY_CALL, DRIVE(write_through), 0, 0, read_cache},
    {"io_engine", KEY_CALL, DRIVE(direct), 0, 0, read_io_engine},
    {"direct", KEY_BOOL, DRIVE(direct), 0, 0, NULL},
    {"io_thread", KEY_BOOL, DRIVE(io_thread), 0, 0, NULL},
    {"queues", KEY_U32, DRIVE(queues), 1, VIRTIO_BLK_QUEUES_MAX, NULL},
    {"rate_limiter", KEY_CALL, DRIVE(limit), 0, 0, read_limit},
    {0},
};

/* 0 to 2 are the standard ones. */
static int read_tap_fd(const json_t *value, const struct json_path *at, void *target,
                       struct err *err)
{
    json_int_t fd = json_is_integer(value) ? json_integer_value(value) : -1;
    if (fd < 3 || fd > 1023) {
        return json_fail(at, value, err, "must be the number of an inherited descriptor");
    }
    *(int *)target = (int)fd;
    return 0;
}

static const struct key net_keys[] = {
    {"iface_id", KEY_STRING, NET(id), 0, 0, NULL},
    {"host_dev_name", KEY_STRING, NET(tap), 0, 0, NULL},
    {"passt_socket", KEY_STRING, NET(passt), 0, 0, NULL},
    {"tap_fd", KEY_CALL, NET(fd), 0, 0, read_tap_fd},
    {"guest_mac", KEY_CALL, NET(mac), 0, 0, read_mac},
    {"mtu", KEY_U16, NET(mtu), 68, 65535, NULL},
    {"io_thread", KEY_BOOL, NET(io_thread), 0, 0, NULL},
    {"queues", KEY_U32, NET(queues), 1, 8, NULL},
    {"rx_rate_limiter", KEY_CALL, NET(receive), 0, 0, read_limit},
    {"tx_rate_limiter", KEY_CALL, NET(transmit), 0, 0, read_limit},
    {0},
};

static const struct key share_keys[] = {
    {"tag", KEY_STRING, SHARE(tag), 0, 0, NULL},
    {"path_on_host", KEY_STRING, SHARE(path), 0, 0, NULL},
    {"is_read_only", KEY_BOOL, SHARE(read_only), 0, 0, NULL},
    {0},
};

static const struct key vsock_keys[] = {
    /* 0 to 2 are reserved (virtio 1.2, 5.10.4). */
    {"guest_cid", KEY_U32, CONFIG(vsock.cid), 3, UINT32_MAX - 1, NULL},
    {"uds_path", KEY_STRING, CONFIG(vsock.path), 0, 0, NULL},
    {"stdio_ports", KEY_BOOL, CONFIG(vsock.stdio_ports), 0, 0, NULL},
    {"ends_with_agent", KEY_BOOL, CONFIG(vsock.ends_with_agent), 0, 0, NULL},
    {0},
};

static int read_mib(const json_t *value, const struct json_path *at, void *target, struct err *err)
{
    json_int_t mib = json_is_integer(value) ? json_integer_value(value) : -1;
    if (mib < 0 || mib > (json_int_t)(MACHINE_MEMORY_MAX / MIB)) {
        return json_fail(at, value, err, "must be 0 to %llu",
                         (unsigned long long)(MACHINE_MEMORY_MAX / MIB));
    }
    *(uint64_t *)target = (uint64_t)mib * MIB;
    return 0;
}

static const struct key balloon_keys[] = {
    {"amount_mib", KEY_CALL, CONFIG(balloon.bytes), 0, 0, read_mib},
    {"deflate_on_oom", KEY_BOOL, CONFIG(balloon.deflate_on_oom), 0, 0, NULL},
    {"free_page_reporting", KEY_BOOL, CONFIG(balloon.report_free), 0, 0, NULL},
    {0},
};

static int read_boot(const json_t *value, const struct json_path *at, void *target, struct err *err)
{
    return read_section(boot_keys, value, at, target, err);
}

static int read_machine(const json_t *value, const struct json_path *at, void *target,
                        struct err *err)
{
    return read_section(machine_keys, value, at, target, err);
}

static int read_vsock(const json_t *value, const struct json_path *at, void *target,
                      struct err *err)
{
    struct vmm_config *config = target;
    int r = read_section(vsock_keys, value, at, target, err);
    if (r == 0 && (config->vsock.cid == 0 || config->vsock.path == NULL)) {
        return json_fail(at, value, err, "needs guest_cid and uds_path");
    }
    config->vsock.present = r == 0;
    return r;
}

static int read_balloon(const json_t *value, const struct json_path *at, void *target,
                        struct err *err)
{
    struct vmm_config *config = target;
    config->balloon.present = true;
    return read_section(balloon_keys, value, at, target, err);
}

static int read_entropy(const json_t *value, const struct json_path *at, void *target,
                        struct err *err)
{
    static const struct key none[] = {{0}};
    struct vmm_config *config = target;
    config->entropy = true;
    return read_section(none, value, at, target, err);
}

static int read_stdio(const json_t *value, const struct json_path *at, void *target,
                      struct err *err)
{
    static const char *const words[] = {
        [CONFIG_STDIO_SERIAL] = "serial",
        [CONFIG_STDIO_CONSOLE] = "console",
        [CONFIG_STDIO_CRASH] = "crash",
        [CONFIG_STDIO_NONE] = "none",
    };
    struct vmm_config *config = target;
    const char *word = json_string_value(value);
    for (size_t i = 0; word != NULL && i < COUNT(words); i++) {
        if (str_eq(word, words[i])) {
            config->stdio = (enum config_stdio)i;
            return 0;
        }
    }
    return json_fail(at, value, err, "must be \"serial\", \"console\", \"crash\" or \"none\"");
}

static int add_drive(const json_t *value, const struct json_path *at, struct vmm_config *config,
                     struct err *err)
{
    struct config_drive drive = {.queues = 1};
    int r = read_section(drive_keys, value, at, &drive, err);
    if (r < 0) {
        return r;
    }
    if (drive.id == NULL || drive.path == NULL) {
        return json_fail(at, value, err, "needs drive_id and path_on_host");
    }
    if (drive.format != NULL && !str_eq(drive.format, "raw") && !str_eq(drive.format, "qcow2")) {
        return json_fail(at, value, err, "has a format that is neither \"raw\" nor \"qcow2\"");
    }
    for (size_t i = 0; i < config->drive_count; i++) {
        if (str_eq(config->drive[i].id, drive.id)) {
            return json_fail(at, value, err, "has the drive_id of another drive");
        }
        if (config->drive[i].root && drive.root) {
            return json_fail(at, value, err, "is a second root device");
        }
    }
    config->drive[config->drive_count++] = drive;
    return 0;
}

static int read_drives(const json_t *value, const struct json_path *at, void *target,
                       struct err *err)
{
    if (!json_is_array(value) || json_array_size(value) > CONFIG_DRIVES_MAX) {
        return json_fail(at, value, err, "must be a list of at most %d drives", CONFIG_DRIVES_MAX);
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(value); i++) {
        const struct json_path path = {.parent = at, .index = i};
        r = add_drive(json_array_get(value, i), &path, target, err);
    }
    return r;
}

static int add_net(const json_t *value, const struct json_path *at, struct vmm_config *config,
                   struct err *err)
{
    struct config_net net = {.queues = 1, .fd = -1};
    int r = read_section(net_keys, value, at, &net, err);
    if (r < 0) {
        return r;
    }
    if (net.id == NULL || (net.tap != NULL) + (net.passt != NULL) + (net.fd >= 0) != 1) {
        return json_fail(at, value, err,
                         "needs iface_id, and one of host_dev_name, passt_socket and tap_fd");
    }
    for (size_t i = 0; i < config->net_count; i++) {
        if (str_eq(config->net[i].id, net.id)) {
            return json_fail(at, value, err, "has the iface_id of another interface");
        }
    }
    config->net[config->net_count++] = net;
    return 0;
}

static int read_nets(const json_t *value, const struct json_path *at, void *target, struct err *err)
{
    if (!json_is_array(value) || json_array_size(value) > CONFIG_NETS_MAX) {
        return json_fail(at, value, err, "must be a list of at most %d interfaces",
                         CONFIG_NETS_MAX);
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(value); i++) {
        const struct json_path path = {.parent = at, .index = i};
        r = add_net(json_array_get(value, i), &path, target, err);
    }
    return r;
}

static int add_share(const json_t *value, const struct json_path *at, struct vmm_config *config,
                     struct err *err)
{
    struct config_share share = {0};
    int r = read_section(share_keys, value, at, &share, err);
    if (r < 0) {
        return r;
    }
    if (share.tag == NULL || share.path == NULL) {
        return json_fail(at, value, err, "needs tag and path_on_host");
    }
    if (share.tag[0] == '\0' || strlen(share.tag) > VIRTIO_FS_TAG_MAX) {
        return json_fail(at, value, err, "has a tag that is not 1 to %d bytes long",
                         VIRTIO_FS_TAG_MAX);
    }
    for (size_t i = 0; i < config->share_count; i++) {
        if (str_eq(config->share[i].tag, share.tag)) {
            return json_fail(at, value, err, "has the tag of another share");
        }
    }
    config->share[config->share_count++] = share;
    return 0;
}

static int read_shares(const json_t *value, const struct json_path *at, void *target,
                       struct err *err)
{
    if (!json_is_array(value) || json_array_size(value) > CONFIG_SHARES_MAX) {
        return json_fail(at, value, err, "must be a list of at most %d shares", CONFIG_SHARES_MAX);
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(value); i++) {
        const struct json_path path = {.parent = at, .index = i};
        r = add_share(json_array_get(value, i), &path, target, err);
    }
    return r;
}

static const struct key config_keys[] = {
    {"boot-source", KEY_CALL, 0, 0, 0, read_boot},
    {"machine-config", KEY_CALL, 0, 0, 0, read_machine},
    {"drives", KEY_CALL, 0, 0, 0, read_drives},
    {"network-interfaces", KEY_CALL, 0, 0, 0, read_nets},
    {"fs", KEY_CALL, 0, 0, 0, read_shares},
    {"vsock", KEY_CALL, 0, 0, 0, read_vsock},
    {"balloon", KEY_CALL, 0, 0, 0, read_balloon},
    {"entropy", KEY_CALL, 0, 0, 0, read_entropy},
    {"stdio", KEY_CALL, 0, 0, 0, read_stdio},
    {0},
};

static void set_defaults(struct vmm_config *config)
{
    *config = (struct vmm_config){
        .boot = {.arguments = "", .protocol = "auto", .board_arguments = true},
        .cpus = 1,
        .memory = 128 * MIB,
        .serial = true,
        .pvpanic = true,
    };
}

int vmm_config_from_json(json_t *json, bool complete, struct vmm_config *ret, struct err *err)
{
    AUTO(vmm_config_donep) struct vmm_config config;
    set_defaults(&config);
    config.json = json_incref(json);
    int r = read_section(config_keys, config.json, NULL, &config, err);
    if (r == 0 && complete && config.boot.kernel == NULL) {
        r = err_say(err, EINVAL, "boot-source.kernel_image_path is missing");
    }
    if (r == 0) {
        *ret = config;
        config.json = NULL;
    }
    return r;
}

int vmm_config_parse(const char *text, size_t len, const char *name, struct vmm_config *ret,
                     struct err *err)
{
    AUTO(json_unrefp) json_t *json = NULL;
    int r = json_parse(text, len, name, &json, err);
    r = r < 0 ? r : vmm_config_from_json(json, true, ret, err);
    return r < 0 ? err_wrap(err, -r, "machine '%s'", name) : 0;
}

int vmm_config_load(const char *path, struct vmm_config *ret, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = read_file(path, CONFIG_FILE_MAX, &text);
    if (r < 0) {
        return err_set(err, -r, "read '%s'", path);
    }
    return vmm_config_parse(text.data == NULL ? "" : text.data, text.len, path, ret, err);
}

void vmm_config_done(struct vmm_config *config)
{
    json_unrefp(&config->json);
    config->json = NULL;
}
