#include "engine/mount_spec.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "engine/config.h"
#include "unit.h"

/* Parses one option; the caller frees *ret. */
static int parse(size_t member, const char *text, struct mount_specs *ret, struct err *err)
{
    AUTO(config_donep) struct workload_config config = {0};
    struct strv *list = (struct strv *)(void *)((char *)&config + member);
    ck_assert_int_eq(strv_add(list, text), 0);
    return mount_specs_parse(&config, ret, err);
}

#define VOLUME offsetof(struct workload_config, volume)
#define MOUNT offsetof(struct workload_config, mount)
#define TMPFS offsetof(struct workload_config, tmpfs)

START_TEST(each_form_says_what_it_mounts)
{
    static const struct {
        size_t member;
        const char *text;
        enum mount_type type;
        const char *source;
        const char *target;
        bool read_only;
        bool create_source;
    } cases[] = {
        {VOLUME, "/a:/b", MOUNT_BIND, "/a", "/b", false, true},
        {VOLUME, "/a:/b:ro", MOUNT_BIND, "/a", "/b", true, true},
        {VOLUME, "data:/b:rw,z", MOUNT_VOLUME, "data", "/b", false, true},
        {VOLUME, "/b", MOUNT_VOLUME, NULL, "/b", false, true},
        {VOLUME, "/a:/b//c/./d/", MOUNT_BIND, "/a", "/b/c/d", false, true},
        {MOUNT, "type=bind,src=/a,dst=/b,readonly", MOUNT_BIND, "/a", "/b", true, false},
        {MOUNT, "dst=/b,source=data", MOUNT_VOLUME, "data", "/b", false, false},
        {MOUNT, "target=/b,type=volume", MOUNT_VOLUME, NULL, "/b", false, false},
        {MOUNT, "source=/a,destination=/b,type=bind,ro=false", MOUNT_BIND, "/a", "/b", false,
         false},
        {MOUNT, "type=tmpfs,dst=/t,tmpfs-size=1m", MOUNT_TMPFS, NULL, "/t", false, false},
        {TMPFS, "/t:size=1m,mode=700", MOUNT_TMPFS, NULL, "/t", false, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(mount_specs_donep) struct mount_specs specs = {0};
        struct err err = ERR_NONE;
        ck_assert_msg(parse(cases[i].member, cases[i].text, &specs, &err) == 0, "%s: %s",
                      cases[i].text, err_text(&err));
        ck_assert_uint_eq(specs.count, 1);
        const struct mount_spec *spec = &specs.items[0];
        ck_assert_int_eq(spec->type, cases[i].type);
        ck_assert_pstr_eq(spec->source, cases[i].source);
        ck_assert_str_eq(spec->target, cases[i].target);
        ck_assert_int_eq(spec->read_only, cases[i].read_only);
        ck_assert_int_eq(spec->create_source, cases[i].create_source);
    }
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
    static const struct {
        size_t member;
        const char *text;
    } cases[] = {
        {VOLUME, ""},
        {VOLUME, ":"},
        {VOLUME, "/a:b"},
        {VOLUME, "relative"},
        {VOLUME, "/a:/b:ro:rw"},
        {VOLUME, "/a:/b:sideways"},
        {VOLUME, "/a:/"},
        {VOLUME, "/a:/b/../c"},
        {VOLUME, "na/me:/b"},
        {VOLUME, "-x:/b"},
        {MOUNT, ""},
        {MOUNT, "type=bind,dst=/b"},
        {MOUNT, "type=magic,dst=/b"},
        {MOUNT, "type,dst=/b"},
        {MOUNT, "type=volume"},
        {MOUNT, "type=tmpfs,src=/a,dst=/b"},
        {MOUNT, "dst=/b,colour=red"},
        {MOUNT, "dst"},
        {MOUNT, "dst=/b,src=a/b"},
        {TMPFS, ""},
        {TMPFS, "t"},
        {TMPFS, "/"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mount_specs specs = {0};
        struct err err = ERR_NONE;
        ck_assert_msg(parse(cases[i].member, cases[i].text, &specs, &err) == -EINVAL,
                      "accepted: %s", cases[i].text);
        ck_assert_msg(err_text(&err)[0] != '\0', "no text for: %s", cases[i].text);
        ck_assert_ptr_null(specs.items);
    }
}
END_TEST

START_TEST(outer_mounts_come_before_inner_ones)
{
    AUTO(config_donep) struct workload_config config = {0};
    AUTO(mount_specs_donep) struct mount_specs specs = {0};
    ck_assert_int_eq(strv_add(&config.tmpfs, "/a/b/c"), 0);
    ck_assert_int_eq(strv_add(&config.volume, "/x:/a/b"), 0);
    ck_assert_int_eq(strv_add(&config.mount, "type=tmpfs,dst=/a"), 0);
    ck_assert_int_eq(mount_specs_parse(&config, &specs, NULL), 0);
    ck_assert_uint_eq(specs.count, 3);
    ck_assert_str_eq(specs.items[0].target, "/a");
    ck_assert_str_eq(specs.items[1].target, "/a/b");
    ck_assert_str_eq(specs.items[2].target, "/a/b/c");
}
END_TEST

START_TEST(one_target_is_mounted_once_and_the_user_wins_over_the_image)
{
    AUTO(config_donep) struct workload_config config = {0};
    AUTO(mount_specs_donep) struct mount_specs specs = {0};
    ck_assert_int_eq(strv_add(&config.volume, "/x:/data/"), 0);
    ck_assert_int_eq(strv_add(&config.image_volume, "/data"), 0);
    ck_assert_int_eq(strv_add(&config.image_volume, "/more"), 0);
    ck_assert_int_eq(mount_specs_parse(&config, &specs, NULL), 0);
    ck_assert_uint_eq(specs.count, 2);
    ck_assert_int_eq(specs.items[0].type, MOUNT_BIND);
    ck_assert(!specs.items[0].from_image && specs.items[1].from_image);

    struct mount_specs twice = {0};
    ck_assert_int_eq(strv_add(&config.tmpfs, "/data"), 0);
    ck_assert_int_eq(mount_specs_parse(&config, &twice, NULL), -EINVAL);
}
END_TEST

int main(void)
{
    return unit_run("engine/mount_spec",
                    (const TTest *const[]){
                        each_form_says_what_it_mounts,
                        what_makes_no_sense_is_refused,
                        outer_mounts_come_before_inner_ones,
                        one_target_is_mounted_once_and_the_user_wins_over_the_image,
                        NULL,
                    });
}
