/*
 * registry_config.h - how to reach registries: registries.json.
 *
 * $ISOLA_REGISTRIES, else /etc/isola/registries.json (for others than root first
 * $XDG_CONFIG_HOME/isola/registries.json):
 * {"registries": {"docker.io": {"mirrors": ["http://127.0.0.1:5000"], "ca": "/path/ca.pem",
 *   "plain-http": false, "insecure": false}}, "layer-size-max": "64g", "stall-timeout": "30s",
 *   "low-speed-limit": "1k",
 *   "retries": 4, "upload-chunk-size": "64m"}
 */
#ifndef IMAGE_REGISTRY_CONFIG_H
#define IMAGE_REGISTRY_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct err;

struct registry_config {
    struct strv endpoints;    /* base URLs without a slash at the end, in order of trial */
    bool insecure;            /* do not verify certificates */
    bool may_fall_back;       /* loopback without configuration: plain HTTP when there is no TLS */
    char *ca;                 /* file, or NULL */
    uint64_t layer_bytes_max; /* 0: default */
    uint64_t upload_chunk;    /* bytes of one request at most */
    uint64_t stall_ns;
    uint64_t low_speed; /* bytes a second, on average of stall_ns: slower is stalled */
    int64_t retries;
};

/* Mirrors count for reading only: for_push leaves them out. */
int registry_config_load(const char *registry, bool for_push, struct registry_config *ret,
                         struct err *err);
void registry_config_done(struct registry_config *config);
DEFINE_DONEP(struct registry_config, registry_config_done)

#endif
