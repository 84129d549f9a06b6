#include "engine/port.h"

#include <errno.h>
#include <netinet/in.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/macros.h"
#include "unit.h"

START_TEST(every_form_of_publish_is_read_and_printed)
{
    static const struct {
        const char *text;
        size_t count;
        const char *printed;
    } cases[] = {
        {"8080:80", 1, "0.0.0.0:8080->80/tcp"},
        {"8080:80/udp", 1, "0.0.0.0:8080->80/udp"},
        {"127.0.0.1:8080:80", 1, "127.0.0.1:8080->80/tcp"},
        {"[::1]:80:80", 1, "[::1]:80->80/tcp"},
        {"[fd00::5]:80:81/tcp", 1, "[fd00::5]:80->81/tcp"},
        {"8000-8010:80-90", 11, "0.0.0.0:8000-8010->80-90/tcp"},
        {"80-81:443-444/udp", 2, "0.0.0.0:80-81->443-444/udp"},
        {"65535:65535", 1, "0.0.0.0:65535->65535/tcp"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(port_list_donep) struct port_list list = {0};
        AUTO(buf_donep) struct buf text = {0};
        struct err err = ERR_NONE;
        ck_assert_msg(port_parse_publish(cases[i].text, &list, &err) == 0, "%s", err_text(&err));
        ck_assert_uint_eq(list.count, cases[i].count);
        ck_assert_int_eq(port_list_print(&list, &text), 0);
        ck_assert_str_eq(text.data, cases[i].printed);
    }
}
END_TEST

START_TEST(ports_left_to_the_host_stay_open)
{
    AUTO(port_list_donep) struct port_list list = {0};
    ck_assert_int_eq(port_parse_publish("80", &list, NULL), 0);
    ck_assert_int_eq(port_parse_publish("127.0.0.1::80", &list, NULL), 0);
    ck_assert_int_eq(port_parse_publish("8000-8010:80", &list, NULL), 0);
    ck_assert_int_eq(port_parse_expose("90-91/udp", &list, NULL), 0);
    ck_assert_uint_eq(list.count, 5);
    ck_assert_uint_eq(list.items[0].host_first, 0);
    ck_assert_uint_eq(list.items[1].host_first, 0);
    ck_assert_int_eq(list.items[1].host.family, AF_INET);
    ck_assert_uint_eq(list.items[2].host_first, 8000);
    ck_assert_uint_eq(list.items[2].host_last, 8010);
    ck_assert_uint_eq(list.items[4].port, 91);
    ck_assert_uint_eq(list.items[4].protocol, IPPROTO_UDP);
}
END_TEST

START_TEST(nonsense_is_refused)
{
    static const char *const cases[] = {
        "",           ":",        "0:80",        "80:0",       "65536:80",
        "80:65536",   "a:80",     "80:80/sctp",  "80:80/",     "::1:80:80",
        "[::1:80:80", "[::1]:80", "1.2.3:1:1",   "90-80:1-11", "8000-8010:80-91",
        "8000:80-90", "-1:80",    "80:80:80:80", "1-2-3:1",    " 80:80",
        "+80:80",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(port_list_donep) struct port_list list = {0};
        struct err err = ERR_NONE;
        ck_assert_msg(port_parse_publish(cases[i], &list, &err) == -EINVAL, "accepted '%s'",
                      cases[i]);
        ck_assert_int_eq(err.code, EINVAL);
    }
}
END_TEST

START_TEST(json_gives_back_what_it_took)
{
    AUTO(port_list_donep) struct port_list list = {0};
    AUTO(port_list_donep) struct port_list again = {0};
    ck_assert_int_eq(port_parse_publish("[::1]:8000-8002:80-82/udp", &list, NULL), 0);
    ck_assert_int_eq(port_parse_publish("80", &list, NULL), 0);
    json_t *json = port_list_to_json(&list);
    ck_assert_int_eq(port_list_from_json(json, &again, NULL), 0);
    json_decref(json);
    ck_assert_uint_eq(again.count, list.count);
    for (size_t i = 0; i < list.count; i++) {
        ck_assert(ip_eq(&again.items[i].host, &list.items[i].host));
        ck_assert_uint_eq(again.items[i].host_first, list.items[i].host_first);
        ck_assert_uint_eq(again.items[i].port, list.items[i].port);
        ck_assert_uint_eq(again.items[i].protocol, list.items[i].protocol);
    }
}
END_TEST

int main(void)
{
    return unit_run("engine/port", (const TTest *const[]){
                                       every_form_of_publish_is_read_and_printed,
                                       ports_left_to_the_host_stay_open,
                                       nonsense_is_refused,
                                       json_gives_back_what_it_took,
                                       NULL,
                                   });
}
