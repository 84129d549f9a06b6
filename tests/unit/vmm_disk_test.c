#include "vmm/disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/err.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/macros.h"
#include "base/path.h"
#include "freestanding/byteorder.h"
#include "unit.h"
#include "vmm/disk/create.h"
#include "vmm/disk/uring.h"

#define CLUSTER 65536U
#define SIZE (4U << 20)

struct place {
    char name[32];
    int fd;
    struct loop *loop;
    struct disk *disk;
    struct err err;
};

static void place_open(struct place *p)
{
    *p = (struct place){.name = "/tmp/isola-disk-XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(p->name));
    p->fd = open(p->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(p->fd, 0);
    ck_assert_int_eq(loop_new(&p->loop), 0);
}

static void place_done(struct place *p)
{
    disk_free(p->disk);
    loop_free(p->loop);
    (void)close(p->fd);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, p->name), 0);
}
DEFINE_DONEP(struct place, place_done)

static void make(const struct place *p, const char *name, const char *backing, const char *format)
{
    const struct disk_create_options options = {
        .format = "qcow2", .size = SIZE, .backing = backing, .backing_format = format};
    struct err err = ERR_NONE;
    ck_assert_msg(disk_create(p->fd, name, &options, &err) == 0, "%s", err.text);
}

/* Opens name below the place; the result of disk_open(). */
static int open_disk(struct place *p, const char *name, const char *format, bool read_only,
                     bool may_have_backing)
{
    disk_free(TAKE_PTR(p->disk));
    p->err = ERR_NONE;
    AUTO(freep) char *path = NULL;
    ck_assert_int_ge(asprintf(&path, "%s/%s", p->name, name), 0);
    const struct disk_options options = {
        .format = format, .read_only = read_only, .dir_fd = may_have_backing ? p->fd : -1};
    return disk_open(path, -1, &options, p->loop, &p->disk, &p->err);
}

static void poke(const struct place *p, const char *name, uint64_t offset, const void *data,
                 size_t len)
{
    AUTO(closep) int fd = openat(p->fd, name, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, data, len, (off_t)offset), (ssize_t)len);
}

static void poke64(const struct place *p, const char *name, uint64_t offset, uint64_t value)
{
    uint8_t raw[8];
    store_be64(raw, value);
    poke(p, name, offset, raw, sizeof(raw));
}

struct call {
    struct disk_request request;
    struct iovec iov;
    bool done;
    int error;
};

static void on_done(struct disk_request *request, int error)
{
    struct call *call = CONTAINER_OF(request, struct call, request);
    ck_assert(!call->done);
    call->done = true;
    call->error = error;
}

static int request(struct disk *disk, enum disk_op op, uint64_t offset, void *data, size_t len)
{
    struct call call = {.iov = {.iov_base = data, .iov_len = len}};
    call.request = (struct disk_request){
        .op = op, .offset = offset, .len = len, .iov = &call.iov, .iov_count = 1, .done = on_done};
    disk_submit(disk, &call.request);
    ck_assert_int_eq(disk_drain(disk), 0);
    ck_assert(call.done);
    return call.error;
}

START_TEST(wrong_headers_are_refused_by_the_name_of_the_field)
{
    static const struct {
        unsigned offset, bytes;
        uint64_t value;
        const char *want;
    } cases[] = {
        {0, 4, 0x514649fc, "magic"},
        {4, 4, 1, "version 1"},
        {4, 4, 4, "version 4"},
        {8, 8, 50, "backing_file_offset 50"},
        {8, 8, UINT64_MAX, "backing_file_offset"},
        {8, 8, CLUSTER - 1, "backing_file_offset 65535"},
        {16, 4, 1024, "backing_file_size 1024"},
        {20, 4, 8, "cluster_bits 8"},
        {20, 4, 22, "cluster_bits 22"},
        {20, 4, UINT32_MAX, "cluster_bits"},
        {24, 8, UINT64_MAX, "size"},
        {24, 8, 1ULL << 40, "l1_size 1"},
        {32, 4, 1, "crypt_method 1"},
        {32, 4, 2, "encryption"},
        {36, 4, 0, "l1_size 0"},
        {36, 4, UINT32_MAX, "l1_size"},
        {36, 4, 1U << 20, "l1_table_offset"},
        {40, 8, 1, "l1_table_offset 1"},
        {40, 8, 0, "l1_table_offset 0"},
        {40, 8, 1ULL << 60, "l1_table_offset"},
        {40, 8, 1ULL << 40, "l1_table_offset"},
        {40, 8, CLUSTER, "l1_table_offset 65536 lies in the refcount table"},
        {48, 8, 512, "refcount_table_offset 512"},
        {48, 8, 0, "refcount_table_offset 0"},
        {48, 8, 1ULL << 50, "refcount_table_offset"},
        {56, 4, 0, "refcount_table_clusters 0"},
        {56, 4, UINT32_MAX, "refcount_table_clusters"},
        {60, 4, 65537, "nb_snapshots 65537"},
        {60, 4, 1, "snapshots_offset 0"},
        {72, 8, 1ULL << 2, "external data file"},
        {72, 8, 1ULL << 4, "extended L2 entries"},
        {72, 8, 1ULL << 5, "feature bit 5"},
        {72, 8, 1ULL << 63, "feature bit 63"},
        {72, 8, 1ULL << 1, "marked corrupt"},
        {96, 4, 7, "refcount_order 7"},
        {96, 4, UINT32_MAX, "refcount_order"},
        {100, 4, 103, "header_length 103"},
        {100, 4, 96, "header_length 96"},
        {100, 4, CLUSTER + 8, "header_length 65544"},
        {112, 4, 0xe2792aca, "extension length 4294967295"},
    };
    AUTO(place_donep) struct place p;
    place_open(&p);
    for (size_t i = 0; i < COUNT(cases); i++) {
        (void)unlinkat(p.fd, "x", 0);
        make(&p, "x", NULL, NULL);
        uint8_t raw[8];
        store_be64(raw, cases[i].bytes == 8 ? cases[i].value : cases[i].value << 32);
        if (cases[i].offset == 16) {
            poke64(&p, "x", 8, 200);
        }
        if (cases[i].offset == 8) {
            poke(&p, "x", 16, "\0\0\0\2", 4);
        }
        if (cases[i].offset == 112) {
            poke64(&p, "x", 116, UINT64_MAX);
        }
        poke(&p, "x", cases[i].offset, raw, cases[i].bytes);
        int r = open_disk(&p, "x", "qcow2", false, true);
        ck_assert_msg(r < 0, "offset %u value %llu was accepted", cases[i].offset,
                      (unsigned long long)cases[i].value);
        ck_assert_msg(strstr(p.err.text, cases[i].want) != NULL, "'%s' does not name '%s'",
                      p.err.text, cases[i].want);
    }
    /* With the compression type's bit. */
    (void)unlinkat(p.fd, "x", 0);
    make(&p, "x", NULL, NULL);
    poke64(&p, "x", 72, 1ULL << 3);
    poke(&p, "x", 104, "\x02", 1);
    ck_assert_int_lt(open_disk(&p, "x", "qcow2", false, true), 0);
    ck_assert_ptr_nonnull(strstr(p.err.text, "compression_type 2"));
    (void)unlinkat(p.fd, "x", 0);
    ck_assert_int_eq(replace_file_at(p.fd, "x", "QFI\xfb\0\0\0\3", 8, 0600, false), 0);
    ck_assert_int_lt(open_disk(&p, "x", "qcow2", true, true), 0);
    ck_assert_ptr_nonnull(strstr(p.err.text, "file size 8"));
}
END_TEST

/* Of an image made by make(): where its tables lie. */
#define REFTABLE CLUSTER
#define REFBLOCK (2U * CLUSTER)
#define L1 (3U * CLUSTER)
#define L2 (4U * CLUSTER)
#define DATA (5U * CLUSTER)

static void make_written(struct place *p)
{
    static uint8_t data[CLUSTER];
    (void)unlinkat(p->fd, "x", 0);
    make(p, "x", NULL, NULL);
    ck_assert_int_eq(open_disk(p, "x", "qcow2", false, false), 0);
    ck_assert_int_eq(request(p->disk, DISK_WRITE, 0, data, sizeof(data)), 0);
    disk_free(TAKE_PTR(p->disk));
}

START_TEST(tables_that_point_astray_are_refused_or_end_in_an_io_error)
{
    static const struct {
        uint64_t place, value;
        const char *want; /* of opening; NULL: opens, and then writing fails */
    } cases[] = {
        {L1, 1ULL << 63, NULL}, /* nothing but a flag: a table is made; must not fail */
        {L1, 512, "L1 entry 0"},
        {L1, 1ULL << 50, "lies outside the file"},
        {L1, REFTABLE, "is that of another table"},
        {L1, L1, "is that of another table"},
        {L1, REFBLOCK, "is that of another table"},
        {REFTABLE, 0x200, "refcount table entry 0"},
        {REFTABLE, 1ULL << 50, "lies outside the file"},
        {REFTABLE, L1, "is that of another table"},
        {REFTABLE + 8, REFBLOCK, "is that of another table"},
        {L2, 1ULL << 63 | 1ULL << 50, NULL},
        {L2, 1ULL << 63 | (DATA + 512), NULL},
        {L2, 1ULL << 63 | L1, NULL},
        {L2, 1ULL << 63 | L2, NULL},
        {L2, 1ULL << 63 | REFTABLE, NULL},
        {L2, 1ULL << 63 | REFBLOCK, NULL},
        {L2, 1ULL << 63 | 1 | L1, NULL},
    };
    static uint8_t data[512];
    AUTO(place_donep) struct place p;
    place_open(&p);
    for (size_t i = 0; i < COUNT(cases); i++) {
        make_written(&p);
        poke64(&p, "x", cases[i].place, cases[i].value);
        int r = open_disk(&p, "x", "qcow2", false, false);
        if (cases[i].want != NULL) {
            ck_assert_int_lt(r, 0);
            ck_assert_msg(strstr(p.err.text, cases[i].want) != NULL, "%zu: '%s'", i, p.err.text);
            continue;
        }
        ck_assert_msg(r == 0, "%zu: %s", i, p.err.text);
        bool harmless = i == 0;
        ck_assert_msg((request(p.disk, DISK_WRITE, 0, data, 512) == -EIO) != harmless, "%zu", i);
        if (!harmless) {
            ck_assert_int_eq(request(p.disk, DISK_WRITE, CLUSTER, data, 512), -EIO);
            /* Said in the image, too: it does not open again. */
            ck_assert_int_lt(open_disk(&p, "x", "qcow2", false, false), 0);
            ck_assert_ptr_nonnull(strstr(p.err.text, "marked corrupt"));
            ck_assert_int_eq(open_disk(&p, "x", "qcow2", true, false), 0);
        }
    }
}
END_TEST

START_TEST(counts_that_call_tables_free_do_not_get_them_overwritten)
{
    static uint8_t zeros[32];
    static uint8_t data[512];
    AUTO(place_donep) struct place p;
    place_open(&p);
    make_written(&p);
    poke(&p, "x", REFBLOCK, zeros, sizeof(zeros));
    ck_assert_int_eq(open_disk(&p, "x", "qcow2", false, false), 0);
    ck_assert_int_eq(request(p.disk, DISK_WRITE, CLUSTER, data, 512), -EIO);
    disk_free(TAKE_PTR(p.disk));
    uint8_t magic[4];
    AUTO(closep) int fd = openat(p.fd, "x", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, magic, 4, 0), 4);
    ck_assert_uint_eq(load_be32(magic), 0x514649fb);
}
END_TEST

START_TEST(backing_files_stay_below_the_directory)
{
    AUTO(place_donep) struct place p;
    place_open(&p);
    ck_assert_int_eq(replace_file_at(p.fd, "base", "x", 1, 0600, false), 0);
    ck_assert_int_eq(symlinkat("/etc/hostname", p.fd, "link"), 0);
    ck_assert_int_eq(symlinkat("base", p.fd, "inside"), 0);
    ck_assert_int_eq(mkfifoat(p.fd, "fifo", 0600), 0);
    static const struct {
        const char *name, *format;
        const char *want; /* NULL: opens */
    } cases[] = {
        {"base", "raw", NULL},
        {"inside", "raw", NULL},
        {"link", "raw", "leads out"},
        {"../../etc/hostname", "raw", "leads out"},
        {"/etc/hostname", "raw", "leads out"},
        {"fifo", "raw", "neither a file"},
        {"missing", "raw", "No such file"},
        {"json:{}", "raw", "only names of files"},
        {"nbd://x/y", "raw", "only names of files"},
        {"base", "qcow2", "file size 1"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        (void)unlinkat(p.fd, "x", 0);
        make(&p, "x", cases[i].name, cases[i].format);
        int r = open_disk(&p, "x", "qcow2", false, true);
        ck_assert_msg((r == 0) == (cases[i].want == NULL), "%s: %d %s", cases[i].name, r,
                      p.err.text);
        ck_assert_msg(cases[i].want == NULL || strstr(p.err.text, cases[i].want) != NULL,
                      "%s: '%s'", cases[i].name, p.err.text);
    }
    (void)unlinkat(p.fd, "x", 0);
    make(&p, "x", "base", "raw");
    ck_assert_int_eq(open_disk(&p, "x", "qcow2", false, false), -EPERM);
    poke(&p, "x", 112, "\0\0\0\0", 4); /* the extension with the format */
    ck_assert_int_lt(open_disk(&p, "x", "qcow2", false, true), 0);
    ck_assert_ptr_nonnull(strstr(p.err.text, "does not say its format"));
}
END_TEST

START_TEST(circles_and_deep_chains_are_refused)
{
    AUTO(place_donep) struct place p;
    place_open(&p);
    make(&p, "a", "b", "qcow2");
    make(&p, "b", "a", "qcow2");
    make(&p, "self", "self", "qcow2");
    ck_assert_int_eq(open_disk(&p, "a", "qcow2", false, true), -ELOOP);
    ck_assert_ptr_nonnull(strstr(p.err.text, "circle"));
    ck_assert_int_eq(open_disk(&p, "self", "qcow2", true, true), -ELOOP);
    make(&p, "n0", NULL, NULL);
    for (unsigned i = 1; i <= 17; i++) {
        char name[8];
        char below[8];
        (void)snprintf(name, sizeof(name), "n%u", i);
        (void)snprintf(below, sizeof(below), "n%u", i - 1);
        make(&p, name, below, "qcow2");
    }
    ck_assert_int_eq(open_disk(&p, "n16", "qcow2", false, true), 0);
    ck_assert_int_eq(open_disk(&p, "n17", "qcow2", false, true), -ELOOP);
    ck_assert_ptr_nonnull(strstr(p.err.text, "more than 16"));
}
END_TEST

START_TEST(requests_are_checked_before_anything_is_done)
{
    static uint8_t data[1024];
    AUTO(place_donep) struct place p;
    place_open(&p);
    make(&p, "x", NULL, NULL);
    static const struct {
        uint64_t offset;
        size_t len;
        int want;
    } cases[] = {
        {0, 512, 0},
        {SIZE - 512, 512, 0},
        {SIZE - 512, 1024, -ERANGE},
        {SIZE, 512, -ERANGE},
        {UINT64_MAX - 511, 512, -ERANGE},
        {1, 512, -EINVAL},
        {0, 511, -EINVAL},
        {SIZE, 0, 0},
    };
    for (unsigned round = 0; round < 2; round++) {
        ck_assert_int_eq(open_disk(&p, "x", round == 0 ? "qcow2" : "raw", false, false), 0);
        for (size_t i = 0; i < COUNT(cases) && round == 0; i++) {
            ck_assert_int_eq(request(p.disk, DISK_READ, cases[i].offset, data, cases[i].len),
                             cases[i].want);
            ck_assert_int_eq(request(p.disk, DISK_WRITE, cases[i].offset, data, cases[i].len),
                             cases[i].want);
        }
        struct call call = {.iov = {.iov_base = data, .iov_len = 512}};
        call.request = (struct disk_request){
            .op = DISK_WRITE, .len = 1024, .iov = &call.iov, .iov_count = 1, .done = on_done};
        disk_submit(p.disk, &call.request);
        ck_assert(call.done);
        ck_assert_int_eq(call.error, -EINVAL);
        ck_assert_int_eq(open_disk(&p, "x", round == 0 ? "qcow2" : "raw", true, false), 0);
        ck_assert_int_eq(request(p.disk, DISK_READ, 0, data, 512), 0);
        ck_assert_int_eq(request(p.disk, DISK_WRITE, 0, data, 512), -EROFS);
        ck_assert_int_eq(request(p.disk, DISK_DISCARD, 0, NULL, 512), -EROFS);
        ck_assert_int_eq(request(p.disk, DISK_FLUSH, 0, NULL, 0), 0);
        ck_assert(!disk_can_discard(p.disk));
    }
    ck_assert_int_eq(open_disk(&p, "x", NULL, false, false), -EINVAL);
    ck_assert_int_eq(open_disk(&p, "x", "vmdk", false, false), -EINVAL);
}
END_TEST

/* More at once than a ring holds, in one batch and without the loop. */
static void write_and_read_many(struct place *p)
{
    enum { MANY = 1000 };
    static struct call calls[MANY];
    static uint8_t data[MANY][512];
    for (unsigned round = 0; round < 2; round++) {
        memset(calls, 0, sizeof(calls));
        for (unsigned i = 0; i < MANY; i++) {
            if (round == 0) {
                memset(data[i], (int)(i % 251), 512);
            } else {
                memset(data[i], 0xff, 512);
            }
            calls[i].iov = (struct iovec){.iov_base = data[i], .iov_len = 512};
            calls[i].request = (struct disk_request){.op = round == 0 ? DISK_WRITE : DISK_READ,
                                                     .offset = i * 512ULL,
                                                     .len = 512,
                                                     .iov = &calls[i].iov,
                                                     .iov_count = 1,
                                                     .done = on_done};
            disk_submit(p->disk, &calls[i].request);
        }
        ck_assert_int_eq(disk_drain(p->disk), 0);
        for (unsigned i = 0; i < MANY; i++) {
            ck_assert(calls[i].done);
            ck_assert_int_eq(calls[i].error, 0);
            ck_assert_uint_eq(data[i][0], i % 251);
            ck_assert_uint_eq(data[i][511], i % 251);
        }
    }
    ck_assert_int_eq(request(p->disk, DISK_WRITE_ZEROES, 512, NULL, 1024), 0);
    ck_assert_int_eq(request(p->disk, DISK_DISCARD, 0, NULL, 512), 0);
    ck_assert_int_eq(request(p->disk, DISK_FLUSH, 0, NULL, 0), 0);
    ck_assert_int_eq(request(p->disk, DISK_READ, 512, data[0], 2 * 512), 0);
    ck_assert_uint_eq(data[0][0], 0);
    ck_assert_uint_eq(data[1][511], 0);
}

static void use_both_formats(struct place *p)
{
    const struct disk_create_options raw = {.format = "raw", .size = SIZE};
    ck_assert_int_eq(disk_create(p->fd, "raw", &raw, NULL), 0);
    make(p, "qcow2", NULL, NULL);
    ck_assert_int_eq(open_disk(p, "raw", "raw", false, false), 0);
    write_and_read_many(p);
    ck_assert_int_eq(open_disk(p, "qcow2", "qcow2", false, false), 0);
    write_and_read_many(p);
}

static bool is_native(struct place *p)
{
    AUTO(uring_freep) struct uring *uring = NULL;
    ck_assert_int_eq(uring_new(p->loop, &uring), 0);
    return uring_is_native(uring);
}

START_TEST(more_requests_than_a_ring_holds_are_all_answered_once)
{
    AUTO(place_donep) struct place p;
    place_open(&p);
    use_both_formats(&p);
}
END_TEST

START_TEST(threads_do_the_work_where_the_host_refuses_io_uring)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = COUNT(code), .filter = code};
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    AUTO(place_donep) struct place p;
    place_open(&p);
    ck_assert(!is_native(&p));
    use_both_formats(&p);
}
END_TEST

START_TEST(a_raw_disk_whose_last_sector_is_cut_reads_zeros_there)
{
    static uint8_t data[1024];
    AUTO(place_donep) struct place p;
    place_open(&p);
    memset(data, 7, sizeof(data));
    ck_assert_int_eq(replace_file_at(p.fd, "x", data, 700, 0600, false), 0);
    ck_assert_int_eq(open_disk(&p, "x", NULL, true, false), 0);
    ck_assert_uint_eq(disk_size(p.disk), 1024);
    ck_assert_int_eq(request(p.disk, DISK_READ, 0, data, 1024), 0);
    ck_assert_uint_eq(data[699], 7);
    ck_assert_uint_eq(data[700], 0);
    ck_assert_uint_eq(data[1023], 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        wrong_headers_are_refused_by_the_name_of_the_field,
        tables_that_point_astray_are_refused_or_end_in_an_io_error,
        counts_that_call_tables_free_do_not_get_them_overwritten,
        backing_files_stay_below_the_directory,
        circles_and_deep_chains_are_refused,
        requests_are_checked_before_anything_is_done,
        more_requests_than_a_ring_holds_are_all_answered_once,
        threads_do_the_work_where_the_host_refuses_io_uring,
        a_raw_disk_whose_last_sector_is_cut_reads_zeros_there,
        NULL,
    };
    return unit_run("vmm_disk", tests);
}
