/* Standard input and output of a container's process: plain descriptors, or a terminal. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

#include "base/path.h"
#include "base/unix_socket.h"
#include "container/init.h"

/* The workload's user must be able to reopen what he was given: /proc/self/fd/1. */
static void give_to_user(int fd, const struct spec_process *process)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_uid != process->uid &&
        !(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))) {
        /* Files of a read-only or foreign file system stay as they are. */
        (void)!fchown(fd, process->uid, st.st_gid);
    }
}

int init_set_stdio(const struct container_io *io, const struct spec_process *process,
                   struct err *err)
{
    for (int i = 0; i < 3; i++) {
        if (io->stdio[i] >= 0 && io->stdio[i] != i && dup2(io->stdio[i], i) < 0) {
            return err_set(err, errno, "set standard descriptor %d", i);
        }
        if (io->stdio[i] == i) {
            (void)fcntl(i, F_SETFD, 0);
        }
        if (process->uid != 0) {
            give_to_user(i, process);
        }
    }
    return 0;
}

/* What is at the container's /dev/pts may be anything: the kernel says what it is. */
static bool is_devpts_master(int fd)
{
    struct stat st;
    struct statfs fs;
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(5, 2) &&
           fstatfs(fd, &fs) == 0 && fs.f_type == DEVPTS_SUPER_MAGIC;
}

int init_make_terminal(int root_fd, int console_fd, const struct spec_process *process,
                       int *ret_slave, struct err *err)
{
    AUTO(closep) int master = open_in_root(root_fd, "dev/pts/ptmx", O_RDWR | O_NOCTTY, 0);
    if (master < 0) {
        return err_set(err, -master, "process.terminal: open '/dev/pts/ptmx' in the container");
    }
    if (!is_devpts_master(master)) {
        return err_say(err, ENODEV, "process.terminal: '/dev/pts/ptmx' is not a pty multiplexer");
    }
    int unlock = 0;
    unsigned number = 0;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCGPTN, &number) < 0) {
        return err_set(err, errno, "process.terminal: unlock the pty");
    }
    AUTO(closep) int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) {
        return err_set(err, errno, "process.terminal: open the pty");
    }
    if (process->console_height != 0 || process->console_width != 0) {
        struct winsize size = {.ws_row = process->console_height, .ws_col = process->console_width};
        if (ioctl(slave, TIOCSWINSZ, &size) < 0) {
            return err_set(err, errno, "process.consoleSize");
        }
    }
    if (process->uid != 0) {
        give_to_user(slave, process);
    }
    char name[32];
    (void)snprintf(name, sizeof(name), "/dev/pts/%u", number);
    int r = unix_send_fds(console_fd, name, strlen(name), &master, 1);
    if (r < 0) {
        return err_set(err, -r, "send the terminal to the console socket");
    }
    *ret_slave = TAKE_FD(slave);
    return 0;
}

int init_take_terminal(int slave_fd, struct err *err)
{
    if (ioctl(slave_fd, TIOCSCTTY, 0) < 0) {
        return err_set(err, errno, "take the controlling terminal");
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(slave_fd, i) < 0) {
            return err_set(err, errno, "set standard descriptor %d", i);
        }
    }
    return 0;
}

void init_reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    /* Of the others some come from faults, which the kernel delivers whether ignored or not, and
     * some are ignored by default. */
    static const int signals[] = {SIGHUP,  SIGINT,    SIGQUIT, SIGABRT, SIGUSR1, SIGUSR2, SIGPIPE,
                                  SIGALRM, SIGTERM,   SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU, SIGXCPU,
                                  SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO,   SIGPWR};
    for (size_t i = 0; i < COUNT(signals); i++) {
        (void)sigaction(signals[i], &action, NULL);
    }
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}
