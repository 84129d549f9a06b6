/*
 * kernel_install.h - `isola kernel install` and `unpack`, which the program isola-kernel has, for
 * both.
 */
#ifndef CMD_KERNEL_INSTALL_H
#define CMD_KERNEL_INSTALL_H

#include "cmd/command.h"

#define KERNEL_INSTALL_OPERANDS ""
#define KERNEL_INSTALL_SUMMARY "Get a kernel for virtual machines"

#define KERNEL_UNPACK_OPERANDS "FILE"
#define KERNEL_UNPACK_SUMMARY "Unpack a bzImage once and say where"

/* The rows of isola-kernel; ends with a row without a name. */
extern const struct command kernel_install_commands[];

#endif
