#include "engine/workload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/err.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/process.h"
#include "engine/end.h"
#include "engine/event.h"

#define COLUMNS "id, name, state, created, config, runtime"

static const char *const state_names[] = {"created", "starting",   "running",
                                          "paused",  "restarting", "exited"};

const char *workload_state_name(enum workload_state state)
{
    return state_names[state];
}

void workload_done(struct workload *workload)
{
    free(workload->name);
    config_done(&workload->config);
    json_unrefp(&workload->run.json);
    *workload = (struct workload){0};
}

void workload_list_done(struct workload_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        workload_done(&list->items[i]);
    }
    free(list->items);
    *list = (struct workload_list){0};
}

char *workload_root_path(const struct engine *engine, const char *id, const char *name)
{
    return str_printf("%s/workloads/%s%s%s", engine->dirs.root, id, name != NULL ? "/" : "",
                      name != NULL ? name : "");
}

char *workload_run_path(const struct engine *engine, const char *id, const char *name)
{
    return str_printf("%s/workloads/%s%s%s", engine->dirs.run, id, name != NULL ? "/" : "",
                      name != NULL ? name : "");
}

bool workload_status_alive(const struct workload_status *status)
{
    return process_is_alive(status->pid, status->pid_start) || status_shim_alive(status);
}

/* It runs, as its shim knows, and whoever started it is about to note that, or was killed before.
 */
static void adopt(struct workload *workload)
{
    const struct workload_status *status = &workload->status;
    if (workload->state != WORKLOAD_STARTING || status->started_ns == 0 ||
        status->finished_ns != 0 || !workload_status_alive(status)) {
        return;
    }
    workload->state = WORKLOAD_RUNNING;
    workload->adopted = true;
    workload->run = (struct workload_run){
        .started_ns = status->started_ns,
        .pid = status->pid,
        .restarts = workload->run.restarts,
        .json = workload->run.json,
    };
}

static void read_status(struct engine *engine, struct workload *workload)
{
    if (workload->state == WORKLOAD_CREATED || workload->state == WORKLOAD_EXITED) {
        return;
    }
    AUTO(freep) char *path = workload_run_path(engine, workload->id, NULL);
    AUTO(closep) int dir = path != NULL ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir >= 0) {
        (void)status_read(dir, &workload->status);
        adopt(workload);
    }
}

static int read_run(const char *text, struct workload_run *run, struct err *err)
{
    int r = json_parse(text, strlen(text), "workload.runtime", &run->json, err);
    if (r == 0) {
        static const struct {
            const char *key;
            size_t offset;
        } numbers[] = {
            {"started", offsetof(struct workload_run, started_ns)},
            {"finished", offsetof(struct workload_run, finished_ns)},
            {"exit_code", offsetof(struct workload_run, exit_code)},
            {"pid", offsetof(struct workload_run, pid)},
            {"restarts", offsetof(struct workload_run, restarts)},
        };
        for (size_t i = 0; r >= 0 && i < COUNT(numbers); i++) {
            r = json_get_int(run->json, NULL, numbers[i].key, INT64_MIN, INT64_MAX,
                             (int64_t *)(void *)((char *)run + numbers[i].offset), err);
        }
    }
    if (r >= 0) {
        r = json_get_bool(run->json, NULL, "oom_killed", &run->oom_killed, err);
    }
    if (r >= 0) {
        r = json_get_bool(run->json, NULL, "stop_asked", &run->stop_asked, err);
    }
    if (r >= 0) {
        r = json_get_string(run->json, NULL, "error", &run->error, err);
    }
    return r < 0 ? r : 0;
}

static char *write_run(const struct workload_run *run)
{
    json_t *json = json_pack("{s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:s*}", "started",
                             (json_int_t)run->started_ns, "finished", (json_int_t)run->finished_ns,
                             "exit_code", (json_int_t)run->exit_code, "pid", (json_int_t)run->pid,
                             "restarts", (json_int_t)run->restarts, "oom_killed", run->oom_killed,
                             "stop_asked", run->stop_asked, "error", run->error);
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

/* Reads a row of COLUMNS. */
static int read_row(struct engine *engine, sqlite3_stmt *stmt, struct workload *ret,
                    struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    config_init(&workload.config);
    (void)snprintf(workload.id, sizeof(workload.id), "%s", db_text(stmt, 0));
    workload.name = strdup(db_text(stmt, 1));
    workload.created_ns = sqlite3_column_int64(stmt, 3);
    for (size_t i = 0; i < COUNT(state_names); i++) {
        if (str_eq(state_names[i], db_text(stmt, 2))) {
            workload.state = (enum workload_state)i;
        }
    }
    AUTO(json_unrefp) json_t *config = NULL;
    const char *text = db_text(stmt, 4);
    int r = workload.name == NULL ? err_set(err, ENOMEM, "read a workload") : 0;
    if (r == 0) {
        r = json_parse(text, strlen(text), "workload.config", &config, err);
    }
    if (r == 0) {
        r = config_from_json(config, &workload.config, err);
    }
    if (r == 0) {
        r = read_run(db_text(stmt, 5), &workload.run, err);
    }
    if (r < 0) {
        return err_wrap(err, -r, "workload '%s' in state.db", db_text(stmt, 1));
    }
    read_status(engine, &workload);
    *ret = workload;
    workload = (struct workload){0};
    return 0;
}

int workload_load(struct engine *engine, const char *id, struct workload *ret, struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(engine->db, &stmt, err, "SELECT " COLUMNS " FROM workload WHERE id = ?", "s",
                       id);
    if (r == 0) {
        r = db_step(engine->db, stmt, err);
    }
    if (r == 0) {
        return err_say(err, ENOENT, "no such workload: %s", id);
    }
    return r < 0 ? r : read_row(engine, stmt, ret, err);
}

/* The id of the one workload that name means. */
static int find_id(struct engine *engine, const char *name, char ret[WORKLOAD_ID_SIZE],
                   struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    if (name[0] == '/') {
        name++;
    }
    /* A name or a whole id wins over the beginning of another's id. */
    int r = db_prepare(engine->db, &stmt, err,
                       "SELECT id, (name = ?1 OR id = ?1) AS exact FROM workload"
                       " WHERE exact OR (length(?1) > 0 AND id >= ?1 AND id < ?1 || 'g')"
                       " ORDER BY exact DESC LIMIT 2",
                       "s", name);
    if (r == 0) {
        r = db_step(engine->db, stmt, err);
    }
    if (r < 0) {
        return r;
    }
    if (r == 0) {
        (void)err_say(err, ENOENT, "no such workload: %s", name);
        err_hint(err, "`isola ps -a` lists them");
        return -ENOENT;
    }
    bool exact = sqlite3_column_int(stmt, 1) != 0;
    (void)snprintf(ret, WORKLOAD_ID_SIZE, "%s", db_text(stmt, 0));
    if (!exact && db_step(engine->db, stmt, err) == 1) {
        return err_say(err, EEXIST, "'%s' is the beginning of several ids; give more of it", name);
    }
    return 0;
}

/* Writes down a start that nobody has noted, unless somebody is at work on the workload. */
static void note_adopted(struct engine *engine, const char *id)
{
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(db_tx_donep) struct db_tx tx = {0};
    AUTO(closep) int lock = workload_try_lock(engine, id, NULL);
    if (lock < 0 || workload_load(engine, id, &workload, NULL) < 0 || !workload.adopted) {
        return;
    }
    AUTO(strv_donep) struct strv attributes = {0};
    (void)strv_addf(&attributes, "image=%s", workload.config.image);
    (void)strv_addf(&attributes, "name=%s", workload.name);
    if (db_begin(engine->db, &tx, NULL) == 0 && workload_save(engine, &workload, NULL) == 0 &&
        event_add(engine->db, "container", "start", id, &attributes, NULL) == 0) {
        (void)db_commit(&tx, NULL);
    }
}

int workload_find(struct engine *engine, const char *name, struct workload *ret, struct err *err)
{
    char id[WORKLOAD_ID_SIZE];
    int r = find_id(engine, name, id, err);
    if (r == 0) {
        r = workload_load(engine, id, ret, err);
    }
    if (r == 0 && ret->adopted) {
        note_adopted(engine, id);
    }
    if (r == 0 && end_is_due(ret)) {
        workload_done(ret);
        r = end_run(engine, id, err);
        if (r == 0) {
            r = workload_load(engine, id, ret, err);
        }
    }
    return r;
}

int workload_list(struct engine *engine, struct workload_list *ret, struct err *err)
{
    AUTO(workload_list_donep) struct workload_list list = {0};
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    size_t size = 0;
    int r = db_prepare(engine->db, &stmt, err,
                       "SELECT " COLUMNS " FROM workload ORDER BY created DESC", "");
    while (r >= 0 && (r = db_step(engine->db, stmt, err)) == 1) {
        if (list.count == size) {
            size = size * 2 + 16;
            struct workload *items = reallocarray(list.items, size, sizeof(*items));
            if (items == NULL) {
                return err_set(err, ENOMEM, "list workloads");
            }
            list.items = items;
        }
        r = read_row(engine, stmt, &list.items[list.count], err);
        list.count += r == 0 ? 1 : 0;
    }
    if (r < 0) {
        return r;
    }
    stmt_donep(&stmt);
    stmt = NULL;
    for (size_t i = 0; i < list.count; i++) {
        if (list.items[i].adopted) {
            note_adopted(engine, list.items[i].id);
        }
    }
    *ret = list;
    list = (struct workload_list){0};
    return 0;
}

int workload_insert(struct engine *engine, const struct workload *workload, struct err *err)
{
    json_t *config = config_to_json(&workload->config);
    AUTO(freep) char *text = config != NULL ? json_dumps(config, JSON_COMPACT) : NULL;
    json_decref(config);
    if (text == NULL) {
        return err_set(err, ENOMEM, "save workload '%s'", workload->name);
    }
    int r = db_run(engine->db, err,
                   "INSERT INTO workload (id, name, image, state, created, config)"
                   " VALUES (?, ?, ?, ?, ?, ?)",
                   "ssssis", workload->id, workload->name, workload->config.image_id,
                   state_names[workload->state], workload->created_ns, text);
    if (r == -EEXIST) {
        (void)err_say(err, EEXIST, "the name '%s' is taken by another workload", workload->name);
        err_hint(err, "remove it with `isola rm %s` or choose another --name", workload->name);
    }
    return r < 0 ? r : 0;
}

int workload_save(struct engine *engine, const struct workload *workload, struct err *err)
{
    AUTO(freep) char *run = write_run(&workload->run);
    if (run == NULL) {
        return err_set(err, ENOMEM, "save workload '%s'", workload->name);
    }
    int r = db_run(engine->db, err, "UPDATE workload SET state = ?, runtime = ? WHERE id = ?",
                   "sss", state_names[workload->state], run, workload->id);
    return r < 0 ? r : 0;
}

int workload_save_config(struct engine *engine, const struct workload *workload, struct err *err)
{
    json_t *config = config_to_json(&workload->config);
    AUTO(freep) char *text = config != NULL ? json_dumps(config, JSON_COMPACT) : NULL;
    json_decref(config);
    if (text == NULL) {
        return err_set(err, ENOMEM, "save workload '%s'", workload->name);
    }
    int r = db_run(engine->db, err, "UPDATE workload SET name = ?, config = ? WHERE id = ?", "sss",
                   workload->name, text, workload->id);
    if (r == -EEXIST) {
        return err_say(err, EEXIST, "the name '%s' is taken by another workload", workload->name);
    }
    return r < 0 ? r : workload_save(engine, workload, err);
}

static int take_lock(struct engine *engine, const char *id, bool wait, struct err *err)
{
    AUTO(freep) char *locks = str_printf("%s/locks", engine->dirs.run);
    if (locks == NULL) {
        return err_set(err, ENOMEM, "lock workload");
    }
    int r = mkdir_parents(locks, 0700);
    AUTO(closep) int dir = r < 0 ? r : open(locks, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return err_set(err, r < 0 ? -r : errno, "open '%s'", locks);
    }
    int fd = lock_file_at(dir, id, LOCK_EXCLUSIVE, wait);
    return fd >= 0 || (!wait && fd == -EWOULDBLOCK) ? fd
                                                    : err_set(err, -fd, "lock '%s/%s'", locks, id);
}

int workload_lock(struct engine *engine, const char *id, struct err *err)
{
    return take_lock(engine, id, true, err);
}

int workload_try_lock(struct engine *engine, const char *id, struct err *err)
{
    return take_lock(engine, id, false, err);
}

void workload_remove_lock(struct engine *engine, const char *id)
{
    AUTO(freep) char *path = str_printf("%s/locks/%s", engine->dirs.run, id);
    if (path != NULL) {
        (void)unlink(path);
    }
}

int workload_new_id(char ret[WORKLOAD_ID_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[(WORKLOAD_ID_SIZE - 1) / 2];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        return -EIO;
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        ret[2 * i] = digits[bytes[i] >> 4];
        ret[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret[WORKLOAD_ID_SIZE - 1] = '\0';
    return 0;
}

void workload_new_name(int try, char *ret, size_t size)
{
    static const char *const first[] = {
        "amber", "bold", "brisk", "calm",  "clear", "deep",  "early", "fair",
        "fond",  "glad", "green", "keen",  "late",  "light", "lucid", "merry",
        "mild",  "neat", "north", "plain", "proud", "quick", "quiet", "ripe",
        "sharp", "sly",  "south", "still", "sunny", "swift", "tall",  "warm",
    };
    static const char *const second[] = {
        "alder", "bay",   "birch", "brook", "cape",  "cedar", "cliff", "cove",
        "creek", "dale",  "delta", "dune",  "elm",   "fen",   "fjord", "glen",
        "grove", "heath", "hill",  "isle",  "lake",  "larch", "marsh", "moor",
        "oak",   "pine",  "reef",  "ridge", "river", "shoal", "vale",  "wold",
    };
    uint32_t random = 0;
    (void)!getrandom(&random, sizeof(random), 0);
    int n = snprintf(ret, size, "%s_%s", first[random % COUNT(first)],
                     second[(random >> 8) % COUNT(second)]);
    if (try > 0 && n > 0 && (size_t)n < size) {
        (void)snprintf(ret + n, size - (size_t)n, "%u", (random >> 16) % (try > 3 ? 100000 : 100));
    }
}
