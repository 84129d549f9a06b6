#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "freestanding/byteorder.h"
#include "vmm/memory.h"
#include "vmm/virtio/queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REGION ((uint64_t)0x8000)
#define HEADER 8
#define SIZE_MAX_OFFERED 256
/* The rings may lie over each other: what we write then asks for more work, for ever. */
#define POPS_MAX 600

static void check_piece(const struct memory *memory, const struct iovec *piece, uint64_t gpa)
{
    if (piece->iov_len == 0 || memory_at(memory, gpa, piece->iov_len) != piece->iov_base) {
        abort();
    }
}

/* Every piece lies in memory, and the lengths add up. */
static void check_chain(const struct memory *memory, const struct virtq *q,
                        const struct virtq_chain *chain)
{
    uint64_t readable = 0;
    uint64_t writable = 0;
    if (chain->readable_count + chain->writable_count > VIRTQ_CHAIN_MAX || q->in_flight > q->size) {
        abort();
    }
    for (uint32_t i = 0; i < chain->readable_count; i++) {
        check_piece(memory, &chain->readable[i], chain->gpa[i]);
        readable += chain->readable[i].iov_len;
    }
    for (uint32_t i = 0; i < chain->writable_count; i++) {
        check_piece(memory, &chain->writable[i], chain->gpa[chain->readable_count + i]);
        writable += chain->writable[i].iov_len;
    }
    if (readable != chain->readable_len || writable != chain->writable_len) {
        abort();
    }
}

static void serve(struct virtq *q, struct memory *memory, struct virtq_chain *chain)
{
    uint8_t bytes[64];
    virtq_doorbell_off(q, memory);
    for (unsigned i = 0; i < POPS_MAX; i++) {
        int r = virtq_pop(q, memory, chain);
        if (r != 0) {
            if (r != -EAGAIN && r != -EPROTO) {
                abort();
            }
            break;
        }
        check_chain(memory, q, chain);
        size_t n = virtq_read(chain, i, bytes, sizeof(bytes));
        if (i % 5 == 4) {
            virtq_unpop(q, chain);
            continue;
        }
        size_t written = virtq_write(chain, 0, bytes, n);
        if (i % 7 != 6) { /* some are never given back */
            (void)virtq_push(q, memory, chain, (uint32_t)written);
        }
    }
    (void)virtq_doorbell_on(q, memory);
    (void)virtq_wants_interrupt(q, memory);
}

/*
 * Eight bytes say what was negotiated and where the rings are; the others are guest memory, from
 * its start on. Served twice, as the first round changes what the second one finds.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    struct memory *memory = NULL;
    struct virtq_chain *chain = malloc(sizeof(*chain));
    if (len >= HEADER && chain != NULL && memory_new(&options, &memory) == 0 &&
        memory_add(memory, 0, REGION, NULL) == 0 && memory_add(memory, REGION, REGION, NULL) == 0) {
        struct virtq q = {.size_max = SIZE_MAX_OFFERED};
        virtq_reset(&q);
        q.packed = (data[0] & 1) != 0;
        q.event_idx = (data[0] & 2) != 0;
        q.indirect = (data[0] & 4) != 0;
        q.size = (uint16_t)(data[1] + 1);
        q.desc = load_le16(data + 2);
        q.driver = load_le16(data + 4);
        q.device = load_le16(data + 6);
        size_t n = len - HEADER < REGION ? len - HEADER : REGION;
        (void)memory_write(memory, 0, data + HEADER, n);
        if (virtq_enable(&q, memory) == 0) {
            serve(&q, memory, chain);
            serve(&q, memory, chain);
        }
    }
    free(chain);
    memory_free(memory);
    return 0;
}
