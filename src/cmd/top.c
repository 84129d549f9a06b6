#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "container/guest_protocol.h"
#include "engine/vm_start.h"
#include "wall/vm.h"

#define PROC_FILE_MAX ((size_t)65536)

/* What /proc/PID/stat says, as proc(5) numbers it. */
struct process_row {
    uid_t uid;
    pid_t pid;
    pid_t ppid;
    int tty;
    int64_t cpu_ns;     /* user and system */
    int64_t started_ns; /* since 1970 */
    char *command;
};

static int read_command(pid_t pid, const char *name, size_t name_len, char **ret)
{
    AUTO(freep) char *path = str_printf("/proc/%d/cmdline", (int)pid);
    AUTO(buf_donep) struct buf text = {0};
    int r = path == NULL ? -ENOMEM : read_file(path, PROC_FILE_MAX, &text);
    if (r == -ENOMEM) {
        return r;
    }
    for (size_t i = 0; i + 1 < text.len; i++) {
        if ((unsigned char)text.data[i] < ' ') {
            text.data[i] = ' '; /* the NULs between words, and whatever would move the cursor */
        }
    }
    *ret = text.len > 0 ? strdup(text.data) : str_printf("[%.*s]", (int)name_len, name);
    return *ret == NULL ? -ENOMEM : 0;
}

static int read_process(pid_t pid, struct process_row *ret)
{
    AUTO(freep) char *dir = str_printf("/proc/%d", (int)pid);
    AUTO(freep) char *path = str_printf("/proc/%d/stat", (int)pid);
    AUTO(buf_donep) struct buf text = {0};
    struct stat st;
    unsigned long long user;
    unsigned long long system;
    unsigned long long start;
    if (dir == NULL || path == NULL) {
        return -ENOMEM;
    }
    int r = stat(dir, &st) < 0 ? -errno : read_file(path, PROC_FILE_MAX, &text);
    if (r < 0) {
        return r;
    }
    const char *open_paren = strchr(text.data, '(');
    const char *close_paren = strrchr(text.data, ')');
    *ret = (struct process_row){.uid = st.st_uid, .pid = pid};
    if (open_paren == NULL || close_paren == NULL ||
        sscanf(close_paren + 1,
               " %*c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu",
               &ret->ppid, &ret->tty, &user, &system, &start) != 5) {
        return -EBADMSG;
    }
    const int64_t tick_ns = NS_PER_SEC / sysconf(_SC_CLK_TCK);
    struct timespec boot = {0};
    (void)clock_gettime(CLOCK_BOOTTIME, &boot);
    ret->cpu_ns = (int64_t)(user + system) * tick_ns;
    ret->started_ns =
        clock_realtime_ns() - boot.tv_sec * NS_PER_SEC - boot.tv_nsec + (int64_t)start * tick_ns;
    return read_command(pid, open_paren + 1, (size_t)(close_paren - open_paren) - 1, &ret->command);
}

static void print_head(void)
{
    (void)printf("%-19s %-19s %-19s %-19s %-19s %-19s %s\n", "UID", "PID", "PPID", "STIME", "TTY",
                 "TIME", "CMD");
}

static void print_process(const struct process_row *row)
{
    char started[16];
    char tty[16] = "?";
    struct tm tm;
    time_t start = (time_t)(row->started_ns / NS_PER_SEC);
    (void)strftime(started, sizeof(started), "%H:%M", localtime_r(&start, &tm));
    if (row->tty != 0) {
        (void)snprintf(tty, sizeof(tty), "pts/%d", row->tty & 0xff);
    }
    unsigned long long seconds = (unsigned long long)(row->cpu_ns / NS_PER_SEC);
    (void)printf("%-19u %-19d %-19d %-19s %-19s %02llu:%02llu:%02llu            %s\n", row->uid,
                 (int)row->pid, (int)row->ppid, started, tty, seconds / 3600, seconds / 60 % 60,
                 seconds % 60, row->command);
}

/* The guest says what it likes; what it says is bounded and one line. */
static int print_guest_process(const json_t *item, size_t index, struct err *err)
{
    const struct json_path list = {.key = "processes"};
    const struct json_path at = {.parent = &list, .index = index};
    struct process_row row = {0};
    const char *command = NULL;
    int64_t uid = 0;
    int64_t pid = 0;
    int64_t ppid = 0;
    int64_t tty = 0;
    int r = json_get_int(item, &at, "uid", 0, UINT32_MAX, &uid, err);
    r = r < 0 ? r : json_get_int(item, &at, "pid", 0, INT32_MAX, &pid, err);
    r = r < 0 ? r : json_get_int(item, &at, "ppid", 0, INT32_MAX, &ppid, err);
    r = r < 0 ? r : json_get_int(item, &at, "tty", 0, INT32_MAX, &tty, err);
    r = r < 0 ? r : json_get_int(item, &at, "cpu_ns", 0, INT64_MAX, &row.cpu_ns, err);
    r = r < 0 ? r : json_get_int(item, &at, "started_ns", 0, INT64_MAX, &row.started_ns, err);
    r = r < 0 ? r : json_get_string(item, &at, "command", &command, err);
    if (r < 0) {
        return r;
    }
    char line[1024];
    guest_text_copy(command != NULL ? command : "?", line, sizeof(line));
    row.uid = (uid_t)uid;
    row.pid = (pid_t)pid;
    row.ppid = (pid_t)ppid;
    row.tty = (int)tty;
    row.command = line;
    print_process(&row);
    return 0;
}

static int top_machine(const struct engine *engine, const struct workload *workload,
                       struct err *err)
{
    AUTO(json_unrefp) json_t *list = NULL;
    if (workload->state == WORKLOAD_PAUSED) {
        return err_say(err, EBUSY,
                       "workload '%s' is paused, and its machine with it; unpause it first",
                       workload->name);
    }
    int r = vm_processes(engine->containers_dir, workload->id, &list, err);
    if (r < 0) {
        return r;
    }
    print_head();
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
        r = print_guest_process(json_array_get(list, i), i, err);
    }
    return r;
}

static int run_top(struct command_context *context, void *data, int argc, char **argv,
                   struct err *err)
{
    (void)data;
    (void)argc;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(freep) pid_t *pids = NULL;
    size_t count = 0;
    const struct wall *wall;
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = workload_find(engine, argv[0], &workload, err);
    }
    if (r == 0 && workload.state != WORKLOAD_RUNNING && workload.state != WORKLOAD_PAUSED) {
        r = err_say(err, ESRCH, "workload '%s' does not run", workload.name);
    }
    if (r == 0 && vm_start_wanted(&workload)) {
        return top_machine(engine, &workload, err);
    }
    if (r == 0) {
        r = wall_find(workload.config.isolation, &wall, err);
    }
    if (r == 0) {
        r = wall->pids(engine->containers_dir, workload.id, &pids, &count, err);
    }
    if (r < 0) {
        return r;
    }
    print_head();
    for (size_t i = 0; i < count; i++) {
        struct process_row row = {0};
        if (read_process(pids[i], &row) == 0) {
            print_process(&row);
        }
        free(row.command);
    }
    return 0;
}

const struct command top_commands[] = {
    {
        .name = "top",
        .operands = "NAME",
        .summary = "Show the processes of a workload",
        .operands_min = 1,
        .operands_max = 1,
        .run = run_top,
    },
    {0},
};
