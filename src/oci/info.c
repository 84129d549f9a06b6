/* isola-oci state, list, ps, features, spec */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "container/container.h"
#include "oci/program.h"

#define PS_SIZE_MAX ((size_t)16 << 20)

static int print_json(json_t *json, size_t flags, struct err *err)
{
    AUTO(json_unrefp) json_t *owned = json;
    if (owned == NULL || json_dumpf(owned, stdout, flags) < 0 || printf("\n") < 0) {
        return err_set(err, ENOMEM, "print the answer");
    }
    return fflush(stdout) == EOF ? err_set(err, errno, "print the answer") : 0;
}

static int state_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                     struct err *err)
{
    (void)data;
    (void)argc;
    AUTO(container_state_donep) struct container_state state = {0};
    int r = container_state(globals->root, argv[0], &state, err);
    return r < 0 ? r : print_json(container_state_json(&state), JSON_INDENT(2), err);
}

struct list_options {
    const char *format;
    bool quiet;
};

static const struct option_spec list_options[] = {
    {"format", 'f', OPTION_STRING, offsetof(struct list_options, format), "FORMAT", "table or json",
     NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct list_options, quiet), NULL, "ids only", NULL},
    {0},
};

static int check_format(const char *format, struct err *err)
{
    return format == NULL || str_eq(format, "table") || str_eq(format, "json")
               ? 0
               : err_say(err, EINVAL, "--format: '%s' is not table or json", format);
}

static int list_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                    struct err *err)
{
    (void)argc;
    (void)argv;
    const struct list_options *options = data;
    AUTO(strv_donep) struct strv ids = {0};
    AUTO(json_unrefp) json_t *all = json_array();
    bool json = str_eq(options->format, "json");
    int r = check_format(options->format, err);
    r = r < 0 ? r : container_list(globals->root, &ids, err);
    if (r < 0) {
        return r;
    }
    if (!json && !options->quiet) {
        (void)printf("%-20s %-10s %-10s %-32s %-30s %s\n", "ID", "PID", "STATUS", "BUNDLE",
                     "CREATED", "OWNER");
    }
    for (size_t i = 0; i < ids.count; i++) {
        AUTO(container_state_donep) struct container_state state = {0};
        if (container_state(globals->root, ids.items[i], &state, NULL) < 0) {
            continue; /* gone meanwhile */
        }
        char created[TIME_TEXT_SIZE];
        format_time(state.created_ns, created);
        if (options->quiet) {
            (void)printf("%s\n", state.id);
        } else if (json) {
            (void)json_array_append_new(all, container_state_json(&state));
        } else {
            (void)printf("%-20s %-10d %-10s %-32s %-30s %s\n", state.id, (int)state.pid,
                         container_status_name(state.status), state.bundle, created, state.owner);
        }
    }
    return json && !options->quiet ? print_json(json_incref(all), JSON_COMPACT, err) : 0;
}

struct ps_options {
    const char *format;
};

static const struct option_spec ps_options[] = {
    {"format", 'f', OPTION_STRING, offsetof(struct ps_options, format), "FORMAT", "table or json",
     NULL},
    {0},
};

static bool has_pid(const pid_t *pids, size_t count, long pid)
{
    for (size_t i = 0; i < count; i++) {
        if (pids[i] == pid) {
            return true;
        }
    }
    return false;
}

/* The lines of ps(1) for these processes; its own options choose the columns. */
static int print_ps(const pid_t *pids, size_t count, int argc, char **argv, struct err *err)
{
    AUTO(buf_donep) struct buf command = {0};
    AUTO(buf_donep) struct buf text = {0};
    int r = buf_add_str(&command, "ps");
    for (int i = 1; r == 0 && i < argc; i++) {
        if (argv[i][strspn(argv[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "0123456789-,=%_:.+")] != '\0') {
            return err_say(err, EINVAL, "ps: '%s' is not an option of ps(1)", argv[i]);
        }
        r = buf_printf(&command, " %s", argv[i]);
    }
    r = r == 0 && argc < 2 ? buf_add_str(&command, " -ef") : r;
    FILE *pipe = r < 0 ? NULL : popen(command.data, "re");
    if (pipe == NULL) {
        return err_set(err, r < 0 ? -r : errno, "run ps");
    }
    r = read_fd(fileno(pipe), PS_SIZE_MAX, &text);
    if (pclose(pipe) != 0 || r < 0 || text.len == 0) {
        return err_say(err, EIO, "run '%s': it failed; is ps installed?", command.data);
    }
    char *rest = NULL;
    char *line = strtok_r(text.data, "\n", &rest);
    const char *column = line != NULL ? strstr(line, "PID") : NULL;
    if (column == NULL) {
        return err_say(err, EINVAL, "ps: these options print no PID column");
    }
    size_t field = 0;
    for (const char *p = line + strspn(line, " "); p < column; field++) {
        p += strcspn(p, " ");
        p += strspn(p, " ");
    }
    (void)printf("%s\n", line);
    while ((line = strtok_r(NULL, "\n", &rest)) != NULL) {
        const char *p = line + strspn(line, " ");
        for (size_t i = 0; i < field; i++) {
            p += strcspn(p, " ");
            p += strspn(p, " ");
        }
        if (has_pid(pids, count, strtol(p, NULL, 10))) {
            (void)printf("%s\n", line);
        }
    }
    return 0;
}

static int ps_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                  struct err *err)
{
    const struct ps_options *options = data;
    AUTO(freep) pid_t *pids = NULL;
    size_t count = 0;
    int r = check_format(options->format, err);
    r = r < 0 ? r : container_pids(globals->root, argv[0], &pids, &count, err);
    if (r < 0) {
        return r;
    }
    if (!str_eq(options->format, "json")) {
        return print_ps(pids, count, argc, argv, err);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(list, json_integer(pids[i]));
    }
    return print_json(list, JSON_COMPACT, err);
}

static int features_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                        struct err *err)
{
    (void)globals;
    (void)data;
    (void)argc;
    (void)argv;
    return print_json(container_features(), JSON_INDENT(2), err);
}

struct spec_options {
    const char *bundle;
    bool rootless;
};

static const struct option_spec spec_options[] = {
    {"bundle", 'b', OPTION_STRING, offsetof(struct spec_options, bundle), "DIR",
     "where to write config.json (default: here)", NULL},
    {"rootless", 0, OPTION_FLAG, offsetof(struct spec_options, rootless), NULL,
     "for a container of an ordinary user", NULL},
    {0},
};

static int spec_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                    struct err *err)
{
    (void)globals;
    (void)argc;
    (void)argv;
    const struct spec_options *options = data;
    const char *bundle = options->bundle != NULL ? options->bundle : ".";
    AUTO(json_unrefp) json_t *json = spec_default(options->rootless);
    AUTO(freep) char *text = json == NULL ? NULL : json_dumps(json, JSON_INDENT(4));
    AUTO(closep) int dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return err_set(err, errno, "open bundle '%s'", bundle);
    }
    AUTO(closep)
    int fd = openat(dir, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        return err_set(err, errno, "make '%s/config.json'", bundle);
    }
    int r = text == NULL ? -ENOMEM : write_full(fd, text, strlen(text));
    r = r < 0 ? r : write_full(fd, "\n", 1);
    return r < 0 ? err_set(err, -r, "write '%s/config.json'", bundle) : 0;
}

const struct oci_command oci_info_commands[] = {
    {"state", "ID", "print the state of a container", NULL, 0, 1, 1, false, false, state_run},
    {"list", "", "list the containers", list_options, sizeof(struct list_options), 0, 0, false,
     false, list_run},
    {"ps", "ID [PS-OPTION...]", "list the processes of a container", ps_options,
     sizeof(struct ps_options), 1, -1, true, false, ps_run},
    {"features", "", "print what this runtime can do", NULL, 0, 0, 0, false, false, features_run},
    {"spec", "", "write a config.json to start from", spec_options, sizeof(struct spec_options), 0,
     0, false, false, spec_run},
    {0},
};
