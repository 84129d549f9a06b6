#include "vmm/fs/fs_jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/macros.h"
#include "vmm/jail.h"
#include "vmm/jail_filter.h"
#include "vmm/jail_space.h"

/* Files below the share, by names relative to what the guest holds; Landlock knows the place. */
static const struct jail_rule rules[] = {
    JAIL_ALLOW(read),
    JAIL_ALLOW(write),
    JAIL_ALLOW(readv),
    JAIL_ALLOW(writev),
    JAIL_ALLOW(preadv),
    JAIL_ALLOW(pwritev),
    JAIL_ALLOW(pread64),
    JAIL_ALLOW(pwrite64),
    JAIL_ALLOW(openat),
    JAIL_ALLOW(openat2),
    JAIL_ALLOW(close),
    JAIL_ALLOW(fstat),
    JAIL_ALLOW(newfstatat),
    JAIL_ALLOW(fstatfs),
    JAIL_ALLOW(lseek),
    JAIL_ALLOW(getdents64),
    JAIL_ALLOW(readlinkat),
    {SYS_fcntl, 1, 0xffffffffu, F_DUPFD_CLOEXEC},
    JAIL_ALLOW(mkdirat),
    JAIL_ALLOW(mknodat),
    JAIL_ALLOW(symlinkat),
    JAIL_ALLOW(linkat),
    JAIL_ALLOW(unlinkat),
    JAIL_ALLOW(renameat),
    JAIL_ALLOW(renameat2),
    JAIL_ALLOW(fchmodat),
    JAIL_ALLOW(fchownat),
    JAIL_ALLOW(ftruncate),
    JAIL_ALLOW(utimensat),
    JAIL_ALLOW(fallocate),
    JAIL_ALLOW(copy_file_range),
    JAIL_ALLOW(fsync),
    JAIL_ALLOW(fdatasync),
    JAIL_ALLOW(syncfs),
    JAIL_ALLOW(fgetxattr),
    JAIL_ALLOW(fsetxattr),
    JAIL_ALLOW(flistxattr),
    JAIL_ALLOW(fremovexattr),
    /* What the C library needs for memory and an end. No code but ours. */
    {SYS_mmap, 2, PROT_EXEC, 0},
    {SYS_mprotect, 2, PROT_EXEC, 0},
    JAIL_ALLOW(munmap),
    JAIL_ALLOW(mremap),
    JAIL_ALLOW(madvise),
    JAIL_ALLOW(brk),
    JAIL_ALLOW(futex),
    JAIL_ALLOW(rt_sigprocmask),
    JAIL_ALLOW(rt_sigreturn),
    JAIL_ALLOW(restart_syscall),
    JAIL_ALLOW(getpid),
    JAIL_ALLOW(gettid),
    {SYS_tgkill, JAIL_SELF, 0, 0},
    JAIL_ALLOW(exit_group),
};

int fs_jail_leave_host(struct err *err)
{
    int r = jail_space_unshare();
    if (r == -EPERM) {
        return 0;
    }
    return r < 0 ? err_set(err, -r, "make namespaces") : 1;
}

int fs_jail_set_root(int *root_fd, struct err *err)
{
    AUTO(closep)
    int tree =
        open_tree(*root_fd, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    int r = tree < 0 ? -errno : jail_space_set_root(tree);
    if (r < 0) {
        return err_set(err, -r, "make the share the root directory");
    }
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        return err_set(err, errno, "open the share");
    }
    (void)close(*root_fd);
    *root_fd = root;
    return 0;
}

int fs_jail_enter(int root_fd, struct err *err)
{
    const uint64_t kept =
        1ULL << CAP_CHOWN | 1ULL << CAP_FOWNER | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FSETID;
    const struct rlimit none = {0, 0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
        setrlimit(RLIMIT_CORE, &none) < 0) {
        return err_set(err, errno, "give up rights");
    }
    int r = jail_restrict_files(root_fd, UINT64_MAX);
    if (r < 0) {
        return err_set(err, -r, "restrict files (Landlock)");
    }
    r = jail_keep_capabilities(kept);
    r = r < 0 ? r : jail_restrict_calls(rules, COUNT(rules));
    return r < 0 ? err_set(err, -r, "restrict system calls") : 0;
}
