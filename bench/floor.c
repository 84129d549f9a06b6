/*
 * floor - the least that a container costs: clone into five namespaces, the usual mounts and
 * device nodes, pivot_root, exec. No options, no cgroup, no checks: a yardstick, not a tool.
 * Usage: floor ROOTFS PROGRAM
 */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(int result, const char *what)
{
    if (result < 0) {
        (void)fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(1);
    }
}

static void build(const char *root)
{
    static const struct {
        const char *name;
        unsigned minor;
    } devices[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}};
    need(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "make the tree private");
    need(mount(root, root, NULL, MS_BIND | MS_REC, NULL), "bind the root");
    need(chdir(root), root);
    need(mount("proc", "proc", "proc", 0, NULL), "proc");
    need(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755"), "dev");
    need(mkdir("dev/pts", 0755), "dev/pts");
    need(mkdir("dev/shm", 0755), "dev/shm");
    need(mkdir("dev/mqueue", 0755), "dev/mqueue");
    need(mount("devpts", "dev/pts", "devpts", MS_NOSUID, "newinstance,ptmxmode=0666"), "devpts");
    need(mount("shm", "dev/shm", "tmpfs", MS_NOSUID, "mode=1777"), "shm");
    need(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID, NULL), "mqueue");
    need(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_RDONLY, NULL), "sysfs");
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "dev/%s", devices[i].name);
        need(mknod(path, S_IFCHR | 0666, makedev(1, devices[i].minor)), path);
    }
    need(mknod("dev/tty", S_IFCHR | 0666, makedev(5, 0)), "dev/tty");
    need((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
    need(umount2(".", MNT_DETACH), "umount the old root");
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        (void)fprintf(stderr, "usage: floor ROOTFS PROGRAM\n");
        return 2;
    }
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET,
        .exit_signal = SIGCHLD,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    need(pid, "clone");
    if (pid == 0) {
        build(argv[1]);
        (void)execv(argv[2], argv + 2);
        need(-1, argv[2]);
    }
    int status = 0;
    need(waitpid(pid, &status, 0), "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
