/*
 * Hard links of a layer to files of the layers below.
 */
#include "image/tar_extract.h"

#include <errno.h>

#include "archive.h"
#include "base/io.h"

static const struct extract_rules layer_rules = {.whiteouts = TAR_WHITEOUTS_OVERLAY};

struct fixture {
    struct temporary lowest, below, here, outside;
    int fds[2];
    struct layer_stack stack;
    struct archive a;
};

static void make_file(int dir_fd, const char *path, const char *text, mode_t mode)
{
    int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write_full(fd, text, strlen(text)), 0);
    ck_assert_int_eq(fchown(fd, 12, 34), 0);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    (void)close(fd);
}

/* Two layers: usr/bin/tool and a link bin to usr/bin; a secret outside. */
static void fixture_init(struct fixture *f)
{
    *f = (struct fixture){0};
    temporary_init(&f->lowest);
    temporary_init(&f->below);
    temporary_init(&f->here);
    temporary_init(&f->outside);
    ck_assert_int_eq(mkdirat(f->lowest.fd, "usr", 0755), 0);
    ck_assert_int_eq(mkdirat(f->lowest.fd, "usr/bin", 0711), 0);
    make_file(f->lowest.fd, "usr/bin/tool", "tool", 04755);
    make_file(f->lowest.fd, "usr/bin/gone", "gone", 0644);
    ck_assert_int_eq(symlinkat("usr/bin", f->lowest.fd, "bin"), 0);
    ck_assert_int_eq(symlinkat(f->outside.path, f->lowest.fd, "out"), 0);
    ck_assert_int_eq(mkdirat(f->below.fd, "usr", 0755), 0);
    ck_assert_int_eq(mkdirat(f->below.fd, "usr/bin", 0711), 0);
    ck_assert_int_eq(mknodat(f->below.fd, "usr/bin/gone", S_IFCHR, 0), 0);
    make_file(f->outside.fd, "secret", "secret", 0644);
    f->fds[0] = f->below.fd;
    f->fds[1] = f->lowest.fd;
    f->stack = (struct layer_stack){.fds = f->fds, .count = 2};
    archive_init(&f->a);
}

static int fixture_extract(struct fixture *f, struct extract_result *result, struct err *err)
{
    struct extract_rules rules = layer_rules;
    rules.parent = &f->stack;
    return archive_extract(&f->a, f->here.fd, &rules, result, err);
}

static void fixture_done(struct fixture *f)
{
    archive_done(&f->a);
    temporary_done(&f->lowest);
    temporary_done(&f->below);
    temporary_done(&f->here);
    temporary_done(&f->outside);
}

START_TEST(a_link_to_a_file_below_brings_it_up_with_all_it_is)
{
    struct fixture f;
    struct extract_result result;
    fixture_init(&f);
    archive_add(&f.a, TAR_HARDLINK, "usr/bin/other", "/usr/bin/tool", 0600);
    archive_add(&f.a, TAR_HARDLINK, "third", "bin/tool", 0600); /* through a link of a layer */
    ck_assert_int_eq(fixture_extract(&f, &result, NULL), 0);
    ck_assert(result.used_parent);
    ck_assert_uint_eq(result.bytes, 4);
    struct stat st = stat_of(f.here.fd, "usr/bin/tool");
    ck_assert_uint_eq(st.st_mode, S_IFREG | 04755);
    ck_assert_uint_eq(st.st_uid, 12);
    ck_assert_uint_eq(st.st_gid, 34);
    ck_assert_uint_eq(st.st_nlink, 3);
    ck_assert_uint_eq(stat_of(f.here.fd, "usr/bin/other").st_ino, st.st_ino);
    ck_assert_uint_eq(stat_of(f.here.fd, "third").st_ino, st.st_ino);
    ck_assert_int_eq(st.st_mtim.tv_sec, stat_of(f.lowest.fd, "usr/bin/tool").st_mtim.tv_sec);
    /* The layer below is as it was. */
    ck_assert_uint_eq(stat_of(f.lowest.fd, "usr/bin/tool").st_nlink, 1);
    ck_assert_uint_eq(stat_of(f.here.fd, "usr/bin").st_mode & 07777, 0711);
    fixture_done(&f);
}
END_TEST

START_TEST(links_to_links_stay_links)
{
    struct fixture f;
    fixture_init(&f);
    archive_add(&f.a, TAR_HARDLINK, "again", "out", 0600);
    ck_assert_int_eq(fixture_extract(&f, NULL, NULL), 0);
    ck_assert(S_ISLNK(stat_of(f.here.fd, "again").st_mode));
    fixture_done(&f);
}
END_TEST

START_TEST(holes_of_a_file_below_stay_holes)
{
    struct fixture f;
    fixture_init(&f);
    make_file(f.lowest.fd, "huge", "start", 0644);
    int fd = openat(f.lowest.fd, "huge", O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, (off_t)1 << 36), 0);
    (void)close(fd);
    archive_add(&f.a, TAR_HARDLINK, "link", "huge", 0600);
    ck_assert_int_eq(fixture_extract(&f, NULL, NULL), 0);
    struct stat st = stat_of(f.here.fd, "link");
    ck_assert_int_eq(st.st_size, (off_t)1 << 36);
    ck_assert_int_le(st.st_blocks, 2048);
    fixture_done(&f);
}
END_TEST

START_TEST(hostile_targets_are_refused)
{
    static const struct {
        const char *link;
        int want;
    } cases[] = {
        {"../secret", -EINVAL},      {"usr/../../x", -EINVAL},      {"out/secret", -ENOENT},
        {"usr/bin/gone", -ENOENT},   {"usr/bin", -EPERM},           {"missing/file", -ENOENT},
        {"usr/bin/tool/x", -ENOENT}, {"bin/../../secret", -EINVAL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct fixture f;
        struct err err = ERR_NONE;
        fixture_init(&f);
        archive_add(&f.a, TAR_HARDLINK, "link", cases[i].link, 0600);
        int r = fixture_extract(&f, NULL, &err);
        ck_assert_msg(r == cases[i].want, "%s: %d, %s", cases[i].link, r, err_text(&err));
        ck_assert(is_missing(f.here.fd, "link"));
        fixture_done(&f);
    }
}
END_TEST

START_TEST(what_this_layer_hides_cannot_be_linked_to)
{
    static const char *const whiteouts[] = {"usr/bin/.wh.tool", "usr/.wh.bin",
                                            ".wh.usr",          "usr/bin/.wh..wh..opq",
                                            "usr/.wh..wh..opq", ".wh..wh..opq"};
    for (size_t i = 0; i < COUNT(whiteouts); i++) {
        struct fixture f;
        fixture_init(&f);
        archive_add_file(&f.a, whiteouts[i], "");
        archive_add(&f.a, TAR_HARDLINK, "link", "usr/bin/tool", 0600);
        ck_assert_msg(fixture_extract(&f, NULL, NULL) == -ENOENT, "%s", whiteouts[i]);
        fixture_done(&f);
    }
}
END_TEST

START_TEST(a_whiteout_after_the_link_hides_the_file_and_keeps_the_link)
{
    static const char *const whiteouts[] = {"usr/bin/.wh.tool", "usr/bin/.wh..wh..opq",
                                            ".wh..wh..opq"};
    for (size_t i = 0; i < COUNT(whiteouts); i++) {
        struct fixture f;
        struct stat st;
        fixture_init(&f);
        archive_add(&f.a, TAR_HARDLINK, "link", "usr/bin/tool", 0600);
        archive_add_file(&f.a, whiteouts[i], "");
        ck_assert_int_eq(fixture_extract(&f, NULL, NULL), 0);
        ck_assert(S_ISREG(stat_of(f.here.fd, "link").st_mode));
        ck_assert(fstatat(f.here.fd, "usr/bin/tool", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
                  stat_is_whiteout(&st));
        fixture_done(&f);
    }
}
END_TEST

START_TEST(a_directory_in_the_place_of_a_whiteout_hides_what_was_below)
{
    struct fixture f;
    fixture_init(&f);
    archive_add_file(&f.a, ".wh.usr", "");
    archive_add_file(&f.a, "usr/new", "x"); /* without an entry for usr */
    ck_assert_int_eq(fixture_extract(&f, NULL, NULL), 0);
    int fd = openat(f.here.fd, "usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert(directory_is_opaque(fd));
    (void)close(fd);
    fixture_done(&f);
}
END_TEST

int main(void)
{
    return unit_run("image/link", (const TTest *const[]){
                                      a_link_to_a_file_below_brings_it_up_with_all_it_is,
                                      links_to_links_stay_links,
                                      holes_of_a_file_below_stay_holes,
                                      hostile_targets_are_refused,
                                      what_this_layer_hides_cannot_be_linked_to,
                                      a_whiteout_after_the_link_hides_the_file_and_keeps_the_link,
                                      a_directory_in_the_place_of_a_whiteout_hides_what_was_below,
                                      NULL,
                                  });
}
