#include "cmd/machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/dirs.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "cmd/format.h"
#include "engine/kernel.h"

#define MIB ((uint64_t)1 << 20)
#define MEMORY_DEFAULT (256 * MIB)
#define APPEND_DEFAULT "console=ttyS0 reboot=t panic=-1"
#define LOOK_US 20000

struct machine_options {
    const char *kernel, *initrd, *append, *name;
    int64_t cpus;
    uint64_t memory;
    struct strv disks, nets;
    bool detach, bare;
    bool no_jail;
    bool track_dirty, diff;
    struct strv bases;
    const char *format;
    bool quiet;
    uint64_t timeout;
};

#define AT(member) offsetof(struct machine_options, member)

#define NAME_OPTION                                                                                \
    {                                                                                              \
        "name", 0, OPTION_STRING, AT(name), "NAME", "Name of the machine", NULL                    \
    }
#define DETACH_OPTION                                                                              \
    {                                                                                              \
        "detach", 'd', OPTION_FLAG, AT(detach), NULL, "Leave it running and print its name", NULL  \
    }

#define NO_JAIL_OPTION                                                                             \
    {                                                                                              \
        "no-jail", 0, OPTION_FLAG, AT(no_jail), NULL,                                              \
            "Let the monitor keep all rights, where the host has no namespaces for it", NULL       \
    }

static const struct option_spec run_options[] = {
    {"kernel", 0, OPTION_STRING, AT(kernel), "FILE",
     "Kernel: ELF, or a bzImage (default: that of isola kernel)", NULL},
    {"initrd", 0, OPTION_STRING, AT(initrd), "FILE", "Initial RAM file system", NULL},
    {"append", 0, OPTION_STRING, AT(append), "TEXT", "Kernel command line", NULL},
    {"no-board-args", 0, OPTION_FLAG, AT(bare), NULL,
     "Nothing but --append: no words for Linux of the board's own", NULL},
    {"cpus", 0, OPTION_INT, AT(cpus), "N", "CPUs (default 1)", NULL},
    {"memory", 'm', OPTION_SIZE, AT(memory), "SIZE", "Memory (default 256m)", NULL},
    {"disk", 0, OPTION_LIST, AT(disks), "PATH[,format=qcow2][,ro]", "Add a disk image", NULL},
    {"net", 0, OPTION_LIST, AT(nets), "TAP", "Add a network card on this tap", NULL},
    {"track-dirty-pages", 0, OPTION_FLAG, AT(track_dirty), NULL,
     "Note what is written, for snapshot --diff", NULL},
    NAME_OPTION,
    DETACH_OPTION,
    NO_JAIL_OPTION,
    {0},
};

static const struct option_spec snapshot_options[] = {
    {"diff", 0, OPTION_FLAG, AT(diff), NULL,
     "Memory: only what was written since the last snapshot", NULL},
    {0},
};

static const struct option_spec restore_options[] = {
    {"base", 0, OPTION_LIST, AT(bases), "FILE",
     "What FILE is the difference to; again for what that one is, the full snapshot last", NULL},
    NAME_OPTION,
    DETACH_OPTION,
    NO_JAIL_OPTION,
    {0}};

static const struct option_spec ls_options[] = {
    {"format", 0, OPTION_STRING, AT(format), "TEMPLATE", "json, table ... or a Go template", NULL},
    {"quiet", 'q', OPTION_FLAG, AT(quiet), NULL, "Only names", NULL},
    {0},
};

static const struct option_spec stop_options[] = {
    {"time", 't', OPTION_DURATION, AT(timeout), "DURATION",
     "Wait so long after the power button (default 10s)", NULL},
    {0},
};

static void run_defaults(void *options)
{
    struct machine_options *o = options;
    o->cpus = 1;
    o->memory = MEMORY_DEFAULT;
    o->append = APPEND_DEFAULT;
}

static void stop_defaults(void *options)
{
    ((struct machine_options *)options)->timeout = 10 * NS_PER_SEC;
}

static int find_place(const struct command_context *context, const char *name,
                      struct machine_place *ret, struct err *err)
{
    AUTO(dirs_donep) struct dirs dirs = {0};
    int r = dirs_init(context->global->root, context->global->run_dir, &dirs, err);
    return r < 0 ? r : machine_place_init(dirs.run, name, ret, err);
}

static int new_place(const struct command_context *context, const char *name,
                     struct machine_place *ret, struct err *err)
{
    char chosen[16];
    uint32_t number = 0;
    if (name == NULL) {
        if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number)) {
            return err_set(err, errno, "choose a name");
        }
        (void)snprintf(chosen, sizeof(chosen), "m-%08x", number);
        name = chosen;
    }
    AUTO(machine_place_donep) struct machine_place place = {0};
    int r = find_place(context, name, &place, err);
    r = r < 0 ? r : machine_place_make(&place, err);
    if (r == 0) {
        *ret = place;
        place = (struct machine_place){0};
    }
    return r;
}

/* The one line that `isola kernel unpack` prints. */
static int unpack_kernel(const char *root, const char *file, char **ret, struct err *err)
{
    AUTO(buf_donep) struct buf line = {0};
    AUTO(freep) char *program = dirs_helper("isola-kernel");
    int ends[2];
    int status = 0;
    if (program == NULL || pipe2(ends, O_CLOEXEC) < 0) {
        return err_set(err, program == NULL ? ENOMEM : errno, "unpack '%s'", file);
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)execl(program, "isola-kernel", "--root", root, "kernel", "unpack", file,
                    (char *)NULL);
        (void)fprintf(stderr, "isola: run '%s': %s\n", program, strerror(errno));
        _exit(127);
    }
    (void)close(ends[1]);
    int r = pid < 0 ? -errno : read_fd(ends[0], 8192, &line);
    (void)close(ends[0]);
    r = r < 0 ? r : process_wait(pid, &status);
    if (r < 0) {
        return err_set(err, -r, "unpack '%s'", file);
    }
    if (status != 0 || line.len < 2) {
        return err_say(err, EINVAL, "'%s' cannot be booted", file);
    }
    line.data[line.len - 1] = '\0';
    *ret = buf_take(&line);
    return *ret == NULL ? err_set(err, ENOMEM, "unpack '%s'", file) : 0;
}

static int find_kernel(const struct command_context *context, const char *file, char **ret,
                       struct err *err)
{
    AUTO(dirs_donep) struct dirs dirs = {0};
    int r = dirs_init(context->global->root, context->global->run_dir, &dirs, err);
    if (r < 0 || file != NULL) {
        return r < 0 ? r : unpack_kernel(dirs.root, file, ret, err);
    }
    AUTO(closep) int kernel = kernel_open(dirs.root, NULL, err);
    if (kernel < 0) {
        return kernel;
    }
    *ret = str_printf("%s/kernels/default/vmlinux", dirs.root);
    return *ret == NULL ? err_set(err, ENOMEM, "find the kernel") : 0;
}

/* PATH[,format=F][,ro] */
static int add_disk(json_t *drives, const char *text, struct err *err)
{
    AUTO(strv_donep) struct strv parts = {0};
    char id[32];
    const char *format = "raw";
    bool read_only = false;
    if (strv_split(&parts, text, ",") < 0) {
        return err_set(err, ENOMEM, "--disk '%s'", text);
    }
    for (size_t i = 1; i < parts.count; i++) {
        if (str_eq(parts.items[i], "ro")) {
            read_only = true;
        } else if (str_eq(parts.items[i], "format=raw") || str_eq(parts.items[i], "format=qcow2")) {
            format = parts.items[i] + strlen("format=");
        } else {
            return err_say(err, EINVAL, "--disk '%s': '%s' is not ro, format=raw or format=qcow2",
                           text, parts.items[i]);
        }
    }
    AUTO(freep) char *path = parts.count == 0 ? NULL : realpath(parts.items[0], NULL);
    if (path == NULL) {
        return err_set(err, parts.count == 0 ? EINVAL : errno, "--disk '%s'", text);
    }
    (void)snprintf(id, sizeof(id), "disk%zu", json_array_size(drives));
    return json_array_append_new(drives, json_pack("{s:s, s:s, s:s, s:b}", "drive_id", id,
                                                   "path_on_host", path, "format", format,
                                                   "is_read_only", read_only ? 1 : 0)) < 0
               ? err_set(err, ENOMEM, "--disk '%s'", text)
               : 0;
}

static int describe(const struct machine_options *o, const char *kernel, json_t **ret,
                    struct err *err)
{
    AUTO(json_unrefp) json_t *drives = json_array();
    AUTO(json_unrefp) json_t *nets = json_array();
    AUTO(freep) char *initrd = o->initrd == NULL ? NULL : realpath(o->initrd, NULL);
    if (o->initrd != NULL && initrd == NULL) {
        return err_set(err, errno, "--initrd '%s'", o->initrd);
    }
    if (o->memory % MIB != 0) {
        return err_say(err, EINVAL, "--memory: whole mebibytes only");
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < o->disks.count; i++) {
        r = add_disk(drives, o->disks.items[i], err);
    }
    for (size_t i = 0; r == 0 && i < o->nets.count; i++) {
        char id[32];
        (void)snprintf(id, sizeof(id), "net%zu", i);
        r = json_array_append_new(
            nets, json_pack("{s:s, s:s}", "iface_id", id, "host_dev_name", o->nets.items[i]));
        r = r < 0 ? err_set(err, ENOMEM, "--net '%s'", o->nets.items[i]) : 0;
    }
    if (r < 0) {
        return r;
    }
    *ret = json_pack("{s:{s:s, s:s*, s:s, s:b}, s:{s:I, s:I, s:b, s:b, s:b}, s:O, s:O, s:{}, s:s}",
                     "boot-source", "kernel_image_path", kernel, "initrd_path", initrd, "boot_args",
                     o->append, "board_args", !o->bare, "machine-config", "vcpu_count",
                     (json_int_t)o->cpus, "mem_size_mib", (json_int_t)(o->memory / MIB), "rtc", 1,
                     "i8042", 1, "track_dirty_pages", o->track_dirty, "drives", drives,
                     "network-interfaces", nets, "entropy", "stdio", "serial");
    return *ret == NULL ? err_set(err, ENOMEM, "describe the machine") : 0;
}

static int start(const struct machine_start *start_, bool detach, struct err *err)
{
    const struct machine_place *place = start_->place;
    int r = detach ? machine_run_detached(start_, err) : machine_run_attached(start_, err);
    if (r == 0 && detach) {
        (void)printf("%s\n", place->name);
    }
    if (r < 0 || !detach) {
        machine_place_remove(place);
    }
    return r;
}

static int run_run(struct command_context *context, void *data, int argc, char **argv,
                   struct err *err)
{
    (void)argc;
    (void)argv;
    const struct machine_options *o = data;
    AUTO(freep) char *kernel = NULL;
    AUTO(json_unrefp) json_t *json = NULL;
    AUTO(machine_place_donep) struct machine_place place = {0};
    int r = find_kernel(context, o->kernel, &kernel, err);
    r = r < 0 ? r : describe(o, kernel, &json, err);
    r = r < 0 ? r : new_place(context, o->name, &place, err);
    if (r < 0) {
        return r;
    }
    if (json_dump_file(json, place.config, JSON_INDENT(2)) < 0) {
        machine_place_remove(&place);
        return err_set(err, EIO, "write '%s'", place.config);
    }
    struct machine_start how = {.place = &place, .configured = true, .no_jail = o->no_jail};
    return start(&how, o->detach, err);
}

/* The memory files beside those snapshots, by absolute names. */
static int name_bases(const struct strv *files, json_t **ret, struct err *err)
{
    AUTO(json_unrefp) json_t *bases = json_array();
    int r = bases == NULL ? -1 : 0;
    for (size_t i = 0; r == 0 && i < files->count; i++) {
        AUTO(freep) char *state = realpath(files->items[i], NULL);
        if (state == NULL) {
            return err_set(err, errno, "--base '%s'", files->items[i]);
        }
        r = json_array_append_new(bases, json_sprintf("%s.memory", state));
    }
    if (r < 0) {
        return err_set(err, ENOMEM, "--base");
    }
    *ret = TAKE_PTR(bases);
    return 0;
}

static int run_restore(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    (void)argc;
    const struct machine_options *o = data;
    AUTO(machine_place_donep) struct machine_place place = {0};
    AUTO(freep) char *state = realpath(argv[0], NULL);
    AUTO(freep) char *memory = state == NULL ? NULL : str_printf("%s.memory", state);
    if (memory == NULL) {
        return err_set(err, errno, "restore '%s'", argv[0]);
    }
    int r = new_place(context, o->name, &place, err);
    if (r < 0) {
        return r;
    }
    AUTO(json_unrefp) json_t *bases = NULL;
    r = r < 0 ? r : name_bases(&o->bases, &bases, err);
    struct machine_start how = {
        .place = &place, .state = state, .memory = memory, .bases = bases, .no_jail = o->no_jail};
    if (r < 0) {
        machine_place_remove(&place);
        return r;
    }
    return start(&how, o->detach, err);
}

static int set_state(struct command_context *context, const char *name, const char *state,
                     struct err *err)
{
    AUTO(machine_place_donep) struct machine_place place = {0};
    AUTO(json_unrefp) json_t *body = json_pack("{s:s}", "state", state);
    int r = find_place(context, name, &place, err);
    r = r < 0 ? r : machine_call(&place, "PATCH", "/vm", body, NULL, err);
    if (r == 0) {
        (void)printf("%s\n", name);
    }
    return r;
}

static int run_pause(struct command_context *context, void *data, int argc, char **argv,
                     struct err *err)
{
    (void)data, (void)argc;
    return set_state(context, argv[0], "Paused", err);
}

static int run_resume(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)data, (void)argc;
    return set_state(context, argv[0], "Resumed", err);
}

/* The file and its memory beside it, by absolute names: the machine may be elsewhere. */
static json_t *name_snapshot(const char *file, bool diff)
{
    AUTO(freep) char *folder = file[0] == '/' ? strdup("") : getcwd(NULL, 0);
    if (folder == NULL) {
        return NULL;
    }
    AUTO(freep) char *state = str_printf("%s%s%s", folder, file[0] == '/' ? "" : "/", file);
    AUTO(freep) char *memory = state == NULL ? NULL : str_printf("%s.memory", state);
    return memory == NULL ? NULL
                          : json_pack("{s:s, s:s, s:s}", "snapshot_path", state, "mem_file_path",
                                      memory, "snapshot_type", diff ? "Diff" : "Full");
}

static int run_snapshot(struct command_context *context, void *data, int argc, char **argv,
                        struct err *err)
{
    (void)argc;
    const struct machine_options *o = data;
    AUTO(machine_place_donep) struct machine_place place = {0};
    AUTO(json_unrefp) json_t *instance = NULL;
    AUTO(json_unrefp) json_t *body = name_snapshot(argv[1], o->diff);
    AUTO(json_unrefp) json_t *paused = json_pack("{s:s}", "state", "Paused");
    AUTO(json_unrefp) json_t *resumed = json_pack("{s:s}", "state", "Resumed");
    int r = find_place(context, argv[0], &place, err);
    r = r < 0 ? r : machine_call(&place, "GET", "/", NULL, &instance, err);
    r = r < 0 ? r : machine_call(&place, "PATCH", "/vm", paused, NULL, err);
    if (r < 0) {
        return r;
    }
    r = machine_call(&place, "PUT", "/snapshot/create", body, NULL, err);
    /* It goes on as it was, also when it could not be saved. */
    if (!str_eq(json_string_value(json_object_get(instance, "state")), "Paused")) {
        int back = machine_call(&place, "PATCH", "/vm", resumed, NULL, r < 0 ? NULL : err);
        r = r < 0 ? r : back;
    }
    if (r == 0) {
        (void)printf("%s\n", argv[1]);
    }
    return r;
}

static int run_console(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    (void)data, (void)argc;
    AUTO(machine_place_donep) struct machine_place place = {0};
    int r = find_place(context, argv[0], &place, err);
    return r < 0 ? r : machine_console(&place, err);
}

static bool ends_within(const struct machine_place *place, uint64_t ns)
{
    int64_t end = clock_monotonic_ns() + (int64_t)ns;
    while (machine_place_pid(place) != 0) {
        if (clock_monotonic_ns() >= end) {
            return false;
        }
        (void)usleep(LOOK_US);
    }
    return true;
}

static int run_stop(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    const struct machine_options *o = data;
    (void)argc;
    AUTO(machine_place_donep) struct machine_place place = {0};
    AUTO(json_unrefp) json_t *button = json_pack("{s:s}", "action_type", "SendPowerButton");
    int r = find_place(context, argv[0], &place, err);
    if (r < 0) {
        return r;
    }
    pid_t pid = machine_place_pid(&place);
    if (pid == 0) {
        return err_say(err, ESRCH, "there is no machine '%s'", argv[0]);
    }
    AUTO(closep) int pidfd = pidfd_open_pid(pid);
    if (machine_call(&place, "PUT", "/actions", button, NULL, NULL) < 0 ||
        !ends_within(&place, o->timeout)) {
        /* The plug: isola-vmm ends the machine at once and in order. */
        (void)pidfd_signal(pidfd, SIGTERM);
        if (!ends_within(&place, 10 * NS_PER_SEC)) {
            (void)pidfd_signal(pidfd, SIGKILL);
        }
    }
    (void)printf("%s\n", argv[0]);
    return 0;
}

static int add_row(struct format *format, const struct machine_place *place, struct err *err)
{
    AUTO(json_unrefp) json_t *instance = NULL;
    AUTO(json_unrefp) json_t *config = NULL;
    pid_t pid = machine_place_pid(place);
    if (pid == 0 || machine_call(place, "GET", "/", NULL, &instance, NULL) < 0 ||
        machine_call(place, "GET", "/machine-config", NULL, &config, NULL) < 0) {
        return 0; /* it ended meanwhile */
    }
    char memory[32];
    json_int_t mib = json_integer_value(json_object_get(config, "mem_size_mib"));
    (void)snprintf(memory, sizeof(memory), "%lldMiB", (long long)mib);
    AUTO(json_unrefp)
    json_t *row = json_pack("{s:s, s:s, s:I, s:s, s:I}", "Name", place->name, "State",
                            json_string_value(json_object_get(instance, "state")), "CPUs",
                            json_integer_value(json_object_get(config, "vcpu_count")), "Memory",
                            memory, "PID", (json_int_t)pid);
    return row == NULL ? err_set(err, ENOMEM, "list machines") : format_add(format, row, err);
}

static int run_ls(struct command_context *context, void *data, int argc, char **argv,
                  struct err *err)
{
    (void)argc, (void)argv;
    const struct machine_options *o = data;
    const char *template = o->format != NULL ? o->format
                           : o->quiet
                               ? "{{.Name}}"
                               : "table {{.Name}}\t{{.State}}\t{{.CPUs}}\t{{.Memory}}\t{{.PID}}";
    AUTO(dirs_donep) struct dirs dirs = {0};
    AUTO(format_freep) struct format *format = NULL;
    int r = dirs_init(context->global->root, context->global->run_dir, &dirs, err);
    r = r < 0 ? r : format_new(template, NULL, &format, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *path = str_printf("%s/machines", dirs.run);
    struct dirent **entries = NULL;
    int count = path == NULL ? 0 : scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        AUTO(machine_place_donep) struct machine_place place = {0};
        if (r == 0 && machine_place_init(dirs.run, entries[i]->d_name, &place, NULL) == 0) {
            r = add_row(format, &place, err);
        }
        free(entries[i]);
    }
    free(entries);
    return r < 0 ? r : format_finish(format, stdout, err);
}

#define MACHINE_COMMAND(name_, operands_, count_, summary_, options_, run_)                        \
    .group = "machine", .name = (name_), .operands = (operands_), .operands_min = (count_),        \
    .operands_max = (count_), .summary = (summary_), .options = (options_),                        \
    .options_size = sizeof(struct machine_options), .run = (run_)

const struct command machine_commands[] = {
    {MACHINE_COMMAND("console", "MACHINE", 1, "Use the serial port of a detached machine", NULL,
                     run_console)},
    {MACHINE_COMMAND("ls", "", 0, "List machines", ls_options, run_ls)},
    {MACHINE_COMMAND("pause", "MACHINE", 1, "Let a machine stand still", NULL, run_pause)},
    {MACHINE_COMMAND("restore", "FILE", 1, "Go on from a snapshot", restore_options, run_restore),
     .failure = EXIT_ENGINE},
    {MACHINE_COMMAND("resume", "MACHINE", 1, "Let a paused machine go on", NULL, run_resume)},
    {MACHINE_COMMAND("run", "", 0, "Run a virtual machine from a kernel", run_options, run_run),
     .defaults = run_defaults, .failure = EXIT_ENGINE},
    {MACHINE_COMMAND("snapshot", "MACHINE FILE", 2, "Save a machine to FILE and FILE.memory",
                     snapshot_options, run_snapshot)},
    {MACHINE_COMMAND("stop", "MACHINE", 1, "Press the power button, then switch off", stop_options,
                     run_stop),
     .defaults = stop_defaults},
    {0},
};
