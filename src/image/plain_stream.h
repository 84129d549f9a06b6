/*
 * plain_stream.h - a descriptor's bytes, decompressed by a second thread: a tar_input_fn.
 */
#ifndef IMAGE_PLAIN_STREAM_H
#define IMAGE_PLAIN_STREAM_H

#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct err;
struct plain_stream;

/* fd stays the caller's. limit: bytes of output at most. */
int plain_stream_new(int fd, uint64_t limit, struct plain_stream **ret_stream);
void plain_stream_free(struct plain_stream *stream);
DEFINE_FREEP(struct plain_stream *, plain_stream_free)

/* data is the stream. */
ssize_t plain_stream_read(void *data, const void **ret_data, struct err *err);

#endif
