#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <zlib.h>
#include <zstd.h>

#include "base/err.h"
#include "base/macros.h"
#include "base/path.h"
#include "kernel_file.h"
#include "unit.h"
#include "vmm/boot/boot.h"

/* Packs data as Linux' build does; returns the payload's length. */
typedef size_t (*pack_fn)(const uint8_t *data, size_t len, uint8_t *out, size_t size);

static size_t append_size(uint8_t *out, size_t packed, size_t len)
{
    store_le32(out + packed, (uint32_t)len);
    return packed + 4;
}

static size_t pack_gzip(const uint8_t *data, size_t len, uint8_t *out, size_t size)
{
    z_stream z = {0};
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (uint8_t *)(uintptr_t)data;
    z.avail_in = (uInt)len;
    z.next_out = out;
    z.avail_out = (uInt)size;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t packed = z.total_out;
    (void)deflateEnd(&z);
    return packed; /* its last four bytes are the size */
}

static size_t pack_xz(const uint8_t *data, size_t len, uint8_t *out, size_t size)
{
    size_t packed = 0;
    ck_assert_int_eq(
        lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, data, len, out, &packed, size), LZMA_OK);
    return append_size(out, packed, len);
}

/* Two blocks, though one would do, to see that both are taken. */
static size_t pack_lz4(const uint8_t *data, size_t len, uint8_t *out, size_t size)
{
    size_t at = 4;
    size_t half = len / 2;
    store_le32(out, 0x184c2102);
    for (unsigned i = 0; i < 2; i++) {
        size_t n = i == 0 ? half : len - half;
        int packed = LZ4_compress_default((const char *)data + i * half, (char *)out + at + 4,
                                          (int)n, (int)(size - at - 4));
        ck_assert_int_gt(packed, 0);
        store_le32(out + at, (uint32_t)packed);
        at += 4 + (size_t)packed;
    }
    return append_size(out, at, len);
}

static size_t pack_zstd(const uint8_t *data, size_t len, uint8_t *out, size_t size)
{
    size_t packed = ZSTD_compress(out, size, data, len, 19);
    ck_assert(!ZSTD_isError(packed));
    return append_size(out, packed, len);
}

static size_t pack_plain(const uint8_t *data, size_t len, uint8_t *out, size_t size)
{
    ck_assert_uint_le(len + 4, size);
    memcpy(out, data, len);
    return append_size(out, len, len);
}

static const struct {
    const char *name;
    pack_fn pack;
} methods[] = {
    {"gzip", pack_gzip}, {"xz", pack_xz},       {"lz4", pack_lz4},
    {"zstd", pack_zstd}, {"plain", pack_plain},
};

/* A bzImage around the ELF kernel of kernel_file.h; returns where its payload starts. */
static uint8_t *make_bzimage(pack_fn pack, struct kernel_file *elf, struct kernel_file *ret,
                             size_t *ret_len)
{
    static uint8_t payload[KERNEL_FILE_SIZE];
    kernel_file_elf(elf, true);
    *ret_len = pack(elf->data, elf->len, payload, sizeof(payload));
    kernel_file_bzimage(ret, payload, *ret_len);
    return ret->data + BZ_KERNEL_AT + BZ_PAYLOAD_AT;
}

struct cache {
    char path[32];
    int fd;
};

static void cache_open(struct cache *cache)
{
    *cache = (struct cache){.path = "/tmp/isola-unpack-XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(cache->path));
    cache->fd = open(cache->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(cache->fd, 0);
}

static void cache_done(struct cache *cache)
{
    (void)close(cache->fd);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, cache->path), 0);
}
DEFINE_DONEP(struct cache, cache_done)

/* The one name in the cache; empty when there is none. */
static void cache_entry(const struct cache *cache, char ret[256])
{
    AUTO(closedirp) DIR *dir = opendir(cache->path);
    ck_assert_ptr_nonnull(dir);
    ret[0] = '\0';
    struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            ck_assert_str_eq(ret, "");
            strcpy(ret, entry->d_name);
        }
    }
}

static int unpack(const struct kernel_file *k, const struct cache *cache, int *ret_fd,
                  struct err *err)
{
    AUTO(closep) int fd = kernel_file_fd(k->data, k->len);
    return boot_unpack_kernel(fd, "k", cache->fd, ret_fd, err);
}

static void check_same(int fd, const struct kernel_file *elf)
{
    static uint8_t data[KERNEL_FILE_SIZE];
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_uint_eq((uint64_t)st.st_size, elf->len);
    ck_assert_int_eq(read_full_at(fd, data, elf->len, 0), 0);
    ck_assert_mem_eq(data, elf->data, elf->len);
    ck_assert_int_lt((int)write(fd, "x", 1), 0); /* read only */
}

START_TEST(each_packing_of_linux_is_unpacked)
{
    for (size_t i = 0; i < COUNT(methods); i++) {
        AUTO(cache_donep) struct cache cache;
        struct kernel_file elf;
        struct kernel_file k;
        struct err err = ERR_NONE;
        size_t len = 0;
        AUTO(closep) int fd = -1;
        cache_open(&cache);
        (void)make_bzimage(methods[i].pack, &elf, &k, &len);
        ck_assert_msg(unpack(&k, &cache, &fd, &err) == 0, "%s", err.text);
        check_same(fd, &elf);
    }
}
END_TEST

START_TEST(an_elf_file_comes_back_as_it_is)
{
    AUTO(cache_donep) struct cache cache;
    struct kernel_file elf;
    struct err err = ERR_NONE;
    AUTO(closep) int fd = -1;
    char name[256];
    cache_open(&cache);
    kernel_file_elf(&elf, true);
    ck_assert_int_eq(unpack(&elf, &cache, &fd, &err), 0);
    static uint8_t data[KERNEL_FILE_SIZE];
    ck_assert_int_eq(read_full_at(fd, data, elf.len, 0), 0);
    ck_assert_mem_eq(data, elf.data, elf.len);
    cache_entry(&cache, name);
    ck_assert_str_eq(name, "");
}
END_TEST

static ino_t inode_of(int fd)
{
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    return st.st_ino;
}

START_TEST(a_kernel_is_unpacked_once)
{
    AUTO(cache_donep) struct cache cache;
    struct kernel_file elf;
    struct kernel_file k;
    struct err err = ERR_NONE;
    size_t len = 0;
    char name[256];
    AUTO(closep) int first = -1;
    AUTO(closep) int second = -1;
    AUTO(closep) int other = -1;
    cache_open(&cache);
    (void)make_bzimage(pack_zstd, &elf, &k, &len);
    ck_assert_int_eq(unpack(&k, &cache, &first, &err), 0);
    ck_assert_int_eq(unpack(&k, &cache, &second, &err), 0);
    ck_assert_uint_eq(inode_of(first), inode_of(second));
    cache_entry(&cache, name);
    ck_assert_uint_eq(strlen(name), 64 + strlen(".vmlinux"));
    /* Another content is another kernel, though the payload is the same. */
    k.data[0] = 1;
    ck_assert_int_eq(unlinkat(cache.fd, name, 0), 0);
    ck_assert_int_eq(unpack(&k, &cache, &other, &err), 0);
    char name2[256];
    cache_entry(&cache, name2);
    ck_assert_str_ne(name, name2);
}
END_TEST

START_TEST(a_damaged_entry_is_made_again)
{
    AUTO(cache_donep) struct cache cache;
    struct kernel_file elf;
    struct kernel_file k;
    struct err err = ERR_NONE;
    size_t len = 0;
    char name[256];
    cache_open(&cache);
    (void)make_bzimage(pack_lz4, &elf, &k, &len);
    for (unsigned i = 0; i < 4; i++) {
        AUTO(closep) int fd = -1;
        ck_assert_msg(unpack(&k, &cache, &fd, &err) == 0, "%u: %s", i, err.text);
        check_same(fd, &elf);
        cache_entry(&cache, name);
        AUTO(closep) int entry = openat(cache.fd, name, O_WRONLY | O_CLOEXEC);
        ck_assert_int_ge(entry, 0);
        if (i < 2) {
            ck_assert_int_eq(ftruncate(entry, (off_t)elf.len - 1 + 2 * (off_t)i), 0);
        } else {
            ck_assert_int_eq((int)pwrite(entry, "\0\0", 2, EH_MACHINE), 2);
        }
    }
}
END_TEST

START_TEST(many_may_unpack_at_once)
{
    AUTO(cache_donep) struct cache cache;
    struct kernel_file elf;
    struct kernel_file k;
    size_t len = 0;
    pid_t pids[8];
    char name[256];
    cache_open(&cache);
    (void)make_bzimage(pack_xz, &elf, &k, &len);
    for (size_t i = 0; i < COUNT(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct err err = ERR_NONE;
            int fd = -1;
            int r = unpack(&k, &cache, &fd, &err);
            struct stat st;
            _exit(r == 0 && fstat(fd, &st) == 0 && (size_t)st.st_size == elf.len ? 0 : 1);
        }
    }
    for (size_t i = 0; i < COUNT(pids); i++) {
        int status = 0;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    cache_entry(&cache, name);
    ck_assert_str_ne(name, "");
}
END_TEST

static void refused(const struct kernel_file *k, const char *words)
{
    AUTO(cache_donep) struct cache cache;
    struct err err = ERR_NONE;
    AUTO(closep) int fd = -1;
    char name[256];
    cache_open(&cache);
    int r = unpack(k, &cache, &fd, &err);
    ck_assert_msg(r == -ENOEXEC, "%s: %d", words, r);
    ck_assert_msg(strstr(err.text, words) != NULL, "'%s' lacks '%s'", err.text, words);
    cache_entry(&cache, name);
    ck_assert_str_eq(name, "");
}

START_TEST(damage_is_told_and_leaves_nothing)
{
    struct kernel_file elf;
    struct kernel_file k;
    size_t len = 0;
    for (size_t i = 0; i + 1 < COUNT(methods); i++) {
        char words[64];
        (void)snprintf(words, sizeof(words), "kernel 'k': its %s payload", methods[i].name);
        /* gzip and xz have a checksum; the others' headers make no sense any more. */
        uint8_t *payload = make_bzimage(methods[i].pack, &elf, &k, &len);
        bool checksum = methods[i].pack == pack_gzip || methods[i].pack == pack_xz;
        payload[checksum ? len / 2 : 5] ^= 0xe8;
        refused(&k, words);
        /* It says more, or less, than there is. */
        payload = make_bzimage(methods[i].pack, &elf, &k, &len);
        store_le32(payload + len - 4, (uint32_t)elf.len - 1);
        (void)snprintf(words, sizeof(words), "its %s payload unpacks to more", methods[i].name);
        /* gzip's own check of the length may see it first. */
        refused(&k, methods[i].pack == pack_gzip ? "its gzip payload" : words);
        store_le32(payload + len - 4, (uint32_t)elf.len + 1);
        (void)snprintf(words, sizeof(words), "its %s payload", methods[i].name);
        refused(&k, words);
        store_le32(payload + len - 4, (512U << 20) + 1);
        refused(&k, "at most 536870912 are taken");
        /* The end is missing. */
        payload = make_bzimage(methods[i].pack, &elf, &k, &len);
        store_le32(k.data + SH_PAYLOAD_LENGTH, (uint32_t)len - 20);
        store_le32(payload + len - 24, (uint32_t)elf.len);
        refused(&k, words);
    }
}
END_TEST

START_TEST(other_packings_are_named)
{
    static const struct {
        uint8_t magic[9];
        const char *words;
    } cases[] = {
        {"BZh91AY&S", "is packed by bzip2"},
        {{0x5d, 0, 0, 0x80}, "is packed by lzma"},
        {{0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a}, "is packed by lzo"},
        {"whatever", "is packed by an unknown method"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct kernel_file k;
        uint8_t payload[64] = {0};
        memcpy(payload, cases[i].magic, sizeof(cases[i].magic));
        store_le32(payload + 60, 1000);
        kernel_file_bzimage(&k, payload, sizeof(payload));
        refused(&k, cases[i].words);
        refused(&k, "gzip, xz, lz4 and zstd can be unpacked");
    }
}
END_TEST

START_TEST(what_is_no_kernel_is_refused)
{
    struct kernel_file elf;
    struct kernel_file k;
    size_t len = 0;
    (void)make_bzimage(pack_gzip, &elf, &k, &len);
    store_le32(k.data + SH_PAYLOAD_LENGTH, 0x7fffff);
    refused(&k, "setup header field payload_length 8388607 lies behind the end of the file");
    store_le32(k.data + SH_PAYLOAD_LENGTH, 0);
    refused(&k, "payload_length 0 leaves no kernel");
    memset(&k, 0, sizeof(k));
    k.len = 4096;
    refused(&k, "kernel 'k': is neither ELF nor bzImage");
    /* What comes out must be a kernel too. */
    static const struct {
        size_t at;
        uint8_t value;
        const char *words;
    } wrong[] = {
        {EH_MACHINE, 183, "ELF field e_machine 0xb7 is not x86"},
        {5, 2, "ELF field "},
        {EH_PHNUM, 0, "ELF field e_phnum 0x0 leaves nothing to load"},
        {PH(0) + PH_OFFSET + 7, 1, "p_offset"},
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        uint8_t payload[KERNEL_FILE_SIZE];
        kernel_file_elf(&elf, true);
        elf.data[wrong[i].at] = wrong[i].value;
        len = pack_zstd(elf.data, elf.len, payload, sizeof(payload));
        kernel_file_bzimage(&k, payload, len);
        refused(&k, wrong[i].words);
    }
    /* Sixty bytes that name x86-64 the other way round. */
    memset(&k, 0, sizeof(k));
    k.len = 60;
    memcpy(k.data, "\177ELF\1\2\1", 7);
    k.data[19] = 62;
    refused(&k, "ELF field EI_DATA 0x2 is not the order of x86");
}
END_TEST

int main(void)
{
    return unit_run("vmm/unpack", (const TTest *const[]){
                                      each_packing_of_linux_is_unpacked,
                                      an_elf_file_comes_back_as_it_is,
                                      a_kernel_is_unpacked_once,
                                      a_damaged_entry_is_made_again,
                                      many_may_unpack_at_once,
                                      damage_is_told_and_leaves_nothing,
                                      other_packings_are_named,
                                      what_is_no_kernel_is_refused,
                                      NULL,
                                  });
}
