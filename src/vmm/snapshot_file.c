/*
 * The two files of a snapshot, as bytes.
 *
 * The checksum is a CRC-32: it is there for what happens to files (cut short, a block lost, two of
 * them mixed up), and finds every single such burst. Against one who writes such files on purpose
 * no sum without a key helps; against him every field is checked where it is read. Memory has no
 * sum: reading all of it would cost more than everything else in a restore, which reads only what
 * the guest touches.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "base/str.h"
#include "freestanding/byteorder.h"
#include "vmm/memory.h"
#include "vmm/snapshot_internal.h"

static const char state_magic[8] = "IsolaVMs";
static const char memory_magic[8] = "IsolaVMm";

#define VERSION 1u
#define AT_VERSION 8
#define AT_SUM 12
#define AT_LENGTH 16

/* The page behind guest memory: magic, version, 4 bytes of nothing, size of the memory, id. */
#define TRAILER_SIZE 48
#define TRAILER_AT_SIZE 16
#define TRAILER_AT_ID 24

/* One write of pages that hold something. */
#define RUN_MAX ((uint64_t)4 << 20)

int snapshot_envelope_begin(struct buf *file)
{
    static const char room[SNAPSHOT_ENVELOPE];
    return buf_add(file, room, sizeof(room));
}

static uint32_t sum_of(const uint8_t *data, size_t len)
{
    uLong sum = crc32_z(0, data, AT_SUM);
    return (uint32_t)crc32_z(sum, data + AT_LENGTH, len - AT_LENGTH);
}

void snapshot_envelope_end(struct buf *file)
{
    uint8_t *data = (uint8_t *)file->data;
    memcpy(data, state_magic, sizeof(state_magic));
    store_le32(data + AT_VERSION, VERSION);
    store_le64(data + AT_LENGTH, file->len - SNAPSHOT_ENVELOPE);
    store_le32(data + AT_SUM, sum_of(data, file->len));
}

int snapshot_envelope_check(const uint8_t *data, size_t len, const char *name, struct err *err)
{
    if (len < SNAPSHOT_ENVELOPE || memcmp(data, state_magic, sizeof(state_magic)) != 0) {
        return err_say(err, EINVAL, "'%s' is no state file of a snapshot", name);
    }
    if (load_le32(data + AT_VERSION) != VERSION) {
        return err_say(err, EINVAL, "snapshot '%s' has format %u; this isola reads %u", name,
                       load_le32(data + AT_VERSION), VERSION);
    }
    if (load_le64(data + AT_LENGTH) != len - SNAPSHOT_ENVELOPE) {
        return err_say(err, EINVAL, "snapshot '%s' is cut short: %zu bytes of %llu", name,
                       len - SNAPSHOT_ENVELOPE, (unsigned long long)load_le64(data + AT_LENGTH));
    }
    if (load_le32(data + AT_SUM) != sum_of(data, len)) {
        return err_say(err, EINVAL, "snapshot '%s' is damaged: its checksum is wrong", name);
    }
    return 0;
}

int snapshot_make_file(const char *path, char **ret_name, struct err *err)
{
    AUTO(freep) char *name = str_printf("%s.XXXXXX", path);
    if (name == NULL) {
        return err_set(err, ENOMEM, "write '%s'", path);
    }
    int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, errno, "write '%s'", path);
    }
    *ret_name = TAKE_PTR(name);
    return fd;
}

int snapshot_write_state(const struct buf *file, int fd, struct err *err)
{
    int r = write_full(fd, file->data, file->len);
    r = r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
    return r < 0 ? err_set(err, -r, "write the snapshot's state") : 0;
}

static bool page_is_zero(const uint8_t *page)
{
    const uint64_t *word = (const uint64_t *)(const void *)page;
    for (size_t i = 0; i < MEMORY_PAGE / sizeof(*word); i += 8) {
        if ((word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] |
             word[i + 6] | word[i + 7]) != 0) {
            return false;
        }
    }
    return true;
}

static int write_at(int fd, const uint8_t *data, uint64_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)offset);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        uint64_t done = n < 0 ? 0 : (uint64_t)n;
        data += done;
        len -= done;
        offset += done;
    }
    return 0;
}

static int write_region(int fd, const struct memory_region *region)
{
    int r = 0;
    for (uint64_t at = 0; r == 0 && at < region->size;) {
        if (page_is_zero(region->host + at)) {
            at += MEMORY_PAGE;
            continue;
        }
        uint64_t end = at + MEMORY_PAGE;
        while (end < region->size && end - at < RUN_MAX && !page_is_zero(region->host + end)) {
            end += MEMORY_PAGE;
        }
        r = write_at(fd, region->host + at, end - at, region->file_offset + at);
        at = end;
    }
    return r;
}

int snapshot_write_memory(const struct memory *memory, const uint8_t *id, int fd, struct err *err)
{
    uint8_t trailer[TRAILER_SIZE] = {0};
    uint64_t size = memory_size(memory);
    size_t count = 0;
    const struct memory_region *region = memory_regions(memory, &count);
    int r = ftruncate(fd, (off_t)(size + MEMORY_PAGE)) < 0 ? -errno : 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = write_region(fd, &region[i]);
    }
    memcpy(trailer, memory_magic, sizeof(memory_magic));
    store_le32(trailer + AT_VERSION, VERSION);
    store_le64(trailer + TRAILER_AT_SIZE, size);
    memcpy(trailer + TRAILER_AT_ID, id, SNAPSHOT_ID_SIZE);
    r = r < 0 ? r : write_at(fd, trailer, sizeof(trailer), size);
    r = r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
    return r < 0 ? err_set(err, -r, "write the snapshot's memory") : 0;
}

int snapshot_check_memory(int fd, const char *name, const struct snapshot_head *head,
                          const uint8_t *id, struct err *err)
{
    uint8_t trailer[TRAILER_SIZE];
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return err_set(err, errno, "open the snapshot's memory '%s'", name);
    }
    /* Pages behind the end of a file are a SIGBUS when they are touched. */
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != head->memory + MEMORY_PAGE) {
        return err_say(
            err, EINVAL, "'%s' is not this snapshot's memory: it has %llu bytes, not %llu", name,
            (unsigned long long)st.st_size, (unsigned long long)(head->memory + MEMORY_PAGE));
    }
    int r = read_full_at(fd, trailer, sizeof(trailer), head->memory);
    if (r < 0) {
        return err_set(err, -r, "read the snapshot's memory '%s'", name);
    }
    if (memcmp(trailer, memory_magic, sizeof(memory_magic)) != 0 ||
        load_le32(trailer + AT_VERSION) != VERSION ||
        load_le64(trailer + TRAILER_AT_SIZE) != head->memory ||
        memcmp(trailer + TRAILER_AT_ID, id, SNAPSHOT_ID_SIZE) != 0) {
        return err_say(err, EINVAL, "'%s' is the memory of another snapshot", name);
    }
    return 0;
}
