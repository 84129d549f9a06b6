#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/bundle.h"
#include "engine/config_options.h"
#include "engine/create.h"
#include "engine/vm_bundle.h"
#include "engine/vm_start.h"
#include "wall/wall.h"

static const struct option_spec options[] = {
    {"blkio-weight", 0, OPTION_INT, CONFIG_AT(blkio_weight), "N", "Block I/O weight", NULL},
    {"cpu-period", 0, OPTION_INT, CONFIG_AT(cpu_period), "US", "CFS period", NULL},
    {"cpu-quota", 0, OPTION_INT, CONFIG_AT(cpu_quota), "US", "CFS quota", NULL},
    {"cpu-shares", 'c', OPTION_INT, CONFIG_AT(cpu_shares), "N", "Relative CPU weight", NULL},
    {"cpus", 0, OPTION_CALL, CONFIG_AT(nano_cpus), "N", "Number of CPUs", config_parse_cpus},
    {"cpuset-cpus", 0, OPTION_STRING, CONFIG_AT(cpuset_cpus), "LIST", "CPUs to run on", NULL},
    {"cpuset-mems", 0, OPTION_STRING, CONFIG_AT(cpuset_mems), "LIST", "Memory nodes", NULL},
    {"memory", 'm', OPTION_SIZE, CONFIG_AT(memory), "SIZE", "Memory limit", NULL},
    {"memory-reservation", 0, OPTION_SIZE, CONFIG_AT(memory_reservation), "SIZE",
     "Soft memory limit", NULL},
    {"memory-swap", 0, OPTION_CALL, CONFIG_AT(memory_swap), "SIZE", "Memory and swap together",
     config_parse_swap},
    {"pids-limit", 0, OPTION_INT, CONFIG_AT(pids_limit), "N", "Most processes", NULL},
    {"restart", 0, OPTION_STRING, CONFIG_AT(restart), "POLICY", "Restart policy", NULL},
    {0},
};

/* What was given replaces what was there. */
static void merge(const struct workload_config *from, struct workload_config *to)
{
    static const size_t numbers[] = {
        CONFIG_AT(blkio_weight), CONFIG_AT(cpu_period),         CONFIG_AT(cpu_quota),
        CONFIG_AT(cpu_shares),   CONFIG_AT(nano_cpus),          CONFIG_AT(memory),
        CONFIG_AT(memory_swap),  CONFIG_AT(memory_reservation), CONFIG_AT(pids_limit),
    };
    static const size_t texts[] = {CONFIG_AT(cpuset_cpus), CONFIG_AT(cpuset_mems),
                                   CONFIG_AT(restart)};
    for (size_t i = 0; i < COUNT(numbers); i++) {
        int64_t value = *(const int64_t *)(const void *)((const char *)from + numbers[i]);
        if (value != 0) {
            *(int64_t *)(void *)((char *)to + numbers[i]) = value;
        }
    }
    for (size_t i = 0; i < COUNT(texts); i++) {
        const char *value = *(const char *const *)(const void *)((const char *)from + texts[i]);
        if (value != NULL) {
            *(const char **)(void *)((char *)to + texts[i]) = value;
        }
    }
}

/* Checks the merged limits, and gives them to a workload that runs. */
static int apply(struct engine *engine, const struct workload *workload, struct err *err)
{
    const struct wall *wall;
    const struct bundle_inputs inputs = {.id = workload->id, .config = &workload->config};
    AUTO(json_unrefp) json_t *process = json_object();
    AUTO(json_unrefp) json_t *linux_part = json_object();
    AUTO(spec_freep) struct spec *spec = NULL;
    int r = bundle_add_limits(&inputs, process, linux_part, err);
    json_t *resources = json_object_get(linux_part, "resources");
    AUTO(freep) char *text = NULL;
    if (r < 0 || (workload->state != WORKLOAD_RUNNING && workload->state != WORKLOAD_PAUSED)) {
        return r;
    }
    if (r == 0) {
        (void)json_object_del(resources, "devices");
        text = json_dumps(resources, JSON_COMPACT);
        r = text == NULL ? err_set(err, ENOMEM, "update") : 0;
    }
    if (r == 0) {
        r = spec_parse_resources(text, strlen(text), "update", &spec, err);
    }
    if (r == 0) {
        r = wall_find(workload->config.isolation, &wall, err);
    }
    return r < 0 ? r : wall->update(engine->containers_dir, workload->id, &spec->resources, err);
}

static int update_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    const struct workload_config *asked = data;
    AUTO(workload_donep) struct workload found = {0};
    AUTO(workload_donep) struct workload workload = {0};
    struct restart_policy policy;
    int r = create_restart_policy(asked->restart, &policy, err);
    if (r == 0) {
        r = workload_find(engine, name, &found, err);
    }
    if (r < 0) {
        return r;
    }
    AUTO(closep) int lock = workload_lock(engine, found.id, err);
    r = lock < 0 ? lock : workload_load(engine, found.id, &workload, err);
    if (r == 0 && workload.config.rm && policy.kind != RESTART_NO) {
        r = err_say(err, EINVAL, "workload '%s' has --rm, which cannot go with --restart",
                    workload.name);
    }
    if (r == 0) {
        merge(asked, &workload.config);
        r = vm_start_wanted(&workload) ? vm_bundle_check(&workload.config, err) : 0;
    }
    if (r == 0) {
        r = apply(engine, &workload, err);
    }
    return r < 0 ? r : workload_save_config(engine, &workload, err);
}

static int run_update(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : command_each(engine, argc, argv, update_one, data);
}

const struct command update_commands[] = {
    {
        .name = "update",
        .operands = "NAME...",
        .summary = "Change limits and restart policy of workloads",
        .options = options,
        .options_size = sizeof(struct workload_config),
        .operands_min = 1,
        .operands_max = -1,
        .run = run_update,
    },
    {0},
};
