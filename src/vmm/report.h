/*
 * report.h - what isola-vmm says of a machine's end to who started it, before the machine is taken
 * apart: that takes KVM tens of milliseconds, in which an exit status does not come.
 *
 * One write of one struct vmm_report to the descriptor of --report-fd. A guest that has taken the
 * process over says what it likes: numbers are to be checked, and the process is to be watched.
 */
#ifndef VMM_REPORT_H
#define VMM_REPORT_H

#include <stdint.h>

enum vmm_report_why {
    VMM_REPORT_CODE,       /* exit_code is the guest's or the workload's own */
    VMM_REPORT_SHUTDOWN,   /* a triple fault */
    VMM_REPORT_PANIC,      /* the guest's kernel said so */
    VMM_REPORT_UNEMULATED, /* the CPU engine gave up */
    VMM_REPORT_SHARE_LOST, /* isola-fs, the server of a share, ended */
};

struct vmm_report {
    uint32_t size; /* sizeof(struct vmm_report) */
    uint32_t why;
    uint32_t exit_code; /* that isola-vmm is going to end with */
    uint32_t oom_kills; /* processes that the guest's kernel killed for want of memory */
};

#endif
