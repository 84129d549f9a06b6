/* isola-oci exec */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "container/container.h"
#include "container/names.h"
#include "oci/program.h"

#define PROCESS_SIZE_MAX ((size_t)1 << 20)

struct exec_options {
    const char *console_socket;
    const char *pid_file;
    const char *process;
    const char *cwd;
    const char *user;
    const char *apparmor;
    const char *label;
    const char *cgroup;
    struct strv env;
    struct strv caps;
    struct strv groups;
    int64_t preserve_fds;
    bool tty;
    bool detach;
    bool no_new_privs;
    bool ignore_paused;
    bool no_subreaper;
};

#define OPT(member) offsetof(struct exec_options, member)

static const struct option_spec exec_options[] = {
    {"process", 'p', OPTION_STRING, OPT(process), "FILE", "process.json to run", NULL},
    {"tty", 't', OPTION_FLAG, OPT(tty), NULL, "give it a terminal", NULL},
    {"detach", 'd', OPTION_FLAG, OPT(detach), NULL, "return once it runs", NULL},
    {"env", 'e', OPTION_LIST, OPT(env), "NAME=VALUE", "add to the environment", NULL},
    {"cwd", 0, OPTION_STRING, OPT(cwd), "DIR", "working directory", NULL},
    {"user", 'u', OPTION_STRING, OPT(user), "UID[:GID]", "user and group", NULL},
    {"additional-gids", 'g', OPTION_LIST, OPT(groups), "GID", "further group", NULL},
    {"cap", 'c', OPTION_LIST, OPT(caps), "CAP", "further capability", NULL},
    {"no-new-privs", 0, OPTION_FLAG, OPT(no_new_privs), NULL, "forbid gaining privileges", NULL},
    {"apparmor", 0, OPTION_STRING, OPT(apparmor), "PROFILE", "AppArmor profile", NULL},
    {"process-label", 0, OPTION_STRING, OPT(label), "LABEL", "SELinux label", NULL},
    {"cgroup", 0, OPTION_STRING, OPT(cgroup), "PATH", "sub-cgroup of the container", NULL},
    {"console-socket", 0, OPTION_STRING, OPT(console_socket), "SOCKET",
     "Unix socket that gets the terminal", NULL},
    {"pid-file", 0, OPTION_STRING, OPT(pid_file), "FILE", "write the pid to FILE", NULL},
    {"preserve-fds", 0, OPTION_INT, OPT(preserve_fds), "N", "pass N descriptors from 3 on", NULL},
    {"ignore-paused", 0, OPTION_FLAG, OPT(ignore_paused), NULL, "also in a paused container", NULL},
    {"no-subreaper", 0, OPTION_FLAG, OPT(no_subreaper), NULL, NULL, NULL},
    {0},
};

static int set_user(struct spec_process *process, const char *user, struct err *err)
{
    AUTO(freep) char *copy = strdup(user);
    char *group = copy != NULL ? strchr(copy, ':') : NULL;
    uint64_t uid;
    uint64_t gid = process->gid;
    if (group != NULL) {
        *group++ = '\0';
    }
    if (copy == NULL || parse_u64(copy, 10, &uid) < 0 || uid > UINT32_MAX ||
        (group != NULL && (parse_u64(group, 10, &gid) < 0 || gid > UINT32_MAX))) {
        return err_say(err, EINVAL, "--user: '%s' is not UID or UID:GID", user);
    }
    process->uid = (uid_t)uid;
    process->gid = (gid_t)gid;
    return 0;
}

static int add_capabilities(struct spec_process *process, const struct strv *names, struct err *err)
{
    for (size_t i = 0; i < names->count; i++) {
        uint64_t bit;
        if (name_lookup(capability_names, names->items[i], &bit) < 0) {
            return err_say(err, EINVAL, "--cap: '%s' is not a capability", names->items[i]);
        }
        uint64_t mask = (uint64_t)1 << bit;
        process->capabilities.set = true;
        process->capabilities.bounding |= mask;
        process->capabilities.effective |= mask;
        process->capabilities.permitted |= mask;
    }
    return 0;
}

static int add_environment(struct spec *spec, const struct strv *env, struct err *err)
{
    struct spec_strings *list = &spec->process.env;
    char **items = spec_alloc(spec, list->count + env->count + 1, sizeof(*items));
    if (items == NULL) {
        return err_set(err, ENOMEM, "--env");
    }
    for (size_t i = 0; i < list->count; i++) {
        items[i] = list->items[i];
    }
    for (size_t i = 0; i < env->count; i++) {
        if (strchr(env->items[i], '=') == NULL) {
            return err_say(err, EINVAL, "--env: '%s' is not NAME=VALUE", env->items[i]);
        }
        items[list->count++] = env->items[i];
    }
    list->items = items;
    return 0;
}

static int add_groups(struct spec *spec, const struct strv *groups, struct err *err)
{
    struct spec_process *process = &spec->process;
    gid_t *gids =
        spec_alloc(spec, process->additional_gid_count + groups->count + 1, sizeof(*gids));
    if (gids == NULL) {
        return err_set(err, ENOMEM, "--additional-gids");
    }
    for (size_t i = 0; i < process->additional_gid_count; i++) {
        gids[i] = process->additional_gids[i];
    }
    for (size_t i = 0; i < groups->count; i++) {
        uint64_t gid;
        if (parse_u64(groups->items[i], 10, &gid) < 0 || gid > UINT32_MAX) {
            return err_say(err, EINVAL, "--additional-gids: '%s' is not a group number",
                           groups->items[i]);
        }
        gids[process->additional_gid_count++] = (gid_t)gid;
    }
    process->additional_gids = gids;
    return 0;
}

/* The container's own process, changed by options and the words of the command line. */
static int process_from_options(struct spec *spec, const struct exec_options *options, int argc,
                                char **argv, struct err *err)
{
    struct spec_process *process = &spec->process;
    if (argc < 2) {
        return err_say(err, EINVAL, "exec: no command given");
    }
    process->args = (struct spec_strings){.items = argv + 1, .count = (size_t)argc - 1};
    process->terminal = options->tty;
    process->oom_score_adj.set = false;
    process->cwd = options->cwd != NULL ? options->cwd : process->cwd;
    if (process->cwd[0] != '/') {
        return err_say(err, EINVAL, "--cwd: '%s' is not an absolute path", process->cwd);
    }
    process->no_new_privileges |= options->no_new_privs;
    process->apparmor_profile =
        options->apparmor != NULL ? options->apparmor : process->apparmor_profile;
    process->selinux_label = options->label != NULL ? options->label : process->selinux_label;
    int r = options->user != NULL ? set_user(process, options->user, err) : 0;
    r = r < 0 ? r : add_capabilities(process, &options->caps, err);
    r = r < 0 ? r : add_groups(spec, &options->groups, err);
    return r < 0 ? r : add_environment(spec, &options->env, err);
}

static int load_process(const struct oci_globals *globals, const struct exec_options *options,
                        int argc, char **argv, struct spec **ret, struct err *err)
{
    AUTO(spec_freep) struct spec *spec = NULL;
    int r;
    if (options->process != NULL) {
        AUTO(buf_donep) struct buf text = {0};
        r = str_eq(options->process, "-") ? read_fd(0, PROCESS_SIZE_MAX, &text)
                                          : read_file(options->process, PROCESS_SIZE_MAX, &text);
        if (r < 0) {
            return err_set(err, -r, "read '%s'", options->process);
        }
        r = spec_parse_process(text.data != NULL ? text.data : "", text.len, options->process,
                               &spec, err);
        if (r == 0 && options->tty) {
            spec->process.terminal = true;
        }
    } else {
        r = container_exec_spec(globals->root, argv[0], &spec, err);
        r = r < 0 ? r : process_from_options(spec, options, argc, argv, err);
    }
    if (r == 0) {
        *ret = TAKE_PTR(spec);
    }
    return r;
}

static int run(const struct oci_globals *globals, const struct exec_options *options, int argc,
               char **argv, struct err *err)
{
    AUTO(spec_freep) struct spec *spec = NULL;
    AUTO(container_process_donep) struct container_process process = {.pidfd = -1};
    AUTO(container_state_donep) struct container_state state = {0};
    /* A container that is not there should be named as that, not as a missing file. */
    int r = container_state(globals->root, argv[0], &state, err);
    r = r < 0 ? r : load_process(globals, options, argc, argv, &spec, err);
    if (r < 0) {
        return r;
    }
    for (int64_t i = 0; i < options->preserve_fds; i++) {
        if (set_cloexec(3 + (int)i, false) < 0) {
            return err_set(err, errno, "--preserve-fds: descriptor %d", 3 + (int)i);
        }
    }
    struct container_exec_args args = CONTAINER_EXEC_ARGS_INIT;
    args.root = globals->root;
    args.id = argv[0];
    args.process = &spec->process;
    args.io.console_path = options->console_socket;
    args.io.pid_file = options->pid_file;
    args.io.preserve_fds = (unsigned)options->preserve_fds;
    args.cgroup = options->cgroup;
    args.ignore_paused = options->ignore_paused;
    bool exec_failed = false;
    if (!options->detach) {
        oci_block_signals();
    }
    r = container_exec(&args, &process, &exec_failed, err);
    if (r < 0) {
        return exec_failed ? oci_exec_exit_code(true, r) : r;
    }
    *err = ERR_NONE;
    return options->detach ? 0 : oci_wait_foreground(&process);
}

static int exec_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                    struct err *err)
{
    struct exec_options *options = data;
    int r = run(globals, options, argc, argv, err);
    strv_done(&options->env);
    strv_done(&options->caps);
    strv_done(&options->groups);
    return r;
}

const struct oci_command oci_exec_commands[] = {
    {"exec", "ID [COMMAND [ARG...]]", "run one more process in a container", exec_options,
     sizeof(struct exec_options), 1, -1, true, true, exec_run},
    {0},
};
