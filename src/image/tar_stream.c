/* A tar archive as a stream of bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "image/tar_internal.h"

int tar_bad(const struct tar_reader *reader, struct err *err, const char *what)
{
    return err_say(err, EBADMSG, "archive, byte %llu: %s", (unsigned long long)reader->offset,
                   what);
}

int tar_refill(struct tar_reader *reader, struct err *err)
{
    if (reader->piece_left > 0) {
        return 1;
    }
    const void *data = NULL;
    ssize_t n = reader->input(reader->input_data, &data, err);
    if (n <= 0) {
        return (int)n;
    }
    if ((uint64_t)n > reader->limits.bytes || reader->offset > reader->limits.bytes - (uint64_t)n) {
        return err_say(err, EFBIG, "archive: larger than the limit of %llu bytes",
                       (unsigned long long)reader->limits.bytes);
    }
    reader->piece = data;
    reader->piece_left = (size_t)n;
    return 1;
}

int tar_take(struct tar_reader *reader, void *out, size_t len, struct err *err)
{
    size_t done = 0;
    while (done < len) {
        int r = tar_refill(reader, err);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            return done == 0 ? 0 : tar_bad(reader, err, "ends in the middle of an entry");
        }
        size_t n = MIN(len - done, reader->piece_left);
        if (out != NULL) {
            memcpy((char *)out + done, reader->piece, n);
        }
        reader->piece += n;
        reader->piece_left -= n;
        reader->offset += n;
        done += n;
    }
    return 1;
}

int tar_skip(struct tar_reader *reader, uint64_t len, struct err *err)
{
    while (len > 0) {
        size_t n = (size_t)MIN(len, (uint64_t)1 << 30);
        int r = tar_take(reader, NULL, n, err);
        if (r <= 0) {
            return r < 0 ? r : tar_bad(reader, err, "ends in the middle of an entry");
        }
        len -= n;
    }
    return 0;
}

int tar_reader_drain(struct tar_reader *reader, struct err *err)
{
    for (;;) {
        int r = tar_refill(reader, err);
        if (r <= 0) {
            return r;
        }
        reader->offset += reader->piece_left;
        reader->piece_left = 0;
    }
}

ssize_t tar_fd_input_read(void *data, const void **ret_data, struct err *err)
{
    struct tar_fd_input *input = data;
    if (input->buffer == NULL) {
        input->buffer = malloc(TAR_FD_BUFFER_SIZE);
        if (input->buffer == NULL) {
            return err_set(err, ENOMEM, "read archive");
        }
    }
    ssize_t n;
    do {
        n = read(input->fd, input->buffer, TAR_FD_BUFFER_SIZE);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return err_set(err, errno, "read archive");
    }
    *ret_data = input->buffer;
    return n;
}

void tar_fd_input_done(struct tar_fd_input *input)
{
    free(input->buffer);
    input->buffer = NULL;
}
