/*
 * command_line.h - Linux' command line from what a board knows of itself and what its user says.
 */
#ifndef VMM_BOOT_COMMAND_LINE_H
#define VMM_BOOT_COMMAND_LINE_H

struct buf;

/*
 * Writes board's words, but for those whose key user names as well, then user as it is. Keys end
 * at "="; "-" and "_" are the same in them, double quotes keep spaces together, and "--" ends what
 * is the kernel's, all as in Linux (Documentation/admin-guide/kernel-parameters.rst). Returns 0 or
 * -ENOMEM.
 */
int command_line_join(const char *board, const char *user, struct buf *ret);

#endif
