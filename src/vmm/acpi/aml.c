#include "vmm/acpi/aml.h"

#include <errno.h>
#include <string.h>

#include "freestanding/byteorder.h"

/* Opcodes (20.3) */
#define OP_ZERO 0x00
#define OP_ONE 0x01
#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_WORD 0x0b
#define OP_DWORD 0x0c
#define OP_STRING 0x0d
#define OP_QWORD 0x0e
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_METHOD 0x14
#define OP_EXT 0x5b
#define OP_EXT_REGION 0x80
#define OP_EXT_FIELD 0x81
#define OP_EXT_DEVICE 0x82
#define OP_LOCAL0 0x60
#define OP_ARG0 0x68
#define OP_STORE 0x70
#define OP_AND 0x7b
#define OP_OR 0x7d
#define OP_NOTIFY 0x86
#define OP_DWORD_FIELD 0x8a
#define OP_NOT 0x92
#define OP_EQUAL 0x93
#define OP_IF 0xa0
#define OP_ELSE 0xa1
#define OP_RETURN 0xa4

#define NAME_ROOT '\\'
#define NAME_LEN 4u

/* Access of a field (20.2.5.2): 32 bits, no lock, the bits that are not written become zeros. */
#define FIELD_FLAGS (3 | 2 << 5)

/* Resources (6.4) */
#define RES_END 0x79
#define RES_IO 0x47
#define RES_MEMORY_32 0x86
#define RES_INTERRUPT 0x89
#define RES_WORD_SPACE 0x88
#define RES_DWORD_SPACE 0x87
#define RES_QWORD_SPACE 0x8a
#define SPACE_MEMORY 0
#define SPACE_BUS 2
#define SPACE_FIXED 0x0c /* minimum and maximum are fixed, positive decode, a producer */
#define MEMORY_WRITABLE 0x01
#define MEMORY_PREFETCHABLE 0x06 /* the two bits of caching: cacheable and prefetchable */

static void put(struct aml *aml, const void *data, size_t len)
{
    if (aml->error == 0) {
        aml->error = buf_add(aml->out, data, len);
    }
}

static void put_byte(struct aml *aml, unsigned value)
{
    const uint8_t raw = (uint8_t)value;
    put(aml, &raw, 1);
}

static void put_number(struct aml *aml, uint64_t value, size_t bytes)
{
    uint8_t raw[8];
    store_le64(raw, value);
    put(aml, raw, bytes);
}

/* A name segment, filled up with '_' (20.2.2). */
static void put_name(struct aml *aml, const char *name)
{
    if (name[0] == NAME_ROOT) {
        put_byte(aml, NAME_ROOT);
        name++;
    }
    size_t len = strlen(name);
    if (len == 0 || len > NAME_LEN) {
        aml->error = aml->error != 0 ? aml->error : -EINVAL;
        return;
    }
    put(aml, name, len);
    put(aml, "____", NAME_LEN - len);
}

/* What is written from here on gets its length at aml_end(). */
static void open_block(struct aml *aml, bool is_template)
{
    if (aml->depth == AML_DEPTH_MAX) {
        aml->error = aml->error != 0 ? aml->error : -EOVERFLOW;
        return;
    }
    aml->open[aml->depth] = aml->out->len;
    aml->is_template[aml->depth++] = is_template;
}

/* Makes room at start and puts raw there. */
static void insert(struct aml *aml, size_t start, const uint8_t *raw, size_t len)
{
    size_t behind = aml->out->len - start;
    put(aml, raw, len);
    if (aml->error == 0) {
        char *p = aml->out->data + start;
        memmove(p + len, p, behind);
        memcpy(p, raw, len);
    }
}

/* PkgLength (20.2.4) counts its own bytes, or not (the width of a field). Returns its bytes. */
static size_t encode_length(uint64_t content, bool with_itself, uint8_t raw[4])
{
    uint64_t value = content + with_itself;
    if (value < 64) {
        raw[0] = (uint8_t)value;
        return 1;
    }
    size_t more = 1;
    value = content + (with_itself ? 2 : 0);
    while (value >= 1ULL << (4 + 8 * more)) {
        more++;
        value += with_itself;
    }
    raw[0] = (uint8_t)(more << 6 | (value & 0xf));
    for (size_t i = 0; i < more; i++) {
        raw[1 + i] = (uint8_t)(value >> (4 + 8 * i));
    }
    return 1 + more;
}

/* The integer that says how long a buffer is. Returns its bytes. */
static size_t encode_size(size_t value, uint8_t raw[5])
{
    store_le32(raw + 1, (uint32_t)value);
    raw[0] = value <= UINT8_MAX ? OP_BYTE : value <= UINT16_MAX ? OP_WORD : OP_DWORD;
    return value <= UINT8_MAX ? 2 : value <= UINT16_MAX ? 3 : 5;
}

int aml_done(const struct aml *aml)
{
    return aml->error != 0 ? aml->error : aml->depth == 0 ? 0 : -EINVAL;
}

void aml_end(struct aml *aml)
{
    if (aml->error != 0) {
        return;
    }
    if (aml->depth == 0) {
        aml->error = -EINVAL;
        return;
    }
    aml->depth--;
    const size_t start = aml->open[aml->depth];
    uint8_t raw[8];
    if (aml->is_template[aml->depth]) {
        /* End tag; checksum 0: not used. */
        put_byte(aml, RES_END);
        put_byte(aml, 0);
        size_t n = encode_size(aml->out->len - start, raw);
        insert(aml, start, raw, n);
    }
    size_t n = encode_length(aml->out->len - start, true, raw);
    insert(aml, start, raw, n);
}

void aml_scope(struct aml *aml, const char *name)
{
    put_byte(aml, OP_SCOPE);
    open_block(aml, false);
    put_name(aml, name);
}

void aml_device(struct aml *aml, const char *name)
{
    put_byte(aml, OP_EXT);
    put_byte(aml, OP_EXT_DEVICE);
    open_block(aml, false);
    put_name(aml, name);
}

void aml_method(struct aml *aml, const char *name, unsigned args, bool serialized)
{
    put_byte(aml, OP_METHOD);
    open_block(aml, false);
    put_name(aml, name);
    put_byte(aml, (args & 7) | (serialized ? 8 : 0));
}

void aml_name(struct aml *aml, const char *name)
{
    put_byte(aml, OP_NAME);
    put_name(aml, name);
}

void aml_region(struct aml *aml, const char *name, uint8_t space, uint64_t offset, uint32_t len)
{
    put_byte(aml, OP_EXT);
    put_byte(aml, OP_EXT_REGION);
    put_name(aml, name);
    put_byte(aml, space);
    aml_integer(aml, offset);
    aml_integer(aml, len);
}

void aml_field_32(struct aml *aml, const char *region, const char *name)
{
    uint8_t bits[4];
    put_byte(aml, OP_EXT);
    put_byte(aml, OP_EXT_FIELD);
    open_block(aml, false);
    put_name(aml, region);
    put_byte(aml, FIELD_FLAGS);
    put_name(aml, name);
    put(aml, bits, encode_length(32, false, bits));
    aml_end(aml);
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        put_byte(aml, value == 0 ? OP_ZERO : OP_ONE);
    } else if (value <= UINT8_MAX) {
        put_byte(aml, OP_BYTE);
        put_number(aml, value, 1);
    } else if (value <= UINT16_MAX) {
        put_byte(aml, OP_WORD);
        put_number(aml, value, 2);
    } else if (value <= UINT32_MAX) {
        put_byte(aml, OP_DWORD);
        put_number(aml, value, 4);
    } else {
        put_byte(aml, OP_QWORD);
        put_number(aml, value, 8);
    }
}

void aml_string(struct aml *aml, const char *text)
{
    put_byte(aml, OP_STRING);
    put(aml, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_eisa_id(struct aml *aml, const char *id)
{
    /* Three letters of five bits, four hexadecimal digits; the highest byte first (19.3.4). */
    uint32_t value = 0;
    for (unsigned i = 0; i < 3; i++) {
        value = value << 5 | ((unsigned)id[i] - 0x40);
    }
    for (unsigned i = 3; i < 7; i++) {
        value = value << 4 | hex_digit(id[i]);
    }
    uint8_t raw[4];
    store_be32(raw, value);
    put_byte(aml, OP_DWORD);
    put(aml, raw, sizeof(raw));
}

void aml_buffer(struct aml *aml, const void *data, size_t len)
{
    put_byte(aml, OP_BUFFER);
    open_block(aml, false);
    uint8_t raw[5];
    put(aml, raw, encode_size(len, raw));
    put(aml, data, len);
    aml_end(aml);
}

void aml_package(struct aml *aml, uint8_t count)
{
    put_byte(aml, OP_PACKAGE);
    open_block(aml, false);
    put_byte(aml, count);
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
    aml_name(aml, name);
    aml_integer(aml, value);
}

void aml_name_string(struct aml *aml, const char *name, const char *text)
{
    aml_name(aml, name);
    aml_string(aml, text);
}

void aml_name_eisa_id(struct aml *aml, const char *name, const char *id)
{
    aml_name(aml, name);
    aml_eisa_id(aml, id);
}

void aml_if(struct aml *aml)
{
    put_byte(aml, OP_IF);
    open_block(aml, false);
}

void aml_else(struct aml *aml)
{
    put_byte(aml, OP_ELSE);
    open_block(aml, false);
}

void aml_equal(struct aml *aml)
{
    put_byte(aml, OP_EQUAL);
}

void aml_not(struct aml *aml)
{
    put_byte(aml, OP_NOT);
}

void aml_and(struct aml *aml)
{
    put_byte(aml, OP_AND);
}

void aml_or(struct aml *aml)
{
    put_byte(aml, OP_OR);
}

void aml_store(struct aml *aml)
{
    put_byte(aml, OP_STORE);
}

void aml_return(struct aml *aml)
{
    put_byte(aml, OP_RETURN);
}

void aml_notify(struct aml *aml, const char *device, uint8_t value)
{
    put_byte(aml, OP_NOTIFY);
    put_name(aml, device);
    aml_integer(aml, value);
}

void aml_dword_field(struct aml *aml, unsigned arg, uint8_t index, const char *name)
{
    put_byte(aml, OP_DWORD_FIELD);
    aml_arg(aml, arg);
    aml_integer(aml, index);
    put_name(aml, name);
}

void aml_use(struct aml *aml, const char *name)
{
    put_name(aml, name);
}

void aml_local(struct aml *aml, unsigned number)
{
    put_byte(aml, OP_LOCAL0 + (number & 7));
}

void aml_arg(struct aml *aml, unsigned number)
{
    put_byte(aml, OP_ARG0 + (number & 7));
}

void aml_no_target(struct aml *aml)
{
    put_byte(aml, 0);
}

void aml_resources(struct aml *aml)
{
    aml_name(aml, "_CRS");
    put_byte(aml, OP_BUFFER);
    open_block(aml, true);
}

void aml_res_io(struct aml *aml, uint16_t port, uint8_t len)
{
    put_byte(aml, RES_IO);
    put_byte(aml, 1); /* all 16 address lines are decoded */
    put_number(aml, port, 2);
    put_number(aml, port, 2);
    put_byte(aml, 1);
    put_byte(aml, len);
}

void aml_res_memory_32(struct aml *aml, uint32_t base, uint32_t len)
{
    put_byte(aml, RES_MEMORY_32);
    put_number(aml, 9, 2);
    put_byte(aml, MEMORY_WRITABLE);
    put_number(aml, base, 4);
    put_number(aml, len, 4);
}

void aml_res_interrupt(struct aml *aml, uint32_t gsi)
{
    put_byte(aml, RES_INTERRUPT);
    put_number(aml, 6, 2);
    put_byte(aml, 0x3); /* consumer, edge triggered, active high, exclusive */
    put_byte(aml, 1);
    put_number(aml, gsi, 4);
}

/* The common form of address spaces (6.4.3.5): first to last in steps of one, not moved. */
static void put_space(struct aml *aml, uint8_t tag, uint8_t kind, uint8_t flags, uint64_t first,
                      uint64_t len)
{
    size_t width = tag == RES_WORD_SPACE ? 2 : tag == RES_DWORD_SPACE ? 4 : 8;
    put_byte(aml, tag);
    put_number(aml, 3 + 5 * width, 2);
    put_byte(aml, kind);
    put_byte(aml, SPACE_FIXED);
    put_byte(aml, flags);
    put_number(aml, 0, width);
    put_number(aml, first, width);
    put_number(aml, first + len - 1, width);
    put_number(aml, 0, width);
    put_number(aml, len, width);
}

void aml_res_buses(struct aml *aml, uint16_t first, uint16_t last)
{
    put_space(aml, RES_WORD_SPACE, SPACE_BUS, 0, first, (uint64_t)last - first + 1);
}

void aml_res_window_32(struct aml *aml, uint32_t base, uint32_t len)
{
    put_space(aml, RES_DWORD_SPACE, SPACE_MEMORY, MEMORY_WRITABLE, base, len);
}

void aml_res_window_64(struct aml *aml, uint64_t base, uint64_t len)
{
    put_space(aml, RES_QWORD_SPACE, SPACE_MEMORY, MEMORY_WRITABLE | MEMORY_PREFETCHABLE, base, len);
}
