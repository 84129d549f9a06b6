/*
 * commands.h - the commands of isola, a table a file; src/main/isola.c puts them in order.
 */
#ifndef CMD_COMMANDS_H
#define CMD_COMMANDS_H

#include "cmd/command.h"

/* Each ends with a row without a name. */
extern const struct command attach_commands[];
extern const struct command commit_commands[];
extern const struct command compare_commands[];
extern const struct command cp_commands[];
extern const struct command diff_commands[];
extern const struct command doctor_commands[];
extern const struct command emu_commands[];
extern const struct command events_commands[];
extern const struct command exec_commands[];
extern const struct command export_commands[];
extern const struct command inspect_commands[];
extern const struct command kernel_commands[];
extern const struct command kill_commands[];
extern const struct command logs_commands[];
extern const struct command machine_commands[];
extern const struct command network_commands[];
extern const struct command pause_commands[];
extern const struct command port_commands[];
extern const struct command ps_commands[];
extern const struct command reap_commands[];
extern const struct command rename_commands[];
extern const struct command restart_commands[];
extern const struct command rm_commands[];
extern const struct command run_commands[];
extern const struct command start_commands[];
extern const struct command stats_commands[];
extern const struct command stop_commands[];
extern const struct command system_commands[];
extern const struct command top_commands[];
extern const struct command update_commands[];
extern const struct command volume_commands[];
extern const struct command wait_commands[];

#endif
