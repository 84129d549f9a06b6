#include "engine/kernel_modules.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "freestanding/byteorder.h"
#include "freestanding/elf.h"
#include "vmm/boot/payload.h"

/*
 * What a guest of ours loads, if the kernel does not have it inside; with a condition only where a
 * device has such a modalias (kernel.h). Buses come before what is on them.
 */
static const struct {
    const char *name;
    const char *condition;
} WANTED[] = {
    {"virtio", NULL},
    {"virtio_mmio", "acpi:LNRO0005"},
    {"virtio_pci", "pci:v00001AF4"},
    {"virtio_blk", "virtio:d00000002"},
    {"virtio_net", "virtio:d00000001"},
    {"virtio_rng", "virtio:d00000004"},
    {"virtio_console", "virtio:d00000003"},
    {"overlay", NULL},
    {"vmw_vsock_virtio_transport", "virtio:d00000013"},
    {"virtiofs", "virtio:d0000001A"},
    {"virtio_balloon", "virtio:d00000005"},
    {"erofs", NULL},
};

/* What a signed module ends with; before it are the lengths that the kernel knows as struct
 * module_signature. */
#define SIGNATURE_MARK "~Module signature appended~\n"
#define SIGNATURE_INFO_SIZE 12u

#define DEPTH_MAX 16u
#define TREE_MAX 50000u
#define MODULE_MAX ((uint64_t)64 << 20)
#define BUILTIN_MAX ((size_t)16 << 20)
#define SECTIONS_MAX 4096u

struct modules {
    int tree;
    int out;
    struct strv names;   /* "virtio_blk" */
    struct strv paths;   /* of each, below the tree */
    struct strv builtin; /* names */
    struct strv done;    /* names of those that are copied */
    struct strv order;   /* lines, in the order of loading */
    struct strv *missing;
};

static void modules_done(struct modules *m)
{
    strv_done(&m->names);
    strv_done(&m->paths);
    strv_done(&m->builtin);
    strv_done(&m->done);
    strv_done(&m->order);
}
DEFINE_DONEP(struct modules, modules_done)

/* "kernel/fs/fuse/virtio-fs.ko.xz" is the module "virtio_fs"; NULL: no module, or no memory. */
static char *name_of(const char *path)
{
    const char *base = strrchr(path, '/');
    base = base != NULL ? base + 1 : path;
    const char *end = strstr(base, ".ko");
    if (end == NULL || end == base || (end[3] != '\0' && end[3] != '.')) {
        return NULL;
    }
    char *name = strndup(base, (size_t)(end - base));
    for (char *c = name; c != NULL && *c != '\0'; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    return name;
}

static int add_module(struct modules *m, const char *path)
{
    AUTO(freep) char *name = name_of(path);
    if (name == NULL || !name_is_safe(name)) {
        return 0;
    }
    if (m->names.count >= TREE_MAX) {
        return -E2BIG;
    }
    int r = strv_add(&m->names, name);
    return r < 0 ? r : strv_add(&m->paths, path);
}

/* All modules below dir (taken over), whose path is prefix. */
static int walk(struct modules *m, int dir_fd, const char *prefix, unsigned depth)
{
    AUTO(closedirp) DIR *dir = fdopendir(dir_fd);
    const struct dirent *entry = NULL;
    int r = 0;
    if (dir == NULL) {
        r = -errno;
        (void)close(dir_fd);
        return r;
    }
    while (r == 0 && (entry = readdir(dir)) != NULL) {
        if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, "..")) {
            continue;
        }
        AUTO(freep) char *path = str_printf("%s/%s", prefix, entry->d_name);
        if (path == NULL) {
            return -ENOMEM;
        }
        int child =
            openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0) {
            r = errno == ENOTDIR ? add_module(m, path) : errno == ELOOP ? 0 : -errno;
        } else if (depth == DEPTH_MAX) {
            (void)close(child);
            r = -ELOOP;
        } else {
            r = walk(m, child, path, depth + 1);
        }
    }
    return r;
}

static int read_builtin(struct modules *m)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(strv_donep) struct strv lines = {0};
    int r = read_file_at(m->tree, "modules.builtin", BUILTIN_MAX, &text);
    if (r == -ENOENT) {
        return 0;
    }
    r = r < 0 || text.data == NULL ? r : strv_split(&lines, text.data, "\n");
    for (size_t i = 0; r == 0 && i < lines.count; i++) {
        char *name = name_of(lines.items[i]);
        r = name != NULL ? strv_push(&m->builtin, name) : 0;
    }
    return r;
}

/* The place of name among the modules, or -ENOENT. */
static ssize_t find(const struct modules *m, const char *name)
{
    for (size_t i = 0; i < m->names.count; i++) {
        if (str_eq(m->names.items[i], name)) {
            return (ssize_t)i;
        }
    }
    return -ENOENT;
}

/* The section of that name in a module's bytes; its content is *ret (in file). 1 or 0. */
static int find_section(const struct buf *file, const char *want, const char **ret, size_t *ret_len)
{
    struct elf_header h;
    struct elf_section s;
    struct elf_section names;
    struct elf_fault fault;
    if (!elf_read_header(file->data, file->len, file->len, &h, &fault) ||
        !elf_check_sections(&h, &fault) || h.section_count > SECTIONS_MAX) {
        return 0;
    }
    const char *table = file->data + h.section_offset;
    size_t table_len = (size_t)h.section_count * h.section_size;
    if (!elf_read_section(&h, table, table_len, h.section_names, &names, &fault) ||
        names.type == ELF_SECTION_NO_BITS) {
        return 0;
    }
    size_t want_size = strlen(want) + 1;
    for (unsigned i = 0; i < h.section_count; i++) {
        if (elf_read_section(&h, table, table_len, i, &s, &fault) &&
            s.type != ELF_SECTION_NO_BITS && s.name <= names.bytes &&
            want_size <= names.bytes - s.name &&
            memcmp(file->data + names.offset + s.name, want, want_size) == 0) {
            *ret = file->data + s.offset;
            *ret_len = s.bytes;
            return 1;
        }
    }
    return 0;
}

/* The names behind "depends=" in a module's section .modinfo: texts that end with NUL. */
static int read_depends(const struct buf *file, const char *path, struct strv *ret, struct err *err)
{
    static const char key[] = "depends=";
    const char *info = NULL;
    size_t len = 0;
    if (file->data == NULL || find_section(file, ".modinfo", &info, &len) == 0) {
        return err_say(err, ENOEXEC, "module '%s' is damaged: it has no section .modinfo", path);
    }
    for (size_t at = 0; at < len;) {
        size_t n = strnlen(info + at, len - at);
        if (n >= sizeof(key) - 1 && memcmp(info + at, key, sizeof(key) - 1) == 0) {
            AUTO(freep)
            char *list = strndup(info + at + sizeof(key) - 1, n - (sizeof(key) - 1));
            int r = list != NULL ? strv_split(ret, list, ",") : -ENOMEM;
            return r < 0 ? err_set(err, -r, "read module '%s'", path) : 0;
        }
        at += n + 1;
    }
    return 0;
}

/* The module at path, unpacked. */
static int read_module(const struct modules *m, const char *path, struct buf *ret, struct err *err)
{
    struct stat st;
    AUTO(closep) int out = memfd_create("module", MFD_CLOEXEC);
    AUTO(closep) int fd = open_in_root(m->tree, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0 || out < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return err_set(err, fd < 0 ? -fd : errno != 0 ? errno : EINVAL, "read module '%s'", path);
    }
    const struct payload payload = {
        .fd = fd,
        .what = "module",
        .name = path,
        .bytes = (uint64_t)st.st_size,
        .most = MODULE_MAX,
    };
    int r = payload_unpack(&payload, out, err);
    if (r < 0) {
        return r;
    }
    if (lseek(out, 0, SEEK_SET) < 0) {
        return err_set(err, errno, "read module '%s'", path);
    }
    r = read_fd(out, MODULE_MAX, ret);
    return r < 0 ? err_set(err, -r, "read module '%s'", path) : 0;
}

/*
 * A guest is given its modules by us, as it is its kernel: to check a signature of each costs more
 * than all the rest of their loading (RSA, in a machine that has just been born).
 */
static void cut_signature(struct buf *file)
{
    const size_t mark = sizeof(SIGNATURE_MARK) - 1;
    if (file->len < mark + SIGNATURE_INFO_SIZE ||
        memcmp(file->data + file->len - mark, SIGNATURE_MARK, mark) != 0) {
        return;
    }
    size_t rest = file->len - mark - SIGNATURE_INFO_SIZE;
    uint32_t bytes = load_be32(file->data + rest + SIGNATURE_INFO_SIZE - sizeof(bytes));
    if (bytes <= rest) {
        file->len = rest - bytes;
    }
}

static int write_module(const struct modules *m, const char *name, const struct buf *file,
                        struct err *err)
{
    AUTO(freep) char *target = str_printf("%s.ko", name);
    int r = target != NULL ? replace_file_at(m->out, target, file->data, file->len, 0644, false)
                           : -ENOMEM;
    return r < 0 ? err_set(err, -r, "keep module '%s'", name) : 0;
}

static int copy_once(struct modules *m, const char *name, struct buf *file, struct err *err)
{
    if (strv_has(&m->done, name)) {
        return 0;
    }
    cut_signature(file);
    int r = write_module(m, name, file, err);
    return r < 0 ? r : strv_add(&m->done, name) < 0 ? err_set(err, ENOMEM, "read modules") : 0;
}

/* One module behind those that it needs, all under the same condition. needed_by NULL: we want it.
 */
static int take(struct modules *m, const char *name, const char *condition, const char *needed_by,
                unsigned depth, struct err *err)
{
    AUTO(freep) char *always = str_printf("%s.ko", name);
    AUTO(freep)
    char *line =
        condition != NULL ? str_printf("%s %s.ko", condition, name) : str_printf("%s.ko", name);
    if (always == NULL || line == NULL) {
        return err_set(err, ENOMEM, "read modules");
    }
    if (strv_has(&m->order, always) || strv_has(&m->order, line) || strv_has(&m->builtin, name)) {
        return 0;
    }
    ssize_t place = find(m, name);
    if (place < 0 && needed_by != NULL) {
        return err_say(err, ENOENT, "module '%s' needs '%s', which the kernel does not have",
                       needed_by, name);
    }
    if (place < 0) {
        return strv_add(m->missing, name) < 0 ? err_set(err, ENOMEM, "read modules") : 0;
    }
    if (depth == DEPTH_MAX) {
        return err_say(err, ELOOP, "modules need each other without end, at '%s'", name);
    }
    AUTO(buf_donep) struct buf file = {0};
    AUTO(strv_donep) struct strv depends = {0};
    const char *path = m->paths.items[place];
    int r = read_module(m, path, &file, err);
    r = r < 0 ? r : read_depends(&file, path, &depends, err);
    for (size_t i = 0; r == 0 && i < depends.count; i++) {
        for (char *c = depends.items[i]; *c != '\0'; c++) {
            *c = *c == '-' ? '_' : *c;
        }
        r = take(m, depends.items[i], condition, name, depth + 1, err);
    }
    r = r < 0 ? r : copy_once(m, name, &file, err);
    return r < 0 ? r : strv_add(&m->order, line) < 0 ? err_set(err, ENOMEM, "read modules") : 0;
}

static int write_order(const struct modules *m)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < m->order.count; i++) {
        r = buf_printf(&text, "%s\n", m->order.items[i]);
    }
    return r < 0 ? r
                 : replace_file_at(m->out, "order", text.data != NULL ? text.data : "", text.len,
                                   0644, false);
}

int kernel_modules_copy(int tree, int out_dir, struct strv *ret_missing, struct err *err)
{
    AUTO(modules_donep)
    struct modules m = {.tree = tree, .out = out_dir, .missing = ret_missing};
    int top = openat(tree, "kernel", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int r = top < 0 ? -errno : walk(&m, top, "kernel", 0);
    r = r < 0 ? r : read_builtin(&m);
    if (r < 0) {
        return err_set(err, -r, "read the kernel's modules");
    }
    for (size_t i = 0; i < COUNT(WANTED); i++) {
        r = take(&m, WANTED[i].name, WANTED[i].condition, NULL, 0, err);
        if (r < 0) {
            return r;
        }
    }
    r = write_order(&m);
    return r < 0 ? err_set(err, -r, "keep the order of modules") : 0;
}
