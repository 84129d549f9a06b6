/* What `top` shows of processes: read inside the machine, where their /proc is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "guest/agent.h"

#define PROC_FILE_MAX ((size_t)65536)
/* An answer is one message: so much of each command line. */
#define COMMAND_MAX ((size_t)512)
#define PROCESSES_MAX ((size_t)1000)

/* Places in /proc/PID/stat behind the name, as proc(5) numbers them, less three. */
enum { STAT_PPID = 1, STAT_TTY = 4, STAT_UTIME = 11, STAT_STIME = 12, STAT_START = 19, STAT_COUNT };

static bool read_fields(const char *text, uint64_t fields[STAT_COUNT])
{
    const char *p = strrchr(text, ')');
    if (p == NULL || p[1] != ' ') {
        return false;
    }
    p += 2;
    for (size_t i = 0; i < STAT_COUNT; i++) {
        fields[i] = strtoull(p, NULL, 10);
        p = strchr(p, ' ');
        if (p == NULL) {
            return false;
        }
        p++;
    }
    return true;
}

static json_t *command_of(pid_t pid, const char *stat)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(freep) char *path = str_printf("/proc/%d/cmdline", (int)pid);
    const char *open_paren = strchr(stat, '(');
    const char *close_paren = strrchr(stat, ')');
    if (path == NULL || read_file(path, PROC_FILE_MAX, &text) < 0 || text.len == 0) {
        buf_clear(&text);
        if (buf_printf(&text, "[%.*s]", (int)(close_paren - open_paren) - 1, open_paren + 1) < 0) {
            return NULL;
        }
    }
    size_t len = MIN(text.len, COMMAND_MAX);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '\0' && i + 1 == text.len) {
            len = i;
        } else if (c < ' ') {
            text.data[i] = ' '; /* the NULs between words, and whatever would move the cursor */
        } else if (c >= 0x7F) {
            text.data[i] = '?'; /* it may be no UTF-8, or cut in the middle */
        }
    }
    return json_stringn(text.data, len);
}

static json_t *describe(pid_t pid)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(freep) char *dir = str_printf("/proc/%d", (int)pid);
    AUTO(freep) char *path = str_printf("/proc/%d/stat", (int)pid);
    uint64_t fields[STAT_COUNT];
    struct stat st;
    if (dir == NULL || path == NULL || stat(dir, &st) < 0 ||
        read_file(path, PROC_FILE_MAX, &text) < 0 || strchr(text.data, '(') == NULL ||
        !read_fields(text.data, fields)) {
        return NULL; /* it has just ended */
    }
    uint64_t tick_ns = (uint64_t)NS_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);
    struct timespec boot = {0};
    (void)clock_gettime(CLOCK_BOOTTIME, &boot);
    int64_t booted_ns = clock_realtime_ns() - boot.tv_sec * NS_PER_SEC - boot.tv_nsec;
    return json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:o}", "pid", (int)pid, "ppid",
                     (json_int_t)fields[STAT_PPID], "uid", (json_int_t)st.st_uid, "tty",
                     (json_int_t)fields[STAT_TTY], "cpu_ns",
                     (json_int_t)((fields[STAT_UTIME] + fields[STAT_STIME]) * tick_ns),
                     "started_ns",
                     (json_int_t)(booted_ns + (int64_t)(fields[STAT_START] * tick_ns)), "command",
                     command_of(pid, text.data));
}

json_t *processes_describe(const pid_t *pids, size_t count)
{
    AUTO(json_unrefp) json_t *list = json_array();
    for (size_t i = 0; i < count && i < PROCESSES_MAX; i++) {
        json_t *process = describe(pids[i]);
        if (process != NULL && json_array_append_new(list, process) < 0) {
            return NULL;
        }
    }
    return TAKE_PTR(list);
}
