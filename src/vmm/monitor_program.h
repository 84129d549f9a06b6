/*
 * monitor_program.h - the jailed process that runs the machine: what it does from its start to its
 * end. monitor.h is the other side.
 */
#ifndef VMM_MONITOR_PROGRAM_H
#define VMM_MONITOR_PROGRAM_H

struct control;
struct vmm_report;

/* The first word of its command line; the second is the number of the socket for calls. */
#define MONITOR_OPTION "--monitor"

/* Never returns: nothing that runs at a program's end is to run in the jail. */
_Noreturn void monitor_main(const char *calls_fd);

/*
 * After the loop has ended, where the machine runs: its exit code; says why when it is a failure.
 * Fills *ret, but for exit_code.
 */
int monitor_finish(struct control *control, struct vmm_report *ret);

#endif
