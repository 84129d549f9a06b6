/*
 * checksum.c - CRC-32C by the CPU's own instruction (SSE4.2), eight bytes at a time.
 */
#include <string.h>

#include "emu/host/x86_64/lower.h"

__attribute__((target("sse4.2"))) uint32_t lower_checksum(const uint8_t *from, size_t size)
{
    uint64_t crc = UINT32_MAX;
    for (; size >= 8; size -= 8, from += 8) {
        uint64_t eight = 0;
        memcpy(&eight, from, sizeof(eight));
        crc = __builtin_ia32_crc32di(crc, eight);
    }
    for (; size > 0; size--, from++) {
        crc = __builtin_ia32_crc32qi((uint32_t)crc, *from);
    }
    return ~(uint32_t)crc;
}
