#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/macros.h"
#include "vmm/disk/qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define PIECE ((uint64_t)4096)

static struct qcow2 *open_image(const uint8_t *data, size_t len, bool read_only)
{
    int fd = memfd_create("qcow2", MFD_CLOEXEC);
    if (fd < 0 || write_full(fd, data, len) < 0) {
        abort();
    }
    const struct disk_file_options file_options = {.read_only = read_only, .dir_fd = -1};
    const struct disk_options options = {.read_only = read_only, .dir_fd = -1};
    struct disk_file file;
    struct qcow2 *q = NULL;
    if (disk_file_open("input", fd, &file_options, &file, NULL) < 0) {
        abort();
    }
    return qcow2_open(&file, "input", &options, "", NULL, &q, NULL) < 0 ? NULL : q;
}

/* At the start, at places all over the disk, and at its end. */
static uint64_t place(const struct qcow2 *q, unsigned i, uint64_t *ret_len)
{
    static const unsigned shifts[] = {60, 20, 9, 5, 2, 1, 0};
    uint64_t offset = (q->size - (q->size >> shifts[i % COUNT(shifts)])) & ~511ULL;
    offset = i % COUNT(shifts) == 0 ? 0 : offset;
    *ret_len = MIN(PIECE, q->size - offset);
    return offset;
}

static void read_all(struct qcow2 *q)
{
    uint8_t buffer[PIECE];
    for (unsigned i = 0; i < 14; i++) {
        uint64_t size;
        uint64_t offset = place(q, i, &size);
        struct iovec iov = {.iov_base = buffer, .iov_len = (size_t)size};
        struct iov_cursor cursor = {.iov = &iov, .count = 1};
        struct extent e;
        if (size > 0) {
            (void)qcow2_read(q, offset, &cursor, size);
            if (qcow2_find(q, offset, size, &e) == 0 && (e.len == 0 || e.len > size)) {
                abort();
            }
        }
    }
}

/* Reads, writes, clears and flushes; the header stays that of an image. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(qcow2_freep) struct qcow2 *reader = open_image(data, len, true);
    if (reader != NULL) {
        read_all(reader);
    }
    AUTO(qcow2_freep) struct qcow2 *q = open_image(data, len, false);
    if (q == NULL) {
        return 0;
    }
    uint8_t buffer[PIECE];
    memset(buffer, 0x5a, sizeof(buffer));
    for (unsigned i = 0; i < 21; i++) {
        uint64_t size;
        uint64_t offset = place(q, i, &size);
        struct iovec iov = {.iov_base = buffer, .iov_len = (size_t)size};
        struct iov_cursor cursor = {.iov = &iov, .count = 1};
        if (i < 7 || i >= 14) {
            (void)qcow2_write(q, offset, &cursor, size);
        } else {
            (void)qcow2_clear(q, offset, size, (enum qcow2_clear)(i % 3));
        }
        if (i % 5 == 4) {
            (void)qcow2_flush(q);
        }
    }
    read_all(q);
    (void)qcow2_flush(q);
    uint8_t magic[4];
    if (disk_file_read(&q->file, 0, magic, sizeof(magic)) < 0 || memcmp(magic, data, 4) != 0) {
        abort();
    }
    return 0;
}
