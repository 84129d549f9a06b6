#include "cmd/machine_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "engine/user.h"
#include "engine/workload.h"
#include "image/tar_extract.h"
#include "wall/vm.h"

#define ANSWER_MAX ((size_t)1 << 20)

int machine_files_open(struct engine *engine, const struct workload *workload, struct vm_idle *ret,
                       struct err *err)
{
    /* A machine that ends while we write to it is an error to report. */
    (void)signal(SIGPIPE, SIG_IGN);
    return vm_idle_open(engine, workload, ret, err);
}

/* cut_off: the other side's error is the cause of ours, which is the end of the stream. */
static int finish(struct vm_files *files, int r, bool cut_off, struct err *ours, struct err *err)
{
    struct err theirs = ERR_NONE;
    int t = r < 0 && !cut_off ? 0 : vm_files_finish(files, &theirs);
    if (err != NULL) {
        *err = t < 0 ? theirs : *ours;
    }
    return t < 0 ? t : r;
}

int machine_files_read(const char *bundle, const char *const words[], bool freeze,
                       machine_files_fn *fn, void *data, struct err *err)
{
    AUTO(vm_files_donep) struct vm_files files = VM_FILES_INIT;
    const struct vm_files_request request = {.words = words, .output = true, .freeze = freeze};
    struct err ours = ERR_NONE;
    int r = vm_files_start(bundle, &request, &files, err);
    if (r < 0) {
        return r;
    }
    r = fn(data, files.streams.fd[1], &ours);
    return finish(&files, r, r == -EBADMSG, &ours, err);
}

int machine_files_write(const char *bundle, const char *const words[], machine_files_fn *fn,
                        void *data, struct err *err)
{
    AUTO(vm_files_donep) struct vm_files files = VM_FILES_INIT;
    const struct vm_files_request request = {.words = words, .input = true};
    struct err ours = ERR_NONE;
    int r = vm_files_start(bundle, &request, &files, err);
    if (r < 0) {
        return r;
    }
    r = fn(data, files.streams.fd[0], &ours);
    return finish(&files, r, ours.code == EPIPE, &ours, err);
}

int machine_files_unpack(int fd, int dir_fd, const char *name, bool is_dir,
                         const struct extract_rules *rules, struct err *err)
{
    struct extract_rules own = *rules;
    own.refuse_devices = true;
    if (!is_dir) {
        /* One entry, so that none can be a link that the next is written through. */
        own.rename_top = name;
        own.limits.entries = 1;
        return tar_extract(fd, dir_fd, ".", &own, NULL, err);
    }
    if (name[0] == '\0') {
        return tar_extract(fd, dir_fd, ".", &own, NULL, err);
    }
    /* Opened before: links of the archive's are resolved below this one. */
    if (mkdirat(dir_fd, name, 0777) < 0 && errno != EEXIST) {
        return err_set(err, errno, "make directory '%s'", name);
    }
    AUTO(closep) int top = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return top < 0 ? err_set(err, errno, "open directory '%s'", name)
                   : tar_extract(fd, top, ".", &own, NULL, err);
}

static int take_text(void *data, int fd, struct err *err)
{
    struct buf *text = data;
    int r = read_fd(fd, ANSWER_MAX, text);
    r = r < 0 ? r : buf_add_str(text, "");
    return r < 0 ? err_set(err, -r, "read the machine's answer") : 0;
}

static int bad_answer(const char *what, struct err *err)
{
    return err_say(err, EBADMSG, "the machine's answer about %s makes no sense", what);
}

int machine_files_type(const char *bundle, const char *path, bool follow, struct err *err)
{
    const char *const words[] = {"type", path, follow ? "1" : "0", NULL};
    AUTO(buf_donep) struct buf text = {0};
    int r = machine_files_read(bundle, words, false, take_text, &text, err);
    if (r < 0) {
        return r;
    }
    char *end;
    unsigned long mode = strtoul(text.data, &end, 8);
    return end == text.data || *end != '\n' || mode > UINT16_MAX ? bad_answer(path, err)
                                                                 : (int)(mode & S_IFMT);
}

static int read_groups(char *cursor, struct user *user)
{
    for (char *line; (line = strsep(&cursor, "\n")) != NULL && line[0] != '\0';) {
        uint64_t gid;
        if (user->group_count >= NGROUPS_MAX || parse_u64(line, 10, &gid) < 0 ||
            gid >= UINT32_MAX) {
            return -EBADMSG;
        }
        gid_t *groups = reallocarray(user->groups, user->group_count + 1, sizeof(*groups));
        if (groups == NULL) {
            return -ENOMEM;
        }
        user->groups = groups;
        user->groups[user->group_count++] = (gid_t)gid;
    }
    return 0;
}

int machine_files_user(const char *bundle, const char *text, const struct strv *extra,
                       struct user *ret, struct err *err)
{
    AUTO(user_donep) struct user user = {0};
    AUTO(buf_donep) struct buf answer = {0};
    const char *words[16] = {"user", text};
    uint64_t uid;
    uint64_t gid;
    if (extra->count > COUNT(words) - 3) {
        return err_say(err, E2BIG, "user '%s': at most %zu groups of --group-add", text,
                       COUNT(words) - 3);
    }
    for (size_t i = 0; i < extra->count; i++) {
        words[2 + i] = extra->items[i];
    }
    int r = machine_files_read(bundle, words, false, take_text, &answer, err);
    if (r < 0) {
        return r;
    }
    char *cursor = answer.data;
    char *line = strsep(&cursor, "\n");
    char *first = strsep(&line, " ");
    char *second = strsep(&line, " ");
    if (line == NULL || line[0] != '/' || parse_u64(first, 10, &uid) < 0 ||
        parse_u64(second, 10, &gid) < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX) {
        return bad_answer(text, err);
    }
    user.uid = (uid_t)uid;
    user.gid = (gid_t)gid;
    user.home = strdup(line);
    r = user.home == NULL ? -ENOMEM : read_groups(cursor, &user);
    if (r < 0) {
        return r == -ENOMEM ? err_set(err, ENOMEM, "user '%s'", text) : bad_answer(text, err);
    }
    *ret = user;
    user = (struct user){0};
    return 0;
}
