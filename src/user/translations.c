#include "user/translations.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/macros.h"
#include "base/path.h"
#include "base/str.h"
#include "emu/emu.h"

#define PAGE 4096u
#define SYSTEM_DIR "/var/cache/isola/emulator"
#define FILES_MAX 4096u
/* What is written pays when it is read twice: so little, or so small a part, does not. */
#define FRESH_LEAST 8u
#define FRESH_PART 64u
/* Of one file, and of the directory: the oldest go. */
#define FILE_SIZE_MAX ((off_t)256 << 20)
#define DIR_SIZE_MAX ((off_t)512 << 20)

struct translations_file {
    uint64_t key;
    struct emu_file *file;
    bool for_all; /* everybody may read the guest's file */
};

/* A file of the directory in memory. */
struct mapped {
    void *data;
    size_t size;
};

static const char *default_dir(void)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (geteuid() == 0) {
        return SYSTEM_DIR;
    }
    if (cache != NULL && cache[0] == '/') {
        return str_printf("%s/isola/emulator", cache);
    }
    return home != NULL && home[0] == '/' ? str_printf("%s/.cache/isola/emulator", home) : NULL;
}

void translations_begin(struct translations *t, const char *dir)
{
    struct stat root;
    *t = (struct translations){.dir = dir == NULL ? default_dir() : dir, .uid = getuid()};
    if (stat("/", &root) == 0) {
        t->root_device = root.st_dev;
        t->root_inode = root.st_ino;
    }
    if (t->dir != NULL && t->dir[0] != '/') {
        t->dir = NULL; /* "none", and what another directory would make something else of */
    }
    (void)pthread_mutex_init(&t->lock, NULL);
}

/* Not one that was another, or can become one: it must not execute what a user wrote. */
static bool is_one_user(const struct translations *t)
{
    uid_t real = 0;
    uid_t effective = 0;
    uid_t saved = 0;
    return getresuid(&real, &effective, &saved) == 0 && real == t->uid && effective == t->uid &&
           saved == t->uid;
}

/* Nobody else could have put something there: files of others in a sticky directory are theirs. */
static bool is_trusted(const struct translations *t, const struct stat *st)
{
    bool others = (st->st_mode & (S_IWGRP | S_IWOTH)) != 0;
    bool sticky = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0;
    bool own = st->st_uid == t->uid && is_one_user(t);
    return (st->st_uid == 0 || own) && (!others || sticky);
}

static int open_dir(const struct translations *t)
{
    struct stat st;
    AUTO(closep) int fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, &st) < 0 || !is_trusted(t, &st)) {
        return -EPERM;
    }
    return TAKE_FD(fd);
}

static void name_of(uint64_t key, uid_t uid, char name[64])
{
    (void)snprintf(name, 64, "%016" PRIx64 ".%u", key, (unsigned)uid);
}

static struct mapped map_name(const struct translations *t, int dir_fd, const char *name)
{
    struct mapped none = {.data = NULL};
    struct stat st;
    AUTO(closep) int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !is_trusted(t, &st) ||
        st.st_size == 0 || st.st_size > FILE_SIZE_MAX) {
        return none;
    }
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    return data == MAP_FAILED ? none : (struct mapped){.data = data, .size = (size_t)st.st_size};
}

static void unmap(struct mapped m)
{
    if (m.data != NULL) {
        (void)munmap(m.data, m.size);
    }
}

/* This user's, else root's. */
static struct mapped map_key(const struct translations *t, int dir_fd, uint64_t key)
{
    char name[64];
    name_of(key, geteuid(), name);
    struct mapped m = map_name(t, dir_fd, name);
    if (m.data == NULL && geteuid() != 0) {
        name_of(key, 0, name);
        m = map_name(t, dir_fd, name);
    }
    return m;
}

/* FNV-1a of the first page, which has the build id of most files, and of the size. */
static bool key_of(int fd, uint64_t *ret_key, bool *ret_for_all)
{
    unsigned char page[PAGE];
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    ssize_t n = pread(fd, page, sizeof(page), 0);
    if (n < 64) {
        return false;
    }
    uint64_t hash = 0xcbf29ce484222325u ^ (uint64_t)st.st_size;
    for (ssize_t i = 0; i < n; i++) {
        hash = (hash ^ page[i]) * 0x100000001b3u;
    }
    *ret_key = hash;
    *ret_for_all = (st.st_mode & S_IROTH) != 0;
    return true;
}

/* The lock is held. */
static struct emu_file *add_file(struct translations *t, struct emu *emu, uint64_t key,
                                 bool for_all)
{
    AUTO(closep) int dir_fd = open_dir(t);
    struct mapped m = dir_fd < 0 ? (struct mapped){.data = NULL} : map_key(t, dir_fd, key);
    struct translations_file *grown = realloc(t->files, (t->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        unmap(m);
        return NULL;
    }
    t->files = grown;
    struct translations_file *file = &t->files[t->count];
    *file = (struct translations_file){.key = key, .for_all = for_all};
    if (emu_file_new(emu, m.data, m.size, &file->file) < 0) {
        unmap(m);
        return NULL;
    }
    t->count++;
    return file->file;
}

/* After chroot() the directory's path leads into somebody's tree. */
static bool is_same_root(const struct translations *t)
{
    struct stat root;
    return stat("/", &root) == 0 && root.st_dev == t->root_device && root.st_ino == t->root_inode;
}

void translations_map(struct translations *t, struct emu *emu, int fd, uint64_t at, uint64_t len,
                      uint64_t offset)
{
    uint64_t key = 0;
    bool for_all = false;
    struct emu_file *file = NULL;
    if (t->dir == NULL || !is_same_root(t) || !key_of(fd, &key, &for_all)) {
        return;
    }
    (void)pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->count && file == NULL; i++) {
        file = t->files[i].key == key ? t->files[i].file : NULL;
    }
    if (file == NULL && t->count < FILES_MAX) {
        file = add_file(t, emu, key, for_all);
    }
    if (file != NULL) {
        (void)emu_file_map(emu, file, at, (len + PAGE - 1) & ~(uint64_t)(PAGE - 1), offset);
    }
    (void)pthread_mutex_unlock(&t->lock);
}

static bool is_worth_it(struct emu *emu, const struct translations_file *file)
{
    size_t kept = 0;
    size_t fresh = 0;
    emu_file_count(emu, file->file, &kept, &fresh);
    return fresh >= FRESH_LEAST && fresh >= kept / FRESH_PART;
}

/* More would be a signal that ends the process, which has its exit code already. */
static bool may_write(size_t size)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && size <= limit.rlim_cur &&
           size <= (size_t)FILE_SIZE_MAX;
}

/* With what others wrote meanwhile; a file that has grown to half of its bound begins anew. */
static void write_file_of(const struct translations *t, struct emu *emu,
                          const struct translations_file *file, int dir_fd)
{
    AUTO(buf_donep) struct buf all = {0};
    char name[64];
    struct mapped now = map_key(t, dir_fd, file->key);
    bool full = now.size > (size_t)FILE_SIZE_MAX / 2;
    int r = emu_file_write(emu, file->file, full ? NULL : now.data, full ? 0 : now.size, &all);
    unmap(now);
    if (r == 0 && may_write(all.len)) {
        name_of(file->key, geteuid(), name);
        (void)replace_file_at(dir_fd, name, all.data, all.len, file->for_all ? 0644 : 0600, false);
    }
}

/* The oldest file that may be removed, of more than one; *ret_sum: the bytes of all. */
static bool oldest(int dir_fd, char name[64], off_t *ret_sum)
{
    struct timespec age = {0};
    size_t count = 0;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        (void)close_fd(fd);
        return false;
    }
    *ret_sum = 0;
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        struct stat st;
        if (fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
            strlen(e->d_name) >= 64 || st.st_uid != geteuid() || st.st_size == 0) {
            continue;
        }
        *ret_sum += st.st_size;
        bool older = st.st_mtim.tv_sec < age.tv_sec ||
                     (st.st_mtim.tv_sec == age.tv_sec && st.st_mtim.tv_nsec < age.tv_nsec);
        if (count == 0 || older) {
            age = st.st_mtim;
            memcpy(name, e->d_name, strlen(e->d_name) + 1);
        }
        count++;
    }
    (void)closedir(dir);
    return count > 1;
}

/* Not more than half of a small file system. */
static off_t most_of(int dir_fd)
{
    struct statvfs st;
    off_t half = fstatvfs(dir_fd, &st) < 0 ? DIR_SIZE_MAX : (off_t)(st.f_blocks * st.f_frsize / 2);
    return MIN(half, DIR_SIZE_MAX);
}

static void shrink(int dir_fd)
{
    char name[64];
    off_t sum = 0;
    const off_t most = most_of(dir_fd);
    while (oldest(dir_fd, name, &sum) && sum > most && unlinkat(dir_fd, name, 0) == 0) {
    }
}

/* Others write at the same time: who comes late leaves it to them. */
static int open_to_write(const struct translations *t, int *ret_lock)
{
    AUTO(closep) int dir_fd = open_dir(t);
    if (dir_fd == -ENOENT && mkdir_parents(t->dir, 0755) >= 0) {
        dir_fd = open_dir(t);
    }
    if (dir_fd < 0) {
        return -1;
    }
    char name[64];
    (void)snprintf(name, sizeof(name), "lock.%u", (unsigned)geteuid());
    *ret_lock = lock_file_at(dir_fd, name, LOCK_EXCLUSIVE, false);
    return *ret_lock < 0 ? -1 : TAKE_FD(dir_fd);
}

void translations_write(struct translations *t, struct emu *emu)
{
    AUTO(closep) int lock_fd = -1;
    AUTO(closep) int dir_fd = -1;
    if (t->dir == NULL || !is_same_root(t)) {
        return;
    }
    (void)pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->count; i++) {
        if (!is_worth_it(emu, &t->files[i])) {
            continue;
        }
        dir_fd = dir_fd < 0 ? open_to_write(t, &lock_fd) : dir_fd;
        if (dir_fd < 0) {
            break;
        }
        write_file_of(t, emu, &t->files[i], dir_fd);
    }
    if (dir_fd >= 0) {
        shrink(dir_fd);
    }
    (void)pthread_mutex_unlock(&t->lock);
}
