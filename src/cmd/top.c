#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "wall/wall.h"

#define PROC_FILE_MAX ((size_t)65536)

/* What /proc/PID/stat says, as proc(5) numbers it. */
struct process_row {
    uid_t uid;
    pid_t pid;
    pid_t ppid;
    int tty;
    unsigned long long ticks; /* user and system */
    unsigned long long start; /* ticks since boot */
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
               &ret->ppid, &ret->tty, &user, &system, &ret->start) != 5) {
        return -EBADMSG;
    }
    ret->ticks = user + system;
    return read_command(pid, open_paren + 1, (size_t)(close_paren - open_paren) - 1, &ret->command);
}

static void print_process(const struct process_row *row)
{
    long hz = sysconf(_SC_CLK_TCK);
    int64_t up_ns = 0;
    struct timespec boot;
    char started[16];
    char tty[16] = "?";
    if (clock_gettime(CLOCK_BOOTTIME, &boot) == 0) {
        up_ns = (int64_t)boot.tv_sec * NS_PER_SEC + boot.tv_nsec;
    }
    time_t start = (time_t)((clock_realtime_ns() - up_ns) / NS_PER_SEC) +
                   (time_t)(row->start / (unsigned long long)hz);
    struct tm tm;
    (void)strftime(started, sizeof(started), "%H:%M", localtime_r(&start, &tm));
    if (row->tty != 0) {
        (void)snprintf(tty, sizeof(tty), "pts/%d", row->tty & 0xff);
    }
    unsigned long long seconds = row->ticks / (unsigned long long)hz;
    (void)printf("%-19u %-19d %-19d %-19s %-19s %02llu:%02llu:%02llu            %s\n", row->uid,
                 (int)row->pid, (int)row->ppid, started, tty, seconds / 3600, seconds / 60 % 60,
                 seconds % 60, row->command);
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
    if (r == 0) {
        r = wall_find(workload.config.isolation, &wall, err);
    }
    if (r == 0) {
        r = wall->pids(engine->containers_dir, workload.id, &pids, &count, err);
    }
    if (r < 0) {
        return r;
    }
    (void)printf("%-19s %-19s %-19s %-19s %-19s %-19s %s\n", "UID", "PID", "PPID", "STIME", "TTY",
                 "TIME", "CMD");
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
