#include "netlink/ip.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/macros.h"
#include "netlink/message.h"
#include "unit.h"

static struct ip_prefix prefix(const char *text)
{
    struct ip_prefix p;
    ck_assert_int_eq(ip_prefix_parse(text, &p), 0);
    return p;
}

START_TEST(prefixes_know_their_network_their_end_and_their_neighbours)
{
    char text[IP_TEXT_SIZE];
    struct ip_prefix p = prefix("10.1.2.3/20");
    struct ip_prefix network = ip_prefix_network(&p);
    struct ip_address last = ip_prefix_last(&p);
    ck_assert_str_eq(ip_prefix_format(&network, text), "10.1.0.0/20");
    ck_assert_str_eq(ip_format(&last, text), "10.1.15.255");
    struct ip_prefix a = prefix("10.1.8.0/24");
    struct ip_prefix b = prefix("10.1.16.0/24");
    struct ip_prefix six = prefix("fd00::/8");
    ck_assert(ip_prefix_overlaps(&p, &a));
    ck_assert(ip_prefix_overlaps(&a, &p));
    ck_assert(!ip_prefix_overlaps(&p, &b));
    ck_assert(!ip_prefix_overlaps(&six, &a));
    struct ip_address next = ip_add(&last, 1);
    ck_assert_str_eq(ip_format(&next, text), "10.1.16.0");
    struct ip_prefix all = prefix("0.0.0.0/0");
    ck_assert(ip_prefix_has(&all, &next));
}
END_TEST

START_TEST(texts_that_are_no_addresses_are_refused)
{
    static const char *const cases[] = {
        "", "1", "1.2.3.4.5", "[::1", "::1]", "1.2.3.a", "fe80::1%eth0", "[1.2.3.4]", " ::1"};
    static const char *const prefixes[] = {"10.0.0.0", "10.0.0.0/33", "10.0.0.0/",
                                           "::/129",   "10.0.0.0/-1", "[::]/64"};
    struct ip_address ip;
    struct ip_prefix p;
    uint8_t mac[6];
    for (size_t i = 0; i < COUNT(cases); i++) {
        ck_assert_int_eq(ip_parse(cases[i], &ip), -EINVAL);
    }
    for (size_t i = 0; i < COUNT(prefixes); i++) {
        ck_assert_int_eq(ip_prefix_parse(prefixes[i], &p), -EINVAL);
    }
    ck_assert_int_eq(mac_parse("02:42:00:00:00:01", mac), 0);
    ck_assert_int_eq(mac_parse("03:42:00:00:00:01", mac), -EINVAL);
    ck_assert_int_eq(mac_parse("02:42:00:00:00:0g", mac), -EINVAL);
    ck_assert_int_eq(mac_parse("02:42:00:00:00", mac), -EINVAL);
}
END_TEST

START_TEST(attributes_never_reach_behind_their_message)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    nl_message_begin(&batch, 16, 0, "", 0);
    nl_put_u32(&batch, 1, 7);
    nl_put_str(&batch, 2, "name");
    const uint8_t *data = (const uint8_t *)batch.buf.data + NLMSG_HDRLEN;
    size_t len = batch.buf.len - NLMSG_HDRLEN;
    struct nl_attribute a;
    char name[8];
    uint32_t value = 0;
    ck_assert(nl_attribute_find(nl_attributes_after(data, len, 0), 2, &a));
    ck_assert(nl_get_str(&a, name, sizeof(name)));
    ck_assert_str_eq(name, "name");
    ck_assert(!nl_get_str(&a, name, 4));
    /* Each cut and each length byte, in a block of exactly that size for the sanitizer. */
    for (size_t cut = 0; cut <= len; cut++) {
        for (unsigned bad = 0; bad < 256; bad += 3) {
            AUTO(freep) uint8_t *copy = malloc(cut + 1);
            memcpy(copy, data, cut);
            if (cut > 8) {
                copy[8] = (uint8_t)bad;
            }
            struct nl_attributes list = nl_attributes_after(copy, cut, 0);
            while (nl_attribute_next(&list, &a)) {
                ck_assert(a.data >= copy && a.len <= cut && a.data + a.len <= copy + cut);
                (void)nl_get_u32(&a, &value);
                (void)nl_get_str(&a, name, sizeof(name));
            }
        }
    }
}
END_TEST

int main(void)
{
    return unit_run("netlink", (const TTest *const[]){
                                   prefixes_know_their_network_their_end_and_their_neighbours,
                                   texts_that_are_no_addresses_are_refused,
                                   attributes_never_reach_behind_their_message,
                                   NULL,
                               });
}
