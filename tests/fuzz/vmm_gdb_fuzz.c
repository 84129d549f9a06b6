/*
 * What a debugger sends: framing, escapes, numbers.
 */
#include <stdint.h>
#include <stdlib.h>

#include "vmm/gdb_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct gdb_packet packet;
    size_t at = 0;
    size_t used = 0;
    while (gdb_packet_next((const char *)data + at, len - at, &packet, &used) == 0) {
        const char *text = packet.data;
        uint64_t number = 0;
        uint8_t bytes[GDB_REGISTER_MAX];
        if (used == 0 || used > len - at || packet.len >= GDB_PACKET_MAX) {
            abort();
        }
        text += *text == '\0' ? 0 : 1;
        if (gdb_number_then(&text, ',', &number) && gdb_number(&text, &number)) {
            (void)gdb_hex_get(text, bytes, sizeof(bytes));
        }
        at += used;
    }
    return 0;
}
