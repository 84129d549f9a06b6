#include "base/user_namespace.h"

#include <errno.h>
#include <stdio.h>

#include "unit.h"

START_TEST(ranges_are_found_by_name_and_by_number)
{
    static const char text[] = "a:1:2\nbob:100000:65536\n1001:200000:10\nbad:x:y\nzero:0:5\n"
                               "huge:4294967290:100\n";
    unsigned start = 0;
    unsigned count = 0;
    ck_assert_int_eq(user_namespace_range(text, "bob", 7, &start, &count), 0);
    ck_assert_uint_eq(start, 100000);
    ck_assert_uint_eq(count, 65536);
    ck_assert_int_eq(user_namespace_range(text, "eve", 1001, &start, &count), 0);
    ck_assert_uint_eq(start, 200000);
    ck_assert_int_eq(user_namespace_range(text, "eve", 7, &start, &count), -ENOENT);
    ck_assert_int_eq(user_namespace_range(text, "bad", 7, &start, &count), -ENOENT);
    ck_assert_int_eq(user_namespace_range(text, "zero", 7, &start, &count), -ENOENT);
    ck_assert_int_eq(user_namespace_range(text, "huge", 7, &start, &count), -ENOENT);
}
END_TEST

START_TEST(the_ids_of_this_process_are_counted_from_its_maps)
{
    FILE *file = fopen("/proc/self/uid_map", "r");
    unsigned inside = 1;
    unsigned outside = 0;
    unsigned count = 0;
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%u %u %u", &inside, &outside, &count), 3);
    (void)fclose(file);
    ck_assert_uint_eq(inside, 0);
    ck_assert_uint_ge(user_namespace_last_id("uid_map"), count - 1);
    ck_assert_uint_eq(user_namespace_last_id("no_such_map"), 0);
}
END_TEST

int main(void)
{
    return unit_run("base/user_namespace", (const TTest *const[]){
                                               ranges_are_found_by_name_and_by_number,
                                               the_ids_of_this_process_are_counted_from_its_maps,
                                               NULL,
                                           });
}
