#include "vmm/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/str.h"
#include "vmm/agent.h"
#include "vmm/boot/boot.h"
#include "vmm/jail.h"
#include "vmm/machine.h"
#include "vmm/machine_devices.h"
#include "vmm/monitor.h"
#include "vmm/speed.h"

/* Of what the serial port says, kept for a crash. */
#define CONSOLE_SIZE (64 << 10)

static int open_image(const char *path, const char *what, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_set(err, errno, "open %s '%s'", what, path) : fd;
}

static enum boot_protocol protocol_of(const char *name)
{
    static const char *const names[] = {
        [BOOT_AUTO] = "auto",
        [BOOT_PVH] = "pvh",
        [BOOT_LINUX64] = "linux64",
        [BOOT_MULTIBOOT] = "multiboot",
    };
    for (size_t i = 0; i < COUNT(names); i++) {
        if (str_eq(names[i], name)) {
            return (enum boot_protocol)i;
        }
    }
    return BOOT_AUTO;
}

/* What the user said, and where the root file system is when a drive is it. */
static int make_command_line(const struct vmm_config *config, struct buf *line, struct err *err)
{
    int r = buf_add_str(line, config->boot.arguments);
    for (size_t i = 0; r == 0 && i < config->drive_count; i++) {
        if (config->drive[i].root) {
            r = buf_printf(line, " root=/dev/vd%c %s", (char)('a' + i),
                           config->drive[i].read_only ? "ro" : "rw");
        }
    }
    return r < 0 ? err_set(err, -r, "make the command line") : 0;
}

/* What machine_options.boot points to. */
struct images {
    int kernel, initrd;
    struct buf line;
    struct boot_plan plan;
};

static void images_done(struct images *images)
{
    images->kernel = close_fd(images->kernel);
    images->initrd = close_fd(images->initrd);
    buf_done(&images->line);
}
DEFINE_DONEP(struct images, images_done)

static int open_images(const struct vmm_config *config, struct images *ret, struct err *err)
{
    ret->kernel = open_image(config->boot.kernel, "kernel", err);
    if (ret->kernel < 0) {
        return ret->kernel;
    }
    if (config->boot.initrd != NULL) {
        ret->initrd = open_image(config->boot.initrd, "initrd", err);
        if (ret->initrd < 0) {
            return ret->initrd;
        }
    }
    int r = make_command_line(config, &ret->line, err);
    if (r < 0) {
        return r;
    }
    ret->plan = (struct boot_plan){
        .protocol = protocol_of(config->boot.protocol),
        .kernel_fd = ret->kernel,
        .kernel_name = config->boot.kernel,
        .initrd_fd = ret->initrd,
        .initrd_name = config->boot.initrd,
        .command_line = ret->line.data == NULL ? "" : ret->line.data,
        .bare = !config->boot.board_arguments,
    };
    return 0;
}

static bool is_jailed(const struct control *control)
{
    return control->place == CONTROL_CONTAINED || control->place == CONTROL_ALONE;
}

static struct machine_options options_of(const struct control *control)
{
    const struct vmm_config *config = &control->config;
    bool serial_stdio = config->stdio == CONFIG_STDIO_SERIAL;
    return (struct machine_options){
        .cpus = config->cpus,
        .memory = config->memory,
        .huge_pages = config->huge_pages,
        .track_dirty = config->track_dirty,
        .shared_memory = config->shared_memory,
        .features_off = config->features_off,
        .kvm_fd = -1,
        .pit = config->pit,
        .split_irqchip = config->split_irqchip,
        .rtc = config->rtc,
        .i8042 = config->i8042,
        .pvpanic = config->pvpanic,
        .debug_exit = config->debug_exit,
        .serial = config->serial,
        .serial_in_fd = serial_stdio ? STDIN_FILENO : -1,
        .serial_out_fd = serial_stdio ? STDOUT_FILENO : control->console_fd,
        .pci = config->pci,
        .jail = is_jailed(control),
        .require_hardware = config->require_hardware,
    };
}

int control_init(struct control *control, struct loop *loop, const char *id, struct err *err)
{
    *control = (struct control){
        .loop = loop, .id = id, .described = json_object(), .gdb_fd = -1, .console_fd = -1};
    return control->described == NULL ? err_set(err, ENOMEM, "describe the machine") : 0;
}

void control_done(struct control *control)
{
    agent_free(control->agent);
    machine_free(control->machine);
    monitor_free(control->monitor);
    vmm_config_done(&control->config);
    json_unrefp(&control->described);
    (void)close_fd(control->console_fd);
    *control = (struct control)CONTROL_INIT;
}

/* So much and no more: what comes behind it is lost. */
static int open_console(struct control *control, struct err *err)
{
    if (control->config.stdio != CONFIG_STDIO_CRASH) {
        return 0;
    }
    control->console_fd = close_fd(control->console_fd); /* of a try before this one */
    control->console_fd = memfd_create("console", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (control->console_fd < 0 || ftruncate(control->console_fd, CONSOLE_SIZE) < 0 ||
        fcntl(control->console_fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        return err_set(err, errno, "keep the console");
    }
    return 0;
}

void control_show_console(const struct control *control)
{
    char data[4096];
    off_t end = control->console_fd < 0 ? 0 : lseek(control->console_fd, 0, SEEK_CUR);
    for (off_t at = 0; at < end;) {
        ssize_t n = pread(control->console_fd, data, MIN(sizeof(data), (size_t)(end - at)), at);
        if (n <= 0 || write_full(STDERR_FILENO, data, (size_t)n) < 0) {
            return;
        }
        at += n;
    }
}

int control_load_file(struct control *control, const char *path, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = read_file(path, CONFIG_FILE_MAX, &text);
    return r < 0 ? err_set(err, -r, "read '%s'", path)
                 : control_load_text(control, &text, path, err);
}

int control_load_text(struct control *control, const struct buf *text, const char *name,
                      struct err *err)
{
    AUTO(json_unrefp) json_t *json = NULL;
    AUTO(vmm_config_donep) struct vmm_config config = {0};
    int r = json_parse(text->data == NULL ? "" : text->data, text->len, name, &json, err);
    r = r < 0 ? r : vmm_config_from_json(json, true, &config, err);
    if (r < 0) {
        return err_wrap(err, -r, "machine '%s'", name);
    }
    json_decref(control->described);
    control->described = TAKE_PTR(json);
    return 0;
}

/* Takes object over. */
static int put_entry(json_t *list, const char *key, json_t *object)
{
    const char *name = json_string_value(json_object_get(object, key));
    for (size_t i = 0; name != NULL && i < json_array_size(list); i++) {
        const json_t *entry = json_object_get(json_array_get(list, i), key);
        if (str_eq(json_string_value(entry), name)) {
            return json_array_set_new(list, i, object);
        }
    }
    return json_array_append_new(list, object);
}

int control_describe(struct control *control, const char *section, const char *key, json_t *object,
                     struct err *err)
{
    AUTO(json_unrefp) json_t *next = json_deep_copy(control->described);
    AUTO(vmm_config_donep) struct vmm_config config = {0};
    json_t *copy = json_deep_copy(object);
    int r = 0;
    if (key == NULL) {
        r = json_object_set_new(next, section, copy);
    } else {
        if (json_object_get(next, section) == NULL) {
            r = json_object_set_new(next, section, json_array());
        }
        r = r < 0 ? r : put_entry(json_object_get(next, section), key, copy);
    }
    if (r < 0) {
        return err_set(err, ENOMEM, "describe the machine");
    }
    r = vmm_config_from_json(next, false, &config, err);
    if (r < 0) {
        return r;
    }
    json_decref(control->described);
    control->described = TAKE_PTR(next);
    return 0;
}

static void on_end(struct machine *machine, void *data)
{
    const struct control *control = data;
    (void)machine;
    loop_quit(control->loop, 0);
}

/* From here on nothing more is opened; the first guest instruction comes after this. */
static int enter_jail(struct control *control, struct err *err)
{
    AUTO(freep) char *dir = NULL;
    const struct vmm_config *config = &control->config;
    bool alone = control->place == CONTROL_ALONE;
    if (alone && config->vsock.present) {
        vsock_set_connector(machine_vsock(control->machine), control->connect,
                            control->connect_data);
    } else if (config->vsock.present) {
        const char *slash = strrchr(config->vsock.path, '/');
        dir = slash == NULL ? strdup(".")
                            : strndup(config->vsock.path,
                                      MAX((size_t)(slash - config->vsock.path), (size_t)1));
        if (dir == NULL) {
            return err_set(err, ENOMEM, "enter the jail");
        }
    }
    const struct jail_options jail = {.socket_dir = dir, .alone = alone, .id = control->identity};
    return jail_enter(&jail, err);
}

static void on_workload_end(void *data)
{
    const struct control *control = data;
    machine_stop(control->machine, BOARD_STOPPED);
}

/* From here on it is this process's machine. boots: from its first instruction. */
static int run_machine(struct control *control, struct machine *made, bool boots, struct err *err)
{
    AUTO(machine_freep) struct machine *machine = made;
    int r = 0;
    if (control->config.vsock.stdio_ports) {
        const struct agent_options agent = {
            .vsock = machine_vsock(machine),
            .loop = control->loop,
            .boots = boots,
            .ended = control->config.vsock.ends_with_agent ? on_workload_end : NULL,
            .data = control,
        };
        r = agent_new(&agent, &control->agent, err);
    }
    control->machine = machine;
    r = r < 0 || control->made == NULL ? r : control->made(control, control->made_data, err);
    r = r < 0 || !is_jailed(control) ? r : enter_jail(control, err);
    r = r < 0 ? r : machine_start(machine, on_end, control, err);
    if (r < 0) {
        agent_free(control->agent);
        control->agent = NULL;
        control->machine = NULL;
        (void)(control->made == NULL ? 0 : control->made(control, control->made_data, NULL));
        return r;
    }
    machine = NULL;
    return 0;
}

/* Checked once more as a whole: pieces may be missing. */
static int take_config(struct control *control, struct err *err)
{
    vmm_config_done(&control->config);
    int r = vmm_config_from_json(control->described, true, &control->config, err);
    if (r < 0) {
        control->config = (struct vmm_config){0};
    }
    return r;
}

static void on_monitor_end(struct monitor *monitor, void *data)
{
    struct control *control = data;
    (void)monitor;
    control->ended = true;
    loop_quit(control->loop, 0);
}

/* files: of a snapshot, or NULL. */
static int start_apart(struct control *control, const struct snapshot_files *files, bool resume,
                       struct err *err)
{
    struct monitor_options options = {
        .id = control->id,
        .config_fd = -1,
        .snapshot = files,
        .gdb_fd = control->gdb_fd,
        .resume = resume,
        .track_dirty = control->track_dirty,
        .uds = control->config.vsock.present ? control->config.vsock.path : NULL,
    };
    AUTO(closep) int text = -1;
    if (files == NULL) {
        text = memfd_create("machine", MFD_CLOEXEC);
        if (text < 0 || json_dumpfd(control->described, text, JSON_COMPACT) < 0) {
            return err_set(err, text < 0 ? errno : EIO, "describe the machine");
        }
        options.config_fd = text;
    }
    return monitor_start(&options, control->loop, on_monitor_end, control, &control->monitor, err);
}

int control_start(struct control *control, struct err *err)
{
    AUTO(images_donep) struct images images = {.kernel = -1, .initrd = -1};
    AUTO(machine_freep) struct machine *machine = NULL;
    int r = take_config(control, err);
    if (r < 0 || control->place == CONTROL_APART) {
        return r < 0 ? r : start_apart(control, NULL, false, err);
    }
    const struct vmm_config *config = &control->config;
    r = open_console(control, err);
    r = r < 0 ? r : open_images(config, &images, err);
    if (r < 0) {
        return r;
    }
    struct machine_options options = options_of(control);
    options.boot = &images.plan;
    r = machine_new(&options, control->loop, &machine, err);
    r = r < 0 ? r : machine_add_devices(machine, config, err);
    r = r < 0 ? r : machine_boot(machine, err);
    images_done(&images); /* no longer open than needed */
    return r < 0 ? r : run_machine(control, TAKE_PTR(machine), true, err);
}

static int make_restored(struct control *control, const struct snapshot *snapshot,
                         struct machine **ret, struct err *err)
{
    AUTO(machine_freep) struct machine *machine = NULL;
    int64_t ns = 0;
    int r = open_console(control, err);
    if (r < 0) {
        return r;
    }
    struct machine_options options = options_of(control);
    snapshot_set_memory(snapshot, &options);
    options.require_hardware = false;
    /* Of a machine beside it: this one's memory is not to be touched. */
    r = control->config.require_hardware ? speed_check_kvm(-1, &ns, err) : 0;
    r = r < 0 ? r : machine_new(&options, control->loop, &machine, err);
    r = r < 0 ? r : machine_add_devices(machine, &control->config, err);
    r = r < 0 ? r : snapshot_restore(snapshot, machine, err);
    if (r == 0) {
        *ret = TAKE_PTR(machine);
    }
    return r;
}

static int restore_here(struct control *control, const struct snapshot *snapshot, bool resume,
                        struct err *err)
{
    struct machine *machine = NULL;
    int r = make_restored(control, snapshot, &machine, err);
    r = r < 0 ? r : run_machine(control, machine, false, err);
    return r < 0 || !resume ? r : machine_resume(control->machine, err);
}

/* In the description, so that what is saved of this machine says it as well. */
static int describe_tracking(json_t *described, struct err *err)
{
    json_t *machine = json_object_get(described, "machine-config");
    if (machine == NULL) {
        machine = json_object();
        (void)json_object_set_new(described, "machine-config", machine);
    }
    return json_object_set_new(machine, "track_dirty_pages", json_true()) < 0
               ? err_set(err, ENOMEM, "describe the machine")
               : 0;
}

int control_restore_files(struct control *control, const struct snapshot_files *files,
                          const struct snapshot_paths *paths, bool resume, struct err *err)
{
    AUTO(snapshot_freep) struct snapshot *snapshot = NULL;
    AUTO(json_unrefp) json_t *json = NULL;
    if (control_is_started(control) || json_object_size(control->described) > 0) {
        return err_say(err, EBUSY, "a snapshot can only be loaded before anything is described");
    }
    int r = snapshot_open_files(files, paths, &snapshot, err);
    if (r < 0) {
        return r;
    }
    const char *text = snapshot_description(snapshot);
    r = json_parse(text, strlen(text), paths->state, &json, err);
    r = r < 0 || !control->track_dirty ? r : describe_tracking(json, err);
    if (r < 0) {
        return r;
    }
    json_t *none = control->described;
    control->described = json;
    r = take_config(control, err);
    if (r == 0) {
        r = control->place == CONTROL_APART ? start_apart(control, files, resume, err)
                                            : restore_here(control, snapshot, resume, err);
    }
    if (r < 0 && !control_is_started(control)) {
        control->described = none;
        return r;
    }
    json = none; /* given back */
    return r;
}

int control_restore(struct control *control, const struct snapshot_paths *paths, bool resume,
                    struct err *err)
{
    AUTO(snapshot_files_donep) struct snapshot_files files = {.state_fd = -1, .memory_fd = -1};
    int r = snapshot_files_open(paths, &files, err);
    return r < 0 ? r : control_restore_files(control, &files, paths, resume, err);
}
