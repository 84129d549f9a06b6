/*
 * replay - runs a fuzz target over its corpus, as a TAP test.
 *
 * Usage: NAME_replay DIR. Each file is handed over whole, then cut at many places and with single
 * bytes changed: cheap, deterministic, and enough to see a check that went missing.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"

#define FILE_MAX ((size_t)1 << 24)
#define VARIANTS ((size_t)256)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* In a block of exactly that size, so that the sanitizer sees a read behind it. */
static void run_copy(const char *data, size_t len, size_t change, uint8_t value)
{
    AUTO(freep) uint8_t *copy = malloc(len + (len == 0));
    if (copy == NULL) {
        abort();
    }
    memcpy(copy, data, len);
    if (change < len) {
        copy[change] = (uint8_t)(copy[change] ^ value);
    }
    (void)LLVMFuzzerTestOneInput(copy, len);
}

static void run_variants(const struct buf *input)
{
    static const uint8_t changes[] = {0x01, 0x80, 0xff};
    const char *data = input->data != NULL ? input->data : "";
    run_copy(data, input->len, SIZE_MAX, 0);
    size_t step = input->len / VARIANTS + 1;
    for (size_t at = 0; at < input->len; at += step) {
        run_copy(data, at, SIZE_MAX, 0);
        for (size_t i = 0; i < sizeof(changes); i++) {
            run_copy(data, input->len, at, changes[i]);
        }
    }
}

int main(int argc, char **argv)
{
    AUTO(closedirp) DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (dir == NULL) {
        (void)fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
        return 2;
    }
    int count = 0;
    struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) {
        AUTO(buf_donep) struct buf input = {0};
        if (entry->d_name[0] == '.') {
            continue;
        }
        if (read_file_at(dirfd(dir), entry->d_name, FILE_MAX, &input) < 0) {
            (void)printf("not ok %d - %s cannot be read\n", ++count, entry->d_name);
            continue;
        }
        run_variants(&input);
        (void)printf("ok %d - %s\n", ++count, entry->d_name);
        (void)fflush(stdout);
    }
    (void)printf("1..%d\n", count);
    return count > 0 ? 0 : 1;
}
