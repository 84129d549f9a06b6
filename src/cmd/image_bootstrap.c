#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/process.h"
#include "cmd/image_bootstrap.h"
#include "cmd/image_commands.h"
#include "image/commit.h"
#include "image/platform.h"
#include "image/reference.h"
#include "image/store.h"

#define SAID_MAX ((size_t)64 << 20)

struct bootstrap_options {
    const char *architecture;
    const char *variant;
    struct strv include;
    const char *mirror;
    bool quiet;
};

static const struct option_spec bootstrap_specs[] = {
    {"arch", 0, OPTION_STRING, offsetof(struct bootstrap_options, architecture), "ARCH",
     "For this architecture (amd64, arm64, ...)", NULL},
    {"include", 0, OPTION_LIST, offsetof(struct bootstrap_options, include), "PACKAGE[,PACKAGE]",
     "More packages", NULL},
    {"mirror", 0, OPTION_STRING, offsetof(struct bootstrap_options, mirror), "URL",
     "Where the packages are, instead of this host's own sources", NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct bootstrap_options, quiet), NULL,
     "Do not show what mmdebstrap says", NULL},
    {"variant", 0, OPTION_STRING, offsetof(struct bootstrap_options, variant), "VARIANT",
     "minbase (default), essential, apt, standard, or extract: unpacked, not configured", NULL},
    {0},
};

/* Debian's name of an architecture. */
static const char *debian_architecture(const struct platform *p)
{
    static const struct {
        const char *go, *variant, *debian;
    } names[] = {{"386", "", "i386"},         {"arm", "v7", "armhf"}, {"arm", "v6", "armel"},
                 {"arm", "v5", "armel"},      {"arm", "", "armhf"},   {"ppc64le", "", "ppc64el"},
                 {"mips64le", "", "mips64el"}};
    for (size_t i = 0; i < COUNT(names); i++) {
        if (str_eq(names[i].go, p->architecture) && str_eq(names[i].variant, p->variant)) {
            return names[i].debian;
        }
    }
    return p->architecture;
}

/* Whether this kernel executes programs of that architecture: itself, or by binfmt_misc. */
static bool can_execute(const struct platform *p, const char *debian)
{
    struct platform host;
    platform_host(&host);
    if (str_eq(host.architecture, p->architecture) ||
        (str_eq(host.architecture, "amd64") && str_eq(p->architecture, "386"))) {
        return true;
    }
    char *argv[] = {(char *)(uintptr_t) "arch-test", (char *)(uintptr_t)debian, NULL};
    return process_run(argv, NULL, NULL) == 0;
}

/* What Debian's own "-slim" images leave out, too. */
static int add_slim(struct strv *args)
{
    static const char *const options[] = {
        "path-exclude=/usr/share/doc/*",     "path-include=/usr/share/doc/*/copyright",
        "path-exclude=/usr/share/info/*",    "path-exclude=/usr/share/groff/*",
        "path-exclude=/usr/share/lintian/*", "path-exclude=/usr/share/linda/*",
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < COUNT(options); i++) {
        r = strv_addf(args, "--dpkgopt=%s", options[i]);
    }
    return r;
}

static int make_arguments(const struct bootstrap_options *o, const char *suite, bool slim,
                          const char *arch, const char *variant, bool emulate, struct strv *args)
{
    int r = strv_add(args, "mmdebstrap");
    if (r == 0) {
        r = emulate ? bootstrap_emulated_arguments(arch, variant, args)
                    : strv_addf(args, "--variant=%s", variant);
    }
    r = r < 0 ? r : strv_addf(args, "--architectures=%s", arch);
    r = r < 0 ? r : strv_addf(args, "--mode=%s", geteuid() == 0 ? "root" : "unshare");
    r = r < 0 ? r : strv_add(args, "--format=tar");
    if (r == 0 && str_eq(variant, "extract")) {
        /* On its own this variant takes only what is asked for. */
        r = strv_add(args, "--include=?essential");
        r = r < 0 ? r : strv_add(args, "--include=apt");
    }
    for (size_t i = 0; r == 0 && i < o->include.count; i++) {
        r = strv_addf(args, "--include=%s", o->include.items[i]);
    }
    /* What differs from run to run, or is of no use in an image. */
    r = r < 0 ? r : strv_add(args, "--dpkgopt=path-exclude=/usr/share/man/*");
    r = r < 0 ? r : strv_add(args, "--dpkgopt=path-exclude=/usr/share/locale/*");
    r = r < 0 || !slim ? r : add_slim(args);
    r = r < 0 ? r : strv_add(args, "--aptopt=Acquire::Languages \"none\"");
    r = r < 0 ? r : strv_add(args, "--verbose");
    r = r < 0 ? r : strv_add(args, suite);
    r = r < 0 ? r : strv_add(args, "-");
    return r < 0 || o->mirror == NULL ? r : strv_add(args, o->mirror);
}

/* mmdebstrap with its output in *ret_fd. said: where its messages go, or -1 for ours. */
static int start(const struct strv *args, const char *epoch, int said, pid_t *ret_pid, int *ret_fd,
                 struct err *err)
{
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC) < 0) {
        return err_set(err, errno, "start mmdebstrap");
    }
    pid_t pid = fork();
    if (pid == 0) {
        signals_reset();
        int null = open("/dev/null", O_RDWR);
        (void)dup2(null, STDIN_FILENO);
        (void)dup2(pipes[1], STDOUT_FILENO);
        if (said >= 0) {
            (void)dup2(said, STDERR_FILENO);
        }
        (void)close_fds_from(3);
        (void)setenv("SOURCE_DATE_EPOCH", epoch, 0);
        (void)execvp(args->items[0], args->items);
        _exit(127);
    }
    (void)close(pipes[1]);
    if (pid < 0) {
        (void)close(pipes[0]);
        return err_set(err, errno, "start mmdebstrap");
    }
    *ret_pid = pid;
    *ret_fd = pipes[0];
    return 0;
}

static int import(struct image_store *store, const struct platform *platform, const char *name,
                  const char *suite, const char *variant, int fd, char **ret_id, struct err *err)
{
    AUTO(json_unrefp)
    json_t *config = json_pack("{s:[s], s:[s], s:{s:s, s:s, s:s}}", "Env",
                               "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                               "Cmd", "bash", "Labels", "org.opencontainers.image.title", suite,
                               "isola.bootstrap.suite", suite, "isola.bootstrap.variant", variant);
    AUTO(freep) char *by = str_printf("isola image bootstrap %s (%s)", suite, variant);
    const struct image_parts parts = {
        .upper_fd = -1,
        .tar_fd = fd,
        .config = config,
        .architecture = platform->architecture,
        .variant = platform->variant,
        .created_by = by,
        .name = name,
    };
    return config != NULL ? image_commit(store, &parts, ret_id, err)
                          : err_set(err, ENOMEM, "make image");
}

/* The first error in what mmdebstrap has said, with the remedy where we know it. */
static int fail(int code, int said, const char *suite, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    char line[300] = "";
    if (said >= 0 && lseek(said, 0, SEEK_SET) == 0 && read_fd(said, SAID_MAX, &text) == 0 &&
        text.data != NULL) {
        const char *e = str_starts(text.data, "E: ") ? text.data : strstr(text.data, "\nE: ");
        e = e != NULL ? e + (e[0] == '\n') : "";
        (void)snprintf(line, sizeof(line), ": %.*s", (int)MIN(strcspn(e, "\n"), (size_t)250), e);
        for (char *c = line; *c != '\0'; c++) {
            *c = (unsigned char)*c < 0x20 ? '?' : *c;
        }
    }
    (void)err_say(err, EIO, "mmdebstrap failed with exit code %d%s", code, line);
    if (strstr(line, "Release file") != NULL) {
        err_hint(err, "is '%s' a suite of Debian? Others need --mirror URL", suite);
    } else if (strstr(line, "Unable to locate package") != NULL) {
        err_hint(err, "see --include");
    } else if (strstr(line, "Failed to fetch") != NULL || strstr(line, "resolve") != NULL) {
        err_hint(err, "does apt-get update work on this host?");
    }
    return -EIO;
}

static int build(struct image_store *store, const struct bootstrap_options *o,
                 const struct platform *platform, const char *suite, bool slim, const char *name,
                 char **ret_id, struct err *err)
{
    AUTO(strv_donep) struct strv args = {0};
    AUTO(closep) int fd = -1;
    AUTO(closep) int said = o->quiet ? memfd_create("mmdebstrap", MFD_CLOEXEC) : -1;
    const char *arch = debian_architecture(platform);
    const char *variant = o->variant != NULL ? o->variant : "minbase";
    pid_t pid = 0;
    bool configured = !str_eq(variant, "extract") && !can_execute(platform, arch);
    bool emulate = configured && bootstrap_can_emulate(platform->architecture, variant);
    if (configured && !emulate) {
        return err_say(
            err, ENOEXEC,
            "this host cannot run %s programs, which configuring packages needs; install "
            "qemu-user-static and binfmt-support, or use --variant=extract",
            arch);
    }
    int r = make_arguments(o, suite, slim, arch, variant, emulate, &args);
    if (r < 0) {
        return err_set(err, -r, "start mmdebstrap");
    }
    char epoch[32];
    (void)snprintf(epoch, sizeof(epoch), "%lld", 1700000000LL);
    r = start(&args, epoch, said, &pid, &fd, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *id = NULL;
    /* Without a name until mmdebstrap has said that all is well. */
    r = import(store, platform, NULL, suite, variant, fd, &id, err);
    fd = close_fd(fd);
    int status = 0;
    int waited = process_wait(pid, &status);
    if (waited == 0 && exit_code_of(status) == 127) {
        r = err_say(err, ENOENT,
                    "mmdebstrap is not installed; install it with: apt-get install "
                    "mmdebstrap");
    } else if (waited == 0 && exit_code_of(status) != 0) {
        r = fail(exit_code_of(status), said, suite, err);
    }
    if (r == 0) {
        r = image_name_set(store, id, name, err);
    } else if (id != NULL) {
        (void)image_remove(store, id, NULL);
    }
    if (r == 0) {
        *ret_id = TAKE_PTR(id);
    }
    return r;
}

static int bootstrap_run(struct command_context *context, void *options, int argc, char **argv,
                         struct err *err)
{
    const struct bootstrap_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(freep) char *name = NULL;
    AUTO(freep) char *id = NULL;
    struct platform platform;
    const char *colon = strchr(argv[0], ':');
    if (colon == NULL || !str_starts(argv[0], "debian:") || colon[1] == '\0' ||
        strspn(colon + 1, "abcdefghijklmnopqrstuvwxyz0123456789-.") != strlen(colon + 1)) {
        return err_say(err, EINVAL,
                       "'%s' is not debian:SUITE, such as debian:bookworm or debian:bookworm-slim",
                       argv[0]);
    }
    bool slim = str_ends(colon, "-slim");
    AUTO(freep)
    char *suite = strndup(colon + 1, strlen(colon + 1) - (slim ? strlen("-slim") : 0));
    if (suite == NULL) {
        return err_set(err, ENOMEM, "make image");
    }
    platform_host(&platform);
    int r = o->architecture != NULL ? platform_parse(o->architecture, &platform, err) : 0;
    r = r < 0 ? r : image_command_name(argc > 1 ? argv[1] : argv[0], &name, err);
    r = r < 0 ? r : image_command_store(context, &store, err);
    r = r < 0 ? r : build(store, o, &platform, suite, slim, name, &id, err);
    if (r == 0) {
        (void)printf("%s\n", id);
    }
    return r;
}

const struct command image_bootstrap_command = {
    .options = bootstrap_specs,
    .options_size = sizeof(struct bootstrap_options),
    .operands_min = 1,
    .operands_max = 2,
    .run = bootstrap_run,
};
