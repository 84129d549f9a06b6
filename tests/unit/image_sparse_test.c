/*
 * Maps of sparse tar members, hostile ones above all.
 */
#include "image/tar_sparse.h"

#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "unit.h"

struct record {
    const char *key, *value;
};

/* What the records and the pieces stored make of it. */
static int check_records(const struct record *records, uint64_t stored)
{
    struct tar_sparse sparse = {0};
    int r = 0;
    tar_sparse_reset(&sparse);
    for (size_t i = 0; r == 0 && records[i].key != NULL; i++) {
        r = tar_sparse_record(&sparse, records[i].key, records[i].value);
    }
    r = r < 0 ? r : tar_sparse_check(&sparse, stored);
    tar_sparse_done(&sparse);
    return r;
}

START_TEST(maps_are_taken_only_when_they_fit)
{
    static const struct {
        struct record records[8];
        uint64_t stored;
        int want;
    } cases[] = {
        {{{"size", "100"}, {"map", "0,10,90,10"}}, 20, 0},
        {{{"size", "100"}, {"map", ""}}, 0, 0},
        {{{"size", "100"}, {"map", "100,0"}}, 0, 0},
        {{{"size", "100"}, {"offset", "5"}, {"numbytes", "5"}}, 5, 0},
        {{{"map", "0,10"}}, 10, -EINVAL},                                   /* no size */
        {{{"size", "100"}, {"map", "0,10,90"}}, 10, -EINVAL},               /* half a pair */
        {{{"size", "100"}, {"map", "0,10,5,10"}}, 20, -EINVAL},             /* overlap */
        {{{"size", "100"}, {"map", "50,10,0,10"}}, 20, -EINVAL},            /* backwards */
        {{{"size", "100"}, {"map", "95,10"}}, 10, -EINVAL},                 /* past the end */
        {{{"size", "100"}, {"map", "101,0"}}, 0, -EINVAL},                  /* past the end */
        {{{"size", "100"}, {"map", "0,10"}}, 11, -EINVAL},                  /* more stored */
        {{{"size", "100"}, {"map", "0,10"}}, 9, -EINVAL},                   /* less stored */
        {{{"size", "100"}, {"map", "18446744073709551615,2"}}, 2, -EINVAL}, /* wraps */
        {{{"size", "100"}, {"map", "1,18446744073709551615"}}, 0, -EINVAL}, /* wraps */
        {{{"size", "100"}, {"map", "0,99999999999999999999"}}, 0, -EINVAL}, /* no number */
        {{{"size", "-1"}}, 0, -EINVAL},                                     /* no number */
        {{{"size", "100"}, {"numbytes", "5"}}, 5, -EINVAL},                 /* no offset */
        {{{"size", "100"}, {"offset", "5"}}, 0, -EINVAL},                   /* no length */
        {{{"size", "100"}, {"offset", "5"}, {"offset", "6"}}, 0, -EINVAL},
        {{{"major", "2"}}, 0, -EINVAL},
        {{{"unheard", "1"}}, 0, -EINVAL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int r = check_records(cases[i].records, cases[i].stored);
        ck_assert_msg(r == cases[i].want, "case %zu: %d", i, r);
    }
}
END_TEST

START_TEST(maps_before_the_data_are_read_across_blocks_and_end)
{
    static const struct {
        const char *text;
        int want;
    } cases[] = {
        {"1\n0\n10\n", 1},
        {"0\n", 1},
        {"2\n0\n10\n", 0},
        {"", 0},
        {"x", -EINVAL},
        {"\n", -EINVAL},
        {"1\n0\n\n", -EINVAL},
        {"1 0 10", -EINVAL},
        {"1\n-1\n", -EINVAL},
        {"99999999\n", -E2BIG},
        {"99999999999999999999999\n", -EINVAL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tar_sparse sparse = {0};
        int r = 0;
        tar_sparse_reset(&sparse);
        for (size_t at = 0; r == 0 && cases[i].text[at] != '\0'; at++) {
            r = tar_sparse_feed(&sparse, cases[i].text + at, 1);
        }
        ck_assert_msg(r == cases[i].want, "case %zu: %d", i, r);
        tar_sparse_done(&sparse);
    }
}
END_TEST

START_TEST(the_number_of_pieces_is_bounded)
{
    struct tar_sparse sparse = {0};
    int r = 0;
    uint64_t count = 0;
    for (; r == 0; count++) {
        r = tar_sparse_add(&sparse, count, 0);
    }
    ck_assert_int_eq(r, -E2BIG);
    ck_assert_uint_le(count, (1 << 20) + 1);
    tar_sparse_done(&sparse);
}
END_TEST

int main(void)
{
    return unit_run("image/sparse", (const TTest *const[]){
                                        maps_are_taken_only_when_they_fit,
                                        maps_before_the_data_are_read_across_blocks_and_end,
                                        the_number_of_pieces_is_bounded,
                                        NULL,
                                    });
}
