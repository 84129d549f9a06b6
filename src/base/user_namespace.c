#include "base/user_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "base/str.h"

#define SUBID_FILE_MAX ((size_t)1 << 20)
#define WHOLE_RANGE 4294967295u

bool user_is_host_root(void)
{
    AUTO(buf_donep) struct buf text = {0};
    unsigned inside;
    unsigned outside;
    unsigned count;
    return geteuid() == 0 && read_file("/proc/self/uid_map", 4096, &text) == 0 &&
           text.data != NULL && sscanf(text.data, "%u %u %u", &inside, &outside, &count) == 3 &&
           outside == 0 && count == WHOLE_RANGE;
}

int user_namespace_range(const char *text, const char *name, unsigned id, unsigned *ret_start,
                         unsigned *ret_count)
{
    AUTO(strv_donep) struct strv lines = {0};
    char id_text[16];
    (void)snprintf(id_text, sizeof(id_text), "%u", id);
    if (strv_split(&lines, text, "\n") < 0) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < lines.count; i++) {
        AUTO(strv_donep) struct strv parts = {0};
        uint64_t start;
        uint64_t count;
        if (strv_split(&parts, lines.items[i], ":") < 0) {
            return -ENOMEM;
        }
        if (parts.count == 3 && (str_eq(parts.items[0], name) || str_eq(parts.items[0], id_text)) &&
            parse_u64(parts.items[1], 10, &start) == 0 &&
            parse_u64(parts.items[2], 10, &count) == 0 && start > 0 && count > 0 &&
            start < WHOLE_RANGE && count < WHOLE_RANGE - start) {
            *ret_start = (unsigned)start;
            *ret_count = (unsigned)count;
            return 0;
        }
    }
    return -ENOENT;
}

/*
 * The name of the user in /etc/passwd, else (a directory service) what the environment says:
 * newuidmap itself looks again. NULL when there is none. Not by getpwuid(), which has no place in
 * a static program.
 */
static char *user_name(unsigned uid)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(strv_donep) struct strv lines = {0};
    if (read_file("/etc/passwd", SUBID_FILE_MAX, &text) == 0 && text.data != NULL &&
        strv_split(&lines, text.data, "\n") < 0) {
        return NULL;
    }
    for (size_t i = 0; i < lines.count; i++) {
        char *line = lines.items[i];
        char *password = strchr(line, ':');
        char *number = password != NULL ? strchr(password + 1, ':') : NULL;
        char *end = number != NULL ? strchr(number + 1, ':') : NULL;
        uint64_t found;
        if (end == NULL) {
            continue;
        }
        *password = *end = '\0';
        if (parse_u64(number + 1, 10, &found) == 0 && found == uid) {
            return strdup(line);
        }
    }
    const char *name = getenv("LOGNAME");
    name = name != NULL ? name : getenv("USER");
    return name != NULL ? strdup(name) : NULL;
}

int user_namespace_own_range(const char *file, unsigned *ret_start, unsigned *ret_count)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(freep) char *name = user_name(geteuid());
    if (read_file(file, SUBID_FILE_MAX, &text) < 0 || text.data == NULL) {
        return -ENOENT;
    }
    return user_namespace_range(text.data, name != NULL ? name : "", geteuid(), ret_start,
                                ret_count);
}

/* In the helper process: the setuid program that writes a map with more than one's own id. */
static int run_map_program(const char *program, pid_t pid, unsigned own, const char *file)
{
    char texts[5][16];
    unsigned start;
    unsigned count;
    if (user_namespace_own_range(file, &start, &count) < 0) {
        return -ENOENT;
    }
    const unsigned numbers[] = {(unsigned)pid, own, start, count};
    for (size_t i = 0; i < COUNT(numbers); i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "%u", numbers[i]);
    }
    char one[] = "1";
    char zero[] = "0";
    char *argv[] = {
        (char *)(uintptr_t)program, texts[0], zero, texts[1], one, one, texts[2], texts[3], NULL};
    return process_run(argv, NULL, NULL);
}

/* Without ranges (or programs) the kernel lets a user map himself only. */
int user_namespace_map_self(unsigned uid, unsigned gid)
{
    char text[48];
    (void)snprintf(text, sizeof(text), "0 %u 1", uid);
    int r = write_file("/proc/self/setgroups", "deny");
    r = r < 0 ? r : write_file("/proc/self/uid_map", text);
    (void)snprintf(text, sizeof(text), "0 %u 1", gid);
    return r < 0 ? r : write_file("/proc/self/gid_map", text);
}

int user_namespace_enter(struct err *err)
{
    unsigned uid = geteuid();
    unsigned gid = getegid();
    int go[2];
    if (uid == 0) {
        return 0;
    }
    if (pipe2(go, O_CLOEXEC) < 0) {
        return err_set(err, errno, "enter a user namespace");
    }
    pid_t self = getpid();
    /* The helper stays outside: newuidmap must run with the user's real identity. */
    pid_t helper = fork();
    if (helper == 0) {
        char byte;
        (void)close(go[1]);
        bool ready = read_full(go[0], &byte, 1) == 0;
        bool mapped = ready && run_map_program("newuidmap", self, uid, "/etc/subuid") == 0 &&
                      run_map_program("newgidmap", self, gid, "/etc/subgid") == 0;
        _exit(mapped ? 0 : 1);
    }
    (void)close(go[0]);
    int r = helper < 0 ? -errno : unshare(CLONE_NEWUSER) < 0 ? -errno : write_full(go[1], "x", 1);
    (void)close(go[1]);
    int status = 0;
    int waited = helper > 0 ? process_wait(helper, &status) : -ECHILD;
    if (r < 0) {
        (void)err_set(err, -r, "enter a user namespace");
        err_hint(err, "allow them for users, as root: sysctl user.max_user_namespaces=100000; on "
                      "Debian's kernels also kernel.unprivileged_userns_clone=1, on Ubuntu's "
                      "kernel.apparmor_restrict_unprivileged_userns=0");
        return r;
    }
    if (waited < 0 || exit_code_of(status) != 0) {
        r = user_namespace_map_self(uid, gid);
    }
    return r < 0 ? err_set(err, -r, "map the user ids") : 0;
}

bool user_owns_network(void)
{
    AUTO(closep) int net = geteuid() == 0 ? open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC) : -1;
    /* The kernel does not show the owner to those who live below it. */
    AUTO(closep) int owner = net >= 0 ? ioctl(net, NS_GET_USERNS) : -1;
    return owner >= 0;
}

unsigned user_namespace_last_id(const char *file)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(strv_donep) struct strv lines = {0};
    AUTO(freep) char *path = str_printf("/proc/self/%s", file);
    if (path == NULL || read_file(path, 65536, &text) < 0 || text.data == NULL ||
        strv_split(&lines, text.data, "\n") < 0) {
        return 0;
    }
    uint64_t next = 0;
    for (size_t i = 0; i < lines.count; i++) {
        unsigned inside;
        unsigned outside;
        unsigned count;
        if (sscanf(lines.items[i], "%u %u %u", &inside, &outside, &count) == 3 && inside == next) {
            next += count;
        }
    }
    return next > 0 ? (unsigned)(next - 1) : 0;
}
