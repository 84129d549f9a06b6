#include "engine/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/macros.h"
#include "base/process.h"

#define STATUS_MAX ((size_t)4096)

/* One table for both directions; all values are whole numbers. */
#define STATUS_FIELDS(F)                                                                           \
    F(shim_pid)                                                                                    \
    F(shim_start)                                                                                  \
    F(worker_pid)                                                                                  \
    F(worker_start)                                                                                \
    F(pid)                                                                                         \
    F(pid_start)                                                                                   \
    F(started_ns)                                                                                  \
    F(finished_ns)                                                                                 \
    F(exit_code)                                                                                   \
    F(lost_output)                                                                                 \
    F(health)                                                                                      \
    F(health_failures)                                                                             \
    F(health_checked_ns)                                                                           \
    F(health_exit_code)                                                                            \
    F(reason)                                                                                      \
    F(oom_killed)

/*
 * Over the old one, whose page is there: on a full file system an exit status that a crash may tear
 * is better than none.
 */
static int overwrite(int dir_fd, const char *text, size_t len)
{
    AUTO(closep) int fd = openat(dir_fd, STATUS_FILE, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? -errno : write_full(fd, text, len);
    return r == 0 && ftruncate(fd, (off_t)len) < 0 ? -errno : r;
}

int status_write(int dir_fd, const struct workload_status *status)
{
    /* By hand: the shim stays small without a JSON library's heap. */
    char text[STATUS_MAX];
    size_t len = 0;
    text[len++] = '{';
#define PUT(field)                                                                                 \
    len += (size_t)snprintf(text + len, sizeof(text) - len, "%s\"%s\":%" PRId64,                   \
                            len > 1 ? "," : "", #field, (int64_t)status->field);
    STATUS_FIELDS(PUT)
#undef PUT
    len += (size_t)snprintf(text + len, sizeof(text) - len, "}\n");
    int r = replace_file_at(dir_fd, STATUS_FILE, text, len, 0600, false);
    if (r == -ENOSPC || r == -EDQUOT) {
        int again = overwrite(dir_fd, text, len);
        return again == -ENOENT ? r : again; /* the first one */
    }
    return r;
}

/* The number behind "name": in our own one-line file. */
static int64_t find_number(const char *text, const char *name)
{
    char key[64];
    int64_t value = 0;
    (void)snprintf(key, sizeof(key), "\"%s\":", name);
    const char *at = strstr(text, key);
    if (at == NULL || sscanf(at + strlen(key), "%" SCNd64, &value) != 1) {
        return 0;
    }
    return value;
}

int status_read(int dir_fd, struct workload_status *ret)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = read_file_at(dir_fd, STATUS_FILE, STATUS_MAX, &text);
    if (r < 0) {
        return r;
    }
    if (text.len == 0 || text.data[0] != '{') {
        return -EBADMSG;
    }
    struct workload_status status = {0};
#define GET(field) status.field = (__typeof__(status.field))find_number(text.data, #field);
    STATUS_FIELDS(GET)
#undef GET
    *ret = status;
    return 0;
}

bool status_shim_alive(const struct workload_status *status)
{
    return process_is_alive(status->shim_pid, status->shim_start) ||
           process_is_alive(status->worker_pid, status->worker_start);
}

const char *status_reason_text(enum status_reason reason)
{
    static const char *const texts[] = {
        [STATUS_REASON_NONE] = NULL,
        [STATUS_REASON_WAITER_KILLED] = "its isola-shim was killed",
        [STATUS_REASON_WORKERS_DIE] = "its isola-shim died again and again",
        [STATUS_REASON_MACHINE_KILLED] = "its isola-vmm, the virtual machine, was killed",
        [STATUS_REASON_MACHINE_SHUTDOWN] =
            "its virtual machine met a triple fault; its log says where",
        [STATUS_REASON_MACHINE_PANIC] =
            "the kernel of its virtual machine panicked; its log says why",
        [STATUS_REASON_MACHINE_UNEMULATED] =
            "KVM could not go on with its virtual machine; its log says why",
        [STATUS_REASON_MACHINE_SHARE_LOST] =
            "isola-fs, which gives its virtual machine a volume, ended",
    };
    return (size_t)reason < COUNT(texts) ? texts[reason] : texts[STATUS_REASON_WAITER_KILLED];
}

const char *health_name(enum health health)
{
    static const char *const names[] = {"none", "starting", "healthy", "unhealthy"};
    return (size_t)health < COUNT(names) ? names[health] : "none";
}
