/*
 * stats.h - what a container's cgroup counts, the same for v1 and v2.
 *
 * A part whose controller the container does not have is not `set`. Limits: UINT64_MAX is "none".
 */
#ifndef CONTAINER_STATS_H
#define CONTAINER_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTAINER_STATS_DEVICES_MAX ((size_t)32)

struct container_io_stats {
    uint32_t major;
    uint32_t minor;
    uint64_t read_bytes;
    uint64_t write_bytes;
    uint64_t read_ops;
    uint64_t write_ops;
};

struct container_stats {
    struct {
        bool set;
        uint64_t usage_ns;
        uint64_t user_ns;
        uint64_t system_ns;
        uint64_t periods;
        uint64_t throttled_periods;
        uint64_t throttled_ns;
    } cpu;
    struct {
        bool set;
        uint64_t usage; /* bytes */
        uint64_t max_usage;
        uint64_t limit;
        uint64_t inactive_file; /* usage - inactive_file is what Docker shows */
        uint64_t cache;
        uint64_t rss;
        uint64_t swap;
        uint64_t failures; /* times that the limit was hit */
        uint64_t oom_kills;
    } memory;
    struct {
        bool set;
        uint64_t current;
        uint64_t limit;
    } pids;
    struct {
        bool set;
        struct container_io_stats devices[CONTAINER_STATS_DEVICES_MAX];
        size_t count;
    } io;
};

#endif
