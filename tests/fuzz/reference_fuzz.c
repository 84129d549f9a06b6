#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#include "base/err.h"
#include "base/str.h"
#include "image/platform.h"
#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What is read once is written so that it reads the same again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(freep) char *text = fuzz_text(data, len);
    AUTO(reference_donep) struct reference ref = {0};
    struct platform platform;
    struct err err = ERR_NONE;
    (void)platform_parse(text, &platform, &err);
    if (reference_parse(text, &ref, &err) < 0) {
        return 0;
    }
    AUTO(freep) char *full = reference_full(&ref);
    AUTO(reference_donep) struct reference again = {0};
    if (reference_parse(full, &again, &err) < 0) {
        abort();
    }
    AUTO(freep) char *twice = reference_full(&again);
    if (strcmp(full, twice) != 0) {
        abort();
    }
    AUTO(freep) char *repository = NULL;
    AUTO(freep) char *tag = NULL;
    if (reference_split(full, &repository, &tag) < 0 || !str_eq(tag, ref.tag)) {
        abort();
    }
    return 0;
}
