/*
 * lanes.h - vectors as lanes of 1, 2, 4 or 8 bytes.
 */
#ifndef EMU_GUEST_ARM64_LANES_H
#define EMU_GUEST_ARM64_LANES_H

#include <stdint.h>
#include <string.h>

#include "emu/guest/arm64/state.h"

static inline uint64_t lane_get(const union arm64_vector *v, unsigned bytes, unsigned i)
{
    uint64_t lane = 0;
    memcpy(&lane, v->b + (size_t)bytes * i, bytes);
    return lane;
}

static inline int64_t lane_signed(uint64_t lane, unsigned bytes)
{
    unsigned shift = 64 - 8 * bytes;
    return (int64_t)(lane << shift) >> shift;
}

static inline void lane_set(union arm64_vector *v, unsigned bytes, unsigned i, uint64_t lane)
{
    memcpy(v->b + (size_t)bytes * i, &lane, bytes);
}

static inline uint64_t lane_mask(unsigned bytes)
{
    return bytes == 8 ? UINT64_MAX : ((uint64_t)1 << (8 * bytes)) - 1;
}

/* What a front end hands to a function of a vector or float instruction. */
struct lane_args {
    uint8_t rd, rn, rm, ra;
    uint8_t op, size, q, more;
};

static inline uint64_t lane_pack(struct lane_args args)
{
    uint64_t v = 0;
    memcpy(&v, &args, sizeof(v));
    return v;
}

static inline struct lane_args lane_unpack(uint64_t v)
{
    struct lane_args args;
    memcpy(&args, &v, sizeof(args));
    return args;
}

#endif
