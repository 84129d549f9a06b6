#include "image/erofs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "image/image.h"
#include "image/store.h"
#include "unit.h"

#define LOW "1111111111111111111111111111111111111111111111111111111111111111"
#define UP "2222222222222222222222222222222222222222222222222222222222222222"

struct fixture {
    char dir[64];
    struct image_store *store;
    struct image image;
};

static void shell(const struct fixture *f, const char *script)
{
    AUTO(freep) char *text = str_printf("set -e; cd %s; %s", f->dir, script);
    ck_assert_msg(system(text) == 0, "%s", text);
}

/* Layers as the extractor leaves them: everything that overlayfs and EROFS could disagree about. */
static void fixture_init(struct fixture *f)
{
    struct err err = ERR_NONE;
    *f = (struct fixture){.dir = "/var/tmp/isola-erofs-XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(f->dir));
    ck_assert_msg(image_store_open(f->dir, STORE_READ_WRITE, &f->store, &err) == 0, "%s",
                  err_text(&err));
    shell(f, "mkdir -p images/layers/" LOW "; cd images/layers/" LOW
             "; mkdir -p etc gone opaque/sub replaced deep/a/b/c; echo one >etc/one"
             "; head -c 300000 /dev/urandom >big; : >empty; echo x >gone/x; echo x >opaque/sub/x"
             "; echo x >replaced/x; ln big hard; ln -s ../etc/one deep/a/link; mkfifo fifo"
             "; mknod null c 1 3; cp big setuid; chmod 4755 setuid; chown 100000:70000 etc/one"
             "; touch -d '2001-02-03 04:05:06.789' etc/one; touch -d 1969-12-31 empty"
             "; truncate -s 40M sparse; echo end >>sparse; echo x >lower-name; chmod 1777 opaque"
             "; printf x >\"$(head -c 200 /dev/zero | tr '\\0' n)\"; chmod 0711 .");
    shell(f, "mkdir -p images/layers/" UP "/opaque images/layers/" UP "/etc; cd images/layers/" UP
             "; mknod gone c 0 0; mknod etc/one c 0 0; echo new >opaque/new; echo file >replaced"
             "; cp -p ../" LOW "/big copied; ln copied linked; echo two >etc/two; chmod 0751 .");
    AUTO(freep) char *opaque = str_printf("%s/images/layers/" UP "/opaque", f->dir);
    AUTO(freep) char *big = str_printf("%s/images/layers/" LOW "/big", f->dir);
    ck_assert_int_eq(setxattr(opaque, "trusted.overlay.opaque", "y", 1, 0), 0);
    ck_assert_int_eq(setxattr(big, "user.note", "kept", 4, 0), 0);
    ck_assert_int_eq(strv_addf(&f->image.layers, "%s/images/layers/" UP, f->dir), 0);
    ck_assert_int_eq(strv_addf(&f->image.layers, "%s/images/layers/" LOW, f->dir), 0);
}

static void fixture_done(struct fixture *f)
{
    image_done(&f->image);
    image_store_close(f->store);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, f->dir), 0);
}

static void make(struct fixture *f, struct strv *paths)
{
    struct err err = ERR_NONE;
    int r = image_erofs(f->store, &f->image, paths, &err);
    ck_assert_msg(r == 0, "%s", err_text(&err));
    ck_assert_uint_eq(paths->count, f->image.layers.count);
}

static void compare_xattrs(const char *a, const char *b)
{
    char names[2][1024];
    ssize_t n = llistxattr(a, names[0], sizeof(names[0]));
    ssize_t m = llistxattr(b, names[1], sizeof(names[1]));
    ck_assert_msg(n == m, "%s: %zd bytes of names, not %zd", a, n, m);
    for (char *name = names[0]; name < names[0] + n; name += strlen(name) + 1) {
        char values[2][256];
        ssize_t x = lgetxattr(a, name, values[0], sizeof(values[0]));
        ssize_t y = lgetxattr(b, name, values[1], sizeof(values[1]));
        ck_assert_msg(x == y && x >= 0 && memcmp(values[0], values[1], (size_t)x) == 0, "%s: %s", a,
                      name);
    }
}

static void compare_contents(const char *a, const char *b)
{
    AUTO(freep) char *text = str_printf("cmp -s '%s' '%s'", a, b);
    ck_assert_msg(system(text) == 0, "%s differs", a);
}

static unsigned compare_trees(const char *a, const char *b)
{
    struct stat s;
    struct stat t;
    ck_assert_msg(lstat(a, &s) == 0 && lstat(b, &t) == 0, "%s is on one side only", a);
    ck_assert_msg(s.st_mode == t.st_mode && s.st_uid == t.st_uid && s.st_gid == t.st_gid &&
                      s.st_rdev == t.st_rdev,
                  "%s: mode %o or %o, owner %u or %u", a, s.st_mode, t.st_mode, s.st_uid, t.st_uid);
    ck_assert_msg(s.st_mtim.tv_sec == t.st_mtim.tv_sec && s.st_mtim.tv_nsec == t.st_mtim.tv_nsec,
                  "%s: time %ld or %ld", a, (long)s.st_mtim.tv_sec, (long)t.st_mtim.tv_sec);
    compare_xattrs(a, b);
    if (!S_ISDIR(s.st_mode)) {
        ck_assert_msg(s.st_size == t.st_size && s.st_nlink == t.st_nlink, "%s: size or links", a);
        if (S_ISREG(s.st_mode)) {
            compare_contents(a, b);
        }
        if (S_ISLNK(s.st_mode)) {
            AUTO(freep) char *x = NULL;
            AUTO(freep) char *y = NULL;
            ck_assert_int_eq(read_link_at(AT_FDCWD, a, &x), 0);
            ck_assert_int_eq(read_link_at(AT_FDCWD, b, &y), 0);
            ck_assert_str_eq(x, y);
        }
        return 1;
    }
    unsigned count = 1;
    AUTO(closedirp) DIR *dir = opendir(a);
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..")) {
            AUTO(freep) char *x = str_printf("%s/%s", a, entry->d_name);
            AUTO(freep) char *y = str_printf("%s/%s", b, entry->d_name);
            count += compare_trees(x, y);
        }
    }
    return count;
}

START_TEST(an_overlay_of_disks_is_the_overlay_of_the_layers)
{
    struct fixture f;
    AUTO(strv_donep) struct strv paths = {0};
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    fixture_init(&f);
    make(&f, &paths);
    shell(&f, "mkdir m0 m1 disks layers; mount -t erofs -o loop,ro images/erofs/" UP " m0"
              "; mount -t erofs -o loop,ro images/erofs/" LOW " m1"
              "; mount -t overlay -o lowerdir=m0:m1 x disks"
              "; mount -t overlay -o lowerdir=images/layers/" UP ":images/layers/" LOW " x layers");
    AUTO(freep) char *disks = str_printf("%s/disks", f.dir);
    AUTO(freep) char *layers = str_printf("%s/layers", f.dir);
    unsigned count = compare_trees(layers, disks);
    ck_assert_uint_eq(compare_trees(disks, layers), count);
    ck_assert_uint_gt(count, 20);
    /* The marks did their work: what they hide is hidden. */
    shell(&f, "! test -e disks/gone; ! test -e disks/opaque/sub; test -e disks/opaque/new"
              "; ! test -e disks/etc/one; test -f disks/replaced");
    shell(&f, "umount disks layers m0 m1");
    fixture_done(&f);
}
END_TEST

START_TEST(a_disk_is_made_once_and_always_the_same)
{
    struct fixture f;
    AUTO(strv_donep) struct strv first = {0};
    AUTO(strv_donep) struct strv second = {0};
    AUTO(strv_donep) struct strv third = {0};
    struct stat before;
    struct stat after;
    fixture_init(&f);
    make(&f, &first);
    ck_assert_int_eq(stat(first.items[1], &before), 0);
    make(&f, &second);
    ck_assert_int_eq(stat(first.items[1], &after), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino);
    shell(&f, "mv images/erofs/" LOW " old; sleep 1.1");
    make(&f, &third);
    shell(&f, "cmp old images/erofs/" LOW "; test -z \"$(ls images/work)\"");
    /* 40 MiB of holes take no place. */
    ck_assert_int_lt(after.st_size, 8 << 20);
    fixture_done(&f);
}
END_TEST

START_TEST(processes_that_want_the_same_disk_make_it_once)
{
    struct fixture f;
    pid_t pids[4];
    fixture_init(&f);
    for (size_t i = 0; i < COUNT(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            AUTO(image_store_closep) struct image_store *store = NULL;
            struct strv paths = {0};
            int r = image_store_open(f.dir, STORE_READ_WRITE, &store, NULL);
            _exit(r < 0 || image_erofs(store, &f.image, &paths, NULL) < 0 ? 1 : 0);
        }
    }
    for (size_t i = 0; i < COUNT(pids); i++) {
        int status = 0;
        ck_assert_int_eq(process_wait(pids[i], &status), 0);
        ck_assert_int_eq(status, 0);
    }
    shell(&f, "test \"$(ls images/erofs | wc -l)\" = 2; test -z \"$(ls images/work)\"");
    fixture_done(&f);
}
END_TEST

START_TEST(a_disk_goes_with_its_layer_and_counts_as_long_as_it_is_there)
{
    struct fixture f;
    AUTO(strv_donep) struct strv paths = {0};
    struct store_usage usage = {0};
    uint64_t freed = 0;
    fixture_init(&f);
    make(&f, &paths);
    ck_assert_int_eq(image_store_usage(f.store, &usage, NULL), 0);
    ck_assert_uint_gt(usage.erofs_bytes, 600000);
    ck_assert_uint_eq(usage.reclaimable_bytes, usage.erofs_bytes);
    /* No image has these layers. */
    ck_assert_int_eq(image_store_sweep(f.store, &freed, NULL), 0);
    ck_assert_uint_eq(freed, usage.erofs_bytes);
    shell(&f, "test -z \"$(ls images/erofs)\"; test -z \"$(ls images/layers)\"");
    fixture_done(&f);
}
END_TEST

START_TEST(a_damaged_disk_is_found_and_made_again)
{
    struct fixture f;
    AUTO(strv_donep) struct strv paths = {0};
    AUTO(strv_donep) struct strv again = {0};
    AUTO(strv_donep) struct strv problems = {0};
    fixture_init(&f);
    make(&f, &paths);
    ck_assert_int_eq(image_erofs_check(f.store, false, &problems, NULL), 0);
    ck_assert_uint_eq(problems.count, 0);
    shell(&f, "truncate -s -4096 images/erofs/" LOW "; printf x | dd of=images/erofs/" UP
              " bs=1 seek=1024 conv=notrunc status=none");
    ck_assert_int_eq(image_erofs_check(f.store, true, &problems, NULL), 0);
    ck_assert_uint_eq(problems.count, 2);
    make(&f, &again);
    ck_assert_int_eq(image_erofs_check(f.store, false, &problems, NULL), 0);
    ck_assert_uint_eq(problems.count, 2);
    fixture_done(&f);
}
END_TEST

START_TEST(without_the_program_the_error_says_what_to_install)
{
    struct fixture f;
    AUTO(strv_donep) struct strv paths = {0};
    struct err err = ERR_NONE;
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    fixture_init(&f);
    shell(&f, "p=$(PATH=$PATH:/usr/sbin command -v mkfs.erofs); : >none; mount --bind none $p");
    ck_assert_int_eq(image_erofs(f.store, &f.image, &paths, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "mkfs.erofs"));
    ck_assert_ptr_nonnull(strstr(err.text, "apt-get install erofs-utils"));
    fixture_done(&f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        an_overlay_of_disks_is_the_overlay_of_the_layers,
        a_disk_is_made_once_and_always_the_same,
        processes_that_want_the_same_disk_make_it_once,
        a_disk_goes_with_its_layer_and_counts_as_long_as_it_is_there,
        a_damaged_disk_is_found_and_made_again,
        without_the_program_the_error_says_what_to_install,
        NULL,
    };
    return unit_run("image_erofs", tests);
}
