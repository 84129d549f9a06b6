#include "vmm/boot/setup_header.h"

#include <string.h>

#include "base/macros.h"
#include "freestanding/byteorder.h"

#define SECTOR 512u
#define VERSION_MIN 0x20cu /* the first with xloadflags: Linux 3.8 */

/* Fields by their offset in the file. */
#define F_SETUP_SECTS 0x1f1
#define F_SYSSIZE 0x1f4
#define F_BOOT_FLAG 0x1fe
#define F_JUMP 0x200
#define F_HEADER 0x202
#define F_VERSION 0x206
#define F_KERNEL_VERSION 0x20e
#define F_LOADFLAGS 0x211
#define F_INITRD_ADDR_MAX 0x22c
#define F_KERNEL_ALIGNMENT 0x230
#define F_RELOCATABLE 0x234
#define F_XLOADFLAGS 0x236
#define F_CMDLINE_SIZE 0x238
#define F_PAYLOAD_OFFSET 0x248
#define F_PAYLOAD_LENGTH 0x24c
#define F_PREF_ADDRESS 0x258
#define F_INIT_SIZE 0x260
#define F_END 0x264

#define LOADED_HIGH 0x1

static bool fail(struct setup_fault *fault, const char *field, uint64_t value, const char *problem)
{
    *fault = (struct setup_fault){.field = field, .value = value, .problem = problem};
    return false;
}

bool setup_header_is(const void *head, size_t len)
{
    const uint8_t *b = head;
    return len >= F_VERSION && memcmp(b + F_HEADER, "HdrS", 4) == 0;
}

/* Where the real-mode part ends and the protected-mode kernel begins and ends. */
static bool read_extent(const uint8_t *b, uint64_t file_size, struct setup_header *h,
                        struct setup_fault *fault)
{
    unsigned sectors = b[F_SETUP_SECTS] == 0 ? 4 : b[F_SETUP_SECTS];
    h->kernel_offset = (uint64_t)(sectors + 1) * SECTOR;
    if (h->kernel_offset >= file_size) {
        return fail(fault, "setup_sects", sectors, "lies behind the end of the file");
    }
    uint64_t left = file_size - h->kernel_offset;
    uint64_t bytes = (uint64_t)load_le32(b + F_SYSSIZE) * 16;
    /* It is rounded up to 16. */
    if (bytes == 0 || bytes > left + 15) {
        return fail(fault, "syssize", bytes / 16,
                    bytes == 0 ? "is nothing" : "reaches behind the end of the file");
    }
    h->kernel_bytes = MIN(bytes, left);
    return true;
}

static bool read_payload(const uint8_t *b, struct setup_header *h, struct setup_fault *fault)
{
    uint32_t offset = load_le32(b + F_PAYLOAD_OFFSET);
    uint32_t bytes = load_le32(b + F_PAYLOAD_LENGTH);
    if (bytes == 0) {
        return true;
    }
    if (offset > h->kernel_bytes) {
        return fail(fault, "payload_offset", offset, "lies behind the end of the file");
    }
    if (bytes > h->kernel_bytes - offset) {
        return fail(fault, "payload_length", bytes, "lies behind the end of the file");
    }
    h->payload_offset = h->kernel_offset + offset;
    h->payload_bytes = bytes;
    return true;
}

static bool read_rest(const uint8_t *b, struct setup_header *h, struct setup_fault *fault)
{
    uint32_t version = load_le16(b + F_KERNEL_VERSION);
    /* It counts from 0x200. */
    if (version != 0 && version + 0x200 < h->kernel_offset) {
        h->version_offset = version + 0x200;
    }
    h->xloadflags = load_le16(b + F_XLOADFLAGS);
    h->relocatable = b[F_RELOCATABLE] != 0;
    h->kernel_alignment = load_le32(b + F_KERNEL_ALIGNMENT);
    h->initrd_addr_max = load_le32(b + F_INITRD_ADDR_MAX);
    h->cmdline_size = load_le32(b + F_CMDLINE_SIZE);
    h->pref_address = load_le64(b + F_PREF_ADDRESS);
    h->init_size = load_le32(b + F_INIT_SIZE);
    h->end = (size_t)F_HEADER + b[F_JUMP + 1];
    if (h->end < F_END || h->end > SETUP_HEADER_END) {
        return fail(fault, "jump", b[F_JUMP + 1], "is no end of the header");
    }
    if (h->kernel_alignment == 0 || (h->kernel_alignment & (h->kernel_alignment - 1)) != 0) {
        return fail(fault, "kernel_alignment", h->kernel_alignment, "is no power of two");
    }
    if ((b[F_LOADFLAGS] & LOADED_HIGH) == 0) {
        return fail(fault, "loadflags", b[F_LOADFLAGS], "is that of a zImage, not of a bzImage");
    }
    return true;
}

bool setup_header_read(const void *head, size_t len, uint64_t file_size, struct setup_header *ret,
                       struct setup_fault *fault)
{
    const uint8_t *b = head;
    struct setup_header h = {0};
    if (len < SETUP_HEADER_END) {
        return fail(fault, "header", len, "is cut short");
    }
    if (!setup_header_is(head, len)) {
        return fail(fault, "header", load_le32(b + F_HEADER), "is not HdrS");
    }
    if (load_le16(b + F_BOOT_FLAG) != 0xaa55) {
        return fail(fault, "boot_flag", load_le16(b + F_BOOT_FLAG), "is not 0xaa55");
    }
    h.version = load_le16(b + F_VERSION);
    if (h.version < VERSION_MIN) {
        return fail(fault, "version", h.version, "is older than 2.12");
    }
    if (!read_extent(b, file_size, &h, fault) || !read_rest(b, &h, fault) ||
        !read_payload(b, &h, fault)) {
        return false;
    }
    *ret = h;
    return true;
}
