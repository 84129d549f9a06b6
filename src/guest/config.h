/*
 * config.h - what the host says in "configure", parsed and checked.
 *
 * All strings point into the JSON document, which the configuration keeps. Host and fuzz target use
 * the same parser; it touches nothing but memory.
 */
#ifndef GUEST_CONFIG_H
#define GUEST_CONFIG_H

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "netlink/ip.h"

struct err;

#define GUEST_LAYERS_MAX ((size_t)1000)
#define GUEST_LIST_MAX ((size_t)256)   /* of any other list */
#define GUEST_SERIAL_SIZE ((size_t)21) /* virtio-blk has 20 bytes for it */

/* One of the two is set. */
struct guest_layer {
    const char *serial;    /* of a virtio-blk disk that holds EROFS */
    const char *directory; /* in the initramfs or on a share */
};

/* The upper directory: on a disk, or in memory when serial is NULL. */
struct guest_scratch {
    const char *serial;
    const char *fstype;
    uint64_t tmpfs_size; /* bytes; 0: the kernel's half of memory */
};

struct guest_interface {
    uint8_t mac[6];
    char name[IFNAMSIZ];
    uint32_t mtu; /* 0: as it is */
    struct ip_prefix *addresses;
    size_t address_count;
};

struct guest_route {
    struct ip_prefix to;
    struct ip_address via; /* family 0: on the link itself */
    size_t interface;      /* index into interfaces */
};

struct guest_share {
    const char *tag; /* of a virtio-fs device */
    const char *path;
    bool read_only;
};

/* Mounted into the root file system before the workload starts. */
struct guest_file {
    const char *path;
    const char *text;
    unsigned mode;
};

/* A parameter of the machine's kernel, set before the workload is made. */
struct guest_sysctl {
    const char *name; /* "net.ipv4.ip_forward" */
    const char *value;
};

struct guest_config {
    json_t *json;
    const char *id;
    const json_t *oci;          /* config.json of the workload */
    const char *seccomp;        /* see filter.h; NULL: none */
    const char *hostname;       /* of the machine; NULL: as it is */
    int64_t realtime_ns;        /* since 1970; 0: the clock is right */
    bool with_stdin;            /* else /dev/null */
    struct guest_layer *layers; /* topmost first */
    size_t layer_count;
    bool user_xattrs; /* marks of overlayfs are user.overlay.*: layers of an ordinary user */
    struct guest_scratch scratch;
    struct guest_interface *interfaces;
    size_t interface_count;
    struct guest_route *routes;
    size_t route_count;
    struct guest_share *shares;
    size_t share_count;
    struct guest_file *files;
    size_t file_count;
    struct guest_sysctl *sysctls;
    size_t sysctl_count;
};

/* Keeps a reference to the message. Errors name the JSON path and the value. */
int guest_config_parse(json_t *message, struct guest_config *ret, struct err *err);
void guest_config_done(struct guest_config *config);
DEFINE_DONEP(struct guest_config, guest_config_done)

#endif
