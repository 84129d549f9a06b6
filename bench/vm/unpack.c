/*
 * unpack - the ELF kernel inside a bzImage. Usage: unpack BZIMAGE VMLINUX
 */
#include <fcntl.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "vmm/boot/boot.h"

int main(int argc, char **argv)
{
    struct err err = ERR_NONE;
    AUTO(closep) int in = argc == 3 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
    AUTO(closep)
    int out = in >= 0 ? open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    if (out < 0) {
        (void)fprintf(stderr, "usage: unpack BZIMAGE VMLINUX\n");
        return 1;
    }
    if (boot_unpack_to(in, argv[1], out, &err) < 0) {
        (void)fprintf(stderr, "unpack: %s\n", err_text(&err));
        return 1;
    }
    return 0;
}
