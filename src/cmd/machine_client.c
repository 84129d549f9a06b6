/*
 * Where a machine's files are, and one HTTP request to its API.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/process.h"
#include "base/unix_socket.h"
#include "cmd/machine.h"

#define ANSWER_MAX ((size_t)1 << 20)
#define NAME_LEN_MAX 64

static bool is_name(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++) {
        bool letter = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
                      (name[i] >= '0' && name[i] <= '9');
        if (!letter && (i == 0 || strchr("_.-", name[i]) == NULL)) {
            return false;
        }
    }
    return len > 0 && len <= NAME_LEN_MAX;
}

int machine_place_init(const char *run_dir, const char *name, struct machine_place *ret,
                       struct err *err)
{
    if (!is_name(name)) {
        return err_say(err, EINVAL, "'%s' is no name for a machine: letters, digits, '_', '.', '-'",
                       name);
    }
    AUTO(machine_place_donep)
    struct machine_place place = {
        .name = strdup(name),
        .folder = str_printf("%s/machines/%s", run_dir, name),
        .api = str_printf("%s/machines/%s/api.sock", run_dir, name),
        .console = str_printf("%s/machines/%s/console.sock", run_dir, name),
        .log = str_printf("%s/machines/%s/console.log", run_dir, name),
        .log_old = str_printf("%s/machines/%s/console.log.1", run_dir, name),
        .pid = str_printf("%s/machines/%s/pid", run_dir, name),
        .errors = str_printf("%s/machines/%s/errors", run_dir, name),
        .config = str_printf("%s/machines/%s/config.json", run_dir, name),
    };
    if (place.name == NULL || place.folder == NULL || place.api == NULL || place.console == NULL ||
        place.log == NULL || place.log_old == NULL || place.pid == NULL || place.errors == NULL ||
        place.config == NULL) {
        return err_set(err, ENOMEM, "find machine '%s'", name);
    }
    *ret = place;
    place = (struct machine_place){0};
    return 0;
}

void machine_place_done(struct machine_place *place)
{
    free(place->name);
    free(place->folder);
    free(place->api);
    free(place->console);
    free(place->log);
    free(place->log_old);
    free(place->pid);
    free(place->errors);
    free(place->config);
}

pid_t machine_place_pid(const struct machine_place *place)
{
    AUTO(buf_donep) struct buf text = {0};
    int pid = 0;
    unsigned long long start = 0;
    if (read_file(place->pid, 64, &text) < 0 || text.data == NULL ||
        sscanf(text.data, "%d %llu", &pid, &start) != 2 || pid <= 0 ||
        !process_is_alive(pid, start)) {
        return 0;
    }
    return pid;
}

void machine_place_remove(const struct machine_place *place)
{
    const char *const files[] = {place->api, place->console, place->log,   place->log_old,
                                 place->pid, place->errors,  place->config};
    for (size_t i = 0; i < COUNT(files); i++) {
        (void)unlink(files[i]);
    }
    (void)rmdir(place->folder);
}

int machine_place_make(const struct machine_place *place, struct err *err)
{
    AUTO(freep)
    char *parent = strndup(place->folder, strlen(place->folder) - strlen(place->name) - 1);
    if (parent == NULL) {
        return err_set(err, ENOMEM, "make machine '%s'", place->name);
    }
    if (mkdir(parent, 0700) < 0 && errno != EEXIST) {
        return err_set(err, errno, "make '%s'", parent);
    }
    if (mkdir(place->folder, 0700) == 0) {
        return 0;
    }
    if (errno != EEXIST || machine_place_pid(place) != 0) {
        return errno == EEXIST ? err_say(err, EEXIST, "machine '%s' runs already", place->name)
                               : err_set(err, errno, "make '%s'", place->folder);
    }
    machine_place_remove(place);
    return mkdir(place->folder, 0700) < 0 ? err_set(err, errno, "make '%s'", place->folder) : 0;
}

static int exchange(const struct machine_place *place, const struct buf *request,
                    struct buf *answer)
{
    AUTO(closep) int fd = unix_connect(place->api, SOCK_STREAM);
    if (fd < 0) {
        return fd;
    }
    int r = write_full(fd, request->data, request->len);
    return r < 0 ? r : read_fd(fd, ANSWER_MAX, answer);
}

/* Of our own server: a status line, fields, an empty line, the body. */
static int read_answer(const struct machine_place *place, const struct buf *answer, json_t **ret,
                       struct err *err)
{
    AUTO(json_unrefp) json_t *json = NULL;
    int status = 0;
    const char *body = answer->data == NULL ? NULL : strstr(answer->data, "\r\n\r\n");
    if (body == NULL || sscanf(answer->data, "HTTP/1.1 %d ", &status) != 1) {
        return err_say(err, EPROTO, "machine '%s' gives no answer", place->name);
    }
    body += 4;
    if (*body != '\0') {
        int r = json_parse(body, strlen(body), "the machine's answer", &json, err);
        if (r < 0) {
            return r;
        }
    }
    if (status >= 300) {
        const char *why = json_string_value(json_object_get(json, "fault_message"));
        return err_say(err, EREMOTEIO, "machine '%s': %s", place->name,
                       why == NULL ? "refused" : why);
    }
    if (ret != NULL) {
        *ret = TAKE_PTR(json);
    }
    return 0;
}

int machine_call(const struct machine_place *place, const char *method, const char *path,
                 json_t *body, json_t **ret, struct err *err)
{
    AUTO(buf_donep) struct buf request = {0};
    AUTO(buf_donep) struct buf answer = {0};
    AUTO(freep) char *text = body == NULL ? strdup("") : json_dumps(body, JSON_COMPACT);
    int r = text == NULL ? -ENOMEM
                         : buf_printf(&request,
                                      "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                                      "Content-Length: %zu\r\n\r\n%s",
                                      method, path, strlen(text), text);
    r = r < 0 ? r : exchange(place, &request, &answer);
    if (r == -ENOENT || r == -ECONNREFUSED) {
        return err_say(err, ESRCH, "there is no machine '%s'", place->name);
    }
    return r < 0 ? err_set(err, -r, "talk to machine '%s'", place->name)
                 : read_answer(place, &answer, ret, err);
}
