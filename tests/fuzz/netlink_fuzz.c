#include <stddef.h>
#include <stdint.h>

#include "netlink/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void walk(struct nl_attributes list, int depth)
{
    struct nl_attribute a;
    while (nl_attribute_next(&list, &a)) {
        char text[16];
        uint32_t number = 0;
        struct ip_address ip;
        (void)nl_get_str(&a, text, sizeof(text));
        (void)nl_get_be32(&a, &number);
        (void)nl_get_ip(&a, 2, &ip);
        (void)nl_get_ip(&a, 10, &ip);
        if (depth < 4) {
            walk(nl_attributes_of(&a), depth + 1);
        }
    }
}

/* A message of the kernel, and everything in it as nested attributes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    walk(nl_attributes_after(data, len, 16), 0);
    return 0;
}
