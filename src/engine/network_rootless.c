#include "engine/network_rootless.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "engine/network_host.h"

#define PID_SUFFIX ".pasta"

/* "127.0.0.1/8080:80", as pasta's -t and -u have it. */
static int add_port(struct strv *argv, const struct port *port)
{
    char text[IP_TEXT_SIZE];
    bool any = port->host.family == 0;
    int r = strv_add(argv, port->protocol == IPPROTO_UDP ? "-u" : "-t");
    return r < 0 ? r
                 : strv_addf(argv, "%s%s%u:%u", any ? "" : ip_format(&port->host, text),
                             any ? "" : "/", port->host_first, port->port);
}

static int make_argv(const struct network_host *host, const struct network_lease *lease,
                     bool joined, struct strv *argv)
{
    /* The namespaces are descriptors 3 and 4: names of other processes are out of its reach. */
    static const char *const fixed[] = {
        "pasta",         "--quiet",
        "--config-net",  "-I",
        "eth0",          "-T",
        "none",          "-U",
        "none",          "--no-map-gw",
        "--dns-forward", ROOTLESS_DNS,
        "--netns",       "/proc/self/fd/3",
    };
    bool has_tcp = false;
    bool has_udp = false;
    int r = 0;
    for (size_t i = 0; i < COUNT(fixed) && r >= 0; i++) {
        r = strv_add(argv, fixed[i]);
    }
    /* One cannot join the namespace where one is. */
    if (r >= 0 && joined) {
        r = strv_add(argv, "--netns-only");
    } else if (r >= 0 && (r = strv_add(argv, "--userns")) >= 0) {
        r = strv_add(argv, "/proc/self/fd/4");
    }
    if (r >= 0 && (r = strv_add(argv, "--pid")) >= 0) {
        r = strv_addf(argv, "%s/%s" PID_SUFFIX, host->run, lease->workload);
    }
    for (size_t i = 0; i < lease->ports.count && r >= 0; i++) {
        r = add_port(argv, &lease->ports.items[i]);
        has_tcp = has_tcp || lease->ports.items[i].protocol == IPPROTO_TCP;
        has_udp = has_udp || lease->ports.items[i].protocol == IPPROTO_UDP;
    }
    if (r >= 0 && !has_tcp && (r = strv_add(argv, "-t")) >= 0) {
        r = strv_add(argv, "none");
    }
    if (r >= 0 && !has_udp && (r = strv_add(argv, "-u")) >= 0) {
        r = strv_add(argv, "none");
    }
    return r;
}

static bool is_own_namespace(int userns)
{
    struct stat theirs;
    struct stat ours;
    return fstat(userns, &theirs) == 0 && stat("/proc/self/ns/user", &ours) == 0 &&
           theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

int network_rootless_attach(struct network_host *host, const struct network_lease *lease,
                            int netns_fd, struct err *err)
{
    int r = network_host_run(host, err);
    if (r < 0 || (r = network_rootless_detach(host, lease->workload, err)) < 0) {
        return r;
    }
    AUTO(closep) int userns = ioctl(netns_fd, NS_GET_USERNS);
    if (userns < 0) {
        return err_set(err, errno, "find the user namespace of the workload's network");
    }
    AUTO(strv_donep) struct strv argv = {0};
    if (make_argv(host, lease, is_own_namespace(userns), &argv) < 0) {
        return err_set(err, ENOMEM, "start pasta");
    }
    const int fds[] = {netns_fd, userns};
    r = process_run_with(argv.items, NULL, fds, COUNT(fds), err);
    if (r < 0) {
        (void)err_wrap(err, -r, "set up the network");
        err_hint(err, "pasta (package passt) needs a default route of the host and a /dev/net/tun "
                      "that users may open (mode 0666)");
    }
    return r;
}

/* The process that the file names, if it is a pasta; -ESRCH otherwise. */
static int open_pasta(int run_fd, const char *file, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(buf_donep) struct buf name = {0};
    char path[64];
    uint64_t pid = 0;
    int r = read_file_at(run_fd, file, 64, &text);
    if (r < 0) {
        return r == -ENOENT ? -ESRCH : err_set(err, -r, "read '%s'", file);
    }
    if (text.len > 0 && text.data[text.len - 1] == '\n') {
        text.data[text.len - 1] = '\0';
    }
    if (text.data == NULL || parse_u64(text.data, 10, &pid) < 0 || pid == 0 || pid > INT32_MAX) {
        return -ESRCH;
    }
    AUTO(closep) int pidfd = pidfd_open_pid((pid_t)pid);
    if (pidfd < 0) {
        return -ESRCH;
    }
    /* The number may be another's by now. Looked at behind the pidfd, which then names the same. */
    (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    if (read_file(path, 64, &name) < 0 || name.data == NULL ||
        (!str_starts(name.data, "pasta") && !str_starts(name.data, "passt"))) {
        return -ESRCH;
    }
    return TAKE_FD(pidfd);
}

int network_rootless_detach(struct network_host *host, const char *workload_id, struct err *err)
{
    int run = network_host_run(host, err);
    if (run < 0) {
        return run;
    }
    AUTO(freep) char *file = str_printf("%s" PID_SUFFIX, workload_id);
    if (file == NULL) {
        return err_set(err, ENOMEM, "end pasta");
    }
    AUTO(closep) int pidfd = open_pasta(run, file, err);
    if (pidfd < 0 && pidfd != -ESRCH) {
        return pidfd;
    }
    if (pidfd >= 0) {
        int r = pidfd_signal(pidfd, SIGKILL);
        if (r < 0 && r != -ESRCH) {
            return err_set(err, -r, "end pasta of '%s'", workload_id);
        }
    }
    if (unlinkat(run, file, 0) < 0 && errno != ENOENT) {
        return err_set(err, errno, "remove '%s/%s'", host->run, file);
    }
    return 0;
}

int network_rootless_list(struct network_host *host, struct strv *ids, struct err *err)
{
    int run = network_host_run(host, err);
    if (run < 0) {
        return run;
    }
    int fd = openat(run, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int r = -errno;
        (void)close_fd(fd);
        return err_set(err, -r, "read '%s'", host->run);
    }
    struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);
        if (str_ends(entry->d_name, PID_SUFFIX) &&
            strv_addf(ids, "%.*s", (int)(len - strlen(PID_SUFFIX)), entry->d_name) < 0) {
            return err_set(err, ENOMEM, "list pasta processes");
        }
    }
    return 0;
}
