#include "engine/id_range.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "base/user_namespace.h"
#include "container/idmap.h"

#define SIZE_DEFAULT 65536U
#define SIZE_MIN 1024U
#define SIZE_MAX_ (1U << 24)
#define SUBID_FILE_MAX ((size_t)1 << 20)

/* Where /etc/subuid names no pool: ids that no login, no service and no other engine gives out. */
#define POOL_START 0x70000000U
#define POOL_SIZE 0x0fff0000U

/*
 * On disk the owner of what the kernel itself makes beside the layers' files (whiteouts, the
 * overlay's working directory): the host's root must be some id there.
 */
#define ROOT_ON_DISK 0xfffffffeU

int id_range_parse(const char *text, enum id_range_mode *ret_mode, unsigned *ret_size,
                   struct err *err)
{
    *ret_size = SIZE_DEFAULT;
    if (text == NULL || text[0] == '\0' || strcmp(text, "host") == 0) {
        *ret_mode = ID_RANGE_HOST;
        return 0;
    }
    if (strcmp(text, "private") == 0 || strcmp(text, "remap") == 0) {
        *ret_mode = ID_RANGE_PRIVATE;
        return 0;
    }
    if (strcmp(text, "auto") == 0) {
        *ret_mode = ID_RANGE_AUTO;
        return 0;
    }
    if (str_starts(text, "auto:")) {
        uint64_t size;
        const char *option = text + strlen("auto:");
        if (!str_starts(option, "size=") || parse_u64(option + strlen("size="), 10, &size) < 0 ||
            size < SIZE_MIN || size > SIZE_MAX_) {
            return err_say(err, EINVAL, "--userns '%s': auto takes size=N, from %u to %u", text,
                           SIZE_MIN, SIZE_MAX_);
        }
        *ret_size = (unsigned)size;
        *ret_mode = ID_RANGE_AUTO;
        return 0;
    }
    if (str_starts(text, "container:") && text[strlen("container:")] != '\0') {
        *ret_mode = ID_RANGE_JOINED;
        return 0;
    }
    return err_say(err, EINVAL,
                   "--userns '%s' is not auto, auto:size=N, private, remap, container:NAME or host",
                   text);
}

int id_range_check(const struct workload_config *config, bool rootless, struct err *err)
{
    enum id_range_mode mode;
    unsigned size;
    int r = id_range_parse(config->userns, &mode, &size, err);
    if (r < 0 || mode == ID_RANGE_HOST) {
        return r;
    }
    if (rootless) {
        return err_say(err, EPERM,
                       "--userns '%s': needs root, who alone can id-map the layers of images; "
                       "your workloads are in a user namespace of yours anyway",
                       config->userns);
    }
    if (config->privileged) {
        return err_say(err, EINVAL,
                       "--privileged cannot go with --userns %s: root in a user namespace has no "
                       "rights over the host; use --userns host",
                       config->userns);
    }
    /* Namespaces of the host, or of others, do not belong to the new user namespace. */
    const struct {
        const char *option;
        const char *value;
    } rows[] = {{"ipc", config->ipc}, {"pid", config->pid}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (str_eq(rows[i].value, "host") || (mode != ID_RANGE_JOINED && rows[i].value != NULL &&
                                              str_starts(rows[i].value, "container:"))) {
            return err_say(err, EINVAL, "--%s %s cannot go with --userns %s", rows[i].option,
                           rows[i].value, config->userns);
        }
    }
    for (size_t i = 0; i < config->network.count; i++) {
        const char *network = config->network.items[i];
        if (str_eq(network, "host") ||
            (mode != ID_RANGE_JOINED && str_starts(network, "container:"))) {
            return err_say(err, EINVAL, "--network %s cannot go with --userns %s", network,
                           config->userns);
        }
    }
    return 0;
}

/* The range of the first of the users that has one in both files. */
static int subid_range(const char *const *users, size_t count, struct id_range *ret)
{
    AUTO(buf_donep) struct buf uids = {0};
    AUTO(buf_donep) struct buf gids = {0};
    (void)read_file("/etc/subuid", SUBID_FILE_MAX, &uids);
    (void)read_file("/etc/subgid", SUBID_FILE_MAX, &gids);
    for (size_t i = 0; uids.data != NULL && gids.data != NULL && i < count; i++) {
        unsigned uid_count;
        unsigned gid_count;
        if (user_namespace_range(uids.data, users[i], UINT32_MAX, &ret->uid_start, &uid_count) ==
                0 &&
            user_namespace_range(gids.data, users[i], UINT32_MAX, &ret->gid_start, &gid_count) ==
                0) {
            ret->size = MIN(uid_count, gid_count);
            return 0;
        }
    }
    return -ENOENT;
}

static int private_range(struct id_range *ret, struct err *err)
{
    static const char *const users[] = {"isola", "dockremap"};
    if (subid_range(users, COUNT(users), ret) < 0) {
        (void)err_say(err, ENOENT,
                      "--userns private: no range for user isola in /etc/subuid and /etc/subgid");
        err_hint(err, "useradd --system isola; usermod --add-subuids 1000000-1065535 "
                      "--add-subgids 1000000-1065535 isola; or use --userns auto");
        return -ENOENT;
    }
    return 0;
}

/* The lowest place in the pool that no living workload's range overlaps. */
static int free_place(struct engine *engine, const char *id, const struct id_range *pool,
                      unsigned size, unsigned *ret_offset, struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(engine->db, &stmt, err,
                       "SELECT start, size FROM id_range JOIN workload ON workload.id = workload "
                       "WHERE workload <> ?1 AND state NOT IN ('created', 'exited') ORDER BY start",
                       "s", id);
    uint64_t at = pool->uid_start;
    while (r >= 0 && (r = db_step(engine->db, stmt, err)) > 0) {
        uint64_t start = (uint64_t)sqlite3_column_int64(stmt, 0);
        uint64_t end = start + (uint64_t)sqlite3_column_int64(stmt, 1);
        if (end > at && start >= at + size) {
            break;
        }
        at = MAX(at, end);
    }
    if (r < 0) {
        return r;
    }
    if (size > pool->size || at - pool->uid_start > pool->size - size) {
        (void)err_say(err, ENOSPC, "--userns auto: no %u ids are free among the %u from %u on",
                      size, pool->size, pool->uid_start);
        err_hint(err, "stop workloads, ask for fewer (auto:size=N), or give user containers a "
                      "larger range in /etc/subuid and /etc/subgid");
        return -ENOSPC;
    }
    *ret_offset = (unsigned)(at - pool->uid_start);
    return 0;
}

int id_range_reserve(struct engine *engine, const char *workload_id,
                     const struct workload_config *config, struct id_range *ret, struct err *err)
{
    enum id_range_mode mode;
    unsigned size;
    struct id_range range = {0};
    int r = id_range_parse(config->userns, &mode, &size, err);
    if (r == 0 && mode == ID_RANGE_PRIVATE) {
        r = private_range(&range, err);
    } else if (r == 0 && mode == ID_RANGE_AUTO) {
        static const char *const users[] = {"containers"};
        unsigned offset = 0;
        if (subid_range(users, COUNT(users), &range) < 0) {
            range = (struct id_range){POOL_SIZE, POOL_START, POOL_START};
        }
        r = free_place(engine, workload_id, &range, size, &offset, err);
        range = (struct id_range){size, range.uid_start + offset, range.gid_start + offset};
        r = r < 0
                ? r
                : db_run(engine->db, err,
                         "INSERT OR REPLACE INTO id_range (workload, start, size) VALUES (?, ?, ?)",
                         "sii", workload_id, (int64_t)range.uid_start, (int64_t)range.size);
    }
    if (r < 0) {
        return r;
    }
    *ret = range;
    return 0;
}

const char *id_range_joined(const struct workload_config *config)
{
    return config->userns != NULL && str_starts(config->userns, "container:")
               ? config->userns + strlen("container:")
               : NULL;
}

/* The first line of a map, which is the workload's ids from 0 on. */
static int read_map(int64_t pid, const char *file, unsigned *ret_start, unsigned *ret_size,
                    struct err *err)
{
    char path[64];
    unsigned inside = 1;
    AUTO(buf_donep) struct buf text = {0};
    (void)snprintf(path, sizeof(path), "/proc/%lld/%s", (long long)pid, file);
    int r = read_file(path, SUBID_FILE_MAX, &text);
    if (r < 0) {
        return err_set(err, -r, "read '%s'", path);
    }
    if (text.data == NULL || sscanf(text.data, "%u %u %u", &inside, ret_start, ret_size) != 3 ||
        inside != 0) {
        return err_say(err, EINVAL, "'%s' maps no root", path);
    }
    return 0;
}

int id_range_of_process(int64_t pid, struct id_range *ret, struct err *err)
{
    struct id_range range = {0};
    unsigned gids = 0;
    int r = read_map(pid, "uid_map", &range.uid_start, &range.size, err);
    r = r < 0 ? r : read_map(pid, "gid_map", &range.gid_start, &gids, err);
    if (r < 0) {
        return r;
    }
    range.size = MIN(range.size, gids);
    *ret = range.uid_start == 0 ? (struct id_range){0} : range;
    return 0;
}

int id_range_namespace(const struct id_range *range, struct err *err)
{
    struct spec_id_map uids[] = {{0, range->uid_start, range->size}, {ROOT_ON_DISK, 0, 1}};
    struct spec_id_map gids[] = {{0, range->gid_start, range->size}, {ROOT_ON_DISK, 0, 1}};
    const struct spec_id_maps uid_maps = {.items = uids, .count = COUNT(uids)};
    const struct spec_id_maps gid_maps = {.items = gids, .count = COUNT(gids)};
    return idmap_user_namespace(&uid_maps, &gid_maps, err);
}
