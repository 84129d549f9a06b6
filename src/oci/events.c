/* isola-oci events */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "container/container.h"
#include "oci/program.h"

struct events_options {
    bool stats;
    uint64_t interval;
};

static const struct option_spec events_options[] = {
    {"stats", 0, OPTION_FLAG, offsetof(struct events_options, stats), NULL,
     "print the numbers once and leave", NULL},
    {"interval", 0, OPTION_DURATION, offsetof(struct events_options, interval), "TIME",
     "time between two lines (default: 5s)", NULL},
    {0},
};

static json_t *number(uint64_t value)
{
    return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

static json_t *io_entries(const struct container_stats *stats, bool bytes)
{
    json_t *list = json_array();
    for (size_t i = 0; i < stats->io.count; i++) {
        const struct container_io_stats *d = &stats->io.devices[i];
        const struct {
            const char *op;
            uint64_t value;
        } rows[] = {{"Read", bytes ? d->read_bytes : d->read_ops},
                    {"Write", bytes ? d->write_bytes : d->write_ops}};
        for (size_t j = 0; j < COUNT(rows); j++) {
            (void)json_array_append_new(
                list, json_pack("{s:i, s:i, s:s, s:o}", "major", (int)d->major, "minor",
                                (int)d->minor, "op", rows[j].op, "value", number(rows[j].value)));
        }
    }
    return list;
}

static json_t *stats_json(const struct container_stats *s)
{
    json_t *data = json_object();
    if (s->cpu.set) {
        (void)json_object_set_new(
            data, "cpu",
            json_pack("{s:{s:o, s:o, s:o}, s:{s:o, s:o, s:o}}", "usage", "total",
                      number(s->cpu.usage_ns), "kernel", number(s->cpu.system_ns), "user",
                      number(s->cpu.user_ns), "throttling", "periods", number(s->cpu.periods),
                      "throttledPeriods", number(s->cpu.throttled_periods), "throttledTime",
                      number(s->cpu.throttled_ns)));
    }
    if (s->memory.set) {
        (void)json_object_set_new(
            data, "memory",
            json_pack("{s:o, s:{s:o, s:o, s:o, s:o}, s:{s:o, s:o, s:o, s:o}}", "cache",
                      number(s->memory.cache), "usage", "limit", number(s->memory.limit), "usage",
                      number(s->memory.usage), "max", number(s->memory.max_usage), "failcnt",
                      number(s->memory.failures), "raw", "rss", number(s->memory.rss),
                      "inactive_file", number(s->memory.inactive_file), "swap",
                      number(s->memory.swap), "oom_kill", number(s->memory.oom_kills)));
    }
    if (s->pids.set) {
        (void)json_object_set_new(
            data, "pids",
            json_pack("{s:o, s:o}", "current", number(s->pids.current), "limit",
                      number(s->pids.limit == UINT64_MAX ? 0 : s->pids.limit)));
    }
    if (s->io.set) {
        (void)json_object_set_new(data, "blkio",
                                  json_pack("{s:o, s:o}", "ioServiceBytesRecursive",
                                            io_entries(s, true), "ioServicedRecursive",
                                            io_entries(s, false)));
    }
    return data;
}

static int print_event(const char *id, const char *type, json_t *data, struct err *err)
{
    AUTO(json_unrefp)
    json_t *event = json_pack("{s:s, s:s, s:o}", "type", type, "id", id, "data", data);
    if (event == NULL || json_dumpf(event, stdout, JSON_COMPACT) < 0 || printf("\n") < 0 ||
        fflush(stdout) == EOF) {
        return err_set(err, EIO, "print the numbers");
    }
    return 0;
}

static int read_stats(const char *root, const char *id, struct container_stats *ret,
                      struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    int r = container_state(root, id, &state, err);
    if (r == 0 && state.status == CONTAINER_STOPPED) {
        r = err_say(err, ESRCH, "container '%s' is not running", id);
    }
    return r < 0 ? r : container_stats(root, id, ret, err);
}

static int events_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)argc;
    const struct events_options *options = data;
    int64_t interval = options->interval > 0 ? (int64_t)options->interval : 5 * NS_PER_SEC;
    struct container_stats stats;
    uint64_t oom_kills = 0;
    int r = read_stats(globals->root, argv[0], &stats, err);
    while (r == 0) {
        if (!options->stats && stats.memory.oom_kills > oom_kills) {
            oom_kills = stats.memory.oom_kills;
            r = print_event(argv[0], "oom", json_object(), err);
        }
        r = r < 0 ? r : print_event(argv[0], "stats", stats_json(&stats), err);
        if (r < 0 || options->stats) {
            return r;
        }
        struct timespec delay = {.tv_sec = interval / NS_PER_SEC, .tv_nsec = interval % NS_PER_SEC};
        (void)nanosleep(&delay, NULL);
        r = read_stats(globals->root, argv[0], &stats, err);
        if (r == -ESRCH || r == -ENOENT) {
            return 0; /* ended while we watched */
        }
    }
    return r;
}

const struct oci_command oci_events_commands[] = {
    {"events", "ID", "print what a container uses", events_options, sizeof(struct events_options),
     1, 1, false, false, events_run},
    {0},
};
