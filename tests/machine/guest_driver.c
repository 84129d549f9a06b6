/*
 * guest_driver - the host's part for tests/machine/guest.sh: runs beside the agent in the same
 * machine, speaks to it over Unix sockets in DIR, prints TAP.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "container/guest_protocol.h"

#define TIMEOUT_MS 60000

static const char script[] =
    "cat /etc/which; test ! -e /gone && echo hidden; test -e /opaque/old || echo opaque;"
    "echo change >/etc/new && cat /etc/new; stat -c '%u:%g %a' /owned;"
    "grep -c ' / overlay ' /proc/mounts; echo $$; cat /proc/sys/kernel/hostname;"
    "cat /sys/fs/cgroup/memory.max; dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null;"
    "echo killed $?; exit 7";

static const char expected[] =
    "top\nhidden\nopaque\nchange\n1000:2000 4755\n1\n1\nmachine\n33554432\n"
    "killed 137\n";

static void claim(int number, bool holds, const char *what)
{
    (void)printf("%sok %d - %s\n", holds ? "" : "not ", number, what);
    (void)fflush(stdout);
}

static int connect_control(const char *dir)
{
    AUTO(freep) char *path = str_printf("%s/%d", dir, GUEST_PORT_CONTROL);
    int fd = -ENOENT;
    for (int i = 0; i < 300 && fd < 0; i++) {
        fd = unix_connect(path, SOCK_STREAM);
        if (fd < 0) {
            (void)usleep(100000);
        }
    }
    return fd;
}

static json_t *ask(int fd, json_t *request)
{
    struct err err = ERR_NONE;
    json_t *answer = NULL;
    if (guest_send(fd, request, &err) < 0 || guest_receive(fd, TIMEOUT_MS, &answer, &err) < 0) {
        (void)printf("# %s\n", err_text(&err));
    }
    json_decref(request);
    return answer;
}

static bool answers(json_t *answer, const char *want)
{
    struct err err = ERR_NONE;
    bool ok = answer != NULL && guest_answer_check(answer, want, NULL, &err) == 0;
    if (!ok) {
        (void)printf("# %s\n", err_text(&err));
    }
    json_decref(answer);
    return ok;
}

static json_t *configuration(void)
{
    json_t *oci = json_pack(
        "{s:s, s:{s:s,s:[s,s,s],s:[s],s:{s:i,s:i}}, "
        "s:[{s:s,s:s,s:s},{s:s,s:s,s:s},{s:s,s:s,s:s},{s:s,s:s,s:s}], "
        "s:{s:s, s:{s:{s:I}}, s:[{s:s},{s:s},{s:s},{s:s},{s:s}]}}",
        "ociVersion", "1.2.0", "process", "cwd", "/", "args", "/bin/sh", "-c", script, "env",
        "PATH=/bin", "user", "uid", 0, "gid", 0, "mounts", "destination", "/proc", "type", "proc",
        "source", "proc", "destination", "/dev", "type", "tmpfs", "source", "tmpfs", "destination",
        "/sys", "type", "sysfs", "source", "sysfs", "destination", "/sys/fs/cgroup", "type",
        "cgroup", "source", "cgroup", "linux", "cgroupsPath", "/web", "resources", "memory",
        "limit", (json_int_t)33554432, "namespaces", "type", "mount", "type", "pid", "type", "ipc",
        "type", "cgroup", "type", "network");
    return json_pack("{s:s,s:s,s:s,s:o,s:{s:[{s:s},{s:s}],s:{s:s}}}", "type", "configure", "id",
                     "web", "hostname", "machine", "config", oci, "root", "layers", "serial", "top",
                     "serial", "low", "scratch", "serial", "scratch");
}

static bool output_is_right(int listener)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(closep) int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || read_fd(fd, 65536, &text) < 0) {
        return false;
    }
    bool right = str_eq(text.data, expected);
    if (!right) {
        for (char *p = text.data; p != NULL && *p != '\0'; p++) {
            *p = (char)(*p == '\n' ? '|' : *p);
        }
        (void)printf("# got %s\n", text.data != NULL ? text.data : "nothing");
    }
    return right;
}

int main(int argc, char **argv)
{
    int listeners[4] = {-1, -1, -1, -1};
    /* By the directory itself: the agent moves the mount that it is on. */
    if (argc < 2 || chdir(argv[1]) < 0) {
        return 2;
    }
    for (int i = 1; i < 4; i++) {
        AUTO(freep) char *path = str_printf("./%d", i);
        listeners[i] = unix_listen(path, SOCK_STREAM, 0600);
    }
    int fd = connect_control(".");
    (void)printf("\n1..7\n");
    claim(1, fd >= 0, "the agent serves requests");
    claim(2, answers(ask(fd, configuration()), "ok"), "disks are found by serial and mounted");
    claim(3, answers(ask(fd, json_pack("{s:s}", "type", "start")), "started"),
          "the workload starts");
    claim(4, output_is_right(listeners[2]), "it sees the overlay, its limit and its machine");
    struct err err = ERR_NONE;
    json_t *message = NULL;
    struct guest_exit how = {0};
    int error = accept4(listeners[3], NULL, NULL, SOCK_CLOEXEC);
    error = close_fd(error);
    int r = guest_receive(fd, TIMEOUT_MS, &message, &err);
    r = r < 0 ? r : guest_exit_read(message, &how, &err);
    claim(5, r == 0 && how.code == 7, r < 0 ? err_text(&err) : "its exit code arrives");
    claim(6, how.oom_kills > 0, "so does what was killed for want of memory");
    json_decref(message);
    /* Read by the test after us: the agent switches the machine off when this connection closes. */
    (void)sleep(1);
    return 0;
}
