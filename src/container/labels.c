#include "container/labels.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"

#define APPARMOR_ENABLED "/sys/module/apparmor/parameters/enabled"
#define SELINUX_ENFORCE "/sys/fs/selinux/enforce"

bool labels_wanted(const struct spec_process *process)
{
    return process->apparmor_profile != NULL || process->selinux_label != NULL;
}

/* The file is there, and says "N", when AppArmor is compiled in but was not chosen at boot. */
static bool has_apparmor(void)
{
    AUTO(buf_donep) struct buf text = {0};
    return read_file(APPARMOR_ENABLED, 64, &text) == 0 && text.data != NULL && text.data[0] == 'Y';
}

int labels_check(const struct spec_process *process, const char *mount_label, struct err *err)
{
    if (process->apparmor_profile != NULL && !has_apparmor()) {
        return err_say(err, EOPNOTSUPP,
                       "process.apparmorProfile = \"%s\": this host has no AppArmor",
                       process->apparmor_profile);
    }
    if ((process->selinux_label != NULL || mount_label != NULL) &&
        access(SELINUX_ENFORCE, F_OK) < 0) {
        return err_say(err, EOPNOTSUPP, "%s = \"%s\": this host has no SELinux",
                       process->selinux_label != NULL ? "process.selinuxLabel" : "linux.mountLabel",
                       process->selinux_label != NULL ? process->selinux_label : mount_label);
    }
    return 0;
}

/* Plain errno: the caller knows what the text means. */
static int write_attribute(int proc_fd, const char *name, const char *text)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "thread-self/attr/%s", name);
    AUTO(closep)
    int fd = open_resolved(proc_fd, path, O_WRONLY, 0, RESOLVE_NO_XDEV | RESOLVE_BENEATH);
    struct statfs fs;
    if (fd < 0) {
        return fd;
    }
    if (fstatfs(fd, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC) {
        return -EXDEV;
    }
    return write_full(fd, text, strlen(text));
}

/* AppArmor's own files came with Linux 5.8; before, it owns the common ones where it is active. */
static int write_apparmor(int proc_fd, const char *name, const char *verb, const char *profile,
                          struct err *err)
{
    char own[32];
    AUTO(freep) char *text = str_printf("%s %s", verb, profile);
    if (text == NULL) {
        return err_set(err, ENOMEM, "process.apparmorProfile");
    }
    (void)snprintf(own, sizeof(own), "apparmor/%s", name);
    int r = write_attribute(proc_fd, own, text);
    if (r == -ENOENT && faccessat(proc_fd, "thread-self/attr/apparmor", F_OK, 0) < 0) {
        r = write_attribute(proc_fd, name, text);
    }
    if (r == -ENOENT) {
        (void)err_say(err, ENOENT, "process.apparmorProfile = \"%s\": is not loaded", profile);
        err_hint(err, "load it by apparmor_parser -r FILE; aa-status lists what is there");
        return r;
    }
    return r < 0 ? err_set(err, -r, "process.apparmorProfile = \"%s\"", profile) : 0;
}

static int write_selinux(int proc_fd, const char *name, const char *label, struct err *err)
{
    int r = write_attribute(proc_fd, name, label);
    if (r == -EINVAL) {
        return err_say(err, EINVAL,
                       "process.selinuxLabel = \"%s\": the policy of this host does not know it",
                       label);
    }
    return r < 0 ? err_set(err, -r, "process.selinuxLabel = \"%s\"", label) : 0;
}

int labels_try(int proc_fd, const struct spec_process *process, struct err *err)
{
    int r = process->apparmor_profile == NULL
                ? 0
                : write_apparmor(proc_fd, "current", "permprofile", process->apparmor_profile, err);
    if (r == 0 && process->selinux_label != NULL) {
        r = write_selinux(proc_fd, "exec", process->selinux_label, err);
        /* Programs that run before the container's own one, as hooks, must not get it. */
        r = r < 0 ? r : write_selinux(proc_fd, "exec", "\n", err);
    }
    return r;
}

int labels_set_keys(int proc_fd, const struct spec_process *process, struct err *err)
{
    return process->selinux_label == NULL
               ? 0
               : write_selinux(proc_fd, "keycreate", process->selinux_label, err);
}

int labels_set(int proc_fd, const struct spec_process *process, struct err *err)
{
    int r = process->apparmor_profile == NULL
                ? 0
                : write_apparmor(proc_fd, "exec", "exec", process->apparmor_profile, err);
    return r < 0 || process->selinux_label == NULL
               ? r
               : write_selinux(proc_fd, "exec", process->selinux_label, err);
}

int labels_set_file(int fd, const char *label, struct err *err)
{
    return fsetxattr(fd, "security.selinux", label, strlen(label) + 1, 0) < 0
               ? err_set(err, errno, "linux.mountLabel = \"%s\"", label)
               : 0;
}
