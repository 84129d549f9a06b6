#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/machine_files.h"
#include "cmd/rootfd.h"
#include "engine/vm_start.h"
#include "image/tar_extract.h"
#include "image/tar_writer.h"

struct cp_options {
    bool archive;
    bool follow;
    bool quiet;
};

#define AT(member) offsetof(struct cp_options, member)

static const struct option_spec options[] = {
    {"archive", 'a', OPTION_FLAG, AT(archive), NULL, "Keep owners", NULL},
    {"follow-link", 'L', OPTION_FLAG, AT(follow), NULL, "Follow a link that SOURCE is", NULL},
    {"quiet", 'q', OPTION_FLAG, AT(quiet), NULL, "Accepted; cp prints nothing anyway", NULL},
    {0},
};

/* One side of the copy: a path below a root directory, or the stream "-". */
struct place {
    bool stream;
    bool local;
    int root_fd;
    int ids_fd; /* user namespace whose ids the files have, or -1: ours */
    char *path; /* absolute below the root */
    const char *text;
    bool machine; /* behind the vm wall: no descriptors */
    struct vm_idle idle;
};

#define PLACE_INIT                                                                                 \
    {                                                                                              \
        .root_fd = -1, .ids_fd = -1, .idle = VM_IDLE_INIT                                          \
    }

static void place_done(struct place *place)
{
    (void)close_fd(place->root_fd);
    (void)close_fd(place->ids_fd);
    free(place->path);
    vm_idle_done(&place->idle);
}
DEFINE_DONEP(struct place, place_done)

static int open_local(const char *text, struct place *ret, struct err *err)
{
    ret->local = true;
    ret->root_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (text[0] == '/') {
        ret->path = strdup(text);
    } else {
        AUTO(freep) char *cwd = getcwd(NULL, 0);
        ret->path = cwd != NULL ? str_printf("%s/%s", cwd, text) : NULL;
    }
    return ret->root_fd < 0 || ret->path == NULL ? err_set(err, ENOMEM, "open '%s'", text) : 0;
}

/* "NAME:PATH", "PATH" or "-". A path with a colon is written ./with:colon or absolute. */
static int open_place(struct engine *engine, const char *text, bool write, struct place *ret,
                      struct err *err)
{
    const char *colon = strchr(text, ':');
    *ret = (struct place)PLACE_INIT;
    ret->text = text;
    if (str_eq(text, "-")) {
        ret->stream = true;
        return 0;
    }
    if (text[0] == '/' || text[0] == '.' || colon == NULL) {
        return open_local(text, ret, err);
    }
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(freep) char *name = strndup(text, (size_t)(colon - text));
    int r = name == NULL ? -ENOMEM : workload_find(engine, name, &workload, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *path = str_printf("%s%s", colon[1] == '/' ? "" : "/", colon + 1);
    if (path == NULL) {
        return err_set(err, ENOMEM, "open '%s'", text);
    }
    if (vm_start_wanted(&workload)) {
        ret->machine = true;
        ret->path = TAKE_PTR(path);
        return machine_files_open(engine, &workload, &ret->idle, err);
    }
    r = rootfd_open_ids(&workload, &ret->ids_fd, err);
    return r < 0 ? r
                 : rootfd_open_path(engine, &workload, path, write, &ret->root_fd, &ret->path, err);
}

/* Type of what is there: S_IFDIR..., or a negative errno. */
static int type_of(const struct place *place, bool follow)
{
    struct stat st;
    if (place->machine) {
        struct err unused = ERR_NONE;
        return machine_files_type(place->idle.bundle, place->path, follow, &unused);
    }
    AUTO(closep)
    int fd = open_in_root(place->root_fd, place->path, O_PATH | (follow ? 0 : O_NOFOLLOW), 0);
    if (fd < 0) {
        return fd;
    }
    return fstat(fd, &st) < 0 ? -errno : (int)(st.st_mode & S_IFMT);
}

/* Cuts trailing slashes; *ret_contents when the path ended in "/.": what is in it, not itself. */
static void trim(char *path, bool *ret_contents, bool *ret_slash)
{
    size_t len = strlen(path);
    *ret_contents = len >= 2 && strcmp(path + len - 2, "/.") == 0;
    if (*ret_contents) {
        path[--len] = '\0';
    }
    *ret_slash = len > 1 && path[len - 1] == '/';
    while (len > 1 && path[len - 1] == '/') {
        path[--len] = '\0';
    }
}

struct target {
    char *dir;   /* where the archive is unpacked */
    char *name;  /* how its top is called there; "": only what is in the source */
    bool is_dir; /* the source */
};

static void target_done(struct target *target)
{
    free(target->dir);
    free(target->name);
}
DEFINE_DONEP(struct target, target_done)

/*
 * Docker's rules. *follow becomes true for a source that is named with a slash behind it.
 */
static int plan(struct place *from, struct place *to, bool *follow, struct target *ret,
                struct err *err)
{
    bool contents;
    bool from_slash;
    bool to_contents;
    bool to_slash;
    trim(from->path, &contents, &from_slash);
    trim(to->path, &to_contents, &to_slash);
    *follow = *follow || contents || from_slash;
    int from_type = type_of(from, *follow);
    if (from_type < 0) {
        return err_set(err, -from_type, "copy '%s'", from->text);
    }
    int to_type = type_of(to, true);
    const char *base = strrchr(from->path, '/') + 1;
    ret->is_dir = from_type == S_IFDIR;
    if (to_type == S_IFDIR) {
        ret->dir = strdup(to->path);
        ret->name = strdup(contents ? "" : base);
    } else if (to_type >= 0 && from_type == S_IFDIR) {
        return err_say(err, ENOTDIR, "cannot copy directory '%s' to '%s', which is a file",
                       from->text, to->text);
    } else if (to_slash && from_type != S_IFDIR) {
        return err_say(err, ENOENT, "directory '%s' does not exist", to->text);
    } else {
        char *slash = strrchr(to->path, '/');
        ret->name = strdup(slash + 1);
        ret->dir = slash == to->path ? strdup("/") : strndup(to->path, (size_t)(slash - to->path));
    }
    return ret->dir == NULL || ret->name == NULL ? err_set(err, ENOMEM, "copy") : 0;
}

static void set_owner(struct extract_rules *rules, const struct place *to, bool archive)
{
    rules->ignore_owner = !archive;
    rules->owner_uid = to->local ? geteuid() : 0;
    rules->owner_gid = to->local ? getegid() : 0;
}

/* The writer is a process of its own; its error comes back through a second pipe. */
static int copy(const struct place *from, const struct place *to, const char *dir, const char *name,
                const struct cp_options *o, bool follow, struct err *err)
{
    int data[2];
    int report[2];
    struct err theirs = ERR_NONE;
    struct extract_result result;
    if (pipe2(data, O_CLOEXEC) < 0 || pipe2(report, O_CLOEXEC) < 0) {
        return err_set(err, errno, "copy");
    }
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        return err_set(err, errno, "copy");
    }
    if (pid == 0) {
        const struct tar_tree_rules rules = {.name_as = name, .follow_top = follow};
        (void)close(data[0]);
        int r = rootfd_enter_ids(from->ids_fd, &theirs);
        r = r < 0 ? r : tar_write_tree(data[1], from->root_fd, from->path, &rules, &theirs);
        (void)write_full(report[1], &theirs, sizeof(theirs));
        _exit(r < 0 ? 1 : 0);
    }
    (void)close(data[1]);
    (void)close(report[1]);
    struct extract_rules rules = {.whiteouts = TAR_WHITEOUTS_PLAIN, .refuse_devices = false};
    set_owner(&rules, to, o->archive);
    int r = rootfd_enter_ids(to->ids_fd, err);
    r = r < 0 ? r : tar_extract(data[0], to->root_fd, dir, &rules, &result, err);
    (void)close(data[0]);
    int read_result = read_full(report[0], &theirs, sizeof(theirs));
    (void)close(report[0]);
    int status;
    (void)process_wait(pid, &status);
    if (read_result == 0 && theirs.code != 0 && theirs.code != EPIPE) {
        theirs.text[sizeof(theirs.text) - 1] = '\0';
        return err_say(err, theirs.code, "copy '%s': %s", from->text, theirs.text);
    }
    return r < 0 ? err_wrap(err, -r, "copy to '%s'", to->text) : 0;
}

/* What copies to or from a machine share. */
struct machine_copy {
    const struct place *from;
    const struct place *to;
    const struct target *target;
    const struct cp_options *options;
    bool follow;
};

static int unpack_machine(void *data, int fd, struct err *err)
{
    const struct machine_copy *copy = data;
    struct extract_rules rules = {.whiteouts = TAR_WHITEOUTS_PLAIN};
    set_owner(&rules, copy->to, copy->options->archive);
    AUTO(closep)
    int dir = open_in_root(copy->to->root_fd, copy->target->dir, O_RDONLY | O_DIRECTORY, 0);
    return dir < 0 ? err_set(err, -dir, "open '%s'", copy->target->dir)
                   : machine_files_unpack(fd, dir, copy->target->name, copy->target->is_dir, &rules,
                                          err);
}

static int pack_local(void *data, int fd, struct err *err)
{
    const struct machine_copy *copy = data;
    const struct tar_tree_rules rules = {.name_as = copy->target->name, .follow_top = copy->follow};
    return tar_write_tree(fd, copy->from->root_fd, copy->from->path, &rules, err);
}

/* The standard streams as one side. */
static int copy_stream(void *data, int fd, struct err *err)
{
    const struct machine_copy *copy = data;
    return copy->to->stream ? tar_copy(fd, STDOUT_FILENO, err) : tar_copy(STDIN_FILENO, fd, err);
}

static int copy_machine(struct machine_copy *copy, struct err *err)
{
    const struct place *from = copy->from;
    const struct place *to = copy->to;
    const char *bundle = from->machine ? from->idle.bundle : to->idle.bundle;
    bool streams = from->stream || to->stream;
    if (from->machine) {
        const char *name = streams ? NULL : copy->target->is_dir ? "" : copy->target->name;
        const char *const words[] = {"read", from->path, copy->follow ? "1" : "0", name, NULL};
        int r = machine_files_read(bundle, words, false, streams ? copy_stream : unpack_machine,
                                   copy, err);
        return r < 0 ? err_wrap(err, -r, "copy '%s'", from->text) : 0;
    }
    bool keep = streams || copy->options->archive;
    const char *const words[] = {"write", streams ? to->path : copy->target->dir, keep ? "1" : "0",
                                 NULL};
    int r = machine_files_write(bundle, words, streams ? copy_stream : pack_local, copy, err);
    return r < 0 ? err_wrap(err, -r, "copy to '%s'", to->text) : 0;
}

/* A machine that was booted for this has written to its disk only when it is off. */
static int run_machine(struct place *from, struct place *to, const struct cp_options *o,
                       struct err *err)
{
    AUTO(target_donep) struct target target = {0};
    struct machine_copy copy = {
        .from = from, .to = to, .target = &target, .options = o, .follow = o->follow};
    int r = from->stream || to->stream ? 0 : plan(from, to, &copy.follow, &target, err);
    r = r < 0 ? r : copy_machine(&copy, err);
    return r < 0 ? r : vm_idle_close(from->machine ? &from->idle : &to->idle, err);
}

static int run_cp(struct command_context *context, void *data, int argc, char **argv,
                  struct err *err)
{
    (void)argc;
    const struct cp_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(place_donep) struct place from = PLACE_INIT;
    AUTO(place_donep) struct place to = PLACE_INIT;
    AUTO(target_donep) struct target target = {0};
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = open_place(engine, argv[0], false, &from, err);
    }
    if (r == 0) {
        r = open_place(engine, argv[1], true, &to, err);
    }
    if (r == 0 && (from.stream || from.local) == (to.stream || to.local)) {
        r = err_say(err, EINVAL,
                    "one of SOURCE and TARGET must be NAME:PATH, the other a path or -");
    }
    if (r < 0 || from.machine || to.machine) {
        return r < 0 ? r : run_machine(&from, &to, o, err);
    }
    if (to.stream) {
        const struct tar_tree_rules rules = {.follow_top = o->follow};
        r = rootfd_enter_ids(from.ids_fd, err);
        return r < 0 ? r : tar_write_tree(STDOUT_FILENO, from.root_fd, from.path, &rules, err);
    }
    if (from.stream) {
        struct extract_rules rules = {.whiteouts = TAR_WHITEOUTS_PLAIN};
        struct extract_result result;
        set_owner(&rules, &to, true);
        r = rootfd_enter_ids(to.ids_fd, err);
        return r < 0 ? r : tar_extract(STDIN_FILENO, to.root_fd, to.path, &rules, &result, err);
    }
    bool follow = o->follow;
    r = plan(&from, &to, &follow, &target, err);
    return r < 0 ? r : copy(&from, &to, target.dir, target.name, o, follow, err);
}

const struct command cp_commands[] = {
    {
        .name = "cp",
        .operands = "NAME:SOURCE TARGET | SOURCE NAME:TARGET",
        .summary = "Copy files between a workload and the host",
        .options = options,
        .options_size = sizeof(struct cp_options),
        .operands_min = 2,
        .operands_max = 2,
        .run = run_cp,
    },
    {0},
};
