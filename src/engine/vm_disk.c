#include "engine/vm_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/copy.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "engine/vm_store.h"

#define DISK_SIZE ((off_t)64 << 30)
#define TEMPLATE VM_STORE_TEMPLATE

static int make_file_system(const char *path, struct err *err)
{
    AUTO(closep) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, DISK_SIZE) < 0) {
        return err_set(err, errno, "make '%s'", path);
    }
    /* No journal: what a dead machine leaves half-written is thrown away, or checked by the next.
     */
    char *const argv[] = {
        "mkfs.ext4",
        "-q",
        "-F",
        "-O",
        "^has_journal,^resize_inode,sparse_super2",
        "-E",
        "lazy_itable_init=1,num_backup_sb=0,nodiscard",
        "-m",
        "0",
        "-U",
        "00000000-0000-0000-0000-000000000001",
        (char *)(uintptr_t)path,
        NULL,
    };
    int r = process_run(argv, NULL, err);
    if (r == -ENOENT) {
        err_hint(err, "apt-get install e2fsprogs");
    }
    return r;
}

/* Appears in one step; two that make it at once make the same. */
static int ensure_template(const char *directory, int dir, struct err *err)
{
    struct stat st;
    if (fstatat(dir, TEMPLATE, &st, 0) == 0) {
        return 0;
    }
    AUTO(freep) char *path = str_printf("%s/%s", directory, TEMPLATE);
    AUTO(freep) char *unfinished = path == NULL ? NULL : vm_store_unfinished(path);
    if (unfinished == NULL || path == NULL) {
        return err_set(err, ENOMEM, "make a disk");
    }
    int r = make_file_system(unfinished, err);
    if (r == 0 && rename(unfinished, path) < 0) {
        r = err_set(err, errno, "make '%s'", path);
    }
    if (r < 0) {
        (void)unlink(unfinished);
    }
    return r;
}

int vm_disk_scratch(const char *root, const char *root_dir, char **ret, struct err *err)
{
    AUTO(freep) char *templates = str_printf("%s/machines", root);
    AUTO(freep) char *path = str_printf("%s/%s", root_dir, VM_DISK_SCRATCH);
    if (templates == NULL || path == NULL) {
        return err_set(err, ENOMEM, "make a disk");
    }
    if (access(path, F_OK) == 0) {
        *ret = TAKE_PTR(path);
        return 0;
    }
    int r = mkdir_parents(templates, 0700);
    AUTO(closep) int from = open(templates, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closep) int to = open(root_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r < 0 || from < 0 || to < 0) {
        return err_set(err, r < 0 ? -r : errno, "open '%s'", from < 0 ? templates : root_dir);
    }
    r = ensure_template(templates, from, err);
    if (r < 0) {
        return r;
    }
    /* Under its own name first: a machine must never find half of it. */
    r = copy_name(from, to, TEMPLATE, NULL);
    if (r == 0 && renameat(to, TEMPLATE, to, VM_DISK_SCRATCH) < 0) {
        r = -errno;
    }
    if (r < 0) {
        (void)unlinkat(to, TEMPLATE, 0);
        return err_set(err, -r, "make '%s'", path);
    }
    *ret = TAKE_PTR(path);
    return 0;
}
