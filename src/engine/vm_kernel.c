#include "engine/vm_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dirs.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "engine/initramfs.h"
#include "engine/kernel.h"
#include "engine/vm_store.h"

#define MODULES_MAX ((size_t)64)
#define ORDER_MAX ((size_t)64 << 10)

struct parts {
    struct initramfs_entry entry[MODULES_MAX + 5];
    size_t count;
    struct strv paths; /* what the entries' names point to */
};

static void parts_done(struct parts *parts)
{
    for (size_t i = 0; i < parts->count; i++) {
        (void)close_fd(parts->entry[i].fd);
    }
    strv_done(&parts->paths);
}
DEFINE_DONEP(struct parts, parts_done)

static bool has_part(const struct parts *parts, const char *module)
{
    for (size_t i = 0; i < parts->paths.count; i++) {
        const char *path = parts->paths.items[i];
        if (str_starts(path, "modules/") && str_eq(path + strlen("modules/"), module)) {
            return true;
        }
    }
    return false;
}

static int add_module(struct parts *parts, int modules, const char *name, struct err *err)
{
    if (parts->count == COUNT(parts->entry) - 1) {
        return err_say(err, EMSGSIZE, "the kernel needs more than %zu modules", MODULES_MAX);
    }
    int r = strv_addf(&parts->paths, "modules/%s", name);
    int fd = r < 0 ? r : openat(modules, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, r < 0 ? -r : errno, "open module '%s'", name);
    }
    parts->entry[parts->count++] = (struct initramfs_entry){
        .path = parts->paths.items[parts->paths.count - 1],
        .mode = S_IFREG | 0644,
        .fd = fd,
    };
    return 0;
}

/* Devices that no workload waits for: entropy beside the CPU's own, and the balloon. */
static bool is_late(const char *line)
{
    return str_starts(line, "virtio:d00000004 ") || str_starts(line, "virtio:d00000005 ");
}

/* "order" goes along as the list: the agent loads them in it. */
static int add_modules(struct parts *parts, int kernel, struct buf *list, struct err *err)
{
    AUTO(buf_donep) struct buf order = {0};
    AUTO(closep) int modules = openat(kernel, "modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(strv_donep) struct strv names = {0};
    int r = modules < 0 ? -errno : read_file_at(modules, "order", ORDER_MAX, &order);
    r = r < 0 ? r : strv_split(&names, order.data == NULL ? "" : order.data, "\n");
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        r = buf_printf(list, "%s%s\n", is_late(names.items[i]) ? "late " : "", names.items[i]);
    }
    if (r < 0) {
        return err_set(err, -r, "read the kernel's modules");
    }
    parts->entry[parts->count++] = (struct initramfs_entry){
        .path = "modules/list",
        .mode = S_IFREG | 0644,
        .fd = -1,
        .data = list->data,
        .size = list->len,
    };
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        const char *space = strrchr(names.items[i], ' ');
        const char *name = space != NULL ? space + 1 : names.items[i]; /* behind its condition */
        if (!has_part(parts, name)) {
            r = add_module(parts, modules, name, err);
        }
    }
    return r;
}

static int add_program(struct parts *parts, const char *path, const char *name, struct err *err)
{
    AUTO(freep) char *program = dirs_helper(name);
    int fd = program == NULL ? -1 : open(program, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, errno, "open '%s'", program == NULL ? name : program);
    }
    parts->entry[parts->count++] =
        (struct initramfs_entry){.path = path, .mode = S_IFREG | 0755, .fd = fd};
    return 0;
}

static int write_initrd(int kernel, int out, struct err *err)
{
    AUTO(parts_donep) struct parts parts = {0};
    AUTO(buf_donep) struct buf list = {0};
    int r = add_program(&parts, "init", "isola-guest", err);
    r = r < 0 ? r : add_program(&parts, "isola-init", "isola-init", err);
    r = r < 0 ? r : add_program(&parts, "isola-files", "isola-files", err);
    r = r < 0 || kernel < 0 ? r : add_modules(&parts, kernel, &list, err);
    return r < 0 ? r : initramfs_write(parts.entry, parts.count, out, err);
}

/* One for each build of the agent, beside the kernel's directory, which never changes. */
static int ensure_initrd(const char *path, int kernel, struct err *err)
{
    if (access(path, F_OK) == 0) {
        return 0;
    }
    AUTO(freep) char *unfinished = vm_store_unfinished(path);
    AUTO(closep)
    int out =
        unfinished == NULL ? -1 : open(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0) {
        return err_set(err, errno, "make '%s'", path);
    }
    int r = write_initrd(kernel, out, err);
    if (r == 0 && rename(unfinished, path) < 0) {
        r = err_set(err, errno, "make '%s'", path);
    }
    if (r < 0) {
        (void)unlink(unfinished);
    }
    return r;
}

/* kernel: the directory of an installed one, or -1. */
static int find_initrd(const char *root, int kernel, char **ret, struct err *err)
{
    struct stat st = {0};
    AUTO(freep) char *directory = str_printf("%s/machines", root);
    AUTO(freep) char *initrd = NULL;
    if (directory == NULL || (kernel >= 0 && fstat(kernel, &st) < 0)) {
        return err_set(err, directory == NULL ? ENOMEM : errno, "find the kernel");
    }
    int r = mkdir_parents(directory, 0700);
    r = r < 0 ? err_set(err, -r, "make directory '%s'", directory)
              : vm_store_initrd(root, st.st_ino, &initrd, err);
    r = r < 0 ? r : ensure_initrd(initrd, kernel, err);
    if (r == 0) {
        *ret = TAKE_PTR(initrd);
    }
    return r;
}

int vm_kernel_find(const char *root, const char *kernel, char **ret_kernel, char **ret_initrd,
                   bool *ret_pci, struct err *err)
{
    bool is_file = kernel != NULL && kernel[0] == '/';
    AUTO(freep) char *path = is_file ? strdup(kernel) : NULL;
    AUTO(closep) int dir = is_file ? -1 : kernel_open(root, kernel, err);
    if (is_file && access(kernel, R_OK) < 0) {
        return err_set(err, errno, "--kernel '%s'", kernel);
    }
    if (!is_file && dir < 0) {
        return dir;
    }
    if (!is_file) {
        AUTO(freep) char *link = str_printf("/proc/self/fd/%d", dir);
        AUTO(freep) char *real = link == NULL ? NULL : realpath(link, NULL);
        path = real == NULL ? NULL : str_printf("%s/vmlinux", real);
    }
    if (path == NULL) {
        return err_set(err, ENOMEM, "find the kernel");
    }
    int r = find_initrd(root, dir, ret_initrd, err);
    if (r == 0) {
        *ret_kernel = TAKE_PTR(path);
        *ret_pci = dir >= 0 && faccessat(dir, "modules/virtio_pci.ko", F_OK, 0) == 0;
    }
    return r;
}
