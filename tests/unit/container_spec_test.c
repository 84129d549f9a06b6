#include "container/spec.h"

#include <string.h>
#include <sys/resource.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "container/container.h"
#include "container/mount_options.h"
#include "unit.h"

#define HEAD "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"},"
#define PROCESS "\"process\":{\"cwd\":\"/\",\"args\":[\"a\"]"
#define LINUX "\"linux\":{\"namespaces\":[{\"type\":\"mount\"}]"

static struct spec *parse(const char *text, struct err *err)
{
    struct spec *spec = NULL;
    int r = spec_parse(text, strlen(text), "config.json", &spec, err);
    ck_assert((r == 0) == (spec != NULL));
    return spec;
}

START_TEST(errors_name_path_and_value)
{
    static const struct {
        const char *text;
        const char *want;
    } cases[] = {
        {"[]", "config.json: must be an object"},
        {"{\"ociVersion\":1}", "config.json: ociVersion = 1: must be a string"},
        {HEAD PROCESS ",\"user\":{\"gid\":4294967296}}," LINUX "}}",
         "config.json: process.user.gid = 4294967296: must be between 0 and 4294967295"},
        {HEAD PROCESS ",\"user\":{\"additionalGids\":[0,-1]}}," LINUX "}}",
         "config.json: process.user.additionalGids[1] = -1: must be a group number"},
        {HEAD PROCESS "}," LINUX ",\"sysctl\":{\"kernel.shmmax\":\"1\"}}}",
         "config.json: linux.sysctl.kernel.shmmax: needs a ipc namespace in linux.namespaces, or "
         "it "
         "would change the host"},
        {HEAD PROCESS "}," LINUX ",\"uidMappings\":[{\"containerID\":4294967295,\"hostID\":0,"
                      "\"size\":2}]}}",
         "config.json: linux.uidMappings[0] = "
         "{\"containerID\": 4294967295, \"hostID\": 0, \"size\": 2}: size is 0 or reaches past the "
         "last id"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err err = ERR_NONE;
        ck_assert_ptr_null(parse(cases[i].text, &err));
        /* Blanks in the printed value are the JSON library's affair. */
        char got[ERR_TEXT_SIZE];
        char want[ERR_TEXT_SIZE];
        size_t n = 0;
        size_t m = 0;
        for (const char *p = err.text; *p != '\0'; p++) {
            n += (got[n] = *p) != ' ';
        }
        for (const char *p = cases[i].want; *p != '\0'; p++) {
            m += (want[m] = *p) != ' ';
        }
        got[n] = want[m] = '\0';
        ck_assert_str_eq(got, want);
    }
}
END_TEST

START_TEST(largest_unsigned_numbers_survive)
{
    struct err err = ERR_NONE;
    AUTO(spec_freep)
    struct spec *spec =
        parse(HEAD PROCESS ",\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":9223372036854775808,"
                           "\"hard\":18446744073709551615}],"
                           "\"env\":[\"A=18446744073709551615\"]}," LINUX "}}",
              &err);
    ck_assert_ptr_nonnull(spec);
    ck_assert_uint_eq(spec->process.rlimits[0].hard, UINT64_MAX);
    ck_assert_uint_eq(spec->process.rlimits[0].soft, (uint64_t)1 << 63);
    ck_assert_int_eq(spec->process.rlimits[0].resource, RLIMIT_CORE);
    ck_assert_str_eq(spec->process.env.items[0], "A=18446744073709551615");
}
END_TEST

START_TEST(absent_parts_are_empty)
{
    struct err err = ERR_NONE;
    AUTO(spec_freep) struct spec *spec = parse(HEAD LINUX "}}", &err);
    ck_assert_ptr_nonnull(spec);
    ck_assert(!spec->has_process);
    ck_assert(!spec->seccomp.set);
    ck_assert(!spec->resources.memory.limit.set);
    ck_assert_uint_eq(spec->mount_count, 0);
    ck_assert_ptr_null(spec->cgroups_path);
}
END_TEST

START_TEST(mount_options_sort_themselves)
{
    char *words[] = {"rbind", "ro", "rw", "rnosuid", "noatime", "rslave", "ridmap", NULL};
    const struct spec_mount mount = {
        .destination = "/x", .source = "/y", .options = {.items = words, .count = 7}};
    struct mount_options options;
    ck_assert_int_eq(mount_options_parse(&mount, 0, &options, NULL), 0);
    ck_assert(options.bind && options.recursive && options.idmap && options.idmap_recursive);
    ck_assert(options.propagation_recursive);
    ck_assert_uint_eq(options.attr_set & 1, 0);   /* the later rw wins over ro */
    ck_assert_uint_eq(options.attr_clear & 1, 1); /* MOUNT_ATTR_RDONLY */
    ck_assert_uint_eq(options.recursive_set, 2);  /* MOUNT_ATTR_NOSUID */

    char *data[] = {"mode=755", "nosuid", "size=1m", NULL};
    const struct spec_mount tmpfs = {
        .destination = "/x", .type = "tmpfs", .options = {.items = data, .count = 3}};
    ck_assert_int_eq(mount_options_parse(&tmpfs, 0, &options, NULL), 0);
    ck_assert_uint_eq(options.data_count, 2);
    const struct spec_mount wrong = {
        .destination = "/x", .type = "bind", .source = "/", .options = {.items = data, .count = 1}};
    ck_assert_int_lt(mount_options_parse(&wrong, 3, &options, NULL), 0);
}
END_TEST

START_TEST(ids_that_could_be_paths_are_refused)
{
    static const char *const good[] = {"a", "_x", "+1", "-", "A.b-c_d+e", "0123456789abcdef"};
    static const char *const bad[] = {"", ".", "..", ".a", "a/b", "a b", "a\n", "\xc3\xa4", "a:b"};
    for (size_t i = 0; i < COUNT(good); i++) {
        ck_assert_msg(container_id_is_valid(good[i]), "%s", good[i]);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        ck_assert_msg(!container_id_is_valid(bad[i]), "%s", bad[i]);
    }
}
END_TEST

START_TEST(the_default_configuration_is_valid)
{
    for (int rootless = 0; rootless < 2; rootless++) {
        struct err err = ERR_NONE;
        AUTO(json_unrefp) json_t *json = spec_default(rootless != 0);
        AUTO(freep) char *text = json_dumps(json, JSON_COMPACT);
        AUTO(spec_freep) struct spec *spec = parse(text, &err);
        ck_assert_msg(spec != NULL, "%s", err.text);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        errors_name_path_and_value,
        largest_unsigned_numbers_survive,
        absent_parts_are_empty,
        mount_options_sort_themselves,
        ids_that_could_be_paths_are_refused,
        the_default_configuration_is_valid,
        NULL,
    };
    return unit_run("container_spec", tests);
}
