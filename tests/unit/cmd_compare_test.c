#include "cmd/compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "unit.h"

#define MS ((int64_t)1000000)
#define MIB ((int64_t)1 << 20)

static struct compare_row row(const char *wall, int64_t factor)
{
    struct compare_row row = {.wall = wall, .ran = true, .has_cgroup = true};
    for (size_t i = 0; i < COMPARE_MEASURES; i++) {
        int64_t value = (i == COMPARE_MEMORY ? MIB : 10 * MS) * factor;
        row.measures[i] =
            (struct compare_spread){true, value, value - value / 4, value + value / 3};
    }
    row.surface = (struct surface){.calls = 400 / (size_t)factor, .note = "a note"};
    return row;
}

static char *picture(const char *command, const struct compare_row *rows, size_t count)
{
    AUTO(buf_donep) struct buf out = {0};
    const struct compare_result result = {
        .image = "image", .command = command, .runs = 5, .rows = rows, .count = count};
    ck_assert_int_eq(compare_svg(&result, &out), 0);
    return buf_take(&out);
}

static size_t count_of(const char *text, const char *part)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, part)) != NULL; p++) {
        n++;
    }
    return n;
}

START_TEST(each_wall_that_ran_has_a_bar_for_each_measure)
{
    struct compare_row rows[] = {
        row("bare", 1), row("container", 2), row("vm", 40), {.wall = "partition"}};
    rows[2].surface.devices = 8;
    (void)err_say(&rows[3].reason, EOPNOTSUPP, "it is not built");
    AUTO(freep) char *svg = picture("echo hi", rows, COUNT(rows));
    ck_assert_uint_eq(count_of(svg, "<rect x="), 3 * (COMPARE_MEASURES + 1));
    ck_assert(strstr(svg, ">20.0 ms (15.0 ms to 26.7 ms)<") != NULL);
    ck_assert(strstr(svg, ">10, behind 8 devices<") != NULL);
    ck_assert(strstr(svg, ">partition: not available here: it is not built.<") != NULL);
}
END_TEST

START_TEST(the_longest_bar_is_the_largest_value)
{
    struct compare_row rows[] = {row("container", 1), row("vm", 4)};
    AUTO(freep) char *svg = picture("true", rows, COUNT(rows));
    double widths[2] = {0};
    const char *p = svg;
    for (size_t i = 0; i < COUNT(widths); i++) {
        p = strstr(p + 1, "<rect x=");
        ck_assert(p != NULL);
        widths[i] = strtod(strstr(p, "width=\"") + 7, NULL);
    }
    ck_assert_double_gt(widths[1], 0.0);
    ck_assert_double_eq_tol(widths[0] * 4, widths[1], 0.5);
}
END_TEST

START_TEST(nothing_of_the_command_is_markup)
{
    struct compare_row rows[] = {row("container", 1)};
    AUTO(freep) char *svg = picture("</text><script>\x01 & \x7f ", rows, 1);
    ck_assert(strstr(svg, "<script") == NULL);
    ck_assert(strstr(svg, "&lt;/text&gt;&lt;script&gt;  &amp;") != NULL);
    ck_assert(strpbrk(svg, "\x01\x7f") == NULL);
}
END_TEST

START_TEST(a_long_title_is_cut_between_characters)
{
    struct compare_row rows[] = {row("container", 1)};
    AUTO(buf_donep) struct buf command = {0};
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(buf_add_str(&command, "\xc3\xa4"), 0);
    }
    AUTO(freep) char *svg = picture(command.data, rows, 1);
    ck_assert(strstr(svg, "\xc3\xa4...</text>") != NULL);
    ck_assert_uint_lt(count_of(svg, "\xc3\xa4"), 72);
}
END_TEST

START_TEST(a_measure_without_values_says_so)
{
    struct compare_row rows[] = {row("container", 1)};
    rows[0].measures[COMPARE_START].set = false;
    AUTO(freep) char *svg = picture("true", rows, 1);
    ck_assert_uint_eq(count_of(svg, ">no output<"), 1);
}
END_TEST

int main(void)
{
    return unit_run("cmd/compare", (const TTest *const[]){
                                       each_wall_that_ran_has_a_bar_for_each_measure,
                                       the_longest_bar_is_the_largest_value,
                                       nothing_of_the_command_is_markup,
                                       a_long_title_is_cut_between_characters,
                                       a_measure_without_values_says_so,
                                       NULL,
                                   });
}
