#include "vmm/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/option.h"
#include "base/str.h"
#include "vmm/agent.h"
#include "vmm/boot/boot.h"
#include "vmm/config.h"
#include "vmm/jail.h"
#include "vmm/machine.h"
#include "vmm/machine_devices.h"
#include "vmm/speed.h"
#include "vmm/virtio/vsock.h"

#define EXIT_NOT_MADE 125
#define EXIT_GUEST_FAILED 126
/* How long a slow reader of what the guest wrote may take when the machine has ended. */
#define DRAIN_NS (30 * NS_PER_SEC)

#define AT(member) offsetof(struct vmm_options, member)

static const struct option_spec option_table[] = {
    {"config-file", 0, OPTION_STRING, AT(config_file), "FILE", "The machine, as JSON", NULL},
    {"api-sock", 0, OPTION_STRING, AT(api_socket), "PATH", "Listen for the HTTP API", NULL},
    {"id", 0, OPTION_STRING, AT(id), "NAME", "Of the machine, for messages", NULL},
    {0},
};

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

static int load_kernel(struct machine *machine, const struct vmm_config *config, struct err *err)
{
    AUTO(closep) int kernel = -1;
    AUTO(closep) int initrd = -1;
    AUTO(buf_donep) struct buf line = {0};
    kernel = open_image(config->boot.kernel, "kernel", err);
    if (kernel < 0) {
        return kernel;
    }
    if (config->boot.initrd != NULL) {
        initrd = open_image(config->boot.initrd, "initrd", err);
        if (initrd < 0) {
            return initrd;
        }
    }
    int r = make_command_line(config, &line, err);
    if (r < 0) {
        return r;
    }
    struct boot_plan plan = {
        .protocol = protocol_of(config->boot.protocol),
        .kernel_fd = kernel,
        .kernel_name = config->boot.kernel,
        .initrd_fd = initrd,
        .initrd_name = config->boot.initrd,
        .command_line = line.data == NULL ? "" : line.data,
    };
    return machine_boot(machine, &plan, err);
}

static int check_speed(struct machine *machine, struct err *err)
{
    int64_t ns = 0;
    int r = speed_measure(machine_cpu(machine, 0), machine_memory(machine), &ns, err);
    if (r == 0 && ns > SPEED_LIMIT_NS) {
        r = speed_refuse(ns, err);
    }
    return r;
}

static int make_machine(const struct vmm_config *config, struct loop *loop, struct machine **ret,
                        struct err *err)
{
    bool serial_stdio = config->stdio == CONFIG_STDIO_SERIAL;
    struct machine_options options = {
        .cpus = config->cpus,
        .memory = config->memory,
        .huge_pages = config->huge_pages,
        .shared_memory = config->shared_memory,
        .features_off = config->features_off,
        .kvm_fd = -1,
        .pit = config->pit,
        .rtc = config->rtc,
        .i8042 = config->i8042,
        .pvpanic = config->pvpanic,
        .debug_exit = config->debug_exit,
        .serial = config->serial,
        .serial_in_fd = serial_stdio ? STDIN_FILENO : -1,
        .serial_out_fd = serial_stdio ? STDOUT_FILENO : -1,
        .pci = config->pci,
        .jail = true,
    };
    AUTO(machine_freep) struct machine *machine = NULL;
    int r = machine_new(&options, loop, &machine, err);
    r = r < 0 || !config->require_hardware ? r : check_speed(machine, err);
    r = r < 0 ? r : machine_add_devices(machine, config, err);
    r = r < 0 ? r : load_kernel(machine, config, err);
    if (r == 0) {
        *ret = TAKE_PTR(machine);
    }
    return r;
}

static void on_end(struct machine *machine, void *data)
{
    (void)machine;
    loop_quit(data, 0);
}

static void on_signal(const struct signalfd_siginfo *info, void *data)
{
    (void)info;
    machine_stop(data, BOARD_STOPPED);
}

/* What the guest sent last is still to reach its readers; the agent's word goes before ours. */
static bool ask_agent(struct machine *machine, struct agent *agent, int *ret_code)
{
    if (machine_vsock(machine) != NULL) {
        (void)vsock_drain(machine_vsock(machine), DRAIN_NS);
    }
    return agent != NULL && agent_has_exit(agent, ret_code);
}

static int exit_code_of_ending(const struct machine *machine, const char *id)
{
    const struct machine_ending *ending = machine_ending(machine);
    char text[256];
    switch (ending->why) {
    case BOARD_RUNS:
    case BOARD_POWER_OFF:
    case BOARD_RESET:
    case BOARD_STOPPED:
        return 0;
    case BOARD_DEBUG_EXIT:
        return (int)(ending->code & 0xff);
    case BOARD_SHUTDOWN:
    case BOARD_PANIC:
    case BOARD_UNEMULATED:
    case BOARD_SHARE_LOST:
        break;
    }
    machine_describe_ending(machine, text, sizeof(text));
    (void)fprintf(stderr, "isola-vmm: %s%s%s\n", id == NULL ? "" : id, id == NULL ? "" : ": ",
                  text);
    return EXIT_GUEST_FAILED;
}

/* From here on nothing more is opened; the first guest instruction comes after this. */
static int enter_jail(const struct vmm_config *config, struct err *err)
{
    AUTO(freep) char *dir = NULL;
    if (config->vsock.present) {
        const char *slash = strrchr(config->vsock.path, '/');
        dir = slash == NULL ? strdup(".")
                            : strndup(config->vsock.path,
                                      MAX((size_t)(slash - config->vsock.path), (size_t)1));
        if (dir == NULL) {
            return err_set(err, ENOMEM, "enter the jail");
        }
    }
    const struct jail_options jail = {.socket_dir = dir};
    return jail_enter(&jail, err);
}

static int run(const struct vmm_options *options, int *ret_code, struct err *err)
{
    AUTO(vmm_config_donep) struct vmm_config config = {0};
    AUTO(loop_freep) struct loop *loop = NULL;
    AUTO(machine_freep) struct machine *machine = NULL;
    AUTO(agent_freep) struct agent *agent = NULL;
    int r = vmm_config_load(options->config_file, &config, err);
    if (r < 0) {
        return r;
    }
    r = loop_new(&loop);
    if (r < 0) {
        return err_set(err, -r, "make the event loop");
    }
    r = make_machine(&config, loop, &machine, err);
    if (r < 0) {
        return r;
    }
    if (config.vsock.stdio_ports) {
        r = agent_new(machine_vsock(machine), config.vsock.path, loop, &agent, err);
    }
    r = r < 0 ? r : loop_add_signal(loop, SIGTERM, on_signal, machine);
    r = r < 0 ? r : loop_add_signal(loop, SIGINT, on_signal, machine);
    if (r < 0) {
        return err_set(err, -r, "listen for signals");
    }
    r = enter_jail(&config, err);
    r = r < 0 ? r : machine_start(machine, on_end, loop, err);
    if (r < 0) {
        return r;
    }
    r = loop_run(loop);
    if (!ask_agent(machine, agent, ret_code)) {
        *ret_code = exit_code_of_ending(machine, options->id);
    }
    return r < 0 ? err_set(err, -r, "run the machine") : 0;
}

static void print_help(void)
{
    (void)printf("Usage: isola-vmm --config-file FILE [OPTIONS]\n\n"
                 "One virtual machine, started by isola.\n\nOptions:\n");
    option_print_help(option_table);
}

int vmm_main(int argc, char **argv)
{
    struct err err = ERR_NONE;
    struct vmm_options options = {0};
    const struct option_parse parse = {.specs = option_table, .target = &options};
    bool help = false;
    int code = EXIT_NOT_MADE;
    (void)signal(SIGPIPE, SIG_IGN);
    int r = option_parse(&parse, argc, argv, &help, &err);
    if (help) {
        print_help();
        return 0;
    }
    if (r > 0) {
        r = err_say(&err, EINVAL, "'%s' is not understood; see --help", argv[1]);
    } else if (r == 0 && options.config_file == NULL) {
        r = err_say(&err, EINVAL, "--config-file is missing; see --help");
    }
    r = r < 0 ? r : run(&options, &code, &err);
    if (r < 0) {
        (void)fprintf(stderr, "isola-vmm: %s\n", err_text(&err));
        return EXIT_NOT_MADE;
    }
    return code;
}
