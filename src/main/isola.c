/*
 * isola - the command line; see isola(1).
 */
#include "cmd/command.h"
#include "cmd/commands.h"
#include "cmd/image_commands.h"

/* A table a line: */
/* clang-format off */
static const struct command *const tables[] = {
    run_commands,
    exec_commands,
    ps_commands,
    logs_commands,
    attach_commands,
    start_commands,
    stop_commands,
    restart_commands,
    kill_commands,
    rm_commands,
    pause_commands,
    wait_commands,
    rename_commands,
    update_commands,
    inspect_commands,
    port_commands,
    top_commands,
    stats_commands,
    compare_commands,
    cp_commands,
    diff_commands,
    commit_commands,
    export_commands,
    events_commands,
    volume_commands,
    network_commands,
    image_forward_table,
    kernel_commands,
    machine_commands,
    emu_commands,
    system_commands,
    doctor_commands,
    reap_commands,
    NULL,
};
/* clang-format on */

int main(int argc, char **argv)
{
    return command_main("isola", tables, argc, argv);
}
