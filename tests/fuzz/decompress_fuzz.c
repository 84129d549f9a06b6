#include <stdint.h>

#include "base/err.h"
#include "image/decompress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int room(void *data, void **ret_room, size_t *ret_size)
{
    *ret_room = data;
    *ret_size = 4096;
    return 0;
}

static int wrote(void *data, size_t len)
{
    (void)data;
    (void)len;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char out[4096];
    const struct decompress_sink sink = {.room = room, .wrote = wrote, .data = out};
    AUTO(decompress_freep) struct decompress *d = NULL;
    struct err err = ERR_NONE;
    if (decompress_new(&sink, 1 << 20, &d) < 0) {
        return 0;
    }
    size_t half = len / 2;
    if (decompress_push(d, data, half, &err) == 0 &&
        decompress_push(d, data + half, len - half, &err) == 0) {
        (void)decompress_finish(d, &err);
    }
    return 0;
}
