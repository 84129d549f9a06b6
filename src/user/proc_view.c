#include "user/proc_view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/str.h"
#include "user/hwcap.h"
#include "user/user.h"

#define MAPS_MAX ((size_t)256 << 20)

/* The part of "/proc/PID/name" behind PID, or NULL. *ret_pid: 0 for this process. */
static const char *name_in_proc(const char *path, pid_t *ret_pid)
{
    if (!str_starts(path, "/proc/")) {
        return NULL;
    }
    path += strlen("/proc/");
    size_t len = strcspn(path, "/");
    *ret_pid = 0;
    if (!str_starts(path, "self/") && !str_starts(path, "thread-self/")) {
        unsigned long pid = strtoul(path, NULL, 10);
        if (len == 0 || len > 10 || strspn(path, "0123456789") != len || pid == 0 ||
            pid > INT32_MAX) {
            return NULL;
        }
        *ret_pid = pid == (unsigned long)getpid() ? 0 : (pid_t)pid;
    }
    path += len + (path[len] == '/');
    if (str_starts(path, "task/")) {
        path += strlen("task/");
        path += strspn(path, "0123456789");
        path += *path == '/';
    }
    return path;
}

/* Another process is one of ours when it executes the same file; then its program is open there. */
static bool is_ours(pid_t pid, int fd, char *room, size_t size)
{
    struct stat own;
    struct stat other;
    (void)snprintf(room, size, "/proc/%d/exe", (int)pid);
    if (stat("/proc/self/exe", &own) < 0 || stat(room, &other) < 0 || own.st_ino != other.st_ino ||
        own.st_dev != other.st_dev) {
        return false;
    }
    (void)snprintf(room, size, "/proc/%d/fd/%d", (int)pid, fd);
    return access(room, F_OK) == 0;
}

const char *proc_view_exe(const struct user *user, const char *path, char *room, size_t size)
{
    pid_t pid = 0;
    const char *name = name_in_proc(path, &pid);
    if (name == NULL || !str_eq(name, "exe")) {
        return path;
    }
    if (pid != 0) {
        return is_ours(pid, user->program_fd, room, size) ? room : path;
    }
    (void)snprintf(room, size, "/proc/self/fd/%d", user->program_fd);
    return room;
}

/* One line of proc(5)'s maps. */
struct mapping {
    uint64_t start, end, offset, inode;
    char rights[5];
    unsigned major, minor;
    const char *name; /* "" or a path; to the end of the line */
    size_t name_len;
};

static bool parse_mapping(const char *line, struct mapping *m)
{
    int n = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 "%n", &m->start,
               &m->end, m->rights, &m->offset, &m->major, &m->minor, &m->inode, &n) != 7) {
        return false;
    }
    m->name = line + n;
    m->name += strspn(m->name, " ");
    m->name_len = strcspn(m->name, "\n");
    return true;
}

static bool is_named(const struct mapping *m, const char *name)
{
    return m->name_len == strlen(name) && memcmp(m->name, name, m->name_len) == 0;
}

/* This program's own: its file, its code memory, the kernel's for it, kept translations. */
static bool is_of_host(const struct user *user, const struct mapping *m, const struct stat *self)
{
    const char *cache = user->translations.dir;
    if (m->inode == self->st_ino && makedev(m->major, m->minor) == self->st_dev) {
        return true;
    }
    if (cache != NULL && str_starts(m->name, cache) && m->name[strlen(cache)] == '/') {
        return true;
    }
    bool guest_stack = m->start < user->stack_top && user->stack_top <= m->end;
    if ((is_named(m, "[stack]") && !guest_stack) ||
        (m->start <= user->host_stack && user->host_stack < m->end)) {
        return true;
    }
    return is_named(m, "[heap]") || is_named(m, "[vdso]") || is_named(m, "[vvar]") ||
           is_named(m, "[vvar_vclock]") || is_named(m, "[vsyscall]") ||
           str_starts(m->name, "/memfd:" EMU_CODE_NAME " ");
}

static int add_mapping(struct buf *text, const struct user *user, const struct mapping *m)
{
    const char *label = NULL;
    if (m->name_len == 0 && m->start < user->stack_top && user->stack_top <= m->end) {
        label = "[stack]";
    } else if (m->name_len == 0 && m->start < user->brk && m->end > user->brk_start) {
        label = "[heap]";
    }
    size_t before = text->len;
    int r = buf_printf(text, "%08" PRIx64 "-%08" PRIx64 " %s %08" PRIx64 " %02x:%02x %" PRIu64 " ",
                       m->start, m->end, m->rights, m->offset, m->major, m->minor, m->inode);
    bool named = m->name_len > 0 || label != NULL;
    while (r == 0 && named && text->len - before < 73) {
        r = buf_add_char(text, ' ');
    }
    r = r < 0 || label == NULL ? r : buf_add_str(text, label);
    r = r < 0 ? r : buf_add(text, m->name, m->name_len);
    return r < 0 ? r : buf_add_char(text, '\n');
}

/* What the guest may execute has no right to it on the host: a line becomes several. */
static int add_with_rights(struct buf *text, struct user *user, struct mapping m)
{
    int r = 0;
    uint64_t end = m.end;
    while (r == 0 && m.start < end) {
        bool executable = false;
        m.end = pages_run(&user->pages, m.start, end, &executable);
        m.rights[2] = executable ? 'x' : '-';
        r = add_mapping(text, user, &m);
        m.offset += m.inode != 0 ? m.end - m.start : 0;
        m.start = m.end;
    }
    return r;
}

static int make_maps(struct user *user, struct buf *text)
{
    AUTO(buf_donep) struct buf host = {0};
    struct stat self;
    AUTO(closep) int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || stat("/proc/self/exe", &self) < 0) {
        return -errno;
    }
    int r = read_fd(fd, MAPS_MAX, &host);
    for (const char *line = host.data; r == 0 && line != NULL && *line != '\0';) {
        struct mapping m;
        if (parse_mapping(line, &m) && !is_of_host(user, &m, &self)) {
            r = add_with_rights(text, user, m);
        }
        line = strchr(line, '\n');
        line += line != NULL;
    }
    return r;
}

/* Software that asks for an implementer gets the number that Arm reserves for software. */
static int make_cpuinfo(struct buf *text)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    int r = 0;
    for (long i = 0; r == 0 && i < count; i++) {
        r = buf_printf(text, "processor\t: %ld\nBogoMIPS\t: 100.00\nFeatures\t: ", i);
        r = r < 0 ? r : hwcap_names(text);
        r = r < 0 ? r
                  : buf_add_str(text, "\nCPU implementer\t: 0x00\nCPU architecture: 8\n"
                                      "CPU variant\t: 0x0\nCPU part\t: 0x000\n"
                                      "CPU revision\t: 0\n\n");
    }
    return r;
}

static int make_memory(uint64_t start, uint64_t end, struct buf *text)
{
    return buf_add(text, user_pointer(start), end - start);
}

static int make_text(struct user *user, const char *path, struct buf *text)
{
    pid_t pid = 0;
    const char *name = name_in_proc(path, &pid);
    if (str_eq(path, "/proc/cpuinfo")) {
        return make_cpuinfo(text);
    }
    if (name == NULL || pid != 0) {
        return -ENOENT;
    }
    if (str_eq(name, "maps")) {
        return make_maps(user, text);
    }
    if (str_eq(name, "auxv") && !user->announced) {
        return make_memory(user->auxv, user->auxv_end, text);
    }
    if (str_eq(name, "cmdline") && !user->announced) {
        return make_memory(user->arguments, user->arguments_end, text);
    }
    return -ENOENT;
}

int proc_view_open(struct user *user, const char *path, int flags)
{
    AUTO(buf_donep) struct buf text = {0};
    if (!str_starts(path, "/proc/") || (flags & (O_ACCMODE | O_DIRECTORY | O_PATH)) != O_RDONLY) {
        return -ENOENT;
    }
    int r = make_text(user, path, &text);
    if (r < 0) {
        return r;
    }
    AUTO(closep)
    int fd = memfd_create("proc", (flags & O_CLOEXEC) != 0 ? MFD_CLOEXEC | MFD_ALLOW_SEALING
                                                           : MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    r = text.len > 0 ? write_full(fd, text.data, text.len) : 0;
    if (r < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        return r < 0 ? r : -errno;
    }
    return TAKE_FD(fd);
}

/* Field n, from 3 on, of /proc/self/stat. */
static uint64_t stat_field(const char *text, unsigned n)
{
    const char *at = strrchr(text, ')');
    for (unsigned i = 2; at != NULL && i < n; i++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

void proc_view_announce(struct user *user)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(closep) int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read_fd(fd, 4096, &text) < 0 || text.data == NULL) {
        return;
    }
    user->host_stack = stat_field(text.data, 28);
    /* prctl(2), PR_SET_MM_MAP: all at once needs no right. The host's own stay what they are. */
    const struct prctl_mm_map map = {
        .start_code = stat_field(text.data, 26),
        .end_code = stat_field(text.data, 27),
        .start_data = stat_field(text.data, 45),
        .end_data = stat_field(text.data, 46),
        .start_brk = stat_field(text.data, 47),
        .brk = (uint64_t)(uintptr_t)sbrk(0),
        .start_stack = user->stack_pointer,
        .arg_start = user->arguments,
        .arg_end = user->arguments_end,
        .env_start = user->arguments_end,
        .env_end = user->environment_end,
        .auxv = user_pointer(user->auxv),
        .auxv_size = (uint32_t)(user->auxv_end - user->auxv),
        .exe_fd = (uint32_t)-1,
    };
    user->announced = prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) == 0;
}
