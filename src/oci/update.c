/* isola-oci update */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "container/container.h"
#include "oci/program.h"

#define RESOURCES_SIZE_MAX ((size_t)1 << 20)

struct update_options {
    const char *resources;
    const char *memory;
    const char *memory_reservation;
    const char *memory_swap;
    const char *cpu_quota;
    const char *cpu_period;
    const char *cpu_burst;
    const char *cpu_shares;
    const char *cpu_idle;
    const char *cpuset_cpus;
    const char *cpuset_mems;
    const char *pids_limit;
    const char *blkio_weight;
};

#define OPT(member) offsetof(struct update_options, member)

static const struct option_spec update_options[] = {
    {"resources", 'r', OPTION_STRING, OPT(resources), "FILE",
     "resources of the runtime-spec as JSON, - is standard input", NULL},
    {"memory", 0, OPTION_STRING, OPT(memory), "BYTES", "memory limit, -1: none", NULL},
    {"memory-reservation", 0, OPTION_STRING, OPT(memory_reservation), "BYTES",
     "memory kept under pressure", NULL},
    {"memory-swap", 0, OPTION_STRING, OPT(memory_swap), "BYTES", "memory and swap together", NULL},
    {"cpu-quota", 0, OPTION_STRING, OPT(cpu_quota), "US", "CPU time in a period", NULL},
    {"cpu-period", 0, OPTION_STRING, OPT(cpu_period), "US", "length of a period", NULL},
    {"cpu-burst", 0, OPTION_STRING, OPT(cpu_burst), "US", "quota that may be saved up", NULL},
    {"cpu-share", 0, OPTION_STRING, OPT(cpu_shares), "N", "weight, 2 to 262144", NULL},
    {"cpu-idle", 0, OPTION_STRING, OPT(cpu_idle), "0|1", "run only when the CPU is idle", NULL},
    {"cpuset-cpus", 0, OPTION_STRING, OPT(cpuset_cpus), "LIST", "CPUs, such as 0-3,7", NULL},
    {"cpuset-mems", 0, OPTION_STRING, OPT(cpuset_mems), "LIST", "memory nodes", NULL},
    {"pids-limit", 0, OPTION_STRING, OPT(pids_limit), "N", "number of processes, -1: any", NULL},
    {"blkio-weight", 0, OPTION_STRING, OPT(blkio_weight), "N", "block I/O weight, 10 to 1000",
     NULL},
    {0},
};

static int add_number(json_t *top, const char *group, const char *key, const char *option,
                      const char *text, struct err *err)
{
    int64_t value;
    uint64_t bytes;
    if (parse_i64(text, &value) < 0) {
        if (parse_size(text, &bytes) < 0 || bytes > INT64_MAX) {
            return err_say(err, EINVAL, "--%s: '%s' is not a number", option, text);
        }
        value = (int64_t)bytes;
    }
    json_t *part = json_object_get(top, group);
    if (part == NULL) {
        part = json_object();
        (void)json_object_set_new(top, group, part);
    }
    return json_object_set_new(part, key, json_integer(value)) < 0
               ? err_set(err, ENOMEM, "--%s", option)
               : 0;
}

/* The options as the resources object that they stand for. */
static json_t *resources_of(const struct update_options *o, struct err *err)
{
    const struct {
        const char *group;
        const char *key;
        const char *option;
        const char *text;
    } numbers[] = {
        {"memory", "limit", "memory", o->memory},
        {"memory", "reservation", "memory-reservation", o->memory_reservation},
        {"memory", "swap", "memory-swap", o->memory_swap},
        {"cpu", "quota", "cpu-quota", o->cpu_quota},
        {"cpu", "period", "cpu-period", o->cpu_period},
        {"cpu", "burst", "cpu-burst", o->cpu_burst},
        {"cpu", "shares", "cpu-share", o->cpu_shares},
        {"cpu", "idle", "cpu-idle", o->cpu_idle},
        {"pids", "limit", "pids-limit", o->pids_limit},
        {"blockIO", "weight", "blkio-weight", o->blkio_weight},
    };
    AUTO(json_unrefp) json_t *top = json_object();
    for (size_t i = 0; i < COUNT(numbers); i++) {
        if (numbers[i].text != NULL && add_number(top, numbers[i].group, numbers[i].key,
                                                  numbers[i].option, numbers[i].text, err) < 0) {
            return NULL;
        }
    }
    if (o->cpuset_cpus != NULL || o->cpuset_mems != NULL) {
        json_t *cpu = json_object_get(top, "cpu");
        if (cpu == NULL) {
            cpu = json_object();
            (void)json_object_set_new(top, "cpu", cpu);
        }
        if (o->cpuset_cpus != NULL) {
            (void)json_object_set_new(cpu, "cpus", json_string(o->cpuset_cpus));
        }
        if (o->cpuset_mems != NULL) {
            (void)json_object_set_new(cpu, "mems", json_string(o->cpuset_mems));
        }
    }
    return json_incref(top);
}

static int update_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)argc;
    const struct update_options *options = data;
    AUTO(buf_donep) struct buf text = {0};
    AUTO(spec_freep) struct spec *spec = NULL;
    int r;
    if (options->resources != NULL) {
        r = str_eq(options->resources, "-")
                ? read_fd(0, RESOURCES_SIZE_MAX, &text)
                : read_file(options->resources, RESOURCES_SIZE_MAX, &text);
        r = r < 0 ? err_set(err, -r, "read '%s'", options->resources) : 0;
    } else {
        AUTO(json_unrefp) json_t *json = resources_of(options, err);
        AUTO(freep) char *dump = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
        r = dump == NULL ? -EINVAL : buf_add_str(&text, dump);
    }
    if (r < 0) {
        return r;
    }
    r = spec_parse_resources(text.data != NULL ? text.data : "", text.len, "resources", &spec, err);
    return r < 0 ? r : container_update(globals->root, argv[0], &spec->resources, err);
}

const struct oci_command oci_update_commands[] = {
    {"update", "ID", "change the limits of a running container", update_options,
     sizeof(struct update_options), 1, 1, false, false, update_run},
    {0},
};
