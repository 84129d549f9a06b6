#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool log_debug_enabled(void)
{
    const char *value = getenv("ISOLA_DEBUG");
    return value != NULL && value[0] != '\0' && value[0] != '0';
}

void log_debug(const char *fmt, ...)
{
    if (!log_debug_enabled()) {
        return;
    }
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    /* One call a line, so that lines of several processes do not mix. */
    (void)fprintf(stderr, "isola[%d] debug: %s\n", (int)getpid(), line);
}
