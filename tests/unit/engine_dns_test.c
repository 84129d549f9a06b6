#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/macros.h"
#include "engine/dns_message.h"
#include "engine/dns_names.h"
#include "unit.h"

static const uint8_t query_web[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                   "\x03Web\x03one\x00\x00\x01\x00\x01";
static const size_t query_web_len = sizeof(query_web) - 1;

static const char names[] = "@ one\n"
                            "10.0.0.2 fd00::2 web abcabcabcabc store +other-id\n"
                            "10.0.0.3 - db store\n"
                            "garbage\n"
                            "\n"
                            "- - lost\n";

static struct dns_found look(const char *name)
{
    static const struct ip_address nobody;
    struct dns_found found = {0};
    struct dns_wanted wanted = {.name = name, .asker = &nobody};
    dns_names_scan(names, strlen(names), &wanted, &found);
    return found;
}

START_TEST(a_question_is_read_and_answered)
{
    struct dns_query query;
    struct dns_answer answer;
    uint8_t out[512];
    struct ip_address ip = {.family = AF_INET, .bytes = {10, 0, 0, 2}};
    ck_assert_int_eq(dns_query_parse(query_web, query_web_len, &query), DNS_OK);
    ck_assert_str_eq(query.name, "web.one");
    ck_assert_uint_eq(query.type, DNS_TYPE_A);
    ck_assert_uint_eq(query.udp_max, 512);
    dns_answer_begin(&answer, out, sizeof(out), query_web, &query);
    dns_answer_add_address(&answer, &ip, 5);
    size_t len = dns_answer_end(&answer, &query, DNS_OK);
    ck_assert_uint_eq(len, query_web_len + 16);
    ck_assert(dns_answer_matches(out, len, 0x1234, query_web, &query));
    ck_assert(!dns_answer_matches(out, len, 0x1235, query_web, &query));
    ck_assert(!dns_answer_matches(out, len - 17, 0x1234, query_web, &query));
    ck_assert_uint_eq(out[7], 1);
    ck_assert_int_eq(memcmp(out + len - 4, ip.bytes, 4), 0);
    ck_assert_int_eq(dns_query_parse(out, len, &query), -EBADMSG); /* an answer is no question */
}
END_TEST

START_TEST(answers_that_do_not_fit_are_cut_at_a_record_and_marked)
{
    struct dns_query query;
    struct dns_answer answer;
    uint8_t out[512];
    struct ip_address ip = {.family = AF_INET6, .bytes = {0xfd}};
    ck_assert_int_eq(dns_query_parse(query_web, query_web_len, &query), DNS_OK);
    dns_answer_begin(&answer, out, sizeof(out), query_web, &query);
    for (int i = 0; i < 40; i++) {
        dns_answer_add_address(&answer, &ip, 5);
    }
    size_t len = dns_answer_end(&answer, &query, DNS_OK);
    ck_assert_uint_le(len, 512);
    ck_assert_uint_eq((len - query_web_len) % 28, 0);
    ck_assert_uint_eq(out[7], (len - query_web_len) / 28);
    ck_assert_uint_ne(out[2] & 0x02, 0);
}
END_TEST

START_TEST(broken_questions_get_an_error_or_nothing)
{
    struct dns_query query;
    uint8_t copy[sizeof(query_web)];
    for (size_t len = 0; len < query_web_len; len++) {
        int want = len < DNS_HEADER_SIZE ? -EBADMSG : DNS_FORMAT_ERROR;
        ck_assert_int_eq(dns_query_parse(query_web, len, &query), want);
    }
    memcpy(copy, query_web, query_web_len);
    copy[12] = 0xc0; /* a pointer, to itself */
    copy[13] = 12;
    ck_assert_int_eq(dns_query_parse(copy, query_web_len, &query), DNS_FORMAT_ERROR);
    memcpy(copy, query_web, query_web_len);
    copy[5] = 2; /* two questions */
    ck_assert_int_eq(dns_query_parse(copy, query_web_len, &query), DNS_FORMAT_ERROR);
    memcpy(copy, query_web, query_web_len);
    copy[2] = 0x29; /* an update */
    ck_assert_int_eq(dns_query_parse(copy, query_web_len, &query), DNS_NOT_IMPLEMENTED);
    memcpy(copy, query_web, query_web_len);
    copy[14] = '.'; /* a dot inside a label is not a dot between labels */
    ck_assert_int_eq(dns_query_parse(copy, query_web_len, &query), DNS_OK);
    ck_assert_str_eq(query.name, "");
    /* Names as long as they may be, and one byte longer. */
    uint8_t big[400] = {[5] = 1};
    size_t at = 12;
    for (int i = 0; i < 3; i++) {
        big[at] = 63;
        memset(big + at + 1, 'a', 63);
        at += 64;
    }
    big[at] = 61;
    memset(big + at + 1, 'a', 61);
    ck_assert_int_eq(dns_query_parse(big, at + 62 + 5, &query), DNS_OK);
    ck_assert_uint_eq(strlen(query.name), 253);
    big[at] = 62;
    big[at + 62] = 'a';
    ck_assert_int_eq(dns_query_parse(big, at + 63 + 5, &query), DNS_FORMAT_ERROR);
}
END_TEST

START_TEST(edns_offers_more_room_within_limits)
{
    static const struct {
        uint16_t offered;
        size_t want;
    } cases[] = {{0, 512}, {1232, 1232}, {65535, 4096}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t copy[64];
        struct dns_query query;
        memcpy(copy, query_web, query_web_len);
        memcpy(copy + query_web_len, "\0\0\x29\0\0\0\0\0\0\0\0", 11);
        copy[11] = 1;
        copy[query_web_len + 3] = (uint8_t)(cases[i].offered >> 8);
        copy[query_web_len + 4] = (uint8_t)cases[i].offered;
        ck_assert_int_eq(dns_query_parse(copy, query_web_len + 11, &query), DNS_OK);
        ck_assert(query.has_edns);
        ck_assert_uint_eq(query.udp_max, cases[i].want);
        uint8_t out[512];
        struct dns_answer answer;
        dns_answer_begin(&answer, out, sizeof(out), copy, &query);
        ck_assert_uint_eq(dns_answer_end(&answer, &query, DNS_NO_SUCH_NAME), query_web_len + 11);
        ck_assert_int_eq(dns_answer_code(out), DNS_NO_SUCH_NAME);
    }
}
END_TEST

START_TEST(names_aliases_and_the_networks_name_are_found)
{
    ck_assert(look("web").known);
    ck_assert_uint_eq(look("web").count, 2);
    ck_assert_uint_eq(look("web.one").count, 2);
    ck_assert_uint_eq(look("abcabcabcabc").count, 2);
    ck_assert_uint_eq(look("store").count, 3);
    ck_assert_uint_eq(look("db").count, 1);
    ck_assert(look("lost").known);
    ck_assert_uint_eq(look("lost").count, 0);
    static const char *const unknown[] = {"",         "we", "webb",      "web.two", "one",
                                          "10.0.0.2", "-",  "+other-id", "@",       "garbage"};
    for (size_t i = 0; i < COUNT(unknown); i++) {
        ck_assert_msg(!look(unknown[i]).known, "found '%s'", unknown[i]);
    }
}
END_TEST

START_TEST(addresses_lead_back_to_names_and_askers_to_their_other_networks)
{
    struct ip_address ip = {0};
    ck_assert(dns_name_to_address("2.0.0.10.in-addr.arpa", &ip));
    ck_assert(!dns_name_to_address("2.0.0.256.in-addr.arpa", &ip));
    ck_assert(!dns_name_to_address("2.0.0.10.in-addr.arpa.x", &ip));
    ck_assert(!dns_name_to_address("0.10.in-addr.arpa", &ip));
    struct dns_found found = {0};
    struct dns_wanted wanted = {.address = &ip, .asker = &ip};
    dns_names_scan(names, strlen(names), &wanted, &found);
    ck_assert_str_eq(found.name, "web.one");
    ck_assert_uint_eq(found.other_count, 1);
    ck_assert_str_eq(found.others[0], "other-id");
    char reverse[128] = "";
    for (int i = 0; i < 32; i++) {
        (void)strcat(reverse, i == 0 ? "2." : i == 30 ? "d." : i == 31 ? "f." : "0.");
    }
    (void)strcat(reverse, "ip6.arpa");
    ck_assert(dns_name_to_address(reverse, &ip));
    found = (struct dns_found){0};
    dns_names_scan(names, strlen(names), &wanted, &found);
    ck_assert_str_eq(found.name, "web.one");
}
END_TEST

int main(void)
{
    return unit_run("engine/dns",
                    (const TTest *const[]){
                        a_question_is_read_and_answered,
                        answers_that_do_not_fit_are_cut_at_a_record_and_marked,
                        broken_questions_get_an_error_or_nothing,
                        edns_offers_more_room_within_limits,
                        names_aliases_and_the_networks_name_are_found,
                        addresses_lead_back_to_names_and_askers_to_their_other_networks,
                        NULL,
                    });
}
