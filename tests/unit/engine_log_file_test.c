#include "engine/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/path.h"
#include "engine/log_reader.h"
#include "unit.h"

static char dir[] = "/tmp/isola-log-XXXXXX";

static int open_dir(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void remove_dir(void)
{
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, dir), 0);
}

/* All text that the reader has now, parts joined, lines ended. */
static void read_all(struct log_reader *reader, struct buf *out)
{
    struct log_line line;
    int r;
    buf_clear(out);
    ck_assert_int_eq(buf_add_str(out, ""), 0);
    while ((r = log_reader_next(reader, &line)) == 1) {
        ck_assert_int_eq(buf_add(out, line.text, line.len), 0);
        ck_assert_int_eq(line.full ? buf_add_char(out, '\n') : 0, 0);
    }
    ck_assert_int_eq(r, 0);
}

START_TEST(parts_of_lines_come_back_as_they_were_written)
{
    AUTO(closep) int fd = open_dir();
    struct log_writer writer;
    AUTO(log_reader_closep) struct log_reader *reader = NULL;
    AUTO(buf_donep) struct buf text = {0};
    char big[10000];
    memset(big, 'x', sizeof(big));
    ck_assert_int_eq(log_writer_open(&writer, fd, 0, 1, NULL), 0);
    ck_assert_int_eq(log_reader_open(dir, &reader, NULL), 0);
    log_write(&writer, LOG_STDOUT, "one\ntw", 6);
    read_all(reader, &text);
    ck_assert_str_eq(text.data, "one\ntw");
    log_write(&writer, LOG_STDOUT, "o\n\n \n", 5);
    log_write(&writer, LOG_STDOUT, big, sizeof(big));
    log_write(&writer, LOG_STDOUT, "", 0);
    read_all(reader, &text);
    ck_assert_uint_eq(text.len, 5 + sizeof(big));
    ck_assert_int_eq(memcmp(text.data, "o\n\n \nxxx", 8), 0);
    log_writer_close(&writer);
    remove_dir();
}
END_TEST

START_TEST(a_log_is_appended_to_by_the_next_run)
{
    AUTO(closep) int fd = open_dir();
    AUTO(log_reader_closep) struct log_reader *reader = NULL;
    AUTO(buf_donep) struct buf text = {0};
    for (int i = 0; i < 3; i++) {
        struct log_writer writer;
        ck_assert_int_eq(log_writer_open(&writer, fd, 0, 1, NULL), 0);
        log_write(&writer, LOG_STDOUT, "run\n", 4);
        log_writer_close(&writer);
    }
    ck_assert_int_eq(log_reader_open(dir, &reader, NULL), 0);
    read_all(reader, &text);
    ck_assert_str_eq(text.data, "run\nrun\nrun\n");
    remove_dir();
}
END_TEST

START_TEST(rotation_keeps_the_newest_files_within_their_size)
{
    AUTO(closep) int fd = open_dir();
    struct log_writer writer;
    struct stat st;
    ck_assert_int_eq(log_writer_open(&writer, fd, 200, 3, NULL), 0);
    for (int i = 0; i < 100; i++) {
        char line[16];
        int n = snprintf(line, sizeof(line), "line %d\n", i);
        log_write(&writer, LOG_STDOUT, line, (size_t)n);
    }
    log_writer_close(&writer);
    static const char *const names[] = {"log", "log.1", "log.2"};
    for (size_t i = 0; i < COUNT(names); i++) {
        ck_assert_int_eq(fstatat(fd, names[i], &st, 0), 0);
        ck_assert_int_le(st.st_size, 200);
    }
    ck_assert_int_lt(fstatat(fd, "log.3", &st, 0), 0);

    AUTO(log_reader_closep) struct log_reader *reader = NULL;
    AUTO(buf_donep) struct buf text = {0};
    ck_assert_int_eq(log_reader_open(dir, &reader, NULL), 0);
    read_all(reader, &text);
    ck_assert_ptr_nonnull(strstr(text.data, "line 98\nline 99\n"));
    remove_dir();
}
END_TEST

START_TEST(a_follower_loses_no_line_to_a_rotation_behind_its_back)
{
    AUTO(closep) int fd = open_dir();
    struct log_writer writer;
    AUTO(log_reader_closep) struct log_reader *reader = NULL;
    AUTO(buf_donep) struct buf text = {0};
    AUTO(buf_donep) struct buf all = {0};
    AUTO(buf_donep) struct buf want = {0};
    ck_assert_int_eq(log_writer_open(&writer, fd, 200, 8, NULL), 0);
    ck_assert_int_eq(log_reader_open(dir, &reader, NULL), 0);
    for (int i = 0; i < 200; i++) {
        char line[16];
        int n = snprintf(line, sizeof(line), "line %d\n", i);
        log_write(&writer, LOG_STDERR, line, (size_t)n);
        ck_assert_int_eq(buf_add(&want, line, (size_t)n), 0);
        if (i % 7 == 0) {
            /* Between two reads the file is added to, rotated, and rotated again. */
            read_all(reader, &text);
            ck_assert_int_eq(buf_add(&all, text.data, text.len), 0);
        }
    }
    read_all(reader, &text);
    ck_assert_int_eq(buf_add(&all, text.data, text.len), 0);
    ck_assert_uint_eq(all.len, want.len);
    ck_assert_int_eq(memcmp(all.data, want.data, want.len), 0);
    log_writer_close(&writer);
    remove_dir();
}
END_TEST

START_TEST(a_follower_loses_no_line_to_a_rotation_while_it_reads)
{
    AUTO(closep) int fd = open_dir();
    AUTO(log_reader_closep) struct log_reader *reader = NULL;
    ck_assert_int_eq(log_reader_open(dir, &reader, NULL), 0);
    pid_t child = fork();
    if (child == 0) {
        struct log_writer writer;
        int r = log_writer_open(&writer, fd, 300, 900, NULL);
        for (int i = 0; r == 0 && i < 2000; i++) {
            char line[16];
            log_write(&writer, LOG_STDOUT, line, (size_t)snprintf(line, sizeof(line), "%d\n", i));
        }
        _exit(r < 0 ? 1 : 0);
    }
    int next = 0;
    for (bool ended = false, last = false; !last;) {
        struct log_line line;
        last = ended;
        while (log_reader_next(reader, &line) == 1) {
            ck_assert_int_eq(atoi(line.text), next);
            next++;
        }
        ended = ended || waitpid(child, NULL, WNOHANG) == child;
    }
    ck_assert_int_eq(next, 2000);
    remove_dir();
}
END_TEST

START_TEST(tail_counts_lines_over_all_files)
{
    static const struct {
        uint64_t count;
        const char *want;
    } cases[] = {
        {0, ""}, {1, "open"}, {2, "3\nopen"}, {4, "1\n2\n3\nopen"}, {99, "0\n1\n2\n3\nopen"}};
    AUTO(closep) int fd = open_dir();
    struct log_writer writer;
    ck_assert_int_eq(log_writer_open(&writer, fd, 60, 9, NULL), 0);
    for (int i = 0; i < 4; i++) {
        char line[16];
        log_write(&writer, LOG_STDOUT, line, (size_t)snprintf(line, sizeof(line), "%d\n", i));
    }
    log_write(&writer, LOG_STDOUT, "open", 4);
    log_writer_close(&writer);
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(log_reader_closep) struct log_reader *reader = NULL;
        AUTO(buf_donep) struct buf text = {0};
        ck_assert_int_eq(log_reader_open(dir, &reader, NULL), 0);
        ck_assert_int_eq(log_reader_tail(reader, cases[i].count), 0);
        read_all(reader, &text);
        ck_assert_str_eq(text.data, cases[i].want);
    }
    remove_dir();
}
END_TEST

START_TEST(a_hostile_line_is_no_line)
{
    static const char *const bad[] = {
        "",
        " ",
        "stdout",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z stdout",
        "2026-01-02T03:04:05Z stdout X text",
        "2026-01-02T03:04:05Z stdin_ F text",
        "2026-01-02T03:04:05Z stdoutF text",
        "2026-99-02T03:04:05Z stdout F text",
        "9999-01-02T03:04:05Z stdout F text",
        "2026-01-02T99:04:05Z stdout F text",
        "yesterday stdout F text",
        "0000000000000000000000000000000000000000000000000000 stdout F text",
    };
    struct log_line line;
    for (size_t i = 0; i < COUNT(bad); i++) {
        /* A copy without anything behind it, so that a read past the end is seen. */
        size_t len = strlen(bad[i]);
        char *copy = malloc(len > 0 ? len : 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, bad[i], len);
        ck_assert_msg(log_line_parse(copy, len, &line) == -EBADMSG, "accepted: %s", bad[i]);
        free(copy);
    }
    static const char good[] = "2026-01-02T03:04:05.000000006Z stderr P \0a b";
    ck_assert_int_eq(log_line_parse(good, sizeof(good) - 1, &line), 0);
    ck_assert_int_eq(line.stream, LOG_STDERR);
    ck_assert(!line.full);
    ck_assert_uint_eq(line.len, 4);
    ck_assert_int_eq(line.time_ns % 1000000000, 6);
}
END_TEST

START_TEST(a_reader_passes_over_what_is_not_ours)
{
    AUTO(closep) int fd = open_dir();
    AUTO(log_reader_closep) struct log_reader *reader = NULL;
    AUTO(buf_donep) struct buf text = {0};
    AUTO(closep) int file = openat(fd, LOG_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static char junk[200000];
    memset(junk, 'j', sizeof(junk));
    static const char good[] =
        "\n2026-01-02T03:04:05Z stdout F good\n\n\0\n2026-01-02T03:04:05Z std";
    ck_assert_int_eq(write(file, junk, sizeof(junk)), sizeof(junk));
    ck_assert_int_eq(write(file, good, sizeof(good) - 1), sizeof(good) - 1);
    ck_assert_int_eq(log_reader_open(dir, &reader, NULL), 0);
    read_all(reader, &text);
    ck_assert_str_eq(text.data, "good\n");
    remove_dir();
}
END_TEST

START_TEST(a_full_disk_loses_whole_lines_counts_them_and_says_so)
{
    AUTO(closep) int fd = open_dir();
    struct log_writer writer;
    AUTO(log_reader_closep) struct log_reader *reader = NULL;
    AUTO(buf_donep) struct buf text = {0};
    struct rlimit limit;
    (void)signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(log_writer_open(&writer, fd, 0, 1, NULL), 0);
    log_write(&writer, LOG_STDOUT, "before\n", 7);
    const struct rlimit full = {.rlim_cur = 60, .rlim_max = limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &full), 0);
    log_write(&writer, LOG_STDOUT, "lost one\n", 9);
    log_write(&writer, LOG_STDOUT, "lost two\n", 9);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(writer.lost, 16);
    log_write(&writer, LOG_STDOUT, "after\n", 6);
    log_writer_close(&writer);
    ck_assert_int_eq(log_reader_open(dir, &reader, NULL), 0);
    read_all(reader, &text);
    ck_assert_str_eq(text.data, "before\nisola: 16 bytes of output were lost: the disk was full\n"
                                "after\n");
    remove_dir();
}
END_TEST

int main(void)
{
    return unit_run("engine/log_file", (const TTest *const[]){
                                           parts_of_lines_come_back_as_they_were_written,
                                           a_log_is_appended_to_by_the_next_run,
                                           rotation_keeps_the_newest_files_within_their_size,
                                           a_follower_loses_no_line_to_a_rotation_behind_its_back,
                                           a_follower_loses_no_line_to_a_rotation_while_it_reads,
                                           tail_counts_lines_over_all_files,
                                           a_hostile_line_is_no_line,
                                           a_reader_passes_over_what_is_not_ours,
                                           a_full_disk_loses_whole_lines_counts_them_and_says_so,
                                           NULL,
                                       });
}
