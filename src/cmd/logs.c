#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/log_reader.h"
#include "engine/shim_process.h"

/* Without inotify, or when the writer's file is not where we look. */
#define POLL_MS 500

struct logs_options {
    bool details;
    bool follow;
    bool timestamps;
    const char *since;
    const char *until;
    const char *tail;
};

#define AT(member) offsetof(struct logs_options, member)

static const struct option_spec options[] = {
    {"details", 0, OPTION_FLAG, AT(details), NULL, "Accepted; our logs have no extra details",
     NULL},
    {"follow", 'f', OPTION_FLAG, AT(follow), NULL, "Go on as the log grows", NULL},
    {"since", 0, OPTION_STRING, AT(since), "TIME", "From a time (2026-01-02T03:04:05Z, 10m)", NULL},
    {"tail", 'n', OPTION_STRING, AT(tail), "N", "Only the last lines (all)", NULL},
    {"timestamps", 't', OPTION_FLAG, AT(timestamps), NULL, "Show the time of each line", NULL},
    {"until", 0, OPTION_STRING, AT(until), "TIME", "Up to a time", NULL},
    {0},
};

struct follow {
    struct log_reader *reader;
    int64_t since_ns;
    int64_t until_ns;
    bool timestamps;
    bool middle[2]; /* the last line of the stream was a part: no time before the next */
};

static int print_lines(struct follow *f)
{
    struct log_line line;
    int r;
    while ((r = log_reader_next(f->reader, &line)) == 1) {
        if (line.time_ns < f->since_ns || line.time_ns > f->until_ns) {
            continue;
        }
        FILE *out = line.stream == LOG_STDOUT ? stdout : stderr;
        if (f->timestamps && !f->middle[line.stream]) {
            char time[TIME_TEXT_SIZE];
            format_time(line.time_ns, time);
            (void)fprintf(out, "%s ", time);
        }
        (void)fwrite(line.text, 1, line.len, out);
        if (line.full) {
            (void)fputc('\n', out);
        }
        f->middle[line.stream] = !line.full;
        if (out == stdout && ferror(stdout)) {
            return -EPIPE;
        }
    }
    (void)fflush(stdout);
    return r;
}

/*
 * True when the run has ended, which the closing of the shim's connection says: but a worker of the
 * shim that was killed is followed by another.
 */
static bool run_is_over(struct engine *engine, const struct workload *workload, int *shim_fd)
{
    struct shim_message message;
    ssize_t n = recv(*shim_fd, &message, sizeof(message), MSG_DONTWAIT);
    if (n == (ssize_t)sizeof(message)) {
        return message.type == SHIM_EXITED;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    (void)close_fd(*shim_fd);
    *shim_fd = shim_process_connect(engine, workload, 0, NULL);
    return *shim_fd < 0;
}

static int follow(struct follow *f, struct engine *engine, const struct workload *workload,
                  int *shim_fd)
{
    char drop[4096];
    bool ended = *shim_fd < 0;
    for (;;) {
        int r = print_lines(f);
        if (r < 0 || ended) {
            return r;
        }
        struct pollfd fds[2] = {
            {.fd = log_reader_watch(f->reader), .events = POLLIN},
            {.fd = *shim_fd, .events = POLLIN},
        };
        if (poll(fds, 2, POLL_MS) < 0 && errno != EINTR) {
            return -errno;
        }
        if (fds[0].revents != 0) {
            (void)!read(fds[0].fd, drop, sizeof(drop));
        }
        if (fds[1].revents != 0) {
            /* All output is written before its end. */
            ended = run_is_over(engine, workload, shim_fd);
        }
    }
}

static int read_times(const struct logs_options *o, struct follow *f, struct err *err)
{
    int64_t now = clock_realtime_ns();
    if (o->since != NULL && parse_time(o->since, now, &f->since_ns) < 0) {
        return err_say(err, EINVAL, "--since '%s' is not a time", o->since);
    }
    if (o->until != NULL && parse_time(o->until, now, &f->until_ns) < 0) {
        return err_say(err, EINVAL, "--until '%s' is not a time", o->until);
    }
    return 0;
}

static int run_logs(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    (void)argc;
    const struct logs_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(log_reader_closep) struct log_reader *reader = NULL;
    AUTO(closep) int shim_fd = -1;
    struct follow f = {.until_ns = INT64_MAX, .timestamps = o->timestamps};
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = read_times(o, &f, err);
    }
    if (r == 0) {
        r = workload_find(engine, argv[0], &workload, err);
    }
    if (r < 0) {
        return r;
    }
    if (str_eq(workload.config.log_driver, "none")) {
        return err_say(err, ENODATA, "workload '%s' keeps no log (--log-driver none)",
                       workload.name);
    }
    AUTO(freep) char *dir = workload_root_path(engine, workload.id, NULL);
    r = dir == NULL ? err_set(err, ENOMEM, "logs") : log_reader_open(dir, &reader, err);
    f.reader = reader;
    if (r == 0 && o->tail != NULL && !str_eq(o->tail, "all")) {
        uint64_t count;
        if (parse_u64(o->tail, 10, &count) < 0) {
            return err_say(err, EINVAL, "--tail '%s' is not a number nor 'all'", o->tail);
        }
        r = log_reader_tail(reader, count);
    }
    if (r == 0 && o->follow && workload.state == WORKLOAD_RUNNING) {
        shim_fd = shim_process_connect(engine, &workload, 0, NULL);
    }
    if (r == 0) {
        r = follow(&f, engine, &workload, &shim_fd);
    }
    if (r == -EPIPE) {
        return 0;
    }
    return r < 0 && err->code == 0 ? err_set(err, -r, "read the log of '%s'", workload.name) : r;
}

const struct command logs_commands[] = {
    {
        .name = "logs",
        .operands = "NAME",
        .summary = "Show what a workload has written",
        .options = options,
        .options_size = sizeof(struct logs_options),
        .operands_min = 1,
        .operands_max = 1,
        .run = run_logs,
    },
    {0},
};
