#include "vmm/pci/msix.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "freestanding/byteorder.h"
#include "vmm/cpu.h"
#include "vmm/device.h"

/* A table entry (6.8.2.6 on): message address, its upper half, data, vector control. */
enum {
    ENTRY_ADDRESS = 0,
    ENTRY_UPPER = 4,
    ENTRY_DATA = 8,
    ENTRY_CONTROL = 12,
};

static const struct state_field msix_fields[] = {
    STATE_ARRAY(U64, struct msix, address),
    STATE_ARRAY(U32, struct msix, data),
    STATE_ARRAY(U8, struct msix, masked),
    STATE(U64, struct msix, pending),
    STATE(BOOL, struct msix, enabled),
    STATE(BOOL, struct msix, all_masked),
    STATE_DONE,
};

static int check_msix(void *object, struct err *err)
{
    const struct msix *m = object;
    if (m->pending >> m->count != 0) {
        return err_say(err, EINVAL, "vectors pending that are not there");
    }
    for (uint32_t i = 0; i < MSIX_VECTORS_MAX; i++) {
        if (m->masked[i] > 1 || (m->address[i] & 3) != 0) {
            return err_say(err, EINVAL, "vector %u", i);
        }
    }
    return 0;
}

const struct state_table msix_state_table = {
    .name = "msix",
    .version = 1,
    .oldest = 1,
    .fields = msix_fields,
    .check = check_msix,
};

void msix_init(struct msix *m, struct cpu_engine *engine, struct device *device, uint32_t count)
{
    assert(count <= MSIX_VECTORS_MAX);
    *m = (struct msix){.engine = engine, .device = device, .count = count};
    for (uint32_t i = 0; i < MSIX_VECTORS_MAX; i++) {
        m->fd[i] = -1;
        m->masked[i] = 1;
    }
}

static void detach(struct msix *m, uint32_t i)
{
    if (m->fd[i] >= 0) {
        m->engine->ops->message_detach(m->engine, m->id[i], m->fd[i]);
        m->fd[i] = close_fd(m->fd[i]);
    }
}

void msix_done(struct msix *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        detach(m, i);
    }
}

void msix_reset(struct msix *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        detach(m, i);
        m->address[i] = 0;
        m->data[i] = 0;
        m->masked[i] = 1;
    }
    m->pending = 0;
    m->enabled = false;
    m->all_masked = false;
}

/* Tells the engine the message of a vector, unless it knows it: that is dear. */
static int attach(struct msix *m, unsigned i)
{
    int r = 0;
    if (m->fd[i] < 0) {
        AUTO(closep) int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = fd < 0 ? -errno
                   : m->engine->ops->message_attach(m->engine, fd, m->address[i], m->data[i],
                                                    &m->id[i]);
        if (r < 0) {
            return r;
        }
        m->fd[i] = TAKE_FD(fd);
    } else if (m->engine_address[i] != m->address[i] || m->engine_data[i] != m->data[i]) {
        r = m->engine->ops->message_change(m->engine, m->id[i], m->address[i], m->data[i]);
    }
    if (r == 0) {
        m->engine_address[i] = m->address[i];
        m->engine_data[i] = m->data[i];
    }
    return r;
}

static bool can_send(const struct msix *m, unsigned i)
{
    return m->enabled && !m->all_masked && m->masked[i] == 0;
}

/* A vector changed: connects it, and sends what waited. */
static void update(struct msix *m, unsigned i)
{
    if (!can_send(m, i)) {
        return;
    }
    if (attach(m, i) < 0) {
        device_guest_error(m->device, "message of vector %u to 0x%llx", i,
                           (unsigned long long)m->address[i]);
        return;
    }
    if ((m->pending & 1ULL << i) != 0) {
        m->pending &= ~(1ULL << i);
        msix_notify(m, i);
    }
}

void msix_resume(struct msix *m)
{
    for (unsigned i = 0; i < m->count; i++) {
        update(m, i);
    }
}

static uint32_t entry_read(const struct msix *m, unsigned i, unsigned offset)
{
    switch (offset) {
    case ENTRY_ADDRESS:
        return (uint32_t)m->address[i];
    case ENTRY_UPPER:
        return (uint32_t)(m->address[i] >> 32);
    case ENTRY_DATA:
        return m->data[i];
    default:
        return m->masked[i];
    }
}

static void entry_write(struct msix *m, unsigned i, unsigned offset, uint32_t value)
{
    switch (offset) {
    case ENTRY_ADDRESS:
        m->address[i] = (m->address[i] & ~(uint64_t)UINT32_MAX) | (value & ~3u);
        break;
    case ENTRY_UPPER:
        m->address[i] = (m->address[i] & UINT32_MAX) | (uint64_t)value << 32;
        break;
    case ENTRY_DATA:
        m->data[i] = value;
        break;
    default:
        m->masked[i] = value & 1;
        break;
    }
}

/* 6.8.2: 4 or 8 bytes, aligned. */
static bool fits(const struct msix *m, uint64_t offset, unsigned size)
{
    return (size == 4 || size == 8) && offset % size == 0 &&
           offset < (uint64_t)m->count * MSIX_TABLE_ENTRY;
}

uint64_t msix_table_read(struct msix *m, uint64_t offset, unsigned size)
{
    if (!fits(m, offset, size)) {
        return 0;
    }
    unsigned i = (unsigned)(offset / MSIX_TABLE_ENTRY);
    unsigned at = (unsigned)(offset % MSIX_TABLE_ENTRY);
    uint64_t value = entry_read(m, i, at);
    return size == 8 ? value | (uint64_t)entry_read(m, i, at + 4) << 32 : value;
}

void msix_table_write(struct msix *m, uint64_t offset, unsigned size, uint64_t value)
{
    if (!fits(m, offset, size)) {
        device_guest_error(m->device, "%u bytes written to the vectors", size);
        return;
    }
    unsigned i = (unsigned)(offset / MSIX_TABLE_ENTRY);
    unsigned at = (unsigned)(offset % MSIX_TABLE_ENTRY);
    entry_write(m, i, at, (uint32_t)value);
    if (size == 8) {
        entry_write(m, i, at + 4, (uint32_t)(value >> 32));
    }
    update(m, i);
}

uint64_t msix_pending_read(const struct msix *m, uint64_t offset, unsigned size)
{
    uint8_t raw[16] = {0};
    store_le64(raw, m->pending);
    return offset < 8 ? load_le64(raw + offset) & (size >= 8 ? UINT64_MAX : (1ULL << 8 * size) - 1)
                      : 0;
}

void msix_set_control(struct msix *m, uint16_t control)
{
    m->enabled = (control & MSIX_CONTROL_ENABLE) != 0;
    m->all_masked = (control & MSIX_CONTROL_MASK) != 0;
    msix_resume(m);
}

void msix_notify(struct msix *m, unsigned vector)
{
    uint64_t one = 1;
    if (vector >= m->count || !m->enabled) {
        return;
    }
    if (!can_send(m, vector)) {
        m->pending |= 1ULL << vector;
        return;
    }
    ssize_t n = m->fd[vector] < 0 ? 0 : write(m->fd[vector], &one, sizeof(one));
    (void)n; /* EAGAIN: it is on its way already */
}
