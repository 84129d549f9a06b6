#include "vmm/jail_space.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/user_namespace.h"

#define OTHER_NAMESPACES                                                                           \
    (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

static bool is_admin(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    return syscall(SYS_capget, &header, data) == 0 && (data[0].effective >> CAP_SYS_ADMIN & 1) != 0;
}

pid_t jail_space_fork(struct err *err)
{
    unsigned uid = geteuid();
    unsigned gid = getegid();
    bool admin = is_admin();
    (void)fflush(NULL);
    /* As fork() does, with flags. The C library's own record of the thread is not told; nothing
     * that we use looks at it before exec. */
    pid_t pid =
        (pid_t)syscall(SYS_clone, SIGCHLD | CLONE_NEWPID | (admin ? 0 : CLONE_NEWUSER), 0, 0, 0, 0);
    if (pid < 0) {
        int code = errno;
        (void)err_set(err, code, "make namespaces for the machine");
        err_hint(err, "allow user namespaces (sysctl user.max_user_namespaces=100000; on Debian's "
                      "kernels also kernel.unprivileged_userns_clone=1), or run it without them: "
                      "--no-jail");
        return -code;
    }
    if (pid == 0 && !admin) {
        int r = user_namespace_map_self(uid, gid);
        if (r < 0) {
            (void)fprintf(stderr,
                          "isola-vmm: map the user's id into a namespace: errno %d; "
                          "--no-jail does without\n",
                          -r);
            _exit(125);
        }
    }
    return pid;
}

int jail_space_unshare(void)
{
    /* Private: what we mount is not to come up in the host's tree. */
    if (unshare(OTHER_NAMESPACES) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        return -errno;
    }
    return 0;
}

int jail_space_set_root(int mount_fd)
{
    if (move_mount(mount_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
        fchdir(mount_fd) < 0) {
        return -errno;
    }
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        return umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ? -errno : 0;
    }
    /* The kernel's first root, an initial file system, cannot be turned away. It lies below the new
     * one, and who can neither change root nor hold a directory of it does not get there. */
    return errno != EINVAL || chroot(".") < 0 || chdir("/") < 0 ? -errno : 0;
}

static int empty_root(void)
{
    AUTO(closep) int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", "4096", 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        return -errno;
    }
    AUTO(closep)
    int root =
        fsmount(fs, FSMOUNT_CLOEXEC,
                MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    return root < 0 ? -errno : jail_space_set_root(root);
}

/* Keeps what capabilities there are: the user namespace is still to be made. */
static int change_identity(uint32_t id)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (setresgid(id, id, id) < 0) {
        /* Root of a namespace without this id, or an ordinary user in his own. */
        return errno == EINVAL || errno == EPERM ? 0 : -errno;
    }
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
        setresuid(id, id, id) < 0 || syscall(SYS_capget, &header, data) < 0) {
        return -errno;
    }
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        data[i].effective = data[i].permitted;
    }
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int jail_space_enter(uint32_t id, struct err *err)
{
    int r = jail_space_unshare();
    if (r < 0) {
        return err_set(err, -r, "make namespaces for the machine");
    }
    r = empty_root();
    if (r < 0) {
        return err_set(err, -r, "make an empty root directory for the machine");
    }
    r = change_identity(id);
    if (r < 0) {
        return err_set(err, -r, "become user %u", id);
    }
    /* Some hosts give users none, or no more. It would hide ids; rights are gone without it. */
    (void)unshare(CLONE_NEWUSER);
    return 0;
}
