#include "user/hwcap.h"

#include "base/buf.h"
#include "base/macros.h"
#include "emu/emu.h"

static const struct {
    uint8_t bit;
    bool crypto;
    const char *name;
} hwcaps[] = {
    {0, false, "fp"},        {1, false, "asimd"},  {3, true, "aes"},    {4, true, "pmull"},
    {5, true, "sha1"},       {6, true, "sha2"},    {7, false, "crc32"}, {8, false, "atomics"},
    {12, false, "asimdrdm"}, {13, false, "jscvt"}, {14, false, "fcma"}, {15, false, "lrcpc"},
    {20, false, "asimddp"},
};

uint64_t hwcap_value(void)
{
    uint64_t value = 0;
    for (size_t i = 0; i < COUNT(hwcaps); i++) {
        value |= !hwcaps[i].crypto || emu_crypto_is_fast() ? (uint64_t)1 << hwcaps[i].bit : 0;
    }
    return value;
}

int hwcap_names(struct buf *text)
{
    uint64_t value = hwcap_value();
    int r = 0;
    for (size_t i = 0; r == 0 && i < COUNT(hwcaps); i++) {
        if ((value >> hwcaps[i].bit & 1) != 0) {
            r = buf_printf(text, "%s%s", i == 0 ? "" : " ", hwcaps[i].name);
        }
    }
    return r;
}
