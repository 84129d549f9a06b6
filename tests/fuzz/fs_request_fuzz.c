#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/macros.h"
#include "base/path.h"
#include "vmm/fs/fs_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define ROOM ((size_t)9000)

static int make_share(char *name)
{
    if (mkdtemp(name) == NULL) {
        abort();
    }
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || replace_file_at(fd, "f", "text", 4, 0644, false) < 0 ||
        mkdirat(fd, "d", 0755) < 0 || symlinkat("f", fd, "l") < 0) {
        abort();
    }
    return fd;
}

static void greet(struct fs_server *server)
{
    struct {
        struct fuse_in_header header;
        struct fuse_init_in init;
    } hello = {.header = {.len = sizeof(hello), .opcode = FUSE_INIT},
               .init = {.major = FUSE_KERNEL_VERSION, .minor = 31}};
    uint8_t answer[256];
    const struct iovec in = {.iov_base = &hello, .iov_len = sizeof(hello)};
    const struct iovec out = {.iov_base = answer, .iov_len = sizeof(answer)};
    if (fs_server_serve(server, &in, 1, &out, 1) == 0) {
        abort();
    }
}

/*
 * Requests, each behind one byte of its length in units of 8: header and arguments as they come,
 * but the length in the header is right most of the time, for the sake of what lies behind that
 * check.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct rlimit small = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
    (void)setrlimit(RLIMIT_FSIZE, &small);
    (void)signal(SIGXFSZ, SIG_IGN);
    char name[] = "/dev/shm/isola-fuzz-XXXXXX";
    AUTO(closep) int share = make_share(name);
    const struct fs_options options = {.max_inodes = 20, .max_handles = 8};
    AUTO(fs_server_freep) struct fs_server *server = NULL;
    if (fs_server_new(share, &options, &server, NULL) < 0) {
        abort();
    }
    greet(server);
    static uint8_t answer[ROOM];
    while (len > 1) {
        size_t size = MIN((size_t)data[0] * 8, len - 1);
        AUTO(freep) uint8_t *request = malloc(size + 1);
        if (request == NULL) {
            abort();
        }
        memcpy(request, data + 1, size);
        if (size >= sizeof(struct fuse_in_header) && request[0] != 0) {
            const uint32_t right = (uint32_t)size;
            memcpy(request, &right, sizeof(right));
        }
        size_t half = size / 2;
        const struct iovec in[] = {{.iov_base = request, .iov_len = half},
                                   {.iov_base = request + half, .iov_len = size - half}};
        const struct iovec out[] = {{.iov_base = answer, .iov_len = 20},
                                    {.iov_base = answer + 20, .iov_len = ROOM - 20}};
        size_t got = fs_server_serve(server, in, 2, out, 2);
        struct fuse_out_header header;
        if (got > 0) {
            memcpy(&header, answer, sizeof(header));
            if (got > ROOM || header.len != got || header.error > 0 || header.error < -4095) {
                abort();
            }
        }
        data += size + 1;
        len -= size + 1;
    }
    (void)remove_tree_at(AT_FDCWD, name);
    return 0;
}
