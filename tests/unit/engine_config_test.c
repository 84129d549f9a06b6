#include "engine/config.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/option.h"
#include "engine/config_options.h"
#include "unit.h"

static const struct option_spec options[] = {CONFIG_OPTIONS{0}};

static void round_trip(const struct workload_config *from, struct workload_config *to)
{
    AUTO(json_unrefp) json_t *json = config_to_json(from);
    ck_assert_ptr_nonnull(json);
    AUTO(freep) char *text = json_dumps(json, JSON_COMPACT);
    AUTO(json_unrefp) json_t *read = json_loads(text, 0, NULL);
    struct err err = ERR_NONE;
    config_init(to);
    ck_assert_msg(config_from_json(read, to, &err) == 0, "%s", err_text(&err));
}

/* Options that are spent when the workload is made. */
static bool is_spent(const char *name)
{
    static const char *const spent[] = {"env-file", "label-file", "volumes-from"};
    for (size_t i = 0; i < COUNT(spent); i++) {
        if (strcmp(name, spent[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool same(const struct option_spec *option, const struct workload_config *a,
                 const struct workload_config *b)
{
    const void *at_a = (const char *)a + option->offset;
    const void *at_b = (const char *)b + option->offset;
    switch (option->kind) {
    case OPTION_STRING:
        return str_eq(*(const char *const *)at_a, *(const char *const *)at_b);
    case OPTION_LIST: {
        const struct strv *list = at_b;
        return list->count == 2 && str_eq(list->items[0], "first") && list->items[1][0] == '\0';
    }
    case OPTION_FLAG:
        return *(const bool *)at_a == *(const bool *)at_b;
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION:
    case OPTION_CALL:
    default:
        return *(const int64_t *)at_a == *(const int64_t *)at_b;
    }
}

START_TEST(every_option_survives_the_database)
{
    for (const struct option_spec *option = options; option->name != NULL; option++) {
        AUTO(config_donep) struct workload_config config;
        AUTO(config_donep) struct workload_config read = {0};
        config_init(&config);
        void *member = (char *)&config + option->offset;
        if (option->kind == OPTION_CALL) {
            ck_assert_int_eq(option->fn("1", option->offset == 0 ? (void *)&config : member, NULL),
                             0);
        } else if (option->kind == OPTION_STRING) {
            *(const char **)member = "text with \"quotes\" and \xc3\xa4";
        } else if (option->kind == OPTION_LIST) {
            ck_assert_int_eq(strv_add(member, "first"), 0);
            ck_assert_int_eq(strv_add(member, ""), 0);
        } else if (option->kind == OPTION_FLAG) {
            *(bool *)member = true;
        } else {
            *(int64_t *)member = INT64_MAX;
        }
        round_trip(&config, &read);
        ck_assert_msg(is_spent(option->name) || option->offset == 0 || same(option, &config, &read),
                      "--%s is lost", option->name);
        ck_assert_int_eq(read.entrypoint_set, config.entrypoint_set);
    }
}
END_TEST

START_TEST(what_the_merge_finds_out_survives_too)
{
    AUTO(config_donep) struct workload_config config;
    AUTO(config_donep) struct workload_config read = {0};
    config_init(&config);
    config.image = "i";
    config.image_id = "sha256:1";
    config.entry_count = 1;
    config.stop_timeout = 0;
    config.memory_swap = -1;
    struct strv *const lists[] = {&config.command, &config.args,         &config.health_test,
                                  &config.layers,  &config.image_volume, &config.anonymous_volume};
    struct strv *const back[] = {&read.command, &read.args,         &read.health_test,
                                 &read.layers,  &read.image_volume, &read.anonymous_volume};
    for (size_t i = 0; i < COUNT(lists); i++) {
        ck_assert_int_eq(strv_addf(lists[i], "word %zu", i), 0);
    }
    round_trip(&config, &read);
    for (size_t i = 0; i < COUNT(lists); i++) {
        ck_assert_uint_eq(back[i]->count, 1);
        ck_assert_str_eq(back[i]->items[0], lists[i]->items[0]);
    }
    ck_assert_str_eq(read.image, "i");
    ck_assert_str_eq(read.image_id, "sha256:1");
    ck_assert_int_eq(read.entry_count, 1);
    ck_assert_int_eq(read.stop_timeout, 0);
    ck_assert_int_eq(read.memory_swap, -1);
}
END_TEST

START_TEST(a_damaged_row_is_an_error_and_not_a_crash)
{
    static const char *const bad[] = {
        "[]",
        "null",
        "{\"name\": 5}",
        "{\"env\": \"A=b\"}",
        "{\"env\": [1]}",
        "{\"tty\": \"yes\"}",
        "{\"memory\": -1}",
        "{\"stop_timeout\": 1.5}",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        AUTO(json_unrefp) json_t *json = json_loads(bad[i], JSON_DECODE_ANY, NULL);
        AUTO(config_donep) struct workload_config config = {0};
        struct err err = ERR_NONE;
        ck_assert_msg(config_from_json(json, &config, &err) < 0, "accepted: %s", bad[i]);
        ck_assert_str_ne(err_text(&err), "");
    }
}
END_TEST

START_TEST(text_that_json_cannot_hold_is_named)
{
    AUTO(config_donep) struct workload_config config;
    struct err err = ERR_NONE;
    config_init(&config);
    ck_assert_int_eq(strv_add(&config.env, "A=\xc3\xa4"), 0);
    ck_assert_int_eq(config_check_text(&config, &err), 0);
    ck_assert_int_eq(strv_add(&config.env, "B=\xff"), 0);
    ck_assert_int_eq(config_check_text(&config, &err), -EILSEQ);
    ck_assert_ptr_nonnull(strstr(err_text(&err), "env"));
}
END_TEST

int main(void)
{
    return unit_run("engine/config", (const TTest *const[]){
                                         every_option_survives_the_database,
                                         what_the_merge_finds_out_survives_too,
                                         a_damaged_row_is_an_error_and_not_a_crash,
                                         text_that_json_cannot_hold_is_named,
                                         NULL,
                                     });
}
