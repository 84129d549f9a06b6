#include "base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Truncation is accepted: a cut message is better than none, and the size crosses pipes as is. */
static void append_text(struct err *err, const char *text)
{
    size_t used = strlen(err->text);
    (void)snprintf(err->text + used, sizeof(err->text) - used, "%s", text);
}

static int set_text(struct err *err, int code, bool with_reason, const char *fmt, va_list ap)
{
    if (err == NULL) {
        return -code;
    }
    err->code = code;
    (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
    if (with_reason) {
        append_text(err, ": ");
        append_text(err, strerrordesc_np(code) != NULL ? strerrordesc_np(code) : "Unknown error");
    }
    return -code;
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = set_text(err, code, true, fmt, ap);
    va_end(ap);
    return r;
}

int err_say(struct err *err, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = set_text(err, code, false, fmt, ap);
    va_end(ap);
    return r;
}

int err_wrap(struct err *err, int code, const char *fmt, ...)
{
    if (code < 0) {
        code = -code;
    }
    if (err == NULL) {
        return -code;
    }
    va_list ap;
    va_start(ap, fmt);
    if (err->code == 0) {
        (void)set_text(err, code, true, fmt, ap);
    } else {
        char old[ERR_TEXT_SIZE];
        memcpy(old, err->text, sizeof(old));
        (void)set_text(err, code, false, fmt, ap);
        append_text(err, ": ");
        append_text(err, old);
    }
    va_end(ap);
    return -code;
}

void err_hint(struct err *err, const char *fmt, ...)
{
    if (err == NULL || err->code == 0) {
        return;
    }
    char hint[ERR_TEXT_SIZE];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(hint, sizeof(hint), fmt, ap);
    va_end(ap);
    append_text(err, "; ");
    append_text(err, hint);
}

const char *err_text(const struct err *err)
{
    if (err == NULL || err->code == 0) {
        return "unknown error";
    }
    if (err->text[0] != '\0') {
        return err->text;
    }
    const char *reason = strerrordesc_np(err->code);
    return reason != NULL ? reason : "unknown error";
}
