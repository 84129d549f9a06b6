#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "engine/dns_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A question of a workload, answered in every way; then the same bytes as a server's answer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct dns_query query;
    struct dns_answer answer;
    struct ip_address ip = {.family = AF_INET6};
    uint8_t out[4096];
    if (dns_query_parse(data, len, &query) < 0) {
        return 0;
    }
    (void)dns_name_to_address(query.name, &ip);
    dns_answer_begin(&answer, out, query.udp_max, data, &query);
    for (int i = 0; i < 200; i++) {
        dns_answer_add_address(&answer, &ip, 5);
    }
    dns_answer_add_ptr(&answer, query.name, 5);
    size_t n = dns_answer_end(&answer, &query, DNS_OK);
    if (n > query.udp_max ||
        (query.question_len > 0 && !dns_answer_matches(out, n, query.id, data, &query))) {
        abort();
    }
    (void)dns_answer_matches(data, len, query.id, data, &query);
    return 0;
}
