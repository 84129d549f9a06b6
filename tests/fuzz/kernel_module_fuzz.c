/* Any file as a kernel module: it is taken with an order, or refused with a text. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/str.h"
#include "engine/kernel_modules.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(scratch_donep) struct scratch scratch;
    AUTO(strv_donep) struct strv missing = {0};
    struct err err = ERR_NONE;
    scratch_open(&scratch);
    if (mkdirat(scratch.fd, "kernel", 0700) < 0 || mkdirat(scratch.fd, "out", 0700) < 0) {
        abort();
    }
    scratch_write(&scratch, "kernel/virtio_mmio.ko", data, len);
    AUTO(closep) int out = openat(scratch.fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = kernel_modules_copy(scratch.fd, out, &missing, &err);
    if ((r < 0 && err.text[0] == '\0') || (r == 0 && faccessat(out, "order", F_OK, 0) < 0)) {
        abort();
    }
    return 0;
}
