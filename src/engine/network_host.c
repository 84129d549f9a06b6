#include "engine/network_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/dirs.h"
#include "base/err.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/process.h"
#include "base/user_namespace.h"
#include "netlink/socket.h"

#define DEFAULT_ROOT "/var/lib/isola"

/* FNV-1a, 32 bits: only to tell directories apart. */
static uint32_t hash_text(const char *text)
{
    uint32_t hash = 2166136261U;
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 16777619U;
    }
    return hash;
}

int network_host_open(struct db *db, const struct dirs *dirs, struct network_host **ret,
                      struct err *err)
{
    AUTO(network_host_closep) struct network_host *host = calloc(1, sizeof(*host));
    if (host == NULL) {
        return err_set(err, ENOMEM, "open the networks");
    }
    host->db = db;
    host->rootless = !user_owns_network();
    host->run_fd = host->route_fd = host->nft_fd = -1;
    host->run = str_printf("%s/networks", dirs->run);
    if (host->run == NULL) {
        return err_set(err, ENOMEM, "open the networks");
    }
    if (strcmp(dirs->root, DEFAULT_ROOT) == 0) {
        (void)snprintf(host->tag, sizeof(host->tag), "isola");
    } else {
        (void)snprintf(host->tag, sizeof(host->tag), "isola-%08x", hash_text(dirs->root));
    }
    *ret = TAKE_PTR(host);
    return 0;
}

/*
 * After elements were removed the last close of a netfilter socket waits for the kernel to free
 * them, some 12 ms. A child that nobody waits for keeps the last reference until this process is
 * gone, and waits instead.
 */
static void close_in_background(int fd)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        /* Nothing else may stay open: callers wait for the end of our standard output. */
        char byte = 0;
        if (dup2(fd, 0) == 0 && dup2(ends[0], 1) == 1 && close_fds_from(2) == 0) {
            (void)!read(1, &byte, 1);
        }
        _exit(0);
    }
    (void)close(ends[0]);
    if (child < 0) {
        (void)close(ends[1]);
    }
    /* The other end stays open on purpose: it closes with this process. */
}

void network_host_close(struct network_host *host)
{
    if (host == NULL) {
        return;
    }
    (void)close_fd(host->run_fd);
    (void)close_fd(host->route_fd);
    if (host->nft_fd >= 0 && host->nft_slow_close) {
        close_in_background(host->nft_fd);
    }
    (void)close_fd(host->nft_fd);
    free(host->run);
    free(host);
}

int network_host_run(struct network_host *host, struct err *err)
{
    if (host->run_fd < 0) {
        int r = mkdir_parents(host->run, 0711);
        if (r < 0) {
            return err_set(err, -r, "make '%s'", host->run);
        }
        host->run_fd = open(host->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (host->run_fd < 0) {
            return err_set(err, errno, "open '%s'", host->run);
        }
    }
    return host->run_fd;
}

static int open_once(int *fd, int protocol, const char *name, struct err *err)
{
    if (*fd < 0) {
        int r = nl_socket_open(protocol);
        if (r < 0) {
            return err_set(err, -r, "open a %s socket", name);
        }
        *fd = r;
    }
    return *fd;
}

int network_host_route(struct network_host *host, struct err *err)
{
    return open_once(&host->route_fd, NETLINK_ROUTE, "route netlink", err);
}

int network_host_nft(struct network_host *host, struct err *err)
{
    return open_once(&host->nft_fd, NETLINK_NETFILTER, "netfilter netlink", err);
}

int random_hex(char *out, size_t count, struct err *err)
{
    uint8_t bytes[32];
    if (count > sizeof(bytes) || getrandom(bytes, count, 0) != (ssize_t)count) {
        return err_set(err, EIO, "read random bytes");
    }
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
    return 0;
}

bool network_is_ours(const struct network_host *host, const char *alias)
{
    size_t len = strlen(host->tag);
    return strncmp(alias, host->tag, len) == 0 && (alias[len] == ':' || alias[len] == '\0');
}

void network_alias(const struct network_host *host, const char *network_id,
                   char out[NETWORK_ALIAS_SIZE])
{
    (void)snprintf(out, NETWORK_ALIAS_SIZE, "%s:%s", host->tag, network_id);
}

static int take_lock(struct network_host *host, enum lock_mode mode, struct err *err)
{
    int run = network_host_run(host, err);
    if (run < 0) {
        return run;
    }
    int fd = lock_file_at(run, "lock", mode, true);
    return fd < 0 ? err_set(err, -fd, "lock '%s/lock'", host->run) : fd;
}

int network_host_lock(struct network_host *host, struct err *err)
{
    return take_lock(host, LOCK_EXCLUSIVE, err);
}

int network_host_share(struct network_host *host, struct err *err)
{
    return take_lock(host, LOCK_SHARED, err);
}

int network_sysctl(const char *value, struct err *err, const char *fmt, ...)
{
    char path[160] = "/proc/sys/net/";
    size_t used = strlen(path);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(path + used, sizeof(path) - used, fmt, ap);
    va_end(ap);
    AUTO(buf_donep) struct buf now = {0};
    int r = read_file(path, 64, &now);
    if (r == -ENOENT) {
        return r; /* a part that this kernel lacks; the caller knows whether it matters */
    }
    if (r == 0 && strncmp(now.data != NULL ? now.data : "", value, strlen(value)) == 0) {
        return 0;
    }
    r = write_file(path, value);
    return r < 0 ? err_set(err, -r, "write %s to '%s'", value, path) : 0;
}
