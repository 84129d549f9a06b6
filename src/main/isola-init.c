/*
 * isola-init - process 1 of a workload with --init: starts the command, passes signals on, reaps.
 *
 * Static and without heap: it is bind-mounted into images of any kind. It leaves with the command's
 * exit code, or 128 + signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"

static _Noreturn void run_child(char *const argv[], const sigset_t *mask)
{
    /* A group of its own in the foreground, so that the terminal's signals reach it, not us. */
    if (setpgid(0, 0) == 0 && isatty(STDIN_FILENO)) {
        (void)signal(SIGTTOU, SIG_IGN);
        (void)tcsetpgrp(STDIN_FILENO, getpid());
        (void)signal(SIGTTOU, SIG_DFL);
    }
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    (void)execvp(argv[0], argv);
    int code = errno == ENOENT ? 127 : 126;
    (void)fprintf(stderr, "isola-init: %s: %s\n", argv[0], strerror(errno));
    _exit(code);
}

/* Reaps all that ended. True when the command was among them; *status is then its own. */
static bool reap(pid_t command, int *status)
{
    int s;
    pid_t pid;
    bool ended = false;
    while ((pid = waitpid(-1, &s, WNOHANG)) > 0) {
        if (pid == command) {
            *status = s;
            ended = true;
        }
    }
    return ended;
}

int main(int argc, char **argv)
{
    char **words = argv + 1;
    sigset_t all;
    sigset_t before;
    if (argc > 1 && strcmp(argv[1], "--") == 0) {
        words++;
    }
    if (words[0] == NULL) {
        (void)fprintf(stderr, "isola-init: no command\n");
        return 125;
    }
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    pid_t command = fork();
    if (command < 0) {
        (void)fprintf(stderr, "isola-init: fork: %s\n", strerror(errno));
        return 125;
    }
    if (command == 0) {
        run_child(words, &before);
    }
    for (;;) {
        siginfo_t info;
        int status = 0;
        int signal = sigwaitinfo(&all, &info);
        if (signal == SIGCHLD) {
            if (reap(command, &status)) {
                return exit_code_of(status);
            }
        } else if (signal > 0 && signal != SIGTTOU && signal != SIGTTIN) {
            /* To the whole group when there is one, as a terminal would. */
            if (kill(-command, signal) < 0) {
                (void)kill(command, signal);
            }
        }
    }
}
