/*
 * config.h - what a workload is: the user's options merged with the image's configuration.
 *
 * The option table of `isola run` writes into this struct; state.db keeps it as JSON. Strings point
 * into argv or into the JSON that the struct holds. A zeroed struct is empty.
 */
#ifndef ENGINE_CONFIG_H
#define ENGINE_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"

struct err;

struct workload_config {
    /* Identity */
    const char *name;
    const char *image;    /* as the user wrote it */
    const char *image_id; /* sha256:... once resolved */
    const char *isolation;
    const char *kernel; /* of a machine: an installed version, or an absolute path; NULL: default */
    const char *platform;
    const char *hostname;
    const char *domainname;
    struct strv label; /* K=V */
    struct strv label_file;

    /* Process */
    struct strv command; /* operands behind the image */
    const char *entrypoint;
    bool entrypoint_set; /* --entrypoint "" is not the same as none */
    struct strv args;    /* merged: what is executed */
    int64_t entry_count; /* how many words of args are the entry point */
    struct strv env;
    struct strv env_file;
    const char *workdir;
    const char *user;
    struct strv group_add;
    bool tty;
    bool interactive;
    bool init;
    const char *stop_signal;
    int64_t stop_timeout; /* seconds, -1: forever */

    /* Rights */
    bool privileged;
    bool read_only;
    struct strv cap_add;
    struct strv cap_drop;
    struct strv security_opt;
    struct strv device;
    struct strv device_cgroup_rule;
    struct strv ulimit;
    struct strv sysctl;
    const char *userns;
    const char *ipc;
    const char *pid;
    const char *uts;
    const char *cgroupns;
    const char *cgroup_parent;

    /* Storage */
    struct strv volume;
    struct strv mount;
    struct strv tmpfs;
    struct strv volumes_from;
    struct strv image_volume; /* VOLUME of the image */
    uint64_t shm_size;

    /* Network */
    struct strv network;
    struct strv network_alias;
    const char *ip;
    const char *ip6;
    const char *mac_address;
    struct strv publish;
    bool publish_all;
    struct strv expose;
    struct strv dns;
    struct strv dns_search;
    struct strv dns_option;
    struct strv add_host;

    /* Limits; 0 means none */
    uint64_t memory;
    int64_t memory_swap; /* -1: unlimited */
    uint64_t memory_reservation;
    int64_t nano_cpus;
    int64_t cpu_shares;
    int64_t cpu_period;
    int64_t cpu_quota;
    const char *cpuset_cpus;
    const char *cpuset_mems;
    int64_t pids_limit;
    int64_t blkio_weight;
    int64_t oom_score_adj;

    /* Life */
    const char *restart;
    bool rm;
    const char *log_driver;
    struct strv log_opt;
    bool no_healthcheck;
    const char *health_cmd;
    struct strv health_test; /* merged: CMD or CMD-SHELL and arguments */
    uint64_t health_interval;
    uint64_t health_timeout;
    uint64_t health_start_period;
    int64_t health_retries;

    /* What the merge found out */
    struct strv layers;           /* directories, uppermost first */
    struct strv anonymous_volume; /* TARGET=NAME */

    json_t *json; /* what strings point into; NULL for a struct that options filled */
};

void config_init(struct workload_config *config);
void config_done(struct workload_config *config);
DEFINE_DONEP(struct workload_config, config_done)

/*
 * JSON, ours and the runtime's, holds text only: refuses what is not UTF-8, naming the member.
 */
int config_check_text(const struct workload_config *config, struct err *err);

/* A new reference; NULL without memory. Empty and default members are left out. */
json_t *config_to_json(const struct workload_config *config);

/* Keeps a reference to json. *config must be initialised. */
int config_from_json(json_t *json, struct workload_config *config, struct err *err);

#endif
