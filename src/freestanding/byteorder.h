/*
 * byteorder.h - integers in memory of a given byte order, at any alignment.
 */
#ifndef FREESTANDING_BYTEORDER_H
#define FREESTANDING_BYTEORDER_H

#include <stdint.h>

static inline uint16_t load_le16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | (unsigned)b[1] << 8);
}

static inline uint32_t load_le32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)load_le16(b) | (uint32_t)load_le16(b + 2) << 16;
}

static inline uint64_t load_le64(const void *p)
{
    const uint8_t *b = p;
    return (uint64_t)load_le32(b) | (uint64_t)load_le32(b + 4) << 32;
}

static inline uint32_t load_be32(const void *p)
{
    return __builtin_bswap32(load_le32(p));
}

static inline uint64_t load_be64(const void *p)
{
    return __builtin_bswap64(load_le64(p));
}

static inline void store_le16(void *p, uint16_t value)
{
    uint8_t *b = p;
    b[0] = (uint8_t)value;
    b[1] = (uint8_t)(value >> 8);
}

static inline void store_le32(void *p, uint32_t value)
{
    store_le16(p, (uint16_t)value);
    store_le16((uint8_t *)p + 2, (uint16_t)(value >> 16));
}

static inline void store_le64(void *p, uint64_t value)
{
    store_le32(p, (uint32_t)value);
    store_le32((uint8_t *)p + 4, (uint32_t)(value >> 32));
}

static inline void store_be32(void *p, uint32_t value)
{
    store_le32(p, __builtin_bswap32(value));
}

static inline void store_be64(void *p, uint64_t value)
{
    store_le64(p, __builtin_bswap64(value));
}

#endif
