#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "base/path.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/format.h"
#include "engine/check.h"
#include "engine/end.h"
#include "engine/network.h"
#include "engine/vm_store.h"
#include "engine/volume.h"
#include "image/store.h"

struct system_options {
    bool all;
    bool force;
    bool repair;
    bool volumes;
    const char *format;
};

#define AT(member) offsetof(struct system_options, member)

static const struct option_spec check_options[] = {
    {"repair", 0, OPTION_FLAG, AT(repair), NULL, "Mend what is found", NULL},
    {0},
};

static const struct option_spec format_options[] = {
    {"format", 'f', OPTION_STRING, AT(format), "TEMPLATE", "json or a Go template", NULL},
    {0},
};

static const struct option_spec force_options[] = {
    {"force", 'f', OPTION_FLAG, AT(force), NULL, "Do not ask", NULL},
    {0},
};

static const struct option_spec prune_options[] = {
    {"all", 'a', OPTION_FLAG, AT(all), NULL, "All unused images, not only those without a name",
     NULL},
    {"force", 'f', OPTION_FLAG, AT(force), NULL, "Do not ask", NULL},
    {"volumes", 0, OPTION_FLAG, AT(volumes), NULL, "Anonymous volumes too", NULL},
    {0},
};

static int run_check(struct command_context *context, void *data, int argc, char **argv,
                     struct err *err)
{
    (void)argc;
    (void)argv;
    const struct system_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(strv_donep) struct strv findings = {0};
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = check_system(engine, o->repair, &findings, err);
    }
    for (size_t i = 0; i < findings.count; i++) {
        bool said = str_ends(findings.items[i], "(mended)");
        (void)printf("%s%s\n", findings.items[i], o->repair && r == 0 && !said ? " (mended)" : "");
    }
    if (r < 0) {
        return r;
    }
    if (findings.count == 0) {
        (void)printf("nothing to repair\n");
    }
    return findings.count > 0 && !o->repair ? 1 : 0;
}

/* Counts for `info` and `df`. */
struct counts {
    int64_t running;
    int64_t paused;
    int64_t stopped;
    int64_t images;
    int64_t volumes;
    int64_t volumes_used;
    uint64_t workload_bytes;
    uint64_t volume_bytes;
    uint64_t volume_bytes_unused;
    uint64_t workload_bytes_unused;
    struct store_usage usage;
};

static int count_all(struct engine *engine, struct counts *ret, struct err *err)
{
    AUTO(workload_list_donep) struct workload_list list = {0};
    AUTO(volume_list_donep) struct volume_list volumes = {0};
    struct image_store *store;
    int r = workload_list(engine, &list, err);
    if (r == 0) {
        r = volume_list(engine, &volumes, err);
    }
    if (r == 0) {
        r = engine_store(engine, &store, err);
    }
    if (r == 0) {
        r = image_store_usage(store, &ret->usage, err);
    }
    for (size_t i = 0; i < list.count; i++) {
        int64_t *counter = list.items[i].state == WORKLOAD_RUNNING  ? &ret->running
                           : list.items[i].state == WORKLOAD_PAUSED ? &ret->paused
                                                                    : &ret->stopped;
        (*counter)++;
    }
    for (size_t i = 0; i < volumes.count; i++) {
        ret->volumes++;
        ret->volumes_used += volumes.items[i].users > 0 ? 1 : 0;
    }
    ret->images = (int64_t)ret->usage.images;
    return r;
}

static int print_object(json_t *object, const char *template, struct err *err)
{
    AUTO(json_unrefp) json_t *owned = object;
    if (owned == NULL) {
        return err_set(err, ENOMEM, "print");
    }
    if (template != NULL) {
        AUTO(buf_donep) struct buf text = {0};
        int r = format_value(str_eq(template, "json") ? "{{json .}}" : template, owned, &text, err);
        if (r == 0) {
            (void)printf("%s\n", text.data != NULL ? text.data : "");
        }
        return r;
    }
    const char *key;
    json_t *value;
    json_object_foreach (owned, key, value) {
        if (json_is_string(value)) {
            (void)printf("%s: %s\n", key, json_string_value(value));
        } else if (json_is_integer(value)) {
            (void)printf("%s: %lld\n", key, (long long)json_integer_value(value));
        }
    }
    return 0;
}

static int run_info(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    (void)argc;
    (void)argv;
    const struct system_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    struct counts counts = {0};
    struct utsname uts;
    char memory[32];
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = count_all(engine, &counts, err);
    }
    if (r < 0 || uname(&uts) < 0) {
        return r < 0 ? r : err_set(err, errno, "uname");
    }
    int64_t total = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    format_size((uint64_t)total, memory, sizeof(memory));
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    return print_object(
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:s}",
                  "ServerVersion", ISOLA_VERSION, "Containers",
                  (json_int_t)(counts.running + counts.paused + counts.stopped),
                  "ContainersRunning", (json_int_t)counts.running, "ContainersPaused",
                  (json_int_t)counts.paused, "ContainersStopped", (json_int_t)counts.stopped,
                  "Images", (json_int_t)counts.images, "Volumes", (json_int_t)counts.volumes,
                  "Driver", "overlay2", "CgroupVersion", v2 ? "2" : "1", "KernelVersion",
                  uts.release, "Architecture", uts.machine, "IsolaRootDir", engine->dirs.root,
                  "IsolaRunDir", engine->dirs.run, "NCPU",
                  (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "MemTotal", memory),
        o->format, err);
}

/* What a workload changed in its files, on disk. */
static uint64_t workload_size(const struct engine *engine, const char *id)
{
    AUTO(freep) char *path = workload_root_path(engine, id, NULL);
    return path != NULL ? tree_size_at(AT_FDCWD, path) : 0;
}

/* What workloads and volumes take on disk: a walk over their files. */
static int measure(struct engine *engine, struct counts *counts, struct err *err)
{
    AUTO(workload_list_donep) struct workload_list list = {0};
    AUTO(volume_list_donep) struct volume_list volumes = {0};
    int r = workload_list(engine, &list, err);
    if (r == 0) {
        r = volume_list(engine, &volumes, err);
    }
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        const struct workload *w = &list.items[i];
        uint64_t size = workload_size(engine, w->id);
        bool unused = w->state == WORKLOAD_EXITED || w->state == WORKLOAD_CREATED;
        counts->workload_bytes += size;
        counts->workload_bytes_unused += unused ? size : 0;
    }
    for (size_t i = 0; r == 0 && i < volumes.count; i++) {
        uint64_t size = volume_size(engine, volumes.items[i].name);
        counts->volume_bytes += size;
        counts->volume_bytes_unused += volumes.items[i].users == 0 ? size : 0;
    }
    return r;
}

static int run_df(struct command_context *context, void *data, int argc, char **argv,
                  struct err *err)
{
    (void)argc;
    (void)argv;
    const struct system_options *o = data;
    static const char default_format[] =
        "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
    static const struct format_header headers[] = {{"TotalCount", "TOTAL"}, {NULL, NULL}};
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(format_freep) struct format *format = NULL;
    struct counts counts = {0};
    char size[3][32];
    char unused[3][32];
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = count_all(engine, &counts, err);
    }
    if (r == 0) {
        r = measure(engine, &counts, err);
    }
    if (r == 0) {
        r = format_new(o->format != NULL ? o->format : default_format, headers, &format, err);
    }
    if (r < 0) {
        return r;
    }
    const uint64_t bytes[3][2] = {
        {counts.usage.layers_bytes + counts.usage.blobs_bytes + counts.usage.erofs_bytes,
         counts.usage.reclaimable_bytes},
        {counts.workload_bytes, counts.workload_bytes_unused},
        {counts.volume_bytes, counts.volume_bytes_unused},
    };
    for (size_t i = 0; i < COUNT(bytes); i++) {
        format_size(bytes[i][0], size[i], sizeof(size[i]));
        format_size(bytes[i][1], unused[i], sizeof(unused[i]));
    }
    const struct {
        const char *type;
        int64_t total;
        int64_t active;
    } rows[] = {
        {"Images", counts.images, (int64_t)counts.usage.images_used},
        {"Containers", counts.running + counts.paused + counts.stopped, counts.running},
        {"Local Volumes", counts.volumes, counts.volumes_used},
    };
    for (size_t i = 0; r == 0 && i < COUNT(rows); i++) {
        AUTO(json_unrefp)
        json_t *row = json_pack("{s:s, s:I, s:I, s:s, s:s}", "Type", rows[i].type, "TotalCount",
                                (json_int_t)rows[i].total, "Active", (json_int_t)rows[i].active,
                                "Size", size[i], "Reclaimable", unused[i]);
        r = row == NULL ? err_set(err, ENOMEM, "df") : format_add(format, row, err);
    }
    return r < 0 ? r : format_finish(format, stdout, err);
}

static int prune_workloads(struct engine *engine, uint64_t *bytes, struct err *err)
{
    AUTO(workload_list_donep) struct workload_list list = {0};
    AUTO(strv_donep) struct strv removed = {0};
    int r = workload_list(engine, &list, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        const struct workload *w = &list.items[i];
        if (w->state == WORKLOAD_EXITED || w->state == WORKLOAD_CREATED) {
            uint64_t size = workload_size(engine, w->id);
            r = end_remove(engine, w->id, false, false, err);
            if (r == 0) {
                *bytes += size;
                r = strv_add(&removed, w->id);
            }
            r = r == -EBUSY || r == -ENOENT ? 0 : r;
        }
    }
    command_print_deleted("Containers", &removed);
    return r;
}

static int run_container_prune(struct command_context *context, void *data, int argc, char **argv,
                               struct err *err)
{
    (void)argc;
    (void)argv;
    const struct system_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    if (!command_confirm("Remove all workloads that do not run?", o->force)) {
        return 0;
    }
    uint64_t bytes = 0;
    char size[32];
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = prune_workloads(engine, &bytes, err);
    }
    if (r == 0) {
        format_size(bytes, size, sizeof(size));
        (void)printf("Total reclaimed space: %s\n", size);
    }
    return r;
}

static int run_prune(struct command_context *context, void *data, int argc, char **argv,
                     struct err *err)
{
    (void)argc;
    (void)argv;
    const struct system_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(strv_donep) struct strv networks = {0};
    AUTO(strv_donep) struct strv volumes = {0};
    uint64_t bytes = 0;
    char size[32];
    struct network_host *host;
    if (!command_confirm("Remove all workloads that do not run, and unused networks and images?",
                         o->force)) {
        return 0;
    }
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = prune_workloads(engine, &bytes, err);
    }
    if (r == 0) {
        r = engine_network(engine, &host, err);
    }
    if (r == 0) {
        r = network_prune(host, &networks, err);
    }
    if (r == 0 && o->volumes) {
        r = volume_prune(engine, false, &volumes, &bytes, err);
    }
    if (r == 0) {
        AUTO(strv_donep) struct strv gone = {0};
        r = vm_store_check(engine->dirs.root, true, &gone, err);
    }
    command_print_deleted("Networks", &networks);
    command_print_deleted("Volumes", &volumes);
    if (r < 0) {
        return r;
    }
    /* The total is said by the program that has the images. */
    (void)snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
    (void)fflush(stdout);
    char *argv_images[] = {
        "isola-image", "--root", engine->dirs.root,       "image", "prune", "--force",
        "--reclaimed", size,     o->all ? "--all" : NULL, NULL};
    r = command_run_helper("isola-image", argv_images, err);
    return r == -ECHILD ? err_say(err, ECHILD, "pruning images failed") : r;
}

static int run_version(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    (void)context;
    (void)argc;
    (void)argv;
    const struct system_options *o = data;
    struct utsname uts;
    if (uname(&uts) < 0) {
        return err_set(err, errno, "uname");
    }
    return print_object(json_pack("{s:s, s:s, s:s, s:s, s:s}", "Version", ISOLA_VERSION, "Os",
                                  "linux", "Arch", uts.machine, "KernelVersion", uts.release,
                                  "OCIRuntimeSpec", "1.2.0"),
                        o->format, err);
}

#define SYSTEM_COMMAND(group_, name_, summary_, options_, run_)                                    \
    {                                                                                              \
        .group = (group_), .name = (name_), .operands = "", .summary = (summary_),                 \
        .options = (options_), .options_size = sizeof(struct system_options), .run = (run_)        \
    }

const struct command system_commands[] = {
    SYSTEM_COMMAND(NULL, "info", "Show counts, directories and the host", format_options, run_info),
    SYSTEM_COMMAND(NULL, "version", "Show the version of Isola and of the kernel", format_options,
                   run_version),
    SYSTEM_COMMAND("container", "prune", "Remove workloads that do not run", force_options,
                   run_container_prune),
    SYSTEM_COMMAND("system", "check", "Look for what crashes left behind", check_options,
                   run_check),
    SYSTEM_COMMAND("system", "df", "Show how much space images take", format_options, run_df),
    SYSTEM_COMMAND("system", "info", "Show counts, directories and the host", format_options,
                   run_info),
    SYSTEM_COMMAND("system", "prune", "Remove ended workloads, unused networks and images",
                   prune_options, run_prune),
    {0},
};
