/*
 * Debian's libjansson.a was compiled with glibc's headers and _FORTIFY_SOURCE: it calls the
 * checking forms of three functions, which musl does not have. The checks are kept.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int __snprintf_chk(char *out, size_t size, int flag, size_t room, const char *fmt, ...);
int __vsnprintf_chk(char *out, size_t size, int flag, size_t room, const char *fmt, va_list ap);
char *__strncpy_chk(char *to, const char *from, size_t size, size_t room);

int __vsnprintf_chk(char *out, size_t size, int flag, size_t room, const char *fmt, va_list ap)
{
    (void)flag;
    if (size > room) {
        abort();
    }
    return vsnprintf(out, size, fmt, ap);
}

int __snprintf_chk(char *out, size_t size, int flag, size_t room, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = __vsnprintf_chk(out, size, flag, room, fmt, ap);
    va_end(ap);
    return n;
}

char *__strncpy_chk(char *to, const char *from, size_t size, size_t room)
{
    if (size > room) {
        abort();
    }
    return strncpy(to, from, size);
}
