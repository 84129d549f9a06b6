#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "engine/port.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What a user writes behind -p. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(freep) char *text = calloc(1, len + 1);
    AUTO(port_list_donep) struct port_list list = {0};
    AUTO(buf_donep) struct buf out = {0};
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, len);
    if (port_parse_publish(text, &list, NULL) == 0) {
        (void)port_list_print(&list, &out);
    }
    return 0;
}
