#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "unit.h"
#include "vmm/fs/fs_process.h"
#include "vmm/virtio/fs.h"
#include "vmm_mmio.h"

/* Where requests and answers lie; the latter cross the border of the two regions of memory. */
#define REQUEST BED_BUFFERS
#define ANSWER (BED_REGION - 4096)
#define ROOM ((uint32_t)64 * 1024)
#define QUEUE 64

struct share {
    struct bed bed;
    char dir[32];
    pid_t pid;     /* of isola-fs */
    int peer;      /* the server's end, when the test is the server */
    unsigned lost; /* how often the device said so */
    uint64_t unique;
};

static void on_lost(void *data)
{
    struct share *s = data;
    s->lost++;
}

static void share_device(struct share *s, int fd)
{
    const struct virtio_fs_config config = {.tag = "tag", .fd = fd, .lost = on_lost, .data = s};
    bed_open(&s->bed);
    ck_assert_int_eq(set_nonblock(fd, true), 0);
    ck_assert_int_eq(
        virtio_fs_new("fs0", &config, s->bed.memory, s->bed.loop, &s->bed.virtio, NULL), 0);
    bed_connect(&s->bed);
    bed_start(&s->bed, VIRTIO_F_EVENT_IDX, 2, QUEUE);
}

/* The real program behind the device. */
static void share_open(struct share *s, bool read_only)
{
    int pair[2];
    char hello[FS_HELLO_SIZE];
    *s = (struct share){.dir = "/tmp/isola-share-XXXXXX", .peer = -1};
    ck_assert_ptr_nonnull(mkdtemp(s->dir));
    char *argv[] = {(char *)(uintptr_t)ISOLA_FS,
                    (char *)(uintptr_t) "--tag",
                    (char *)(uintptr_t) "tag",
                    (char *)(uintptr_t) "--path",
                    s->dir,
                    read_only ? (char *)(uintptr_t) "--read-only" : NULL,
                    NULL};
    /* LeakSanitizer looks into /proc at the end, which no path leads to from the jail. */
    char *environment[] = {(char *)(uintptr_t) "ASAN_OPTIONS=detect_leaks=0", NULL};
    posix_spawn_file_actions_t files;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(posix_spawn_file_actions_init(&files), 0);
    ck_assert_int_eq(posix_spawn_file_actions_adddup2(&files, pair[1], 3), 0);
    ck_assert_int_eq(posix_spawn(&s->pid, ISOLA_FS, &files, NULL, argv, environment), 0);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)close(pair[1]);
    ck_assert_int_eq(read_full(pair[0], hello, sizeof(hello)), 0);
    ck_assert_int_eq(memcmp(hello, FS_HELLO, sizeof(hello)), 0);
    share_device(s, pair[0]);
}

/* The test is the server. */
static void share_pair(struct share *s)
{
    int pair[2];
    *s = (struct share){0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    s->peer = pair[1];
    share_device(s, pair[0]);
}

static void share_close(struct share *s)
{
    bed_close(&s->bed);
    if (s->pid > 0) {
        int status = 0;
        ck_assert_int_eq(waitpid(s->pid, &status, 0), s->pid);
        ck_assert(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
        ck_assert_int_eq(remove_tree_at(AT_FDCWD, s->dir), 0);
    }
    if (s->peer >= 0) {
        (void)close(s->peer);
    }
}

/* A request whose payload is in the guest's memory already, behind its header and fixed part. */
static void ask_with(struct share *s, uint32_t opcode, uint64_t nodeid, const void *fixed,
                     uint32_t fixed_len, uint32_t payload)
{
    struct fuse_in_header header = {
        .len = (uint32_t)sizeof(header) + fixed_len + payload,
        .opcode = opcode,
        .unique = ++s->unique,
        .nodeid = nodeid,
    };
    MUST(memory_write(s->bed.memory, REQUEST, &header, sizeof(header)) == 0);
    if (fixed_len > 0) {
        MUST(memory_write(s->bed.memory, REQUEST + sizeof(header), fixed, fixed_len) == 0);
    }
    const struct driver_piece pieces[] = {{REQUEST, 10},
                                          {REQUEST + 10, header.len - 10},
                                          {ANSWER, 4096},
                                          {ANSWER + 4096, ROOM - 4096}};
    MUST(bed_send(&s->bed, 1, pieces, 2, 2) >= 0);
}

static int answer_of(struct share *s, uint32_t *ret_len)
{
    unsigned id = 0;
    uint32_t len = 0;
    struct fuse_out_header answer;
    BED_UNTIL(&s->bed, driver_get(&s->bed.driver[1], &id, &len));
    memcpy(&answer, memory_at(s->bed.memory, ANSWER, sizeof(answer)), sizeof(answer));
    ck_assert_uint_eq(answer.len, len);
    ck_assert_uint_eq(answer.unique, s->unique);
    *ret_len = len;
    return answer.error;
}

static int ask_text(struct share *s, uint32_t opcode, uint64_t nodeid, const void *fixed,
                    uint32_t fixed_len, const char *text, uint32_t text_len)
{
    uint32_t len = 0;
    if (text_len > 0) {
        MUST(memory_write(s->bed.memory, REQUEST + sizeof(struct fuse_in_header) + fixed_len, text,
                          text_len) == 0);
    }
    ask_with(s, opcode, nodeid, fixed, fixed_len, text_len);
    return answer_of(s, &len);
}

static int ask(struct share *s, uint32_t opcode, uint64_t nodeid, const void *fixed,
               uint32_t fixed_len, const char *name)
{
    return ask_text(s, opcode, nodeid, fixed, fixed_len, name,
                    name == NULL ? 0 : (uint32_t)strlen(name) + 1);
}

static void *payload_of(struct share *s)
{
    return memory_at(s->bed.memory, ANSWER + sizeof(struct fuse_out_header), 1024);
}

static int start(struct share *s)
{
    const struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION, .minor = 31};
    return ask(s, FUSE_INIT, 0, &init, sizeof(init), NULL);
}

START_TEST(a_driver_writes_and_reads_files_of_the_host)
{
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out opened;
    uint32_t len = 0;
    share_open(&s, false);
    ck_assert_int_eq(start(&s), 0);
    const struct fuse_create_in create = {.flags = O_RDWR, .mode = S_IFREG | 0640};
    ck_assert_int_eq(ask(&s, FUSE_CREATE, FUSE_ROOT_ID, &create, sizeof(create), "made"), 0);
    memcpy(&entry, payload_of(&s), sizeof(entry));
    memcpy(&opened, (uint8_t *)payload_of(&s) + sizeof(entry), sizeof(opened));
    /* The data crosses the border of the regions, which cuts the buffer in two. */
    const uint32_t size = ROOM - 200;
    const struct fuse_write_in write = {.fh = opened.fh, .size = size};
    uint8_t *data =
        memory_at(s.bed.memory, REQUEST + sizeof(struct fuse_in_header) + sizeof(write), size);
    for (uint32_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    ask_with(&s, FUSE_WRITE, entry.nodeid, &write, sizeof(write), size);
    ck_assert_int_eq(answer_of(&s, &len), 0);
    const struct fuse_read_in read = {.fh = opened.fh, .size = size};
    ask_with(&s, FUSE_READ, entry.nodeid, &read, sizeof(read), 0);
    ck_assert_int_eq(answer_of(&s, &len), 0);
    ck_assert_uint_eq(len, sizeof(struct fuse_out_header) + size);
    for (uint32_t i = 0; i < size; i++) {
        uint8_t byte;
        MUST(memory_read(s.bed.memory, ANSWER + sizeof(struct fuse_out_header) + i, &byte, 1) == 0);
        MUST(byte == (uint8_t)(i * 7 + (i >> 8)));
    }
    AUTO(closep) int dir = open(s.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    ck_assert_int_eq(fstatat(dir, "made", &st, 0), 0);
    ck_assert_int_eq(st.st_size, size);
    ck_assert_uint_eq(st.st_mode, S_IFREG | 0640);
    share_close(&s);
}
END_TEST

START_TEST(a_request_without_an_answer_is_given_back_empty)
{
    struct share s;
    unsigned id = 0;
    uint32_t len = 1;
    share_open(&s, false);
    ck_assert_int_eq(start(&s), 0);
    const struct fuse_forget_in forget = {.nlookup = 1};
    const struct fuse_in_header header = {
        .len = sizeof(header) + sizeof(forget), .opcode = FUSE_FORGET, .nodeid = 7};
    MUST(memory_write(s.bed.memory, REQUEST, &header, sizeof(header)) == 0);
    MUST(memory_write(s.bed.memory, REQUEST + sizeof(header), &forget, sizeof(forget)) == 0);
    const struct driver_piece piece = {REQUEST, header.len};
    ck_assert_int_ge(bed_send(&s.bed, 0, &piece, 1, 0), 0);
    BED_UNTIL(&s.bed, driver_get(&s.bed.driver[0], &id, &len));
    ck_assert_uint_eq(len, 0);
    share_close(&s);
}
END_TEST

struct step {
    const char *what;
    uint32_t opcode;
    uint64_t nodeid;
    const void *fixed;
    uint32_t fixed_len;
    const char *text;
    uint32_t text_len;
};

#define STEP(op, node, in)                                                                         \
    {                                                                                              \
#op, FUSE_##op, node, &(in), sizeof(in), NULL, 0                                           \
    }
#define STEP_TEXT(op, node, in, text)                                                              \
    {                                                                                              \
#op, FUSE_##op, node, &(in), sizeof(in), text, sizeof(text)                                \
    }
#define STEP_NAME(op, node, text)                                                                  \
    {                                                                                              \
#op, FUSE_##op, node, NULL, 0, text, sizeof(text)                                          \
    }

static void take_steps(struct share *s, const struct step *steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct step *step = &steps[i];
        int r = ask_text(s, step->opcode, step->nodeid, step->fixed, step->fixed_len, step->text,
                         step->text_len);
        ck_assert_msg(r == 0, "%s: %d", step->what, r);
    }
}

static void file_steps(struct share *s, uint64_t node, uint64_t fh)
{
    const struct fuse_write_in write = {.fh = fh, .size = 4};
    const struct fuse_setattr_in attributes = {
        .valid = FATTR_SIZE | FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_MTIME,
        .size = 2,
        .mode = 0640,
        .uid = getuid(),
        .gid = getgid(),
    };
    const struct fuse_fsync_in sync = {.fh = fh};
    const struct fuse_fsync_in datasync = {.fh = fh, .fsync_flags = 1};
    const struct fuse_fallocate_in room = {.fh = fh, .length = 4096};
    const struct fuse_lseek_in seek = {.fh = fh, .whence = SEEK_DATA};
    const struct fuse_read_in read = {.fh = fh, .size = 4096};
    const struct fuse_copy_file_range_in copy = {
        .fh_in = fh, .nodeid_out = node, .fh_out = fh, .off_out = 8192, .len = 2};
    const struct fuse_flush_in flush = {.fh = fh};
    const struct fuse_release_in release = {.fh = fh};
    const struct step steps[] = {
        STEP_TEXT(WRITE, node, write, "abc"),
        STEP(SETATTR, node, attributes),
        STEP(FSYNC, node, sync),
        STEP(FSYNC, node, datasync),
        STEP(FALLOCATE, node, room),
        STEP(LSEEK, node, seek),
        STEP(READ, node, read),
        STEP(COPY_FILE_RANGE, node, copy),
        STEP(FLUSH, node, flush),
        STEP(RELEASE, node, release),
    };
    take_steps(s, steps, COUNT(steps));
}

static void name_steps(struct share *s, uint64_t node)
{
    const struct fuse_mkdir_in dir = {.mode = 0755};
    const struct fuse_mknod_in fifo = {.mode = S_IFIFO | 0600};
    const struct fuse_rename2_in plain = {.newdir = FUSE_ROOT_ID};
    const struct fuse_rename2_in strict = {.newdir = FUSE_ROOT_ID, .flags = 1};
    const struct fuse_rename_in old = {.newdir = FUSE_ROOT_ID};
    const struct fuse_link_in link = {.oldnodeid = node};
    const struct fuse_getattr_in attributes = {0};
    const struct fuse_syncfs_in sync = {0};
    const struct step steps[] = {
        STEP_TEXT(MKDIR, FUSE_ROOT_ID, dir, "d"),
        STEP_TEXT(MKNOD, FUSE_ROOT_ID, fifo, "fifo"),
        STEP_NAME(SYMLINK, FUSE_ROOT_ID, "link\0target"),
        STEP_NAME(LOOKUP, FUSE_ROOT_ID, "fifo"),
        STEP_TEXT(RENAME2, FUSE_ROOT_ID, plain, "made\0two"),
        STEP_TEXT(RENAME2, FUSE_ROOT_ID, strict, "two\0three"),
        STEP_TEXT(RENAME, FUSE_ROOT_ID, old, "three\0four"),
        STEP_TEXT(LINK, FUSE_ROOT_ID, link, "hard"),
        STEP_NAME(UNLINK, FUSE_ROOT_ID, "four"),
        STEP_NAME(RMDIR, FUSE_ROOT_ID, "d"),
        STEP(GETATTR, node, attributes),
        STEP(STATFS, FUSE_ROOT_ID, attributes),
        STEP(SYNCFS, FUSE_ROOT_ID, sync),
    };
    take_steps(s, steps, COUNT(steps));
}

static void directory_steps(struct share *s)
{
    struct fuse_open_out opened;
    const struct fuse_open_in open = {0};
    ck_assert_int_eq(ask(s, FUSE_OPENDIR, FUSE_ROOT_ID, &open, sizeof(open), NULL), 0);
    memcpy(&opened, payload_of(s), sizeof(opened));
    const struct fuse_read_in read = {.fh = opened.fh, .size = 4096};
    const struct fuse_fsync_in sync = {.fh = opened.fh};
    const struct fuse_release_in release = {.fh = opened.fh};
    const struct step steps[] = {
        STEP(READDIR, FUSE_ROOT_ID, read),
        STEP(READDIRPLUS, FUSE_ROOT_ID, read),
        STEP(FSYNCDIR, FUSE_ROOT_ID, sync),
        STEP(RELEASEDIR, FUSE_ROOT_ID, release),
    };
    take_steps(s, steps, COUNT(steps));
}

START_TEST(the_servers_jail_has_room_for_all_that_a_guest_does)
{
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out opened;
    share_open(&s, false);
    ck_assert_int_eq(start(&s), 0);
    const struct fuse_create_in create = {.flags = O_RDWR, .mode = S_IFREG | 0640};
    ck_assert_int_eq(ask(&s, FUSE_CREATE, FUSE_ROOT_ID, &create, sizeof(create), "made"), 0);
    memcpy(&entry, payload_of(&s), sizeof(entry));
    memcpy(&opened, (uint8_t *)payload_of(&s) + sizeof(entry), sizeof(opened));
    file_steps(&s, entry.nodeid, opened.fh);
    name_steps(&s, entry.nodeid);
    directory_steps(&s);
    /* What the file system of /tmp says to these is its business; that an answer comes is ours. */
    const struct fuse_getxattr_in get = {.size = 100};
    const uint8_t set[FUSE_COMPAT_SETXATTR_IN_SIZE] = {3};
    (void)ask_text(&s, FUSE_SETXATTR, entry.nodeid, set, sizeof(set), "user.a\0abc", 10);
    (void)ask(&s, FUSE_GETXATTR, entry.nodeid, &get, sizeof(get), "user.a");
    (void)ask(&s, FUSE_LISTXATTR, entry.nodeid, &get, sizeof(get), NULL);
    (void)ask(&s, FUSE_REMOVEXATTR, entry.nodeid, NULL, 0, "user.a");
    const struct fuse_open_in open = {.flags = O_RDONLY};
    ck_assert_int_eq(ask(&s, FUSE_OPEN, entry.nodeid, &open, sizeof(open), NULL), 0);
    ck_assert_int_eq(ask(&s, FUSE_DESTROY, 0, NULL, 0, NULL), 0);
    ck_assert_uint_eq(s.lost, 0);
    share_close(&s);
}
END_TEST

START_TEST(a_read_only_share_refuses_to_change)
{
    struct share s;
    const struct fuse_mkdir_in make = {.mode = 0755};
    share_open(&s, true);
    ck_assert_int_eq(start(&s), 0);
    ck_assert_int_eq(ask(&s, FUSE_MKDIR, FUSE_ROOT_ID, &make, sizeof(make), "d"), -EROFS);
    share_close(&s);
}
END_TEST

START_TEST(the_end_of_the_server_is_said_once_and_breaks_the_device)
{
    struct share s;
    share_open(&s, false);
    ck_assert_int_eq(start(&s), 0);
    ck_assert_int_eq(kill(s.pid, SIGKILL), 0);
    BED_UNTIL(&s.bed, s.lost > 0);
    bed_pump(&s.bed);
    ck_assert_uint_eq(s.lost, 1);
    ck_assert((bed_get(&s.bed, 0x70) & VIRTIO_NEEDS_RESET) != 0);
    share_close(&s);
}
END_TEST

/* What the server has sent for the test, that is, what the device has sent to it. */
static struct fs_request take_request(struct share *s)
{
    uint8_t bytes[4096];
    struct fs_request request;
    struct pollfd poller = {.fd = s->peer, .events = POLLIN};
    while (poll(&poller, 1, 0) == 0) {
        bed_pump(&s->bed);
    }
    ck_assert_int_eq(read_full(s->peer, &request, sizeof(request)), 0);
    ck_assert_uint_le(request.length, sizeof(bytes));
    ck_assert_int_eq(read_full(s->peer, bytes, request.length), 0);
    return request;
}

static void give_answer(struct share *s, uint32_t id, uint32_t len, uint8_t byte)
{
    uint8_t bytes[sizeof(struct fs_answer) + 4096];
    const struct fs_answer answer = {.id = id, .length = len};
    memset(bytes, byte, sizeof(bytes));
    memcpy(bytes, &answer, sizeof(answer));
    ck_assert_int_eq(write_full(s->peer, bytes, sizeof(answer) + MIN(len, 4096u)), 0);
    bed_pump(&s->bed);
}

START_TEST(what_is_answered_after_a_reset_goes_nowhere)
{
    struct share s;
    unsigned id = 0;
    uint32_t len = 0;
    share_pair(&s);
    ask_with(&s, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, 0);
    struct fs_request old = take_request(&s);
    bed_start(&s.bed, VIRTIO_F_EVENT_IDX, 2, QUEUE);
    memset(memory_at(s.bed.memory, ANSWER, 4096), 0x11, 4096);
    ask_with(&s, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, 0);
    struct fs_request new = take_request(&s);
    give_answer(&s, old.id, 4000, 0xee);
    ck_assert(!driver_get(&s.bed.driver[1], &id, &len));
    const uint8_t *memory = memory_at(s.bed.memory, ANSWER, 4096);
    for (unsigned i = 0; i < 4096; i++) {
        MUST(memory[i] == 0x11);
    }
    give_answer(&s, new.id, 100, 0x22);
    ck_assert(driver_get(&s.bed.driver[1], &id, &len));
    ck_assert_uint_eq(len, 100);
    ck_assert_uint_eq(memory[99], 0x22);
    ck_assert_uint_eq(memory[100], 0x11);
    ck_assert_uint_eq(s.lost, 0);
    share_close(&s);
}
END_TEST

START_TEST(a_server_that_says_what_it_must_not_is_given_up)
{
    for (unsigned kind = 0; kind < 4; kind++) {
        struct share s;
        share_pair(&s);
        ask_with(&s, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, 0);
        struct fs_request request = take_request(&s);
        const struct fs_answer wrong[] = {
            {request.id + 1, 0}, {UINT32_MAX, 0}, {request.id, ROOM + 1}, {request.id, UINT32_MAX}};
        ck_assert_int_eq(write_full(s.peer, &wrong[kind], sizeof(wrong[kind])), 0);
        bed_pump(&s.bed);
        ck_assert_uint_eq(s.lost, 1);
        share_close(&s);
    }
}
END_TEST

/* A server that does not read: the device neither waits for it nor takes more than it can hold. */
START_TEST(a_slow_server_holds_requests_back_and_none_is_lost)
{
    struct share s;
    unsigned id = 0;
    uint32_t len = 0;
    unsigned sent = 0;
    unsigned answered = 0;
    share_pair(&s);
    const struct driver_piece pieces[] = {{REQUEST, 300000}, {ANSWER, 4096}};
    while (bed_send(&s.bed, 1, pieces, 1, 1) >= 0) {
        sent++;
    }
    bed_pump(&s.bed);
    ck_assert_uint_eq(sent, QUEUE / 2);
    uint8_t *bytes = malloc(300000);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_int_eq(set_nonblock(s.peer, true), 0);
    for (; answered < sent; answered++) {
        struct fs_request request;
        uint8_t *at = (uint8_t *)&request;
        size_t have = 0;
        while (have < sizeof(request) + 300000) {
            uint8_t *to = have < sizeof(request) ? at + have : bytes + have - sizeof(request);
            size_t want =
                have < sizeof(request) ? sizeof(request) - have : sizeof(request) + 300000 - have;
            ssize_t n = read(s.peer, to, want);
            have += n > 0 ? (size_t)n : 0;
            bed_pump(&s.bed);
        }
        ck_assert_uint_eq(request.length, 300000);
        give_answer(&s, request.id, 8, 0);
    }
    for (unsigned i = 0; i < sent; i++) {
        ck_assert(driver_get(&s.bed.driver[1], &id, &len));
        ck_assert_uint_eq(len, 8);
    }
    free(bytes);
    share_close(&s);
}
END_TEST

START_TEST(a_machine_with_a_share_is_not_saved)
{
    struct share s;
    struct err err = ERR_NONE;
    AUTO(buf_donep) struct buf out = {0};
    share_pair(&s);
    ck_assert_int_eq(
        state_write(&out, s.bed.virtio->device.state, "fs0", &s.bed.virtio->device, &err),
        -EOPNOTSUPP);
    ck_assert_ptr_nonnull(strstr(err_text(&err), "shared directories cannot be saved"));
    share_close(&s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_driver_writes_and_reads_files_of_the_host,
        a_request_without_an_answer_is_given_back_empty,
        the_servers_jail_has_room_for_all_that_a_guest_does,
        a_read_only_share_refuses_to_change,
        the_end_of_the_server_is_said_once_and_breaks_the_device,
        what_is_answered_after_a_reset_goes_nowhere,
        a_server_that_says_what_it_must_not_is_given_up,
        a_slow_server_holds_requests_back_and_none_is_lost,
        a_machine_with_a_share_is_not_saved,
        NULL,
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return unit_run("vmm_share", tests);
}
