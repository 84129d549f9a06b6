/*
 * config.h - a machine described as JSON: the shape of Firecracker's published configuration file
 * for what both have, with keys of our own beside it.
 *
 * Read whole and checked before anything is opened. Unknown keys are errors that name them: a limit
 * that was misspelt must not be a limit that is missing.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct err;

#define CONFIG_DRIVES_MAX 24
#define CONFIG_NETS_MAX 8
#define CONFIG_SHARES_MAX 16
#define CONFIG_FEATURES_MAX 32
#define CONFIG_FILE_MAX ((size_t)1 << 20)

/* A token bucket (limit.h): size tokens, full again after refill_ms; burst once on top. */
struct config_bucket {
    uint64_t size; /* 0: no limit */
    uint64_t burst;
    uint64_t refill_ms;
};

struct config_limit {
    struct config_bucket bytes, ops;
};

struct config_drive {
    const char *id;
    const char *path;
    const char *format; /* "raw", "qcow2"; NULL: raw */
    bool root;          /* the kernel is told root=/dev/vdX */
    bool read_only;
    bool write_through; /* cache_type "Writethrough"; Firecracker's "Unsafe" and "Writeback" differ
                           in whether the guest may flush: it always may */
    bool direct;
    bool io_thread; /* a thread and a loop of its own */
    uint32_t queues;
    struct config_limit limit;
};

struct config_net {
    const char *id;
    const char *tap;   /* host_dev_name: a tap of this network namespace, made when missing */
    const char *passt; /* or the path of passt's socket */
    int fd;            /* or an inherited descriptor of a tap; -1: none */
    bool has_mac;
    uint8_t mac[6];
    uint16_t mtu; /* 0: not told */
    bool io_thread;
    uint32_t queues;
    struct config_limit receive, transmit;
};

/* Key "fs": a directory or a file of the host that the guest mounts as virtio-fs. */
struct config_share {
    const char *tag;
    const char *path;
    bool read_only;
};

enum config_stdio {
    CONFIG_STDIO_SERIAL,  /* standard input and output are the serial port */
    CONFIG_STDIO_CONSOLE, /* the virtio console */
    CONFIG_STDIO_CRASH,   /* neither; a crash shows what the serial port said before */
    CONFIG_STDIO_NONE,
};

struct vmm_config {
    json_t *json; /* owns all strings */
    struct {
        const char *kernel, *initrd, *arguments;
        const char *protocol; /* "auto", "pvh", "linux64", "multiboot" */
        bool board_arguments; /* Linux is told what the board knows of itself */
    } boot;
    uint32_t cpus;
    uint64_t memory; /* bytes */
    bool huge_pages, shared_memory, track_dirty;
    const char *features_off[CONFIG_FEATURES_MAX + 1]; /* ended by NULL */
    size_t drive_count, net_count, share_count;
    struct config_drive drive[CONFIG_DRIVES_MAX];
    struct config_net net[CONFIG_NETS_MAX];
    struct config_share share[CONFIG_SHARES_MAX];
    struct {
        bool present;
        uint32_t cid;
        const char *path;
        bool stdio_ports;     /* ports 1 to 3 are our standard descriptors */
        bool ends_with_agent; /* nothing of the guest is kept: its exit code is its end */
    } vsock;
    struct {
        bool present, deflate_on_oom, report_free;
        uint64_t bytes;
    } balloon;
    bool entropy;
    enum config_stdio stdio;
    bool serial, rtc, i8042, pvpanic, debug_exit, pit, pci, split_irqchip;
    bool require_hardware; /* refuse a KVM that emulates */
};

/* name is for errors. On failure nothing is left to free. */
int vmm_config_parse(const char *text, size_t len, const char *name, struct vmm_config *ret,
                     struct err *err);
int vmm_config_load(const char *path, struct vmm_config *ret, struct err *err);
void vmm_config_done(struct vmm_config *config);
DEFINE_DONEP(struct vmm_config, vmm_config_done)

/*
 * The same from JSON, which gets a reference more. Without complete it may lack what a machine
 * cannot start without: the HTTP API builds it in pieces.
 */
int vmm_config_from_json(json_t *json, bool complete, struct vmm_config *ret, struct err *err);

#endif
