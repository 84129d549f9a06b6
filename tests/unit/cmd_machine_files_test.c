/*
 * What a guest sends in place of what it was asked for.
 */
#include "cmd/machine_files.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "archive.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "container/guest_protocol.h"
#include "engine/user.h"
#include "wall/vm.h"

static const struct extract_rules own_files = {.whiteouts = TAR_WHITEOUTS_PLAIN};

/* A home directory with something to lose, and the archive. */
struct fixture {
    struct temporary home;
    struct archive a;
};

static void fixture_init(struct fixture *f)
{
    temporary_init(&f->home);
    archive_init(&f->a);
    int fd = openat(f->home.fd, ".profile", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_int_eq(write_full(fd, "mine", 4), 0);
    (void)close(fd);
}

static void fixture_done(struct fixture *f)
{
    archive_done(&f->a);
    temporary_done(&f->home);
}

static int unpack(struct fixture *f, const char *name, bool is_dir, struct err *err)
{
    ck_assert_int_eq(tar_writer_finish(f->a.writer), 0);
    AUTO(closep) int fd = memfd_create("archive", MFD_CLOEXEC);
    ck_assert_int_eq(write_full(fd, f->a.bytes.data, f->a.bytes.len), 0);
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    return machine_files_unpack(fd, f->home.fd, name, is_dir, &own_files, err);
}

static void expect_text(int dir_fd, const char *path, const char *text)
{
    AUTO(buf_donep) struct buf got = {0};
    ck_assert_int_eq(read_file_at(dir_fd, path, 4096, &got), 0);
    ck_assert_str_eq(got.data, text);
}

START_TEST(a_file_that_was_asked_for_is_one_file_of_that_name)
{
    static const char *const names[] = {"word", ".profile", "../.profile", "/etc/word"};
    for (size_t i = 0; i < COUNT(names); i++) {
        struct fixture f;
        fixture_init(&f);
        archive_add_file(&f.a, names[i], "theirs");
        (void)unpack(&f, "word", false, NULL);
        expect_text(f.home.fd, ".profile", "mine");
        fixture_done(&f);
    }
    struct fixture f;
    fixture_init(&f);
    archive_add_file(&f.a, "other", "theirs");
    ck_assert_int_eq(unpack(&f, "word", false, NULL), 0);
    expect_text(f.home.fd, "word", "theirs");
    ck_assert(is_missing(f.home.fd, "other"));
    fixture_done(&f);
}
END_TEST

START_TEST(a_second_entry_beside_a_file_is_refused)
{
    struct fixture f;
    struct err err = ERR_NONE;
    fixture_init(&f);
    archive_add(&f.a, TAR_SYMLINK, "word", ".", 0777);
    archive_add_file(&f.a, "word/.profile", "theirs");
    ck_assert_int_lt(unpack(&f, "word", false, &err), 0);
    expect_text(f.home.fd, ".profile", "mine");
    fixture_done(&f);
}
END_TEST

START_TEST(what_a_directory_holds_stays_below_it)
{
    struct fixture f;
    fixture_init(&f);
    archive_add(&f.a, TAR_DIRECTORY, "./", "", 0755);
    archive_add(&f.a, TAR_SYMLINK, "up", "..", 0777);
    archive_add_file(&f.a, "up/.profile", "theirs");
    archive_add(&f.a, TAR_SYMLINK, "root", "/", 0777);
    archive_add_file(&f.a, "root/isola-was-here", "theirs");
    (void)unpack(&f, "tree", true, NULL);
    expect_text(f.home.fd, ".profile", "mine");
    ck_assert(is_missing(AT_FDCWD, "/isola-was-here"));
    expect_text(f.home.fd, "tree/.profile", "theirs");
    expect_text(f.home.fd, "tree/isola-was-here", "theirs");
    fixture_done(&f);
}
END_TEST

START_TEST(a_directory_is_not_unpacked_through_a_link_that_was_there)
{
    struct fixture f;
    struct err err = ERR_NONE;
    fixture_init(&f);
    ck_assert_int_eq(symlinkat(".", f.home.fd, "tree"), 0);
    archive_add_file(&f.a, ".profile", "theirs");
    ck_assert_int_lt(unpack(&f, "tree", true, &err), 0);
    expect_text(f.home.fd, ".profile", "mine");
    fixture_done(&f);
}
END_TEST

START_TEST(devices_are_refused)
{
    struct fixture f;
    struct err err = ERR_NONE;
    fixture_init(&f);
    archive_add(&f.a, TAR_BLOCKDEV, "disk", "", 0666);
    ck_assert_int_lt(unpack(&f, "tree", true, &err), 0);
    ck_assert(is_missing(f.home.fd, "tree/disk"));
    fixture_done(&f);
}
END_TEST

/* What the guest does when it is asked; the words of the request are known. */
struct guest {
    const char *answer; /* to the request */
    const char *output;
    const char *error;
    const char *end; /* the last message; NULL: it closes */
};

static int connect_port(const char *dir, const json_t *request, const char *key)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/vm-run/vsock_%d", dir,
                   (int)json_integer_value(json_object_get(request, key)));
    return json_integer_value(json_object_get(request, key)) == 0 ? -1
                                                                  : unix_connect(path, SOCK_STREAM);
}

static void say(int fd, const char *text)
{
    AUTO(json_unrefp) json_t *message = json_loads(text, 0, NULL);
    (void)guest_send(fd, message, NULL);
}

static _Noreturn void be_guest(const char *dir, int listener, const struct guest *guest)
{
    char word[64];
    AUTO(json_unrefp) json_t *request = NULL;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    (void)!read(fd, word, sizeof(word));
    (void)!write(fd, "OK 1\n", 5);
    if (guest_receive(fd, 10000, &request, NULL) < 0) {
        _exit(1);
    }
    int out = connect_port(dir, request, "stdout");
    int error = connect_port(dir, request, "stderr");
    say(fd, guest->answer);
    (void)!write(out, guest->output, strlen(guest->output));
    (void)!write(error, guest->error, strlen(guest->error));
    (void)close(out);
    (void)close(error);
    if (guest->end != NULL) {
        say(fd, guest->end);
        (void)!read(fd, word, sizeof(word)); /* until the host has read it */
    }
    _exit(0);
}

static pid_t start_guest(struct temporary *dir, const struct guest *guest)
{
    temporary_init(dir);
    AUTO(freep) char *path = str_printf("%s/vm-run/vsock", dir->path);
    ck_assert_int_eq(mkdirat(dir->fd, "vm-run", 0700), 0);
    AUTO(closep) int listener = unix_listen(path, SOCK_STREAM, 0600);
    ck_assert_int_ge(listener, 0);
    pid_t pid = fork();
    if (pid == 0) {
        be_guest(dir->path, listener, guest);
    }
    return pid;
}

static void end_guest(struct temporary *dir, pid_t pid)
{
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    temporary_done(dir);
}

#define STARTED "{\"type\":\"started\",\"pid\":5}"
#define EXITED(code) "{\"type\":\"exited\",\"code\":" #code ",\"oom_kills\":0}"

START_TEST(a_type_that_makes_no_sense_is_refused)
{
    static const struct {
        const char *output;
        int want;
    } cases[] = {
        {"100644\n", S_IFREG}, {"40755\n", S_IFDIR},      {"", -EBADMSG},
        {"\n", -EBADMSG},      {"100644 more", -EBADMSG}, {"777777777777777777\n", -EBADMSG},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct temporary dir;
        const struct guest guest = {STARTED, cases[i].output, "", EXITED(0)};
        pid_t pid = start_guest(&dir, &guest);
        ck_assert_int_eq(machine_files_type(dir.path, "/x", true, NULL), cases[i].want);
        end_guest(&dir, pid);
    }
}
END_TEST

START_TEST(an_error_of_the_guest_is_one_printable_line)
{
    struct temporary dir;
    struct err err = ERR_NONE;
    const struct guest guest = {STARTED, "", "2 '/x': \033[31mNo\tsuch\nsecond line\n", EXITED(1)};
    pid_t pid = start_guest(&dir, &guest);
    ck_assert_int_eq(machine_files_type(dir.path, "/x", true, &err), -ENOENT);
    ck_assert_str_eq(err.text, "'/x': ?[31mNo?such");
    end_guest(&dir, pid);
}
END_TEST

START_TEST(output_without_an_end_is_no_success)
{
    static const char *const ends[] = {NULL, "{\"type\":\"exited\"}", "{\"type\":\"ok\"}",
                                       "{\"type\":\"exited\",\"code\":700}"};
    for (size_t i = 0; i < COUNT(ends); i++) {
        struct temporary dir;
        const struct guest guest = {STARTED, "100644\n", "", ends[i]};
        pid_t pid = start_guest(&dir, &guest);
        ck_assert_int_lt(machine_files_type(dir.path, "/x", true, NULL), 0);
        end_guest(&dir, pid);
    }
}
END_TEST

START_TEST(a_user_of_the_guest_is_numbers_and_a_path)
{
    static const struct {
        const char *output;
        int want;
    } cases[] = {
        {"7 8 /home/x\n9\n10\n", 0},     {"7 8\n", -EBADMSG},
        {"7 8 home\n", -EBADMSG},        {"-1 8 /home\n", -EBADMSG},
        {"4294967295 8 /h\n", -EBADMSG}, {"7 8 /home\nwheel\n", -EBADMSG},
    };
    const struct strv none = {0};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct temporary dir;
        AUTO(user_donep) struct user user = {0};
        const struct guest guest = {STARTED, cases[i].output, "", EXITED(0)};
        pid_t pid = start_guest(&dir, &guest);
        ck_assert_int_eq(machine_files_user(dir.path, "x", &none, &user, NULL), cases[i].want);
        ck_assert(cases[i].want < 0 || (user.uid == 7 && user.gid == 8 && user.group_count == 2 &&
                                        user.groups[1] == 10));
        end_guest(&dir, pid);
    }
}
END_TEST

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    return unit_run("cmd/machine_files",
                    (const TTest *const[]){
                        a_file_that_was_asked_for_is_one_file_of_that_name,
                        a_second_entry_beside_a_file_is_refused,
                        what_a_directory_holds_stays_below_it,
                        a_directory_is_not_unpacked_through_a_link_that_was_there,
                        devices_are_refused,
                        a_type_that_makes_no_sense_is_refused,
                        an_error_of_the_guest_is_one_printable_line,
                        output_without_an_end_is_no_success,
                        a_user_of_the_guest_is_numbers_and_a_path,
                        NULL,
                    });
}
