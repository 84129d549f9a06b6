#include "vmm/fs/fs_server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/macros.h"
#include "base/path.h"
#include "unit.h"

struct share {
    char name[32];
    int fd;
    struct fs_server *server;
    uint64_t unique;
    uint8_t answer[8192];
    size_t answer_len;
    size_t room; /* for an answer */
};

/* The error of one request, whose arguments are fixed and then text. */
static int ask(struct share *s, uint32_t opcode, uint64_t nodeid, const void *fixed,
               size_t fixed_len, const void *text, size_t text_len)
{
    uint8_t request[4096];
    struct fuse_in_header header = {.len = (uint32_t)(sizeof(header) + fixed_len + text_len),
                                    .opcode = opcode,
                                    .unique = ++s->unique,
                                    .nodeid = nodeid};
    memcpy(request, &header, sizeof(header));
    if (fixed_len > 0) {
        memcpy(request + sizeof(header), fixed, fixed_len);
    }
    if (text_len > 0) {
        memcpy(request + sizeof(header) + fixed_len, text, text_len);
    }
    const struct iovec in = {.iov_base = request, .iov_len = header.len};
    const struct iovec out = {.iov_base = s->answer, .iov_len = s->room};
    s->answer_len = fs_server_serve(s->server, &in, 1, &out, 1);
    struct fuse_out_header answer;
    if (s->answer_len == 0) {
        return 1;
    }
    ck_assert_uint_ge(s->answer_len, sizeof(answer));
    memcpy(&answer, s->answer, sizeof(answer));
    ck_assert_uint_eq(answer.len, s->answer_len);
    ck_assert_uint_eq(answer.unique, s->unique);
    return answer.error;
}

static void payload(const struct share *s, void *data, size_t len)
{
    ck_assert_uint_ge(s->answer_len, sizeof(struct fuse_out_header) + len);
    memcpy(data, s->answer + sizeof(struct fuse_out_header), len);
}

static int start(struct share *s)
{
    const struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION, .minor = 31};
    return ask(s, FUSE_INIT, 0, &init, sizeof(init), NULL, 0);
}

static void share_open(struct share *s, const struct fs_options *options)
{
    *s = (struct share){.name = "/tmp/isola-fs-XXXXXX", .room = sizeof(s->answer)};
    ck_assert_ptr_nonnull(mkdtemp(s->name));
    s->fd = open(s->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(s->fd, 0);
    ck_assert_int_eq(replace_file_at(s->fd, "f", "text", 4, 0644, false), 0);
    ck_assert_int_eq(replace_file_at(s->fd, "g", "other", 5, 0644, false), 0);
    ck_assert_int_eq(mkdirat(s->fd, "d", 0755), 0);
    ck_assert_int_eq(fs_server_new(s->fd, options, &s->server, NULL), 0);
}

static void share_done(struct share *s)
{
    fs_server_free(s->server);
    (void)close(s->fd);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, s->name), 0);
}
DEFINE_DONEP(struct share, share_done)

static int lookup(struct share *s, uint64_t parent, const char *name, uint64_t *ret)
{
    struct fuse_entry_out entry;
    int r = ask(s, FUSE_LOOKUP, parent, NULL, 0, name, strlen(name) + 1);
    if (r == 0) {
        payload(s, &entry, sizeof(entry));
        *ret = entry.nodeid;
    }
    return r;
}

static uint64_t open_file(struct share *s, uint64_t nodeid, uint32_t flags)
{
    const struct fuse_open_in in = {.flags = flags};
    struct fuse_open_out out;
    ck_assert_int_eq(ask(s, FUSE_OPEN, nodeid, &in, sizeof(in), NULL, 0), 0);
    payload(s, &out, sizeof(out));
    return out.fh;
}

static int get_attr(struct share *s, uint64_t nodeid)
{
    const struct fuse_getattr_in in = {0};
    return ask(s, FUSE_GETATTR, nodeid, &in, sizeof(in), NULL, 0);
}

static const struct fs_options plain = {0};

START_TEST(nothing_is_served_before_the_greeting)
{
    AUTO(share_donep) struct share s;
    share_open(&s, &plain);
    ck_assert_int_eq(get_attr(&s, 1), -EIO);
    const struct fuse_init_in old = {.major = 6, .minor = 31};
    ck_assert_int_eq(ask(&s, FUSE_INIT, 0, &old, sizeof(old), NULL, 0), -EPROTO);
    ck_assert_int_eq(ask(&s, FUSE_INIT, 0, &old, 4, NULL, 0), -EINVAL);
    ck_assert_int_eq(get_attr(&s, 1), -EIO);
    ck_assert_int_eq(start(&s), 0);
    ck_assert_int_eq(get_attr(&s, 1), 0);
    ck_assert_int_eq(ask(&s, FUSE_DESTROY, 0, NULL, 0, NULL, 0), 0);
    ck_assert_int_eq(get_attr(&s, 1), -EIO);
}
END_TEST

START_TEST(names_are_single_components)
{
    static const struct {
        const char *name;
        size_t len;
        int want;
    } names[] = {
        {"f", 2, 0},          {"..", 3, -EINVAL},   {".", 2, -EINVAL},    {"", 1, -EINVAL},
        {"d/f", 4, -EINVAL},  {"/", 2, -EINVAL},    {"/etc", 5, -EINVAL}, {"f", 1, -EINVAL},
        {"../x", 5, -EINVAL}, {"none", 5, -ENOENT}, {NULL, 0, -EINVAL},
    };
    char lengthy[300];
    memset(lengthy, 'n', sizeof(lengthy));
    lengthy[299] = '\0';
    AUTO(share_donep) struct share s;
    share_open(&s, &plain);
    ck_assert_int_eq(start(&s), 0);
    for (size_t i = 0; i < COUNT(names); i++) {
        ck_assert_int_eq(ask(&s, FUSE_LOOKUP, 1, NULL, 0, names[i].name, names[i].len),
                         names[i].want);
    }
    ck_assert_int_eq(ask(&s, FUSE_LOOKUP, 1, NULL, 0, lengthy, sizeof(lengthy)), -ENAMETOOLONG);
    /* The same for those that make and remove. */
    const struct fuse_mkdir_in mkdir_in = {.mode = 0755};
    const struct fuse_rename2_in rename_in = {.newdir = 1};
    const struct fuse_create_in create_in = {.flags = O_RDWR, .mode = 0644};
    ck_assert_int_eq(ask(&s, FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), "../x", 5), -EINVAL);
    ck_assert_int_eq(ask(&s, FUSE_CREATE, 1, &create_in, sizeof(create_in), "../x", 5), -EINVAL);
    ck_assert_int_eq(ask(&s, FUSE_UNLINK, 1, NULL, 0, "../x", 5), -EINVAL);
    ck_assert_int_eq(ask(&s, FUSE_RENAME2, 1, &rename_in, sizeof(rename_in), "f\0../x", 7),
                     -EINVAL);
    ck_assert_int_eq(ask(&s, FUSE_RENAME2, 1, &rename_in, sizeof(rename_in), "f", 2), -EINVAL);
    ck_assert_int_eq(ask(&s, FUSE_SYMLINK, 1, NULL, 0, "../x\0target", 12), -EINVAL);
}
END_TEST

START_TEST(numbers_that_were_never_given_mean_nothing)
{
    AUTO(share_donep) struct share s;
    share_open(&s, &plain);
    ck_assert_int_eq(start(&s), 0);
    uint64_t f;
    uint64_t g;
    ck_assert_int_eq(lookup(&s, 1, "f", &f), 0);
    ck_assert_int_eq(lookup(&s, 1, "g", &g), 0);
    static const uint64_t wrong[] = {0, 4, 1000, UINT64_MAX};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        uint64_t found;
        ck_assert_int_eq(get_attr(&s, wrong[i]), -ESTALE);
        ck_assert_int_eq(lookup(&s, wrong[i], "f", &found), -ESTALE);
        const struct fuse_read_in in = {.fh = wrong[i], .size = 4};
        ck_assert_int_eq(ask(&s, FUSE_READ, f, &in, sizeof(in), NULL, 0), -EBADF);
        ck_assert_int_eq(ask(&s, FUSE_READDIR, 1, &in, sizeof(in), NULL, 0), -EBADF);
        const struct fuse_release_in release = {.fh = wrong[i]};
        ck_assert_int_eq(ask(&s, FUSE_RELEASE, f, &release, sizeof(release), NULL, 0), -EBADF);
    }
    uint64_t fh = open_file(&s, f, O_RDONLY);
    struct fuse_read_in in = {.fh = fh, .size = 4};
    ck_assert_int_eq(ask(&s, FUSE_READ, f, &in, sizeof(in), NULL, 0), 0);
    ck_assert_int_eq(memcmp(s.answer + 16, "text", 4), 0);
    /* That of another file, and of another kind. */
    ck_assert_int_eq(ask(&s, FUSE_READ, g, &in, sizeof(in), NULL, 0), -EBADF);
    ck_assert_int_eq(ask(&s, FUSE_READDIR, f, &in, sizeof(in), NULL, 0), -EBADF);
    const struct fuse_release_in release = {.fh = fh};
    ck_assert_int_eq(ask(&s, FUSE_RELEASE, f, &release, sizeof(release), NULL, 0), 0);
    ck_assert_int_eq(ask(&s, FUSE_RELEASE, f, &release, sizeof(release), NULL, 0), -EBADF);
    ck_assert_int_eq(ask(&s, FUSE_READ, f, &in, sizeof(in), NULL, 0), -EBADF);
}
END_TEST

START_TEST(forgetting_more_than_was_looked_up_frees_once)
{
    AUTO(share_donep) struct share s;
    share_open(&s, &plain);
    ck_assert_int_eq(start(&s), 0);
    uint64_t f;
    uint64_t again;
    ck_assert_int_eq(lookup(&s, 1, "f", &f), 0);
    ck_assert_int_eq(lookup(&s, 1, "f", &again), 0);
    ck_assert_uint_eq(f, again);
    struct fuse_forget_in in = {.nlookup = 1};
    ck_assert_int_eq(ask(&s, FUSE_FORGET, f, &in, sizeof(in), NULL, 0), 1);
    ck_assert_int_eq(get_attr(&s, f), 0);
    in.nlookup = UINT64_MAX;
    ck_assert_int_eq(ask(&s, FUSE_FORGET, f, &in, sizeof(in), NULL, 0), 1);
    ck_assert_int_eq(get_attr(&s, f), -ESTALE);
    ck_assert_int_eq(ask(&s, FUSE_FORGET, f, &in, sizeof(in), NULL, 0), 1);
    ck_assert_int_eq(ask(&s, FUSE_FORGET, 1, &in, sizeof(in), NULL, 0), 1);
    ck_assert_int_eq(get_attr(&s, 1), 0);
    /* A count that lies about the list behind it. */
    ck_assert_int_eq(lookup(&s, 1, "f", &f), 0);
    const struct fuse_batch_forget_in batch = {.count = UINT32_MAX};
    const struct fuse_forget_one one = {.nodeid = f, .nlookup = 1};
    ck_assert_int_eq(ask(&s, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), &one, sizeof(one)), 1);
    ck_assert_int_eq(get_attr(&s, f), -ESTALE);
}
END_TEST

START_TEST(what_the_guest_may_hold_is_bounded)
{
    static const struct fs_options few = {.max_inodes = 3, .max_handles = 2};
    AUTO(share_donep) struct share s;
    share_open(&s, &few);
    ck_assert_int_eq(start(&s), 0);
    uint64_t f;
    uint64_t g;
    uint64_t d;
    ck_assert_int_eq(lookup(&s, 1, "f", &f), 0);
    ck_assert_int_eq(lookup(&s, 1, "g", &g), 0);
    ck_assert_int_eq(lookup(&s, 1, "d", &d), -ENFILE);
    const struct fuse_forget_in forget = {.nlookup = 1};
    ck_assert_int_eq(ask(&s, FUSE_FORGET, g, &forget, sizeof(forget), NULL, 0), 1);
    ck_assert_int_eq(lookup(&s, 1, "d", &d), 0);
    (void)open_file(&s, f, O_RDONLY);
    (void)open_file(&s, f, O_RDONLY);
    const struct fuse_open_in in = {.flags = O_RDONLY};
    ck_assert_int_eq(ask(&s, FUSE_OPEN, f, &in, sizeof(in), NULL, 0), -ENFILE);
    /* A new greeting forgets all. */
    ck_assert_int_eq(start(&s), 0);
    ck_assert_int_eq(lookup(&s, 1, "f", &f), 0);
    ck_assert_int_eq(ask(&s, FUSE_OPEN, f, &in, sizeof(in), NULL, 0), 0);
}
END_TEST

START_TEST(sizes_that_do_not_fit_are_refused)
{
    AUTO(share_donep) struct share s;
    share_open(&s, &plain);
    ck_assert_int_eq(start(&s), 0);
    uint64_t f;
    ck_assert_int_eq(lookup(&s, 1, "f", &f), 0);
    uint64_t fh = open_file(&s, f, O_RDWR);
    struct fuse_read_in read_in = {.fh = fh, .size = sizeof(s.answer)};
    ck_assert_int_eq(ask(&s, FUSE_READ, f, &read_in, sizeof(read_in), NULL, 0), -EINVAL);
    read_in = (struct fuse_read_in){.fh = fh, .size = 4, .offset = UINT64_MAX - 2};
    ck_assert_int_eq(ask(&s, FUSE_READ, f, &read_in, sizeof(read_in), NULL, 0), -EINVAL);
    struct fuse_write_in write_in = {.fh = fh, .size = 100};
    ck_assert_int_eq(ask(&s, FUSE_WRITE, f, &write_in, sizeof(write_in), "new", 3), -EINVAL);
    write_in.size = 3;
    ck_assert_int_eq(ask(&s, FUSE_WRITE, f, &write_in, sizeof(write_in), "new", 3), 0);
    ck_assert_int_eq(ask(&s, FUSE_WRITE, f, &write_in, 8, NULL, 0), -EINVAL);
    const struct fuse_setxattr_in xattr = {.size = 100};
    ck_assert_int_eq(
        ask(&s, FUSE_SETXATTR, f, &xattr, FUSE_COMPAT_SETXATTR_IN_SIZE, "user.a\0b", 8), -EINVAL);
    /* No room for what was found: it is not held either. */
    s.room = sizeof(struct fuse_out_header) + 8;
    uint64_t g;
    ck_assert_int_eq(lookup(&s, 1, "g", &g), -EIO);
    s.room = sizeof(struct fuse_out_header) - 1;
    ck_assert_int_eq(lookup(&s, 1, "g", &g), 1);
    s.room = sizeof(s.answer);
    ck_assert_int_eq(get_attr(&s, f + 1), -ESTALE);
    /* A header that lies about the length, or is cut. */
    struct fuse_in_header header = {.len = 4096, .opcode = FUSE_STATFS, .nodeid = 1};
    const struct iovec in = {.iov_base = &header, .iov_len = sizeof(header)};
    const struct iovec cut = {.iov_base = &header, .iov_len = sizeof(header) - 1};
    const struct iovec out = {.iov_base = s.answer, .iov_len = s.room};
    struct fuse_out_header answer;
    ck_assert_uint_eq(fs_server_serve(s.server, &in, 1, &out, 1), sizeof(answer));
    memcpy(&answer, s.answer, sizeof(answer));
    ck_assert_int_eq(answer.error, -EINVAL);
    ck_assert_uint_eq(fs_server_serve(s.server, &cut, 1, &out, 1), 0);
    ck_assert_int_eq(ask(&s, 51, 1, NULL, 0, NULL, 0), -ENOSYS);
    ck_assert_int_eq(ask(&s, UINT32_MAX, 1, NULL, 0, NULL, 0), -ENOSYS);
}
END_TEST

START_TEST(links_and_pipes_are_not_opened)
{
    AUTO(share_donep) struct share s;
    share_open(&s, &plain);
    ck_assert_int_eq(symlinkat("/etc/hostname", s.fd, "link"), 0);
    ck_assert_int_eq(symlinkat("/etc", s.fd, "dir"), 0);
    ck_assert_int_eq(mkfifoat(s.fd, "pipe", 0644), 0);
    ck_assert_int_eq(start(&s), 0);
    static const struct {
        const char *name;
        int want;
    } cases[] = {{"link", -ELOOP}, {"dir", -ELOOP}, {"pipe", -ENXIO}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t id;
        uint64_t below;
        const struct fuse_open_in in = {.flags = O_RDONLY};
        ck_assert_int_eq(lookup(&s, 1, cases[i].name, &id), 0);
        ck_assert_int_eq(ask(&s, FUSE_OPEN, id, &in, sizeof(in), NULL, 0), cases[i].want);
        ck_assert_int_eq(lookup(&s, id, "hostname", &below), -ENOTDIR);
        const struct fuse_setattr_in size = {.valid = FATTR_SIZE};
        ck_assert_int_eq(ask(&s, FUSE_SETATTR, id, &size, sizeof(size), NULL, 0), -EINVAL);
        /* Making a file where the link is finds the link, not what is behind it. */
        const struct fuse_create_in create = {.flags = O_RDWR, .mode = 0644};
        ck_assert_int_eq(ask(&s, FUSE_CREATE, 1, &create, sizeof(create), cases[i].name,
                             strlen(cases[i].name) + 1),
                         cases[i].want);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        nothing_is_served_before_the_greeting,
        names_are_single_components,
        numbers_that_were_never_given_mean_nothing,
        forgetting_more_than_was_looked_up_frees_once,
        what_the_guest_may_hold_is_bounded,
        sizes_that_do_not_fit_are_refused,
        links_and_pipes_are_not_opened,
        NULL,
    };
    return unit_run("vmm_fs", tests);
}
