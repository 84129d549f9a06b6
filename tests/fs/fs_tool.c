/*
 * fs_tool - serves a directory through /dev/fuse: the kernel's own driver speaks to the server.
 *
 * Usage: fs_tool SHARE MOUNTPOINT [ro] [only NAME] [map GUEST HOST COUNT] [writeback]
 * Prints "ready" when it is mounted, and ends when it is unmounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "vmm/fs/fs_server.h"

#define REQUEST ((size_t)(1 << 20) + 65536)

static int serve(struct fs_server *server, int fuse)
{
    AUTO(freep) char *in = malloc(REQUEST);
    AUTO(freep) char *out = malloc(REQUEST);
    for (;;) {
        ssize_t n = read(fuse, in, REQUEST);
        if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) {
            continue;
        }
        if (n < 0) {
            return errno == ENODEV ? 0 : 1;
        }
        /* Cut at odd places, as rings may hold them. */
        const struct iovec request[] = {
            {.iov_base = in, .iov_len = n < 41 ? (size_t)n : 41},
            {.iov_base = in + 41, .iov_len = n < 41 ? 0 : (size_t)n - 41}};
        const struct iovec answer[] = {{.iov_base = out, .iov_len = 13},
                                       {.iov_base = out + 13, .iov_len = REQUEST - 13}};
        size_t len = fs_server_serve(server, request, 2, answer, 2);
        if (len > 0 && write(fuse, out, len) < 0 && errno != ENOENT) {
            (void)fprintf(stderr, "answer of %zu bytes: %s\n", len, strerror(errno));
        }
    }
}

int main(int argc, char **argv)
{
    struct fs_options options = {.entry_timeout_ms = 1000, .attr_timeout_ms = 1000};
    if (argc < 3) {
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "ro") == 0) {
            options.read_only = true;
        } else if (strcmp(argv[i], "writeback") == 0) {
            options.writeback = true;
        } else if (strcmp(argv[i], "only") == 0 && i + 1 < argc) {
            options.only = argv[++i];
        } else if (strcmp(argv[i], "map") == 0 && i + 3 < argc) {
            const struct fs_id_range range = {(uint32_t)strtoul(argv[i + 1], NULL, 10),
                                              (uint32_t)strtoul(argv[i + 2], NULL, 10),
                                              (uint32_t)strtoul(argv[i + 3], NULL, 10)};
            options.users.ranges[options.users.count++] = range;
            options.groups.ranges[options.groups.count++] = range;
            i += 3;
        } else {
            return 2;
        }
    }
    struct err err = ERR_NONE;
    AUTO(closep) int share = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO(fs_server_freep) struct fs_server *server = NULL;
    if (share < 0 || fs_server_new(share, &options, &server, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err_text(&err));
        return 1;
    }
    AUTO(closep) int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    char data[128];
    (void)snprintf(data, sizeof(data),
                   "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
                   fuse);
    if (fuse < 0 || mount("isola-test", argv[2], "fuse", MS_NODEV | MS_NOSUID, data) < 0) {
        (void)fprintf(stderr, "mount: %s\n", strerror(errno));
        return 77;
    }
    (void)printf("ready\n");
    (void)fflush(stdout);
    return serve(server, fuse);
}
