#include "vmm/fs/fs_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dirs.h"
#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"

#define START_TIMEOUT_MS 10000
#define SOCKET_FD 3

static int spawn(const char *program, char *const argv[], int socket_fd, pid_t *ret_pid)
{
    char *const environment[] = {NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t all;
    sigset_t none;
    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    int r = posix_spawn_file_actions_init(&files);
    if (r != 0) {
        return -r;
    }
    r = posix_spawnattr_init(&attributes);
    if (r == 0) {
        (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
        (void)posix_spawnattr_setsigdefault(&attributes, &all);
        (void)posix_spawnattr_setsigmask(&attributes, &none);
        /* The standard streams are the workload's, but for what is to be said about a failure. */
        r = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
        r = r != 0 ? r : posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDOUT_FILENO);
        r = r != 0 ? r : posix_spawn_file_actions_adddup2(&files, socket_fd, SOCKET_FD);
        r = r != 0 ? r : posix_spawn(ret_pid, program, &files, &attributes, argv, environment);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return -r;
}

static int wait_for_hello(int fd)
{
    char hello[FS_HELLO_SIZE];
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    int n;
    do {
        n = poll(&poller, 1, START_TIMEOUT_MS);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return n < 0 ? -errno : -ETIMEDOUT;
    }
    int r = read_full(fd, hello, sizeof(hello));
    return r < 0 ? r : memcmp(hello, FS_HELLO, sizeof(hello)) != 0 ? -EPROTO : 0;
}

int fs_process_start(const struct fs_share *share, int *ret, struct err *err)
{
    AUTO(closep) int ours = -1;
    AUTO(closep) int theirs = -1;
    AUTO(freep) char *program = dirs_helper("isola-fs");
    int pair[2];
    pid_t pid = 0;
    if (program == NULL) {
        return err_set(err, ENOMEM, "share '%s'", share->tag);
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return err_set(err, errno, "share '%s'", share->tag);
    }
    ours = pair[0];
    theirs = pair[1];
    char *const argv[] = {
        program,
        (char *)(uintptr_t) "--tag",
        (char *)(uintptr_t)share->tag,
        (char *)(uintptr_t) "--path",
        (char *)(uintptr_t)share->path,
        share->read_only ? (char *)(uintptr_t) "--read-only" : NULL,
        NULL,
    };
    int r = spawn(program, argv, theirs, &pid);
    if (r < 0) {
        return err_set(err, -r, "share '%s': start '%s'", share->tag, program);
    }
    theirs = close_fd(theirs);
    r = wait_for_hello(ours);
    if (r < 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return r == -ETIMEDOUT
                   ? err_set(err, ETIMEDOUT, "share '%s': isola-fs does not answer", share->tag)
                   : err_say(err, EIO, "share '%s': isola-fs could not start", share->tag);
    }
    r = set_nonblock(ours, true);
    if (r < 0) {
        return err_set(err, -r, "share '%s'", share->tag);
    }
    *ret = TAKE_FD(ours);
    return 0;
}
