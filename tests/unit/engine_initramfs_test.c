#include "engine/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "base/path.h"
#include "base/process.h"
#include "unit.h"

static int make_file(const char *data, size_t len)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write_full(fd, data, len), 0);
    return fd;
}

static const char *read_link(int dir, const char *name)
{
    static char text[64];
    ssize_t n = readlinkat(dir, name, text, sizeof(text) - 1);
    ck_assert_int_gt(n, 0);
    text[n] = '\0';
    return text;
}

START_TEST(another_cpio_unpacks_what_was_put_in)
{
    static char big[100001];
    memset(big, 'b', sizeof(big));
    AUTO(closep) int file = make_file(big, sizeof(big));
    const struct initramfs_entry entries[] = {
        {.path = "init", .mode = S_IFREG | 0755, .fd = -1, .data = "#!x\n", .size = 4},
        {.path = "modules/a/one.ko", .mode = S_IFREG | 0644, .fd = file},
        {.path = "modules/two.ko", .mode = S_IFREG | 0600, .fd = -1},
        {.path = "dev", .mode = S_IFDIR | 0711, .fd = -1},
        {.path = "dev/console", .mode = S_IFCHR | 0620, .fd = -1, .major = 5, .minor = 1},
        {.path = "bin/sh", .mode = S_IFLNK | 0777, .fd = -1, .data = "../init", .size = 7},
    };
    char name[] = "/tmp/isola-initramfs-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(name));
    AUTO(closep) int dir = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closep) int out = openat(dir, "archive", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct err err = ERR_NONE;
    struct stat st;
    ck_assert_msg(initramfs_write(entries, COUNT(entries), out, &err) == 0, "%s", err.text);
    ck_assert_int_eq(fstat(out, &st), 0);
    ck_assert_int_eq(st.st_size % 4, 0);

    char *argv[] = {
        (char *)(uintptr_t) "sh",
        (char *)(uintptr_t) "-c",
        (char *)(uintptr_t) "cd \"$1\" && cpio -idm --quiet --no-preserve-owner <archive",
        (char *)(uintptr_t) "sh",
        name,
        NULL};
    ck_assert_msg(process_run(argv, NULL, &err) == 0, "%s", err.text);
    AUTO(buf_donep) struct buf text = {0};
    ck_assert_int_eq(read_file_at(dir, "init", 100, &text), 0);
    ck_assert_str_eq(text.data, "#!x\n");
    buf_clear(&text);
    ck_assert_int_eq(read_file_at(dir, "modules/a/one.ko", sizeof(big), &text), 0);
    ck_assert_uint_eq(text.len, sizeof(big));
    ck_assert_mem_eq(text.data, big, sizeof(big));
    static const struct {
        const char *path;
        mode_t mode;
    } modes[] = {
        {"init", S_IFREG | 0755},           {"modules", S_IFDIR | 0755},
        {"modules/two.ko", S_IFREG | 0600}, {"dev", S_IFDIR | 0711},
        {"dev/console", S_IFCHR | 0620},
    };
    for (size_t i = 0; i < COUNT(modes); i++) {
        ck_assert_int_eq(fstatat(dir, modes[i].path, &st, 0), 0);
        ck_assert_msg(st.st_mode == modes[i].mode, "%s: %o", modes[i].path, st.st_mode);
        ck_assert(!S_ISREG(st.st_mode) || st.st_mtime == 0);
    }
    ck_assert_int_eq(fstatat(dir, "dev/console", &st, 0), 0);
    ck_assert_uint_eq(st.st_rdev, (5 << 8) + 1);
    ck_assert_str_eq(read_link(dir, "bin/sh"), "../init");
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, name), 0);
}
END_TEST

START_TEST(the_same_input_gives_the_same_bytes)
{
    struct buf both[2] = {0};
    for (unsigned i = 0; i < 2; i++) {
        AUTO(closep) int file = make_file("content", 7);
        AUTO(closep) int out = make_file("", 0);
        const struct initramfs_entry entries[] = {
            {.path = "a/b", .mode = S_IFREG | 0644, .fd = file},
            {.path = "c", .mode = S_IFREG | 0644, .fd = -1, .data = "x", .size = 1},
        };
        ck_assert_int_eq(initramfs_write(entries, COUNT(entries), out, NULL), 0);
        ck_assert_int_eq(lseek(out, 0, SEEK_SET), 0);
        ck_assert_int_eq(read_fd(out, 100000, &both[i]), 0);
        usleep(1100000 * (1 - i)); /* into another second */
    }
    ck_assert_uint_eq(both[0].len, both[1].len);
    ck_assert_mem_eq(both[0].data, both[1].data, both[0].len);
    buf_done(&both[0]);
    buf_done(&both[1]);
}
END_TEST

START_TEST(paths_that_lead_elsewhere_are_refused)
{
    static const char *const bad[] = {"", "/init", "..", "a/../b", "a//b", ".", "a/", "./a"};
    AUTO(closep) int out = make_file("", 0);
    for (size_t i = 0; i < COUNT(bad); i++) {
        const struct initramfs_entry entry = {.path = bad[i], .mode = S_IFREG | 0644, .fd = -1};
        ck_assert_msg(initramfs_write(&entry, 1, out, NULL) == -EINVAL, "'%s'", bad[i]);
    }
    const struct initramfs_entry twice[] = {
        {.path = "a", .mode = S_IFREG | 0644, .fd = -1},
        {.path = "a", .mode = S_IFREG | 0644, .fd = -1},
    };
    ck_assert_int_eq(initramfs_write(twice, 2, out, NULL), -EINVAL);
    const struct initramfs_entry pipe = {.path = "p", .mode = S_IFIFO | 0644, .fd = -1};
    ck_assert_int_eq(initramfs_write(&pipe, 1, out, NULL), -EINVAL);
}
END_TEST

int main(void)
{
    return unit_run("engine/initramfs", (const TTest *const[]){
                                            another_cpio_unpacks_what_was_put_in,
                                            the_same_input_gives_the_same_bytes,
                                            paths_that_lead_elsewhere_are_refused,
                                            NULL,
                                        });
}
