/* Archives of strangers, passed on well-formed. */
#include <errno.h>

#include "base/err.h"
#include "base/io.h"
#include "image/tar_writer.h"

static int write_bytes(void *data, const void *bytes, size_t len)
{
    return write_full(*(const int *)data, bytes, len);
}

static int copy_entry(struct tar_reader *reader, const struct tar_entry *entry,
                      struct tar_writer *writer, struct err *err)
{
    uint64_t size = entry->size;
    int r = tar_writer_entry(writer, entry);
    while (r == 0) {
        const void *data;
        ssize_t n = tar_reader_data(reader, &data, err);
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            break;
        }
        r = tar_writer_data(writer, data, (size_t)n);
    }
    return r < 0 ? r : tar_writer_pad(writer, size);
}

int tar_copy(int from_fd, int to_fd, struct err *err)
{
    AUTO(tar_fd_input_donep) struct tar_fd_input input = {.fd = from_fd};
    AUTO(tar_reader_freep) struct tar_reader *reader = NULL;
    AUTO(tar_writer_freep) struct tar_writer *writer = NULL;
    const struct tar_limits limits = {0};
    int r = tar_reader_new(tar_fd_input_read, &input, &limits, &reader);
    r = r < 0 ? r : tar_writer_new(write_bytes, &to_fd, &writer);
    while (r == 0) {
        const struct tar_entry *entry;
        r = tar_reader_next(reader, &entry, err);
        if (r <= 0) {
            break;
        }
        r = copy_entry(reader, entry, writer, err);
    }
    r = r < 0 ? r : tar_reader_drain(reader, err);
    r = r < 0 ? r : tar_writer_finish(writer);
    return r < 0 && (err == NULL || err->code == 0) ? err_set(err, -r, "copy an archive") : r;
}
