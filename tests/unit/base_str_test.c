#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/process.h"
#include "unit.h"

START_TEST(sizes_take_units_and_fractions_and_refuse_the_rest)
{
    static const struct {
        const char *text;
        int want;
        uint64_t bytes;
    } cases[] = {
        {"0", 0, 0},
        {"512", 0, 512},
        {"64k", 0, 65536},
        {"1.5G", 0, 3ULL << 29},
        {"2GiB", 0, 2ULL << 30},
        {"10kb", 0, 10240},
        {"5b", 0, 5},
        {"", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"1x", -EINVAL, 0},
        {"1 g", -EINVAL, 0},
        {"99999999999999999999", -ERANGE, 0},
        {"99999999p", -ERANGE, 0},
        {"kb", -EINVAL, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t bytes = 0;
        ck_assert_msg(parse_size(cases[i].text, &bytes) == cases[i].want, "'%s'", cases[i].text);
        ck_assert_uint_eq(bytes, cases[i].bytes);
    }
}
END_TEST

START_TEST(durations_are_read_as_go_writes_them)
{
    static const struct {
        const char *text;
        int want;
        uint64_t ns;
    } cases[] = {
        {"10", 0, 10000000000},  {"1m30s", 0, 90000000000}, {"1.5s", 0, 1500000000},
        {"250ms", 0, 250000000}, {"3us", 0, 3000},          {"1h", 0, 3600000000000},
        {"", -EINVAL, 0},        {"5x", -EINVAL, 0},        {"1m5", -EINVAL, 0},
        {"-5s", -EINVAL, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t ns = 0;
        ck_assert_msg(parse_duration(cases[i].text, &ns) == cases[i].want, "'%s'", cases[i].text);
        ck_assert_uint_eq(ns, cases[i].ns);
    }
}
END_TEST

START_TEST(times_come_in_three_forms)
{
    int64_t ns = 0;
    ck_assert_int_eq(parse_time("2026-01-02T03:04:05.5Z", 0, &ns), 0);
    ck_assert_int_eq(ns, 1767323045500000000);
    ck_assert_int_eq(parse_time("2026-01-02T04:04:05.5+01:00", 0, &ns), 0);
    ck_assert_int_eq(ns, 1767323045500000000);
    ck_assert_int_eq(parse_time("1767323045.25", 0, &ns), 0);
    ck_assert_int_eq(ns, 1767323045250000000);
    ck_assert_int_eq(parse_time("10s", 60 * NS_PER_SEC, &ns), 0);
    ck_assert_int_eq(ns, 50 * NS_PER_SEC);
    ck_assert_int_eq(parse_time("yesterday", 0, &ns), -EINVAL);
    char text[TIME_TEXT_SIZE];
    format_time(1767323045500000007, text);
    ck_assert_str_eq(text, "2026-01-02T03:04:05.500000007Z");
}
END_TEST

START_TEST(signals_are_known_by_any_of_their_names)
{
    ck_assert_int_eq(signal_from_name("TERM"), SIGTERM);
    ck_assert_int_eq(signal_from_name("sigterm"), SIGTERM);
    ck_assert_int_eq(signal_from_name("9"), SIGKILL);
    ck_assert_int_eq(signal_from_name("RTMIN+3"), SIGRTMIN + 3);
    ck_assert_int_eq(signal_from_name("RTMAX-1"), SIGRTMAX - 1);
    ck_assert_int_eq(signal_from_name("SIGNONSENSE"), -EINVAL);
    ck_assert_int_eq(signal_from_name("0"), -EINVAL);
    ck_assert_int_eq(signal_from_name("65"), -EINVAL);
    ck_assert_int_eq(signal_from_name("SIGAVERYLONGNAMEINDEED"), -EINVAL);
    ck_assert_str_eq(signal_to_name(SIGHUP), "SIGHUP");
}
END_TEST

START_TEST(a_list_keeps_order_and_ends_with_null)
{
    AUTO(strv_donep) struct strv list = {0};
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(strv_addf(&list, "V%d=%d", i, i), 0);
    }
    ck_assert_uint_eq(list.count, 100);
    ck_assert_ptr_null(list.items[100]);
    ck_assert_str_eq(env_get(&list, "V42"), "42");
    ck_assert_ptr_null(env_get(&list, "V"));
    ck_assert_int_eq(env_set(&list, "V42=new"), 0);
    ck_assert_str_eq(env_get(&list, "V42"), "new");
    ck_assert_uint_eq(list.count, 100);
}
END_TEST

int main(void)
{
    return unit_run("base/str", (const TTest *const[]){
                                    sizes_take_units_and_fractions_and_refuse_the_rest,
                                    durations_are_read_as_go_writes_them,
                                    times_come_in_three_forms,
                                    signals_are_known_by_any_of_their_names,
                                    a_list_keeps_order_and_ends_with_null,
                                    NULL,
                                });
}
