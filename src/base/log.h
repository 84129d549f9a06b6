/*
 * log.h - debug messages of libraries.
 *
 * Off unless the environment has ISOLA_DEBUG=1; then one line each on standard error. Errors are
 * not logged here: they are returned, and a program prints them once.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

#include "base/macros.h"

bool log_debug_enabled(void);
void log_debug(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
