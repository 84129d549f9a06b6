#include "container/systemd.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "unit.h"

START_TEST(a_cgroups_path_names_slice_and_scope)
{
    static const struct {
        const char *path;
        const char *slice;
        const char *name;
    } cases[] = {
        {NULL, "system.slice", "isola-oci-web.scope"},
        {"machine.slice:libpod:abc", "machine.slice", "libpod-abc.scope"},
        {":docker:abc", "system.slice", "docker-abc.scope"},
        {"a-b.slice::abc", "a-b.slice", "abc.scope"},
        {"-.slice:x:abc.scope", "-.slice", "x-abc.scope"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct systemd_unit unit;
        struct err err = ERR_NONE;
        ck_assert_msg(systemd_unit_init(&unit, cases[i].path, "web", false, &err) == 0, "%s",
                      err_text(&err));
        ck_assert_str_eq(unit.slice, cases[i].slice);
        ck_assert_str_eq(unit.name, cases[i].name);
    }
}
END_TEST

START_TEST(what_systemd_would_not_take_is_refused)
{
    static const char *const cases[] = {
        "/a/path",      "a.slice:x",  "a:x:y",         "a--b.slice:x:y", "-a.slice:x:y",
        "a-.slice:x:y", "a.slice:x:", "a.slice:x:y z", "a.slice:x:../y", "a.slice:x:y.slice",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct systemd_unit unit;
        struct err err = ERR_NONE;
        ck_assert_msg(systemd_unit_init(&unit, cases[i], "web", false, &err) == -EINVAL, "%s",
                      cases[i]);
        ck_assert_ptr_nonnull(strstr(err_text(&err), cases[i]));
    }
}
END_TEST

START_TEST(slices_nest_by_their_dashes)
{
    static const struct {
        const char *slice;
        const char *manager;
        const char *want;
    } cases[] = {
        {"a-b-c.slice", "", "/a.slice/a-b.slice/a-b-c.slice/x.scope"},
        {"a.slice", "/", "/a.slice/x.scope"},
        {"-.slice", "", "/x.scope"},
        {"user.slice", "/user.slice/user@1.service",
         "/user.slice/user@1.service/user.slice/x.scope"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char path[256];
        struct systemd_unit unit = {.name = "x.scope"};
        (void)strcpy(unit.slice, cases[i].slice);
        ck_assert_int_eq(systemd_unit_path(&unit, cases[i].manager, path, sizeof(path), NULL), 0);
        ck_assert_str_eq(path, cases[i].want);
        ck_assert_int_eq(systemd_unit_path(&unit, cases[i].manager, path, 5, NULL), -ENAMETOOLONG);
    }
}
END_TEST

START_TEST(annotations_have_gvariant_values)
{
    static const struct {
        const char *name;
        const char *value;
        const char *want; /* "NAME TYPE" or NULL: refused */
    } cases[] = {
        {"CollectMode", "'inactive'", "CollectMode s"},
        {"Wants", "['a.service', \"b.service\"]", "Wants as"},
        {"Wants", "[]", "Wants as"},
        {"Delegate", "true", "Delegate b"},
        {"TimeoutStopUSec", "uint64 5", "TimeoutStopUSec t"},
        {"TimeoutStopSec", "1.5", "TimeoutStopUSec t"},
        {"OOMScoreAdjust", "-5", "OOMScoreAdjust i"},
        {"Nice", "int64 -5", "Nice x"},
        {"Nice", "uint32 4294967295", "Nice u"},
        {"Nice", "uint32 4294967296", NULL},
        {"Nice", "uint8 1", NULL},
        {"Nice", "word", NULL},
        {"Wants", "['a'", NULL},
        {"Wants", "['a' 'b']", NULL},
        {"Wants", "'a' ", NULL},
        {"TimeoutStopSec", "-1", NULL},
        {"No", "true", NULL},
        {"No thing", "true", NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char name[128];
        struct err err = ERR_NONE;
        AUTO(dbus_writer_donep) struct dbus_writer w = {0};
        (void)snprintf(name, sizeof(name), "org.systemd.property.%s", cases[i].name);
        const struct spec_pair pair = {.name = name, .value = cases[i].value};
        int r = systemd_put_annotation(&w, &pair, &err);
        ck_assert_msg((r == 0) == (cases[i].want != NULL), "%s: %s", cases[i].value,
                      err_text(&err));
        if (cases[i].want == NULL) {
            continue;
        }
        struct dbus_reader reader = {.data = (const uint8_t *)w.buf.data, .len = w.buf.len};
        const char *property;
        const char *type;
        char got[128];
        ck_assert_int_eq(dbus_get_string(&reader, &property), 0);
        ck_assert_int_eq(dbus_get_signature(&reader, &type), 0);
        (void)snprintf(got, sizeof(got), "%s %s", property, type);
        ck_assert_str_eq(got, cases[i].want);
    }
    AUTO(dbus_writer_donep) struct dbus_writer w = {0};
    const struct spec_pair other = {.name = "org.example", .value = "x"};
    ck_assert_int_eq(systemd_put_annotation(&w, &other, NULL), 0);
    ck_assert_uint_eq(w.buf.len, 0);
}
END_TEST

START_TEST(a_call_that_is_written_is_read_again)
{
    AUTO(dbus_writer_donep) struct dbus_writer body = {0};
    AUTO(buf_donep) struct buf out = {0};
    const struct dbus_call call = {"a.b", "/a/b", "a.c", "Do", "sau"};
    dbus_put_string(&body, "text");
    size_t array = dbus_begin_array(&body, 4);
    dbus_put_u32(&body, 7);
    dbus_end_array(&body, array, 4);
    ck_assert_int_eq(dbus_call_write(&call, 3, &body, &out), 0);
    size_t len;
    struct dbus_message message;
    const uint8_t *data = (const uint8_t *)out.data;
    ck_assert_int_eq(dbus_message_length(data, &len), 0);
    ck_assert_uint_eq(len, out.len);
    ck_assert_int_eq(dbus_message_parse(data, len, &message), 0);
    ck_assert_str_eq(message.member, "Do");
    ck_assert_str_eq(message.interface, "a.c");
    struct dbus_reader r = {.data = message.body, .len = message.body_len};
    const char *text;
    uint32_t size;
    uint32_t number;
    ck_assert_int_eq(dbus_get_string(&r, &text), 0);
    ck_assert_str_eq(text, "text");
    ck_assert_int_eq(dbus_get_u32(&r, &size), 0);
    ck_assert_uint_eq(size, 4);
    ck_assert_int_eq(dbus_get_u32(&r, &number), 0);
    ck_assert_uint_eq(number, 7);
    ck_assert_int_eq(dbus_get_u32(&r, &number), -EBADMSG);
    for (size_t cut = 0; cut < len; cut++) {
        ck_assert_int_eq(dbus_message_parse(data, cut, &message), -EBADMSG);
    }
}
END_TEST

START_TEST(addresses_are_taken_in_turn)
{
    const char *list = "tcp:host=x;unix:guid=1,path=/run/a%2db;unix:abstract=y;unix:path=%zz";
    char path[32];
    ck_assert(dbus_next_address(&list, path, sizeof(path)));
    ck_assert_str_eq(path, "/run/a-b");
    ck_assert(dbus_next_address(&list, path, sizeof(path)));
    ck_assert_str_eq(path, "@y");
    ck_assert(!dbus_next_address(&list, path, sizeof(path)));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_cgroups_path_names_slice_and_scope,
        what_systemd_would_not_take_is_refused,
        slices_nest_by_their_dashes,
        annotations_have_gvariant_values,
        a_call_that_is_written_is_read_again,
        addresses_are_taken_in_turn,
        NULL,
    };
    return unit_run("container_systemd", tests);
}
