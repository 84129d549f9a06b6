#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "freestanding/elf.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/payload.h"
#include "vmm/boot/setup_header.h"

#define HASH_BYTES 32u
#define ENTRY_SUFFIX ".vmlinux"
#define ENTRY_SIZE (HASH_BYTES * 2 + sizeof(ENTRY_SUFFIX))
#define CHUNK ((size_t)1 << 18)

/* A kernel file as it came. */
struct source {
    int fd;
    const char *name;
    uint64_t size;
    bool is_elf;
    struct payload payload; /* unless is_elf, as the next */
    uint64_t version_offset, version_end;
};

/* Whether fd is an ELF file of x86-64 with all its segments. */
static int check_elf(int fd, uint64_t size, const char *name, struct err *err)
{
    uint8_t head[ELF_HEADER_MAX] = {0};
    uint8_t table[ELF_SEGMENTS_MAX * 56];
    struct elf_header h;
    struct elf_fault fault = {0};
    size_t head_len = (size_t)MIN(size, (uint64_t)sizeof(head));
    int r = read_full_at(fd, head, head_len, 0);
    if (r < 0) {
        return err_set(err, -r, "read kernel '%s'", name);
    }
    bool good = elf_read_header(head, head_len, size, &h, &fault);
    if (good && h.machine != ELF_MACHINE_X86_64 && h.machine != ELF_MACHINE_386) {
        fault = (struct elf_fault){"e_machine", h.machine, "is not x86"};
        good = false;
    } else if (good && h.big_endian) {
        fault = (struct elf_fault){"EI_DATA", 2, "is not the order of x86"};
        good = false;
    } else if (good && h.segment_count == 0) {
        fault = (struct elf_fault){"e_phnum", 0, "leaves nothing to load"};
        good = false;
    }
    size_t len = good ? (size_t)h.segment_count * h.segment_size : 0;
    r = read_full_at(fd, table, len, good ? h.segment_offset : 0);
    if (r < 0) {
        return err_set(err, -r, "read kernel '%s'", name);
    }
    for (unsigned i = 0; good && i < h.segment_count; i++) {
        struct elf_segment s;
        good = elf_read_segment(&h, table, len, i, &s, &fault);
    }
    return good ? 0
                : err_say(err, ENOEXEC, "kernel '%s': ELF field %s 0x%" PRIx64 " %s", name,
                          fault.field, fault.value, fault.problem);
}

static int source_open(int fd, const char *name, struct source *ret, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return err_set(err, errno, "read kernel '%s'", name);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_say(err, ENOEXEC, "kernel '%s': is no file", name);
    }
    *ret = (struct source){.fd = fd, .name = name, .size = (uint64_t)st.st_size};
    uint8_t head[SETUP_HEADER_END] = {0};
    size_t head_len = (size_t)MIN(ret->size, (uint64_t)sizeof(head));
    int r = read_full_at(fd, head, head_len, 0);
    if (r < 0) {
        return err_set(err, -r, "read kernel '%s'", name);
    }
    if (memcmp(head, "\177ELF", 4) == 0) {
        ret->is_elf = true;
        return check_elf(fd, ret->size, name, err);
    }
    struct setup_header h;
    struct setup_fault fault = {0};
    if (!setup_header_is(head, head_len)) {
        return err_say(err, ENOEXEC, "kernel '%s': is neither ELF nor bzImage", name);
    }
    if (!setup_header_read(head, head_len, ret->size, &h, &fault)) {
        return err_say(err, ENOEXEC, "kernel '%s': setup header field %s %" PRIu64 " %s", name,
                       fault.field, fault.value, fault.problem);
    }
    ret->version_offset = h.version_offset;
    ret->version_end = h.kernel_offset;
    ret->payload = (struct payload){.fd = fd,
                                    .what = "kernel",
                                    .name = name,
                                    .offset = h.payload_offset,
                                    .bytes = h.payload_bytes};
    return payload_size(&ret->payload, err);
}

/* out: an empty file. */
static int unpack_to(const struct source *source, int out, struct err *err)
{
    int r = payload_unpack(&source->payload, out, err);
    return r < 0 ? r : check_elf(out, source->payload.most, source->name, err);
}

static int copy_to(const struct source *source, int out, struct err *err)
{
    AUTO(freep) char *piece = malloc(CHUNK);
    if (piece == NULL) {
        return err_set(err, ENOMEM, "copy kernel '%s'", source->name);
    }
    for (uint64_t at = 0; at < source->size;) {
        size_t n = (size_t)MIN((uint64_t)CHUNK, source->size - at);
        int r = read_full_at(source->fd, piece, n, at);
        r = r < 0 ? r : write_full(out, piece, n);
        if (r < 0) {
            return err_set(err, -r, "copy kernel '%s'", source->name);
        }
        at += n;
    }
    return 0;
}

int boot_unpack_to(int kernel_fd, const char *name, int out_fd, struct err *err)
{
    struct source source;
    int r = source_open(kernel_fd, name, &source, err);
    if (r < 0) {
        return r;
    }
    return source.is_elf ? copy_to(&source, out_fd, err) : unpack_to(&source, out_fd, err);
}

int boot_kernel_version(int kernel_fd, const char *name, char ret[BOOT_VERSION_SIZE],
                        struct err *err)
{
    struct source source;
    char text[BOOT_VERSION_SIZE] = "";
    int r = source_open(kernel_fd, name, &source, err);
    if (r < 0) {
        return r;
    }
    if (source.version_offset == 0) {
        return err_say(err, ENOENT, "kernel '%s' does not say its version", name);
    }
    uint64_t left = source.version_end - source.version_offset;
    r = read_full_at(kernel_fd, text, (size_t)MIN(left, (uint64_t)sizeof(text) - 1),
                     source.version_offset);
    if (r < 0) {
        return err_set(err, -r, "read kernel '%s'", name);
    }
    text[strcspn(text, " ")] = '\0';
    memcpy(ret, text, sizeof(text));
    return 0;
}

static void md_freep(EVP_MD_CTX **md)
{
    EVP_MD_CTX_free(*md);
}

/* The SHA-256 of the whole file as the name of its cache entry. */
static int name_entry(const struct source *source, char ret[ENTRY_SIZE], struct err *err)
{
    AUTO(md_freep) EVP_MD_CTX *md = EVP_MD_CTX_new();
    AUTO(freep) char *piece = malloc(CHUNK);
    if (md == NULL || piece == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
        return err_set(err, ENOMEM, "read kernel '%s'", source->name);
    }
    for (uint64_t at = 0; at < source->size;) {
        size_t n = (size_t)MIN((uint64_t)CHUNK, source->size - at);
        int r = read_full_at(source->fd, piece, n, at);
        if (r < 0) {
            return err_set(err, -r, "read kernel '%s'", source->name);
        }
        (void)EVP_DigestUpdate(md, piece, n);
        at += n;
    }
    uint8_t hash[EVP_MAX_MD_SIZE] = {0};
    (void)EVP_DigestFinal_ex(md, hash, NULL);
    for (size_t i = 0; i < HASH_BYTES; i++) {
        (void)snprintf(ret + 2 * i, 3, "%02x", hash[i]);
    }
    memcpy(ret + HASH_BYTES * 2, ENTRY_SUFFIX, sizeof(ENTRY_SUFFIX));
    return 0;
}

/* The cache's entry, when it is whole; a damaged one is removed. -ENOENT: none. */
static int take_entry(const struct source *source, int dir, const char *entry)
{
    AUTO(closep) int fd = openat(dir, entry, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    struct err ignored = ERR_NONE;
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size == source->payload.most &&
        check_elf(fd, (uint64_t)st.st_size, source->name, &ignored) == 0) {
        return TAKE_FD(fd);
    }
    /* Another may have put a good one there meanwhile: it has it open then, and we make one more.
     */
    return unlinkat(dir, entry, 0) < 0 && errno != ENOENT ? -errno : -ENOENT;
}

/*
 * Makes the entry in one step: a file without a name that gets its name when it is whole. Returns a
 * descriptor of it, which is good even when another's entry has the name meanwhile.
 */
static int make_entry(const struct source *source, int dir, const char *entry, struct err *err)
{
    AUTO(closep) int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_set(err, errno, "make a file in the cache of kernels");
    }
    int r = unpack_to(source, fd, err);
    if (r < 0) {
        return r;
    }
    char self[32];
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (fdatasync(fd) < 0 ||
        (linkat(AT_FDCWD, self, dir, entry, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST)) {
        return err_set(err, errno, "keep the unpacked kernel '%s'", source->name);
    }
    int reader = open(self, O_RDONLY | O_CLOEXEC);
    return reader >= 0 ? reader
                       : err_set(err, errno, "open the unpacked kernel '%s'", source->name);
}

int boot_unpack_kernel(int kernel_fd, const char *name, int cache_dir_fd, int *ret_fd,
                       struct err *err)
{
    struct source source;
    char entry[ENTRY_SIZE];
    int r = source_open(kernel_fd, name, &source, err);
    if (r < 0) {
        return r;
    }
    if (source.is_elf) {
        int fd = fcntl(kernel_fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0) {
            return err_set(err, errno, "open kernel '%s'", name);
        }
        *ret_fd = fd;
        return 0;
    }
    r = name_entry(&source, entry, err);
    if (r < 0) {
        return r;
    }
    int fd = take_entry(&source, cache_dir_fd, entry);
    if (fd == -ENOENT) {
        fd = make_entry(&source, cache_dir_fd, entry, err);
        /* By its name, so that its path can be told. */
        int named = fd >= 0 ? take_entry(&source, cache_dir_fd, entry) : -1;
        if (named >= 0) {
            (void)close_fd(fd);
            fd = named;
        }
    } else if (fd < 0) {
        return err_set(err, -fd, "open the unpacked kernel '%s'", name);
    }
    if (fd < 0) {
        return fd;
    }
    *ret_fd = fd;
    return 0;
}
