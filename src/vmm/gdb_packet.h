/*
 * gdb_packet.h - the bytes of gdb's remote protocol: framing, hexadecimal, registers.
 */
#ifndef VMM_GDB_PACKET_H
#define VMM_GDB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct x86_state;

#define GDB_PACKET_MAX ((size_t)0x4000)

enum gdb_packet_kind {
    GDB_ACK,
    GDB_NAK,
    GDB_INTERRUPT, /* Ctrl-C */
    GDB_COMMAND,
    GDB_DAMAGED, /* its checksum is wrong */
};

struct gdb_packet {
    enum gdb_packet_kind kind;
    size_t len;
    char data[GDB_PACKET_MAX]; /* of a command: unescaped, ended by NUL, which may also be inside */
};

/* 0: *ret and *ret_used are set. -EAGAIN: more must come. -EMSGSIZE: no packet is that long. */
int gdb_packet_next(const char *data, size_t len, struct gdb_packet *ret, size_t *ret_used);

/* Appends "$data#sum". */
int gdb_packet_put(struct buf *out, const char *data, size_t len);

int gdb_hex_put(struct buf *out, const void *data, size_t len);
/* len bytes from 2 * len digits; false: there are not that many. */
bool gdb_hex_get(const char *text, void *data, size_t len);
/* A number at *text, which is moved behind it; false: there is none, or it is too long. */
bool gdb_number(const char **text, uint64_t *ret);
/* The same, and the character that must follow. */
bool gdb_number_then(const char **text, char then, uint64_t *ret);

/* The target description that numbers the registers. */
extern const char gdb_target_xml[];
#define GDB_REGISTERS 59
#define GDB_REGISTER_MAX 16
/* Bytes of a register as gdb has them; 0: there is none of that number. */
size_t gdb_register_get(const struct x86_state *state, unsigned number,
                        uint8_t data[GDB_REGISTER_MAX]);
/* How many bytes gdb_register_set() takes; 0: it cannot be written. */
size_t gdb_register_writable(unsigned number);
void gdb_register_set(struct x86_state *state, unsigned number, const uint8_t *data);

#endif
