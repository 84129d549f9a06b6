/*
 * isola-fs: serves one directory or file to one virtual machine, over its descriptor 3.
 *
 * What it believes of the machine: nothing. Requests are copied whole before they are looked at.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "base/option.h"
#include "base/process.h"
#include "base/str.h"
#include "vmm/fs/fs_jail.h"
#include "vmm/fs/fs_process.h"
#include "vmm/fs/fs_server.h"

#define SOCKET_FD 3
#define EXIT_NOT_STARTED 125
#define FILES_WANTED ((rlim_t)65536 + 16384 + 64)
#define FILES_OWN 64 /* beside the guest's */

struct fs_program {
    const char *tag, *path;
    bool read_only;
};

#define AT(member) offsetof(struct fs_program, member)

static const struct option_spec option_table[] = {
    {"tag", 0, OPTION_STRING, AT(tag), "TAG", "Of the share, for messages", NULL},
    {"path", 0, OPTION_STRING, AT(path), "PATH", "The directory, or the one file", NULL},
    {"read-only", 0, OPTION_FLAG, AT(read_only), NULL, "Refuse whatever changes something", NULL},
    {0},
};

/* The directory to serve; *only is the name of the one file in it, the caller's, or NULL. */
static int open_share(const char *path, char **only, struct err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        return fd;
    }
    if (errno != ENOTDIR || stat(path, &st) < 0) {
        return err_set(err, errno, "open '%s'", path);
    }
    const char *slash = strrchr(path, '/');
    if (!S_ISREG(st.st_mode) || slash == NULL) {
        return err_say(err, EINVAL, "'%s' is no directory and no regular file", path);
    }
    AUTO(freep) char *parent = strndup(path, (size_t)(slash - path) + 1);
    *only = strdup(slash + 1);
    if (parent == NULL || *only == NULL) {
        return err_set(err, ENOMEM, "open '%s'", path);
    }
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_set(err, errno, "open '%s'", parent) : fd;
}

/* As many descriptors as we may have; the guest gets a share of them. */
static void bound_files(struct fs_options *options)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return;
    }
    limit.rlim_cur = MIN(limit.rlim_max, FILES_WANTED);
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= FILES_WANTED) {
        return;
    }
    uint32_t files = (uint32_t)limit.rlim_cur;
    files = files > 2 * FILES_OWN ? files - FILES_OWN : FILES_OWN;
    options->max_handles = files / 4;
    options->max_inodes = files - files / 4;
}

static int serve_one(struct fs_server *server, uint8_t *in, uint8_t *out)
{
    struct fs_request request;
    int r = read_full(SOCKET_FD, &request, sizeof(request));
    if (r < 0) {
        return r;
    }
    if (request.length > FS_MESSAGE_MAX || request.room > FS_MESSAGE_MAX) {
        return -EPROTO;
    }
    r = read_full(SOCKET_FD, in, request.length);
    if (r < 0) {
        return r;
    }
    const struct iovec from = {.iov_base = in, .iov_len = request.length};
    const struct iovec to = {.iov_base = out + sizeof(struct fs_answer), .iov_len = request.room};
    const struct fs_answer answer = {
        .id = request.id,
        .length = (uint32_t)fs_server_serve(server, &from, 1, &to, 1),
    };
    memcpy(out, &answer, sizeof(answer));
    return write_full(SOCKET_FD, out, sizeof(answer) + answer.length);
}

static int run(const struct fs_program *program, struct err *err)
{
    AUTO(freep) char *only = NULL;
    AUTO(freep) uint8_t *in = malloc(FS_MESSAGE_MAX);
    AUTO(freep) uint8_t *out = malloc(sizeof(struct fs_answer) + FS_MESSAGE_MAX);
    AUTO(fs_server_freep) struct fs_server *server = NULL;
    /* What the machine's side changes, the host's and other machines' may change as well: nothing
     * is believed longer than it was asked for. */
    struct fs_options options = {.read_only = program->read_only};
    AUTO(closep) int root = -1;
    AUTO(closep) int proc = -1;
    int r = fs_jail_leave_host(err);
    if (r < 0) {
        return r;
    }
    bool alone = r > 0;
    root = open_share(program->path, &only, err);
    proc = root < 0 ? -1 : open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || proc < 0) {
        return root < 0 ? root : err_set(err, errno, "open '/proc/self/fd'");
    }
    r = alone ? fs_jail_set_root(&root, err) : 0;
    if (r < 0) {
        return r;
    }
    if (in == NULL || out == NULL) {
        return err_set(err, ENOMEM, "serve '%s'", program->path);
    }
    options.only = only;
    options.proc_fd = proc;
    bound_files(&options);
    r = fs_server_new(root, &options, &server, err);
    r = r < 0 ? r : fs_jail_enter(root, err);
    if (r < 0) {
        return r;
    }
    r = write_full(SOCKET_FD, FS_HELLO, FS_HELLO_SIZE);
    while (r == 0) {
        r = serve_one(server, in, out);
    }
    /* The machine has ended. */
    return r == -ENODATA || r == -EPIPE || r == -ECONNRESET ? 0 : err_set(err, -r, "serve");
}

int fs_main(int argc, char **argv)
{
    struct err err = ERR_NONE;
    struct fs_program program = {0};
    const struct option_parse parse = {.specs = option_table, .target = &program};
    bool help = false;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    int r = option_parse(&parse, argc, argv, &help, &err);
    if (help) {
        (void)printf(
            "Usage: isola-fs --tag TAG --path PATH [--read-only]\n\n"
            "Serves a directory to a virtual machine; started by isola-vmm.\n\nOptions:\n");
        option_print_help(option_table);
        return 0;
    }
    if (r == 0 && (program.tag == NULL || program.path == NULL)) {
        r = err_say(&err, EINVAL, "--tag and --path are needed; see --help");
    } else if (r > 0) {
        r = err_say(&err, EINVAL, "'%s' is not understood; see --help", argv[1]);
    }
    (void)umask(0);
    r = r < 0 ? r : close_fds_from(SOCKET_FD + 1);
    r = r < 0 ? r : run(&program, &err);
    if (r < 0) {
        (void)fprintf(stderr, "isola-fs: share '%s': %s\n", program.tag == NULL ? "" : program.tag,
                      err_text(&err));
        return EXIT_NOT_STARTED;
    }
    return 0;
}
