/*
 * boot.h - from "the kernel has started us" to "requests can be served", and back to power-off.
 */
#ifndef GUEST_BOOT_H
#define GUEST_BOOT_H

struct err;

#define GUEST_RUN "/run/isola"
/* Programs of the initramfs that the machine keeps; not there in tests without a machine. */
#define GUEST_INIT "/isola-init"
#define GUEST_FILES "/isola-files"

/* Descriptors 0, 1 and 2 exist: the console, or /dev/null before there is one. */
int boot_console(struct err *err);

/* /proc, /sys, /dev, /run, the control groups. Steps that were done already are passed over. */
int boot_mounts(struct err *err);

/*
 * Loads what the list names, a module a line, in this order: "[CONDITION ]PATH[ PARAMETERS]", the
 * path below the list's directory. A condition "BUS:..." is the start of a modalias: the module is
 * passed over unless a device of that bus has one. A line that begins with "late " is only opened:
 * boot_late_modules() loads it. No list: nothing to do.
 */
#define BOOT_MODULES "/modules/list"
#define BOOT_LATE_MAX 8
struct boot_late {
    int fd[BOOT_LATE_MAX];
    int count;
};
int boot_modules(const char *list, struct boot_late *late, struct err *err);

/* What no workload waits for. What cannot be loaded is said on the console. */
void boot_late_modules(struct boot_late *late);

/*
 * From the initramfs, which the workload could not be pivoted out of, to a tmpfs of its own; what
 * was for the boot alone is removed, for it is memory. Elsewhere: nothing to do.
 */
int boot_leave_initramfs(struct err *err);

/* Writes everything out and switches the machine off. Does not return from a virtual machine. */
void boot_power_off(void);

#endif
