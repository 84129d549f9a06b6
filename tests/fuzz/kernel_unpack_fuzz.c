/* Any file as a bzImage: what comes out is a kernel of bounded size, or a text says why not. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(closep) int fd = memfd_create("fuzz", MFD_CLOEXEC);
    AUTO(closep) int out = memfd_create("out", MFD_CLOEXEC);
    struct err err = ERR_NONE;
    struct stat st;
    if (fd < 0 || out < 0 || write_full(fd, data, len) < 0) {
        abort();
    }
    int r = boot_unpack_to(fd, "fuzz", out, &err);
    if (fstat(out, &st) < 0 || (uint64_t)st.st_size > PAYLOAD_OUTPUT_MAX ||
        (r == 0 && st.st_size < 64) || (r < 0 && err.text[0] == '\0')) {
        abort();
    }
    return 0;
}
