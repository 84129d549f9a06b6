/*
 * err.h - an error number with a text that a user can act on.
 *
 * Plain data without heap memory, so that it crosses fork and pipes as bytes. Functions that know a
 * name which the user gave take a `struct err *` last; NULL is accepted everywhere and drops the
 * text. Libraries fill it, programs print it once.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/macros.h"

#define ERR_TEXT_SIZE ((size_t)1024)

struct err {
    int code; /* positive errno, 0 while unset */
    char text[ERR_TEXT_SIZE];
};

#define ERR_NONE ((struct err){.code = 0})

/*
 * Sets "text: strerror(code)"; code is a positive errno. Returns -code, so that
 * `return err_set(err, errno, "open '%s'", path)` is the whole failure path.
 */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Like err_set() for a text that already says what is wrong: strerror is not appended. */
int err_say(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "text: " before what is there and returns -code. Nothing is there: sets it like err_set().
 */
int err_wrap(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Appends "; hint": the remedy where we know it. */
void err_hint(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The text, or that of the code, or "unknown error"; never NULL. */
const char *err_text(const struct err *err);

#endif
