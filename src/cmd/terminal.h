/*
 * terminal.h - the user's terminal: raw mode and size.
 */
#ifndef CMD_TERMINAL_H
#define CMD_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

#include "base/cleanup.h"

struct terminal {
    int fd;
    bool raw;
    struct termios before;
};

/* No translation, no signals from keys: every byte goes to the workload. */
int terminal_set_raw(struct terminal *terminal, int fd);
/* As it was. Idempotent. */
void terminal_restore(struct terminal *terminal);
DEFINE_DONEP(struct terminal, terminal_restore)

/* rows << 16 | columns; 0 when fd is no terminal. */
uint32_t terminal_size(int fd);

#endif
