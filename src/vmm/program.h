/*
 * program.h - isola-vmm: one virtual machine, from its command line to its end.
 */
#ifndef VMM_PROGRAM_H
#define VMM_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

struct vmm_options {
    const char *config_file;
    const char *api_socket;
    const char *id;
    const char *gdb;
    int64_t report_fd; /* see report.h; -1: none */
    bool no_jail;
};

/*
 * Exit codes: 0 the guest powered off or asked for a reset; the code that the guest left with
 * (debug exit port, agent); 125 the machine could not be made; 126 it failed (triple fault, panic,
 * an instruction that cannot be emulated), with one line on standard error.
 */
int vmm_main(int argc, char **argv);

#endif
