#include "image/tar_extract.h"

#include <errno.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "archive.h"
#include "base/io.h"

static const struct extract_rules layer_rules = {.whiteouts = TAR_WHITEOUTS_OVERLAY};

/* One entry, extracted as a layer; the result and what is below the root. */
static int extract_one(int fd, enum tar_type type, const char *name, const char *link,
                       struct err *err)
{
    struct archive a;
    archive_init(&a);
    archive_add(&a, type, name, link, 0644);
    int r = archive_extract(&a, fd, &layer_rules, NULL, err);
    archive_done(&a);
    return r;
}

START_TEST(absolute_names_land_inside_the_root)
{
    struct temporary t;
    temporary_init(&t);
    ck_assert_int_eq(extract_one(t.fd, TAR_FILE, "/isola-t-absolute", "", NULL), 0);
    ck_assert_int_eq(extract_one(t.fd, TAR_FILE, "//./a//b/../c", "", NULL), 0);
    (void)stat_of(t.fd, "isola-t-absolute");
    (void)stat_of(t.fd, "a/c");
    ck_assert(is_missing(AT_FDCWD, "/isola-t-absolute"));
    temporary_done(&t);
}
END_TEST

START_TEST(names_that_lead_out_are_refused)
{
    static const char *const names[] = {"../x", "a/../../x", "/..", "..", "./../x"};
    struct temporary t;
    temporary_init(&t);
    for (size_t i = 0; i < COUNT(names); i++) {
        struct err err = ERR_NONE;
        ck_assert_int_eq(extract_one(t.fd, TAR_FILE, names[i], "", &err), -EINVAL);
        ck_assert_ptr_nonnull(strstr(err_text(&err), "leads out of the root"));
    }
    temporary_done(&t);
}
END_TEST

START_TEST(links_out_of_the_root_are_resolved_inside)
{
    struct temporary t;
    struct temporary outside;
    struct archive a;
    temporary_init(&t);
    temporary_init(&outside);
    archive_init(&a);
    archive_add(&a, TAR_SYMLINK, "absolute", outside.path, 0777);
    archive_add_file(&a, "absolute/one", "x");
    archive_add(&a, TAR_SYMLINK, "relative", "../../../../../../tmp", 0777);
    archive_add_file(&a, "relative/isola-t-two", "x");
    ck_assert_int_eq(archive_extract(&a, t.fd, &layer_rules, NULL, NULL), 0);
    archive_done(&a);
    ck_assert(is_missing(outside.fd, "one"));
    ck_assert(is_missing(AT_FDCWD, "/tmp/isola-t-two"));
    (void)stat_of(t.fd, outside.path + 1);
    (void)stat_of(t.fd, "tmp/isola-t-two");
    temporary_done(&outside);
    temporary_done(&t);
}
END_TEST

START_TEST(a_file_replaces_a_link_and_never_follows_it)
{
    struct temporary t;
    struct temporary outside;
    struct archive a;
    char target[128];
    temporary_init(&t);
    temporary_init(&outside);
    (void)snprintf(target, sizeof(target), "%s/victim", outside.path);
    ck_assert_int_eq(replace_file_at(outside.fd, "victim", "old", 3, 0600, false), 0);
    archive_init(&a);
    archive_add(&a, TAR_SYMLINK, "link", target, 0777);
    archive_add_file(&a, "link", "new");
    ck_assert_int_eq(archive_extract(&a, t.fd, &layer_rules, NULL, NULL), 0);
    archive_done(&a);
    ck_assert(S_ISREG(stat_of(t.fd, "link").st_mode));
    ck_assert_int_eq(stat_of(outside.fd, "victim").st_size, 3);
    AUTO(buf_donep) struct buf text = {0};
    ck_assert_int_eq(read_file_at(outside.fd, "victim", 100, &text), 0);
    ck_assert_str_eq(text.data, "old");
    temporary_done(&outside);
    temporary_done(&t);
}
END_TEST

START_TEST(endless_links_end)
{
    struct temporary t;
    struct archive a;
    temporary_init(&t);
    archive_init(&a);
    archive_add(&a, TAR_SYMLINK, "a", "b", 0777);
    archive_add(&a, TAR_SYMLINK, "b", "a", 0777);
    archive_add_file(&a, "a/x", "x");
    ck_assert_int_eq(archive_extract(&a, t.fd, &layer_rules, NULL, NULL), -ELOOP);
    archive_done(&a);
    temporary_done(&t);
}
END_TEST

START_TEST(hard_links_stay_inside_and_do_not_follow)
{
    struct temporary t;
    struct archive a;
    temporary_init(&t);
    ck_assert_int_eq(extract_one(t.fd, TAR_HARDLINK, "p", "/etc/passwd", NULL), -ENOENT);
    ck_assert_int_eq(extract_one(t.fd, TAR_HARDLINK, "p", "../../etc/passwd", NULL), -EINVAL);
    archive_init(&a);
    archive_add(&a, TAR_SYMLINK, "s", "/etc/passwd", 0777);
    archive_add(&a, TAR_HARDLINK, "h", "s", 0644);
    archive_add_file(&a, "f", "data");
    archive_add(&a, TAR_HARDLINK, "d/g", "f", 0644);
    archive_add(&a, TAR_HARDLINK, "f", "f", 0644);
    ck_assert_int_eq(archive_extract(&a, t.fd, &layer_rules, NULL, NULL), 0);
    archive_done(&a);
    ck_assert(S_ISLNK(stat_of(t.fd, "h").st_mode));
    ck_assert_uint_eq(stat_of(t.fd, "d/g").st_ino, stat_of(t.fd, "f").st_ino);
    temporary_done(&t);
}
END_TEST

START_TEST(modes_are_exact_whatever_the_umask)
{
    static const mode_t modes[] = {04755, 02755, 01777, 0666, 0, 0777, 06711};
    struct temporary t;
    struct archive a;
    temporary_init(&t);
    archive_init(&a);
    mode_t before = umask(077);
    for (size_t i = 0; i < COUNT(modes); i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "f%zu", i);
        archive_add(&a, TAR_FILE, name, "", modes[i]);
        (void)snprintf(name, sizeof(name), "d%zu", i);
        archive_add(&a, TAR_DIRECTORY, name, "", modes[i]);
    }
    archive_add_file(&a, "implied/file", "");
    ck_assert_int_eq(archive_extract(&a, t.fd, &layer_rules, NULL, NULL), 0);
    (void)umask(before);
    archive_done(&a);
    for (size_t i = 0; i < COUNT(modes); i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "f%zu", i);
        ck_assert_uint_eq(stat_of(t.fd, name).st_mode & 07777, modes[i]);
        (void)snprintf(name, sizeof(name), "d%zu", i);
        ck_assert_uint_eq(stat_of(t.fd, name).st_mode & 07777, modes[i]);
        ck_assert_int_eq(stat_of(t.fd, name).st_mtim.tv_sec, 1000);
    }
    ck_assert_uint_eq(stat_of(t.fd, "implied").st_mode & 07777, 0755);
    temporary_done(&t);
}
END_TEST

START_TEST(whiteouts_become_overlay_form)
{
    struct temporary t;
    struct archive a;
    struct extract_result result;
    char value[2];
    temporary_init(&t);
    archive_init(&a);
    archive_add_file(&a, "dir/.wh.gone", "");
    archive_add_file(&a, "nothing/below/.wh.here", "");
    archive_add_file(&a, "hidden/.wh..wh..opq", "");
    archive_add_file(&a, "hidden/new", "");
    archive_add_file(&a, ".wh..wh.plnk", "");
    archive_add_file(&a, ".wh.replaced", "");
    archive_add(&a, TAR_DIRECTORY, "replaced", "", 0755);
    ck_assert_int_eq(archive_extract(&a, t.fd, &layer_rules, &result, NULL), 0);
    archive_done(&a);
    ck_assert_uint_eq(result.whiteouts, 5);
    struct stat st = stat_of(t.fd, "dir/gone");
    ck_assert(S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0));
    (void)stat_of(t.fd, "nothing/below/here");
    ck_assert(is_missing(t.fd, ".wh..wh.plnk"));
    char path[128];
    static const char *const opaque[] = {"hidden", "replaced"};
    for (size_t i = 0; i < COUNT(opaque); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", t.path, opaque[i]);
        ck_assert_int_eq(getxattr(path, "trusted.overlay.opaque", value, 2), 1);
    }
    temporary_done(&t);
}
END_TEST

START_TEST(whiteouts_of_the_directory_itself_are_refused)
{
    static const char *const names[] = {".wh.", ".wh..", ".wh...", "a/.wh.."};
    struct temporary t;
    temporary_init(&t);
    for (size_t i = 0; i < COUNT(names); i++) {
        ck_assert_int_eq(extract_one(t.fd, TAR_FILE, names[i], "", NULL), -EINVAL);
    }
    temporary_done(&t);
}
END_TEST

START_TEST(device_zero_is_refused_and_attributes_of_overlayfs_are_dropped)
{
    static const struct tar_xattr xattrs[] = {{"trusted.overlay.opaque", "y", 1},
                                              {"trusted.overlay.redirect", "/etc", 4},
                                              {"user.overlay.opaque", "y", 1},
                                              {"security.selinux", "x", 1},
                                              {"user.mine", "v", 1}};
    struct temporary t;
    struct archive a;
    struct err err = ERR_NONE;
    char names[256];
    char path[128];
    temporary_init(&t);
    ck_assert_int_eq(extract_one(t.fd, TAR_CHARDEV, "zero", "", &err), -EBADMSG);
    archive_init(&a);
    const struct tar_entry entry = {.type = TAR_DIRECTORY,
                                    .name = "d",
                                    .link = "",
                                    .mode = 0755,
                                    .xattrs = xattrs,
                                    .xattr_count = COUNT(xattrs)};
    ck_assert_int_eq(tar_writer_entry(a.writer, &entry), 0);
    ck_assert_int_eq(archive_extract(&a, t.fd, &layer_rules, NULL, NULL), 0);
    archive_done(&a);
    (void)snprintf(path, sizeof(path), "%s/d", t.path);
    ssize_t n = listxattr(path, names, sizeof(names));
    ck_assert_int_eq(n, (ssize_t)sizeof("user.mine"));
    temporary_done(&t);
}
END_TEST

START_TEST(names_may_hold_newlines_and_errors_hide_them)
{
    struct temporary t;
    struct err err = ERR_NONE;
    temporary_init(&t);
    ck_assert_int_eq(extract_one(t.fd, TAR_FILE, "a\nb\033[2J", "", NULL), 0);
    (void)stat_of(t.fd, "a\nb\033[2J");
    ck_assert_int_eq(extract_one(t.fd, TAR_FILE, "../\nx", "", &err), -EINVAL);
    ck_assert_ptr_null(strchr(err_text(&err), '\n'));
    temporary_done(&t);
}
END_TEST

START_TEST(deep_and_long_names_are_refused_before_descriptors_run_out)
{
    struct temporary t;
    struct archive a;
    AUTO(buf_donep) struct buf name = {0};
    temporary_init(&t);
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(buf_add_str(&name, "d/"), 0);
    }
    ck_assert_int_eq(buf_add_str(&name, "f"), 0);
    ck_assert_int_eq(extract_one(t.fd, TAR_FILE, name.data, "", NULL), -ENAMETOOLONG);
    buf_clear(&name);
    for (int i = 0; i < 300; i++) {
        ck_assert_int_eq(buf_add_char(&name, 'x'), 0);
    }
    ck_assert_int_eq(extract_one(t.fd, TAR_FILE, name.data, "", NULL), -ENAMETOOLONG);
    archive_init(&a);
    archive_done(&a);
    temporary_done(&t);
}
END_TEST

START_TEST(parents_that_a_layer_does_not_name_look_like_those_below)
{
    struct temporary below;
    struct temporary t;
    struct archive a;
    struct extract_result result;
    temporary_init(&below);
    temporary_init(&t);
    ck_assert_int_eq(mkdirat(below.fd, "private", 0700), 0);
    ck_assert_int_eq(fchownat(below.fd, "private", 7, 8, 0), 0);
    ck_assert_int_eq(mkdirat(below.fd, "usr", 0755), 0);
    ck_assert_int_eq(mkdirat(below.fd, "usr/bin", 0711), 0);
    ck_assert_int_eq(symlinkat("usr/bin", below.fd, "bin"), 0);
    struct layer_stack stack = {.fds = &below.fd, .count = 1};
    struct extract_rules rules = layer_rules;
    rules.parent = &stack;
    archive_init(&a);
    archive_add_file(&a, "private/file", "x");
    archive_add_file(&a, "bin/tool", "x");
    ck_assert_int_eq(archive_extract(&a, t.fd, &rules, &result, NULL), 0);
    archive_done(&a);
    ck_assert(result.used_parent);
    struct stat st = stat_of(t.fd, "private");
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
    ck_assert_uint_eq(st.st_uid, 7);
    ck_assert_uint_eq(st.st_gid, 8);
    ck_assert(is_missing(t.fd, "bin"));
    ck_assert_uint_eq(stat_of(t.fd, "usr/bin").st_mode & 07777, 0711);
    (void)stat_of(t.fd, "usr/bin/tool");
    archive_init(&a);
    archive_add(&a, TAR_DIRECTORY, "own", "", 0755);
    archive_add_file(&a, "own/file", "x");
    ck_assert_int_eq(archive_extract(&a, t.fd, &rules, &result, NULL), 0);
    archive_done(&a);
    ck_assert(!result.used_parent);
    temporary_done(&t);
    temporary_done(&below);
}
END_TEST

START_TEST(limits_end_hostile_archives)
{
    struct temporary t;
    struct archive a;
    struct extract_rules rules = layer_rules;
    temporary_init(&t);
    rules.limits.entries = 10;
    archive_init(&a);
    for (int i = 0; i < 11; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "f%d", i);
        archive_add(&a, TAR_FIFO, name, "", 0644);
    }
    ck_assert_int_eq(archive_extract(&a, t.fd, &rules, NULL, NULL), -EFBIG);
    archive_done(&a);
    rules.limits = (struct tar_limits){.bytes = 1 << 20};
    archive_init(&a);
    const struct tar_entry huge = {
        .type = TAR_FILE, .name = "huge", .link = "", .mode = 0644, .size = (uint64_t)1 << 62};
    ck_assert_int_eq(tar_writer_entry(a.writer, &huge), 0);
    ck_assert_int_eq(archive_extract(&a, t.fd, &rules, NULL, NULL), -EFBIG);
    archive_done(&a);
    temporary_done(&t);
}
END_TEST

START_TEST(a_tree_comes_back_as_it_was)
{
    struct temporary from;
    struct temporary to;
    struct archive a;
    temporary_init(&from);
    temporary_init(&to);
    AUTO(buf_donep) struct buf name = {0};
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(buf_add_char(&name, 'n'), 0);
    }
    ck_assert_int_eq(mkdirat(from.fd, "d", 0750), 0);
    ck_assert_int_eq(replace_file_at(from.fd, name.data, "long", 4, 0640, false), 0);
    ck_assert_int_eq(fchownat(from.fd, name.data, 3000000, 4000000, 0), 0);
    ck_assert_int_eq(linkat(from.fd, name.data, from.fd, "d/same", 0), 0);
    ck_assert_int_eq(symlinkat("to/there", from.fd, "link"), 0);
    ck_assert_int_eq(mkfifoat(from.fd, "pipe", 0600), 0);
    archive_init(&a);
    ck_assert_int_eq(tar_writer_tree(a.writer, from.fd, ".", NULL, NULL), 0);
    ck_assert_int_eq(archive_extract(&a, to.fd, &layer_rules, NULL, NULL), 0);
    archive_done(&a);
    struct stat was = stat_of(from.fd, name.data);
    struct stat is = stat_of(to.fd, name.data);
    ck_assert_uint_eq(is.st_uid, 3000000);
    ck_assert_uint_eq(is.st_gid, 4000000);
    ck_assert_uint_eq(is.st_mode, was.st_mode);
    ck_assert_int_eq(is.st_mtim.tv_nsec, was.st_mtim.tv_nsec);
    ck_assert_uint_eq(stat_of(to.fd, "d/same").st_ino, is.st_ino);
    ck_assert(S_ISLNK(stat_of(to.fd, "link").st_mode));
    ck_assert(S_ISFIFO(stat_of(to.fd, "pipe").st_mode));
    temporary_done(&to);
    temporary_done(&from);
}
END_TEST

int main(void)
{
    return unit_run("image/extract",
                    (const TTest *const[]){
                        absolute_names_land_inside_the_root,
                        names_that_lead_out_are_refused,
                        links_out_of_the_root_are_resolved_inside,
                        a_file_replaces_a_link_and_never_follows_it,
                        endless_links_end,
                        hard_links_stay_inside_and_do_not_follow,
                        modes_are_exact_whatever_the_umask,
                        whiteouts_become_overlay_form,
                        whiteouts_of_the_directory_itself_are_refused,
                        device_zero_is_refused_and_attributes_of_overlayfs_are_dropped,
                        names_may_hold_newlines_and_errors_hide_them,
                        deep_and_long_names_are_refused_before_descriptors_run_out,
                        parents_that_a_layer_does_not_name_look_like_those_below,
                        limits_end_hostile_archives,
                        a_tree_comes_back_as_it_was,
                        NULL,
                    });
}
