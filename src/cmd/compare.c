#include "cmd/compare.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/format.h"
#include "container/cgroup.h"
#include "engine/kernel.h"
#include "image/image.h"
#include "image/store.h"
#include "wall/wall.h"

#define RUNS_DEFAULT 5
#define RUNS_MAX 1000
#define ROWS_MAX 8
#define BARE "bare"

struct compare_options {
    bool bare;
    const char *format;
    uint64_t memory;
    const char *network;
    int64_t runs;
    const char *svg;
};

#define AT(member) offsetof(struct compare_options, member)

static const struct option_spec options[] = {
    {"bare", 0, OPTION_FLAG, AT(bare), NULL, "Also on this host itself, behind no wall", NULL},
    {"format", 0, OPTION_STRING, AT(format), "TEMPLATE", "json, table ... or a Go template", NULL},
    {"memory", 'm', OPTION_SIZE, AT(memory), "SIZE", "Limit of memory behind each wall", NULL},
    {"network", 0, OPTION_STRING, AT(network), "NETWORK", "Network behind each wall (none)", NULL},
    {"runs", 0, OPTION_INT, AT(runs), "N", "Measure so many runs, after one more (5)", NULL},
    {"svg", 0, OPTION_STRING, AT(svg), "FILE", "Write a picture, too", NULL},
    {0},
};

static const struct format_header headers[] = {
    {"Memory", "PEAK MEMORY"},
    {"Overhead", "CPU OVERHEAD"},
    {"SystemCalls", "SYSTEM CALLS"},
    {"ExitCode", "EXIT"},
    {NULL, NULL},
};

static const char default_format[] =
    "table {{.Wall}}\t{{.Start}}\t{{.Total}}\t{{.Memory}}\t{{.CPU}}\t{{.Overhead}}\t"
    "{{.SystemCalls}}\t{{.Devices}}\t{{.ExitCode}}";

/* All that the runs of one call share. */
struct comparison {
    const struct compare_options *options;
    struct engine *engine;
    struct workload_config config; /* of what the walls have to run, for its surface */
    const char *image;
    char *const *command; /* words of the user, ended by NULL; none: the image's own */
    size_t layers;
    bool own_cgroups; /* may make them */
    int interrupt;
    struct compare_row rows[ROWS_MAX];
    size_t count;
};

void compare_format(enum compare_measure measure, int64_t value, char *out, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double number = (double)value;
    if (measure == COMPARE_MEMORY) {
        size_t unit = 0;
        while (number >= 1024.0 && unit + 1 < COUNT(units)) {
            number /= 1024.0;
            unit++;
        }
        (void)snprintf(out, size, "%.4g%s", number, units[unit]);
    } else if (number < 1e9) {
        (void)snprintf(out, size, "%.1f ms", number / 1e6);
    } else {
        (void)snprintf(out, size, "%.2f s", number / 1e9);
    }
}

static int by_value(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void summarize(int64_t *values, size_t count, struct compare_spread *ret)
{
    qsort(values, count, sizeof(*values), by_value);
    /* -1 is "there was none": one run without is enough. */
    if (count == 0 || values[0] < 0) {
        return;
    }
    int64_t middle = values[count / 2];
    if (count % 2 == 0) {
        middle = values[count / 2 - 1] + (middle - values[count / 2 - 1]) / 2;
    }
    *ret = (struct compare_spread){
        .set = true, .median = middle, .min = values[0], .max = values[count - 1]};
}

static int add_words(const struct comparison *all, const struct compare_row *row, const char *name,
                     const char *cgroup, struct strv *argv)
{
    const struct dirs *dirs = &all->engine->dirs;
    const char *words[] = {"isola", "--root",      dirs->root, "--run-dir", dirs->run,
                           "run",   "--rm",        "--pull",   "never",     "--name",
                           name,    "--isolation", row->wall,  "--network", all->options->network};
    int r = 0;
    for (size_t i = 0; r == 0 && i < COUNT(words); i++) {
        r = strv_add(argv, words[i]);
    }
    if (r == 0 && cgroup != NULL) {
        r = strv_addf(argv, "--cgroup-parent=%s", cgroup);
    }
    if (r == 0 && all->options->memory != 0) {
        r = strv_addf(argv, "--memory=%llu", (unsigned long long)all->options->memory);
    }
    return r < 0 ? r : strv_add(argv, all->image);
}

/* The command line of one run, ended by NULL as all of strv are not. */
static int make_argv(const struct comparison *all, const struct compare_row *row, const char *name,
                     const char *cgroup, struct strv *argv)
{
    int r = str_eq(row->wall, BARE) ? 0 : add_words(all, row, name, cgroup, argv);
    for (size_t i = 0; r == 0 && all->command[i] != NULL; i++) {
        r = strv_add(argv, all->command[i]);
    }
    return r;
}

/* One with its words in an array that exec() takes; the words stay the list's. */
static char **as_argv(const struct strv *list)
{
    char **argv = calloc(list->count + 1, sizeof(*argv));
    if (argv != NULL) {
        memcpy(argv, list->items, list->count * sizeof(*argv));
    }
    return argv;
}

static int run_in(const struct comparison *all, const struct compare_row *row, const char *name,
                  const struct cgroup *cgroup, struct compare_sample *ret, struct err *err)
{
    AUTO(strv_donep) struct strv words = {0};
    AUTO(strv_donep) struct strv undo_words = {0};
    const struct dirs *dirs = &all->engine->dirs;
    const char *undo[] = {"isola", "--root", dirs->root, "--run-dir", dirs->run,
                          "rm",    "-f",     "-v",       name};
    int r = make_argv(all, row, name, cgroup == NULL ? NULL : cgroup->path, &words);
    for (size_t i = 0; r == 0 && i < COUNT(undo); i++) {
        r = strv_add(&undo_words, undo[i]);
    }
    AUTO(freep) char **argv = as_argv(&words);
    AUTO(freep) char **undo_argv = as_argv(&undo_words);
    if (r < 0 || argv == NULL || undo_argv == NULL) {
        return err_set(err, ENOMEM, "run behind '%s'", row->wall);
    }
    const struct compare_command command = {
        .argv = argv,
        .bare = str_eq(row->wall, BARE),
        .cgroup = cgroup,
        .undo = str_eq(row->wall, BARE) ? NULL : undo_argv,
    };
    return compare_run(&command, all->interrupt, ret, err);
}

/* In a cgroup of its own, whose peak is that of all in it, and which goes with it. */
static int run_once(const struct comparison *all, const struct compare_row *row, int64_t number,
                    struct compare_sample *ret, struct err *err)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "/isola/compare-%d-%s-%lld", (int)getpid(), row->wall,
                   (long long)number);
    const char *name = path + strlen("/isola/");
    if (!all->own_cgroups) {
        return run_in(all, row, name, NULL, ret, err);
    }
    AUTO(cgroup_donep) struct cgroup cgroup = {0};
    int r = cgroup_init(&cgroup, path, err);
    r = r < 0 ? r : cgroup_create(&cgroup, false, err);
    if (r < 0) {
        return r;
    }
    r = run_in(all, row, name, &cgroup, ret, err);
    int removed = cgroup_remove(&cgroup, r < 0 ? NULL : err);
    return r < 0 ? r : removed;
}

/* A failure of Isola's is one of the wall; the command's own is a result. */
static bool did_run(const struct compare_sample *sample, struct err *reason)
{
    if (sample->exit_code != EXIT_ENGINE || !str_starts(sample->said, "isola: ")) {
        return true;
    }
    (void)err_say(reason, EOPNOTSUPP, "%s", sample->said + strlen("isola: "));
    return false;
}

static int measure(const struct comparison *all, struct compare_row *row, struct err *err)
{
    size_t runs = (size_t)all->options->runs;
    AUTO(freep) int64_t *values = calloc(runs * COMPARE_MEASURES, sizeof(*values));
    if (values == NULL) {
        return err_set(err, ENOMEM, "measure");
    }
    row->has_cgroup = true;
    /* The first fills caches and is not counted. */
    for (size_t i = 0; i <= runs; i++) {
        struct compare_sample sample = {0};
        int r = run_once(all, row, (int64_t)i, &sample, err);
        if (r < 0) {
            return r;
        }
        if (!did_run(&sample, &row->reason)) {
            return 0;
        }
        if (i == 0) {
            continue;
        }
        values[COMPARE_START * runs + i - 1] = sample.start_ns;
        values[COMPARE_TOTAL * runs + i - 1] = sample.total_ns;
        values[COMPARE_MEMORY * runs + i - 1] = sample.memory;
        values[COMPARE_CPU * runs + i - 1] = sample.cpu_ns;
        row->has_cgroup = row->has_cgroup && sample.has_cgroup;
        row->failed += sample.exit_code != 0;
        row->exit_code = row->exit_code != 0 ? row->exit_code : sample.exit_code;
    }
    row->ran = true;
    for (size_t m = 0; m < COMPARE_MEASURES; m++) {
        summarize(values + m * runs, runs, &row->measures[m]);
    }
    return 0;
}

static int measure_all(struct comparison *all, struct err *err)
{
    if (all->options->bare) {
        struct compare_row *row = &all->rows[all->count++];
        row->wall = BARE;
        int r = surface_of(NULL, &all->config, all->layers, &row->surface, err);
        r = r < 0 ? r : measure(all, row, err);
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; walls[i] != NULL && all->count < ROWS_MAX; i++) {
        const struct wall *wall = walls[i];
        struct compare_row *row = &all->rows[all->count++];
        row->wall = wall->name;
        int r = surface_of(wall, &all->config, all->layers, &row->surface, err);
        if (r < 0) {
            return r;
        }
        if (wall->check != NULL && wall->check(&row->reason) < 0) {
            continue;
        }
        if (str_eq(wall->name, "vm")) {
            AUTO(closep) int kernel = kernel_open(all->engine->dirs.root, NULL, &row->reason);
            if (kernel < 0) {
                continue;
            }
        }
        r = measure(all, row, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* What all others are compared with: the first that ran. */
static const struct compare_row *base_of(const struct comparison *all)
{
    for (size_t i = 0; i < all->count; i++) {
        if (all->rows[i].ran) {
            return &all->rows[i];
        }
    }
    return NULL;
}

/* {"Median": ..., "Min": ..., "Max": ...}, or null. */
static json_t *describe_spread(const struct compare_spread *spread)
{
    return !spread->set ? json_null()
                        : json_pack("{s:I, s:I, s:I}", "Median", (json_int_t)spread->median, "Min",
                                    (json_int_t)spread->min, "Max", (json_int_t)spread->max);
}

static json_t *describe(const struct comparison *all, const struct compare_row *row)
{
    static const char *const names[] = {"Start", "Total", "Memory", "CPU"};
    static const char *const raw[] = {"StartNs", "TotalNs", "MemoryBytes", "CPUNs"};
    const struct compare_row *base = base_of(all);
    char overhead[48] = "-";
    json_t *difference = json_null();
    json_t *json =
        json_pack("{s:s, s:b, s:s, s:i, s:I, s:I}", "Wall", row->wall, "Available", row->ran,
                  "Reason", row->ran ? "" : err_text(&row->reason), "ExitCode", row->exit_code,
                  "Runs", row->ran ? (json_int_t)all->options->runs : (json_int_t)0, "Failed",
                  (json_int_t)row->failed);
    if (row->ran && row != base && base != NULL) {
        int64_t ns = row->measures[COMPARE_CPU].median - base->measures[COMPARE_CPU].median;
        char text[32];
        compare_format(COMPARE_CPU, ns < 0 ? -ns : ns, text, sizeof(text));
        (void)snprintf(overhead, sizeof(overhead), "%s%s", ns < 0 ? "-" : "+", text);
        difference = json_integer(ns);
    }
    int r = json_object_set_new(json, "Overhead", json_string(overhead));
    r |= json_object_set_new(json, "OverheadNs", difference);
    for (size_t m = 0; m < COMPARE_MEASURES; m++) {
        char text[32] = "-";
        if (row->measures[m].set) {
            compare_format((enum compare_measure)m, row->measures[m].median, text, sizeof(text));
        }
        r |= json_object_set_new(json, names[m], json_string(text));
        r |= json_object_set_new(json, raw[m], describe_spread(&row->measures[m]));
    }
    const char *source = !row->ran ? "" : row->has_cgroup ? "cgroup" : "largest process";
    r |= json_object_set_new(json, "MemorySource", json_string(source));
    r |= json_object_set_new(json, "SystemCalls", json_integer((json_int_t)row->surface.calls));
    r |= json_object_set_new(json, "CPUThreadCalls",
                             json_integer((json_int_t)row->surface.cpu_calls));
    r |= json_object_set_new(json, "Devices", json_integer((json_int_t)row->surface.devices));
    r |= json_object_set_new(json, "Note", json_string(row->surface.note));
    if (r != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static void print_notes(const struct comparison *all)
{
    const struct compare_row *base = base_of(all);
    if (base == NULL) {
        return;
    }
    (void)printf("\nMedians of %lld runs. START: until the first byte of output.\n"
                 "PEAK MEMORY: of the %s.\n"
                 "CPU: of all processes that came of it, Isola's own too; overhead: against %s.\n",
                 (long long)all->options->runs,
                 base->has_cgroup ? "cgroup, files that it cached included" : "largest process",
                 base->wall);
    for (size_t i = 0; i < all->count; i++) {
        const struct compare_row *row = &all->rows[i];
        if (!row->ran) {
            continue;
        }
        (void)printf("%s: %zu system calls: %s", row->wall, row->surface.calls, row->surface.note);
        if (row->surface.cpu_calls != 0) {
            (void)printf(" (%zu from a CPU's thread)", row->surface.cpu_calls);
        }
        (void)printf("\n");
        if (row->failed > 0) {
            (void)printf("%s: %lld of %lld runs ended with an exit code that is not 0\n", row->wall,
                         (long long)row->failed, (long long)all->options->runs);
        }
    }
}

static int print(const struct comparison *all, struct err *err)
{
    const char *wanted = all->options->format;
    AUTO(format_freep) struct format *format = NULL;
    int r = format_new(wanted != NULL ? wanted : default_format, headers, &format, err);
    for (size_t i = 0; r == 0 && i < all->count; i++) {
        if (wanted == NULL && !all->rows[i].ran) {
            continue;
        }
        AUTO(json_unrefp) json_t *row = describe(all, &all->rows[i]);
        r = row == NULL ? err_set(err, ENOMEM, "compare") : format_add(format, row, err);
    }
    if (r == 0 && (wanted != NULL || base_of(all) != NULL)) {
        r = format_finish(format, stdout, err);
    }
    if (r < 0 || wanted != NULL) {
        return r;
    }
    print_notes(all);
    for (size_t i = 0; i < all->count; i++) {
        if (!all->rows[i].ran) {
            (void)printf("%s: not available here: %s\n", all->rows[i].wall,
                         err_text(&all->rows[i].reason));
        }
    }
    return 0;
}

/* The words with blanks between, for people. What is not UTF-8 would spoil the picture. */
static char *command_line(const struct comparison *all)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && all->command[i] != NULL; i++) {
        r = buf_printf(&text, "%s%s", i > 0 ? " " : "", all->command[i]);
    }
    if (r < 0) {
        return NULL;
    }
    AUTO(json_unrefp) json_t *valid = json_string(text.data == NULL ? "" : text.data);
    for (size_t i = 0; valid == NULL && i < text.len; i++) {
        text.data[i] = (unsigned char)text.data[i] >= 0x80 ? '?' : text.data[i];
    }
    return buf_take(&text);
}

static int write_picture(const struct comparison *all, struct err *err)
{
    const char *path = all->options->svg;
    AUTO(buf_donep) struct buf picture = {0};
    AUTO(freep) char *line = command_line(all);
    const struct compare_result result = {
        .image = all->image,
        .command = line,
        .runs = all->options->runs,
        .rows = all->rows,
        .count = all->count,
    };
    int r = line == NULL ? -ENOMEM : compare_svg(&result, &picture);
    AUTO(closep)
    int fd = r < 0 ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0644);
    r = r < 0 ? r : fd < 0 ? -errno : write_full(fd, picture.data, picture.len);
    return r < 0 ? err_set(err, -r, "write the picture to '%s'", path) : 0;
}

static int find_image(struct comparison *all, struct err *err)
{
    struct image_store *store;
    AUTO(image_donep) struct image image = {0};
    int r = command_ensure_image(all->engine, all->image, NULL, NULL, false, err);
    r = r < 0 ? r : engine_store(all->engine, &store, err);
    r = r < 0 ? r : image_resolve(store, all->image, NULL, &image, err);
    if (r == 0) {
        all->layers = image.layers.count;
    }
    return r;
}

/* Signals that would end us wait, so that a run can be undone; all that it starts becomes ours. */
static int prepare(struct comparison *all, struct err *err)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0 ||
        (all->interrupt = signalfd(-1, &signals, SFD_CLOEXEC)) < 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
        return err_set(err, errno, "prepare to measure");
    }
    return 0;
}

static int check_options(const struct compare_options *o, int argc, struct err *err)
{
    if (o->runs < 1 || o->runs > RUNS_MAX) {
        return err_say(err, EINVAL, "--runs %lld is not between 1 and %d", (long long)o->runs,
                       RUNS_MAX);
    }
    if (o->bare && argc < 2) {
        return err_say(err, EINVAL, "--bare needs a command: that of an image is not this host's");
    }
    /* Before minutes are spent. */
    AUTO(format_freep) struct format *format = NULL;
    return format_new(o->format != NULL ? o->format : default_format, headers, &format, err);
}

static int compare(struct comparison *all, struct err *err)
{
    config_init(&all->config);
    all->config.memory = all->options->memory;
    int r = strv_add(&all->config.network, all->options->network);
    r = r < 0 ? err_set(err, -r, "compare") : find_image(all, err);
    r = r < 0 ? r : prepare(all, err);
    r = r < 0 ? r : measure_all(all, err);
    r = r < 0 ? r : print(all, err);
    if (r == 0 && all->options->svg != NULL) {
        r = write_picture(all, err);
    }
    return r < 0 ? r : base_of(all) == NULL;
}

static int run_compare(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    const struct compare_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(freep) struct comparison *all = calloc(1, sizeof(*all));
    /* An ordinary user's cgroups are his manager's: each workload is a scope of its own. */
    bool root = geteuid() == 0;
    int skip = argc > 1 && str_eq(argv[1], "--") ? 2 : 1;
    int r = all == NULL ? err_set(err, ENOMEM, "compare") : check_options(o, argc - skip + 1, err);
    r = r < 0 ? r : command_engine(context, &engine, err);
    if (r < 0) {
        return r;
    }
    AUTO(strv_donep) struct strv command = {0};
    for (int i = skip; r == 0 && i < argc; i++) {
        r = strv_add(&command, argv[i]);
    }
    AUTO(freep) char **words = as_argv(&command);
    if (r < 0 || words == NULL) {
        return err_set(err, ENOMEM, "compare");
    }
    *all = (struct comparison){
        .options = o,
        .engine = engine,
        .image = argv[0],
        .command = words,
        .own_cgroups = root,
        .interrupt = -1,
    };
    r = compare(all, err);
    config_done(&all->config);
    all->interrupt = close_fd(all->interrupt);
    return r;
}

static void set_defaults(void *data)
{
    struct compare_options *o = data;
    o->runs = RUNS_DEFAULT;
    o->network = "none";
}

const struct command compare_commands[] = {
    {
        .name = "compare",
        .operands = "IMAGE [--] [COMMAND [ARG...]]",
        .summary = "Run a command behind every wall and compare what it costs",
        .options = options,
        .options_size = sizeof(struct compare_options),
        .operands_min = 1,
        .operands_max = -1,
        .stop_at_operand = true,
        .run = run_compare,
        .defaults = set_defaults,
    },
    {0},
};
