/*
 * disk_tool - the disk library as a line-driven program, for the tests beside it.
 *
 * One command a line, one answer a line ("ok ...", "error ERRNO TEXT"); after the answer of `read`
 * come its bytes. A request that begins with '+' is submitted and not awaited; `wait` awaits all
 * and answers with their first error. Written sectors hold 64 times the number SEED << 32 | SECTOR.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/create.h"
#include "vmm/disk/disk.h"

#define WORDS 10
#define PIECES 7

struct tool {
    struct loop *loop;
    struct disk *disk;
    unsigned under_way;
    int error;
    bool awaited; /* the loop runs until nothing is under way */
};

struct call {
    struct disk_request request;
    struct tool *tool;
    uint8_t *data;
    struct iovec iov[PIECES];
    bool print;
};

static void on_done(struct disk_request *request, int error)
{
    struct call *call = CONTAINER_OF(request, struct call, request);
    struct tool *tool = call->tool;
    if (error < 0 && tool->error == 0) {
        tool->error = error;
    }
    if (call->print && error == 0) {
        (void)printf("ok\n");
        (void)fwrite(call->data, 1, (size_t)request->len, stdout);
    }
    free(call->data);
    free(call);
    if (--tool->under_way == 0 && tool->awaited) {
        loop_quit(tool->loop, 0);
    }
}

/* Through the loop, as a machine does it. */
static void wait_all(struct tool *tool)
{
    if (tool->disk != NULL) {
        disk_kick(tool->disk);
    }
    if (tool->under_way > 0) {
        tool->awaited = true;
        (void)loop_run(tool->loop);
        tool->awaited = false;
    }
}

static void answer(int r, const struct err *err)
{
    if (r < 0) {
        (void)printf("error %d %s\n", -r, err != NULL && err->code != 0 ? err->text : strerror(-r));
    } else {
        (void)printf("ok\n");
    }
}

/* In pieces of odd lengths at odd addresses. */
static void split(struct call *call, size_t len)
{
    size_t at = 0;
    for (unsigned i = 0; i < PIECES && at < len; i++) {
        size_t piece = i == PIECES - 1 ? len - at : MIN(len - at, len / 5 + i * 3 + 1);
        call->iov[i] = (struct iovec){.iov_base = call->data + at, .iov_len = piece};
        call->request.iov_count = i + 1;
        at += piece;
    }
    call->request.iov = call->iov;
}

static bool find_op(const char *word, struct disk_request *request)
{
    static const struct {
        const char *word;
        enum disk_op op;
        bool may_unmap;
    } ops[] = {
        {"read", DISK_READ, false},         {"write", DISK_WRITE, false},
        {"flush", DISK_FLUSH, false},       {"discard", DISK_DISCARD, false},
        {"zero", DISK_WRITE_ZEROES, false}, {"unmap", DISK_WRITE_ZEROES, true},
    };
    for (size_t i = 0; i < COUNT(ops); i++) {
        if (strcmp(word, ops[i].word) == 0) {
            request->op = ops[i].op;
            request->may_unmap = ops[i].may_unmap;
            return true;
        }
    }
    return false;
}

static bool do_request(struct tool *tool, char **words)
{
    bool later = words[0][0] == '+';
    struct disk_request request = {.done = on_done};
    if (!find_op(words[0] + later, &request)) {
        return false;
    }
    if (tool->disk == NULL) {
        answer(-ENODEV, NULL);
        return true;
    }
    struct call *call = calloc(1, sizeof(*call));
    request.offset = strtoull(words[1], NULL, 0);
    request.len = strtoull(words[2], NULL, 0);
    uint64_t seed = strtoull(words[3], NULL, 0);
    bool moves = request.op == DISK_READ || request.op == DISK_WRITE;
    call->request = request;
    call->tool = tool;
    if (moves) {
        call->data = calloc(1, (size_t)request.len + 1);
        for (uint64_t i = 0; request.op == DISK_WRITE && i + 8 <= request.len; i += 8) {
            store_le64(call->data + i, seed << 32 | (request.offset + i) / 512);
        }
        split(call, (size_t)request.len);
    }
    call->print = request.op == DISK_READ && !later;
    bool print = call->print;
    tool->under_way++;
    disk_submit(tool->disk, &call->request);
    if (later) {
        return true;
    }
    wait_all(tool);
    if (!print || tool->error < 0) {
        answer(tool->error, NULL);
    }
    tool->error = 0;
    return true;
}

/* open PATH FORMAT rw|ro DIR|- [direct] */
static void do_open(struct tool *tool, char **words)
{
    struct err err = ERR_NONE;
    AUTO(closep) int dir = -1;
    if (words[4][0] != '\0' && strcmp(words[4], "-") != 0) {
        dir = open(words[4], O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    const struct disk_options options = {
        .format = strcmp(words[2], "-") == 0 ? NULL : words[2],
        .read_only = strcmp(words[3], "ro") == 0,
        .direct = strcmp(words[5], "direct") == 0,
        .dir_fd = dir,
    };
    int r = disk_open(words[1], -1, &options, tool->loop, &tool->disk, &err);
    if (r < 0) {
        answer(r, &err);
    } else {
        (void)printf("ok %llu\n", (unsigned long long)disk_size(tool->disk));
    }
}

/* create DIR NAME FORMAT SIZE CLUSTER_BITS [BACKING FORMAT] */
static void do_create(char **words)
{
    struct err err = ERR_NONE;
    AUTO(closep) int dir = open(words[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
    const struct disk_create_options options = {
        .format = words[3],
        .size = strtoull(words[4], NULL, 0),
        .cluster_bits = (unsigned)strtoul(words[5], NULL, 0),
        .backing = words[6][0] != '\0' ? words[6] : NULL,
        .backing_format = words[7],
    };
    answer(disk_create(dir, words[2], &options, &err), &err);
}

static void do_line(struct tool *tool, char *line)
{
    static char empty[] = "";
    char *words[WORDS];
    unsigned count = 0;
    char *save = NULL;
    for (char *w = strtok_r(line, " \n", &save); w != NULL && count < WORDS;
         w = strtok_r(NULL, " \n", &save)) {
        words[count++] = w;
    }
    while (count < WORDS) {
        words[count++] = empty;
    }
    if (do_request(tool, words)) {
        return;
    }
    if (strcmp(words[0], "open") == 0) {
        do_open(tool, words);
    } else if (strcmp(words[0], "create") == 0) {
        do_create(words);
    } else if (strcmp(words[0], "wait") == 0) {
        wait_all(tool);
        answer(tool->error, NULL);
        tool->error = 0;
    } else if (strcmp(words[0], "drain") == 0) {
        answer(disk_drain(tool->disk), NULL);
    } else if (strcmp(words[0], "close") == 0) {
        wait_all(tool);
        disk_free(TAKE_PTR(tool->disk));
        answer(0, NULL);
    } else {
        answer(-EINVAL, NULL);
    }
}

int main(void)
{
    struct tool tool = {0};
    if (loop_new(&tool.loop) < 0) {
        return 1;
    }
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        do_line(&tool, line);
        (void)fflush(stdout);
    }
    free(line);
    wait_all(&tool);
    disk_free(tool.disk);
    loop_free(tool.loop);
    return 0;
}
