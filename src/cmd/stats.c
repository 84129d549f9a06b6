#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/format.h"
#include "engine/vm_start.h"
#include "wall/vm.h"

#define PERIOD_NS NS_PER_SEC
#define NET_DEV_MAX ((size_t)65536)

struct stats_options {
    bool all;
    bool no_stream;
    bool no_trunc;
    const char *format;
};

#define AT(member) offsetof(struct stats_options, member)

static const struct option_spec options[] = {
    {"all", 'a', OPTION_FLAG, AT(all), NULL, "Also those that do not run", NULL},
    {"format", 0, OPTION_STRING, AT(format), "TEMPLATE", "json, table ... or a Go template", NULL},
    {"no-stream", 0, OPTION_FLAG, AT(no_stream), NULL, "Once, not for ever", NULL},
    {"no-trunc", 0, OPTION_FLAG, AT(no_trunc), NULL, "Whole ids", NULL},
    {0},
};

static const struct format_header headers[] = {
    {"ID", "CONTAINER ID"}, {"CPUPerc", "CPU %"}, {"MemUsage", "MEM USAGE / LIMIT"},
    {"MemPerc", "MEM %"},   {"NetIO", "NET I/O"}, {"BlockIO", "BLOCK I/O"},
    {"PIDs", "PIDS"},       {NULL, NULL},
};

static const char default_format[] =
    "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t"
    "{{.BlockIO}}\t{{.PIDs}}";

/* One workload between two looks. */
struct sample {
    char id[WORKLOAD_ID_SIZE];
    uint64_t cpu_ns;
    int64_t time_ns;
};

struct samples {
    struct sample *items;
    size_t count;
};

static uint64_t machine_memory(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Docker shows memory in powers of 1024. */
static void format_memory(uint64_t bytes, char *out, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024.0 && unit + 1 < COUNT(units)) {
        value /= 1024.0;
        unit++;
    }
    (void)snprintf(out, size, "%.4g%s", value, units[unit]);
}

/* Bytes of all interfaces but lo, from the namespace of the first process. */
static void read_network(pid_t pid, uint64_t *ret_in, uint64_t *ret_out)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(strv_donep) struct strv lines = {0};
    AUTO(freep) char *path = str_printf("/proc/%d/net/dev", (int)pid);
    if (path == NULL || read_file(path, NET_DEV_MAX, &text) < 0 ||
        strv_split(&lines, text.data, "\n") < 0) {
        return;
    }
    for (size_t i = 2; i < lines.count; i++) {
        unsigned long long in;
        unsigned long long out;
        char name[32];
        if (sscanf(lines.items[i], " %31[^:]: %llu %*u %*u %*u %*u %*u %*u %*u %llu", name, &in,
                   &out) == 3 &&
            !str_eq(name, "lo")) {
            *ret_in += in;
            *ret_out += out;
        }
    }
}

/* CPU use since the last look in percent of one CPU. */
static double cpu_percent(struct samples *samples, const char *id, uint64_t cpu_ns)
{
    int64_t now = clock_monotonic_ns();
    for (size_t i = 0; i < samples->count; i++) {
        struct sample *s = &samples->items[i];
        if (str_eq(s->id, id)) {
            int64_t wall = now - s->time_ns;
            double percent = wall > 0 && cpu_ns >= s->cpu_ns
                                 ? 100.0 * (double)(cpu_ns - s->cpu_ns) / (double)wall
                                 : 0.0;
            s->cpu_ns = cpu_ns;
            s->time_ns = now;
            return percent;
        }
    }
    struct sample *items =
        reallocarray(samples->items, samples->count + 1, sizeof(*samples->items));
    if (items != NULL) {
        samples->items = items;
        struct sample *s = &items[samples->count++];
        (void)snprintf(s->id, sizeof(s->id), "%s", id);
        s->cpu_ns = cpu_ns;
        s->time_ns = now;
    }
    return 0.0;
}

static void read_network_of(const struct engine *engine, const struct workload *w, uint64_t *ret_in,
                            uint64_t *ret_out)
{
    if (!vm_start_wanted(w)) {
        read_network(w->status.pid, ret_in, ret_out);
        return;
    }
    AUTO(freep) char *bundle = workload_run_path(engine, w->id, NULL);
    if (bundle != NULL) {
        (void)vm_network_bytes(bundle, ret_in, ret_out);
    }
}

static json_t *describe(const struct engine *engine, const struct workload *w,
                        const struct container_stats *stats, double percent, bool no_trunc)
{
    char cpu[32];
    char memory[64];
    char share[32];
    char net[64];
    char block[64];
    char a[24];
    char b[24];
    uint64_t in = 0;
    uint64_t out = 0;
    uint64_t limit = MIN(stats->memory.limit, machine_memory());
    uint64_t used = stats->memory.usage - MIN(stats->memory.inactive_file, stats->memory.usage);
    (void)snprintf(cpu, sizeof(cpu), "%.2f%%", percent);
    format_memory(used, a, sizeof(a));
    format_memory(limit, b, sizeof(b));
    (void)snprintf(memory, sizeof(memory), "%s / %s", a, b);
    (void)snprintf(share, sizeof(share), "%.2f%%",
                   limit > 0 ? 100.0 * (double)used / (double)limit : 0.0);
    read_network_of(engine, w, &in, &out);
    format_size(in, a, sizeof(a));
    format_size(out, b, sizeof(b));
    (void)snprintf(net, sizeof(net), "%s / %s", a, b);
    in = out = 0;
    for (size_t i = 0; i < stats->io.count; i++) {
        in += stats->io.devices[i].read_bytes;
        out += stats->io.devices[i].write_bytes;
    }
    format_size(in, a, sizeof(a));
    format_size(out, b, sizeof(b));
    (void)snprintf(block, sizeof(block), "%s / %s", a, b);
    return json_pack("{s:s%, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "ID", w->id,
                     no_trunc ? strlen(w->id) : WORKLOAD_SHORT_ID_LENGTH, "Name", w->name,
                     "Container", w->name, "CPUPerc", cpu, "MemUsage", memory, "MemPerc", share,
                     "NetIO", net, "BlockIO", block, "PIDs", (json_int_t)stats->pids.current);
}

static bool is_asked(const struct workload *w, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (str_eq(w->name, argv[i]) || str_starts(w->id, argv[i])) {
            return true;
        }
    }
    return argc == 0;
}

static int look(struct engine *engine, const struct stats_options *o, struct samples *samples,
                bool print, int argc, char **argv, struct err *err)
{
    AUTO(workload_list_donep) struct workload_list list = {0};
    AUTO(format_freep) struct format *format = NULL;
    int r = workload_list(engine, &list, err);
    if (r == 0) {
        r = format_new(o->format != NULL ? o->format : default_format, headers, &format, err);
    }
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        const struct workload *w = &list.items[i];
        struct container_stats stats = {0};
        const struct wall *wall;
        bool runs = w->state == WORKLOAD_RUNNING || w->state == WORKLOAD_PAUSED;
        if (!is_asked(w, argc, argv) || (!runs && !o->all && argc == 0) ||
            wall_find(w->config.isolation, &wall, NULL) < 0) {
            continue;
        }
        if (runs && wall->stats(engine->containers_dir, w->id, &stats, NULL) < 0) {
            continue; /* it ended just now */
        }
        double percent = cpu_percent(samples, w->id, stats.cpu.usage_ns);
        if (print) {
            AUTO(json_unrefp) json_t *row = describe(engine, w, &stats, percent, o->no_trunc);
            r = row == NULL ? err_set(err, ENOMEM, "stats") : format_add(format, row, err);
        }
    }
    return r < 0 || !print ? r : format_finish(format, stdout, err);
}

static int run_stats(struct command_context *context, void *data, int argc, char **argv,
                     struct err *err)
{
    const struct stats_options *o = data;
    const struct timespec period = {.tv_sec = PERIOD_NS / NS_PER_SEC};
    AUTO(engine_closep) struct engine *engine = NULL;
    struct samples samples = {0};
    int r = command_engine(context, &engine, err);
    for (int i = 0; r == 0 && i < argc; i++) {
        AUTO(workload_donep) struct workload workload = {0};
        r = workload_find(engine, argv[i], &workload, err);
    }
    /* The first look only gives the starting point of the CPU's share. */
    if (r == 0) {
        r = look(engine, o, &samples, false, argc, argv, err);
    }
    while (r == 0) {
        (void)nanosleep(&period, NULL);
        if (!o->no_stream && o->format == NULL && isatty(STDOUT_FILENO)) {
            (void)printf("\033[H\033[J");
        }
        r = look(engine, o, &samples, true, argc, argv, err);
        (void)fflush(stdout);
        if (o->no_stream || ferror(stdout)) {
            break;
        }
    }
    free(samples.items);
    return r;
}

const struct command stats_commands[] = {
    {
        .name = "stats",
        .operands = "[NAME...]",
        .summary = "Show the CPU time, memory and I/O of workloads",
        .options = options,
        .options_size = sizeof(struct stats_options),
        .operands_max = -1,
        .run = run_stats,
    },
    {0},
};
