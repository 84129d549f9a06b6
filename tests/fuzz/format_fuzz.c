#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#include "base/err.h"
#include "base/json.h"
#include "cmd/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(freep) char *text = fuzz_text(data, len);
    AUTO(json_unrefp)
    json_t *value = json_pack("{s:s, s:[s, s], s:{s:i}, s:b, s:n}", "Name", "web", "List", "a", "b",
                              "Map", "k", 1, "Up", 1, "None");
    AUTO(buf_donep) struct buf out = {0};
    struct err err = ERR_NONE;
    (void)format_value(text, value, &out, &err);
    return 0;
}
