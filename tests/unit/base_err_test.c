#include "base/err.h"

#include <errno.h>
#include <string.h>

#include "unit.h"

START_TEST(text_is_ours_then_the_systems)
{
    struct err err = ERR_NONE;
    ck_assert_int_eq(err_set(&err, ENOENT, "open '%s'", "/x"), -ENOENT);
    ck_assert_str_eq(err_text(&err), "open '/x': No such file or directory");
}
END_TEST

START_TEST(callers_wrap_from_the_outside_in)
{
    struct err err = ERR_NONE;
    (void)err_set(&err, EACCES, "open '/proc'");
    ck_assert_int_eq(err_wrap(&err, EACCES, "mount %d of %d", 2, 9), -EACCES);
    (void)err_wrap(&err, EACCES, "start 'web'");
    err_hint(&err, "run as root");
    ck_assert_str_eq(err_text(&err),
                     "start 'web': mount 2 of 9: open '/proc': Permission denied; run as root");
}
END_TEST

START_TEST(a_wrap_of_nothing_is_a_set)
{
    struct err err = ERR_NONE;
    ck_assert_int_eq(err_wrap(&err, -EIO, "read"), -EIO);
    ck_assert_str_eq(err_text(&err), "read: Input/output error");
}
END_TEST

START_TEST(null_and_overlong_texts_are_safe)
{
    struct err err = ERR_NONE;
    char longer[2 * ERR_TEXT_SIZE];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    ck_assert_int_eq(err_set(NULL, EIO, "%s", longer), -EIO);
    ck_assert_int_eq(err_set(&err, EIO, "%s", longer), -EIO);
    (void)err_wrap(&err, EIO, "%s", longer);
    ck_assert_uint_eq(strlen(err.text), ERR_TEXT_SIZE - 1);
}
END_TEST

int main(void)
{
    return unit_run("base/err", (const TTest *const[]){
                                    text_is_ours_then_the_systems,
                                    callers_wrap_from_the_outside_in,
                                    a_wrap_of_nothing_is_a_set,
                                    null_and_overlong_texts_are_safe,
                                    NULL,
                                });
}
