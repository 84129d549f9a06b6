#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "image/image.h"

/* Keys of an object ("Volumes", "ExposedPorts") in sorted order. */
static int read_keys(const json_t *object, const struct json_path *at, const char *key,
                     struct strv *ret, struct err *err)
{
    json_t *set = NULL;
    int r = json_get_object(object, at, key, &set, err);
    if (r <= 0) {
        return r;
    }
    const char *name;
    json_t *value;
    json_object_foreach (set, name, value) {
        r = strv_add(ret, name);
        if (r < 0) {
            return err_set(err, -r, "read %s", key);
        }
    }
    return 0;
}

static int read_labels(const json_t *object, const struct json_path *at, struct strv *ret,
                       struct err *err)
{
    const struct json_path path = {.parent = at, .key = "Labels"};
    json_t *labels = NULL;
    int r = json_get_object(object, at, "Labels", &labels, err);
    if (r <= 0) {
        return r;
    }
    const char *name;
    json_t *value;
    json_object_foreach (labels, name, value) {
        const char *text = NULL;
        r = json_get_string(labels, &path, name, &text, err);
        if (r < 0) {
            return r;
        }
        r = strv_addf(ret, "%s=%s", name, text != NULL ? text : "");
        if (r < 0) {
            return err_set(err, -r, "read Labels");
        }
    }
    return 0;
}

static int read_text(const json_t *object, const struct json_path *at, const char *key, char **ret,
                     struct err *err)
{
    const char *text = "";
    int r = json_get_string(object, at, key, &text, err);
    if (r < 0) {
        return r;
    }
    *ret = strdup(text);
    return *ret != NULL ? 0 : err_set(err, ENOMEM, "read %s", key);
}

static int read_health(const json_t *object, const struct json_path *at, struct image_health *ret,
                       struct err *err)
{
    json_t *health = NULL;
    const struct json_path path = {.parent = at, .key = "Healthcheck"};
    int r = json_get_object(object, at, "Healthcheck", &health, err);
    if (r <= 0) {
        return r;
    }
    const struct {
        const char *key;
        int64_t *value;
    } numbers[] = {
        {"Interval", &ret->interval_ns},
        {"Timeout", &ret->timeout_ns},
        {"StartPeriod", &ret->start_period_ns},
        {"StartInterval", &ret->start_interval_ns},
        {"Retries", &ret->retries},
    };
    r = json_get_strings(health, &path, "Test", &ret->test, err);
    for (size_t i = 0; r >= 0 && i < COUNT(numbers); i++) {
        r = json_get_int(health, &path, numbers[i].key, 0, INT64_MAX, numbers[i].value, err);
    }
    ret->given = r >= 0 && ret->test.count > 0;
    return MIN(r, 0);
}

/* "Cmd" may also be one string in very old images. */
static int read_command(const json_t *object, const struct json_path *at, const char *key,
                        struct strv *ret, struct err *err)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_string(value)) {
        return strv_add(ret, json_string_value(value)) < 0 ? err_set(err, ENOMEM, "read %s", key)
                                                           : 0;
    }
    return MIN(json_get_strings(object, at, key, ret, err), 0);
}

int image_config_read(const json_t *object, struct image_config *ret, struct err *err)
{
    AUTO(image_config_donep) struct image_config c = {0};
    const struct json_path at = {.key = "config"};
    if (object != NULL && !json_is_object(object) && !json_is_null(object)) {
        return json_fail(&at, object, err, "must be an object");
    }
    int r = json_get_strings(object, &at, "Env", &c.env, err);
    const struct {
        const char *key;
        struct strv *list;
    } lists[] = {{"Entrypoint", &c.entrypoint},
                 {"Cmd", &c.cmd},
                 {"Shell", &c.shell},
                 {"OnBuild", &c.on_build}};
    for (size_t i = 0; r >= 0 && i < COUNT(lists); i++) {
        r = read_command(object, &at, lists[i].key, lists[i].list, err);
    }
    const struct {
        const char *key;
        char **text;
    } texts[] = {{"User", &c.user}, {"WorkingDir", &c.workdir}, {"StopSignal", &c.stop_signal}};
    for (size_t i = 0; r >= 0 && i < COUNT(texts); i++) {
        r = read_text(object, &at, texts[i].key, texts[i].text, err);
    }
    r = r < 0 ? r : read_keys(object, &at, "Volumes", &c.volumes, err);
    r = r < 0 ? r : read_keys(object, &at, "ExposedPorts", &c.ports, err);
    r = r < 0 ? r : read_labels(object, &at, &c.labels, err);
    r = r < 0 ? r : read_health(object, &at, &c.health, err);
    if (r < 0) {
        return r;
    }
    *ret = c;
    c = (struct image_config){0};
    return 0;
}

void image_config_done(struct image_config *config)
{
    struct strv *lists[] = {&config->env,    &config->entrypoint, &config->cmd,
                            &config->shell,  &config->volumes,    &config->ports,
                            &config->labels, &config->on_build,   &config->health.test};
    for (size_t i = 0; i < COUNT(lists); i++) {
        strv_done(lists[i]);
    }
    free(config->user);
    free(config->workdir);
    free(config->stop_signal);
    *config = (struct image_config){0};
}

static json_t *write_set(const struct strv *list)
{
    json_t *set = json_object();
    for (size_t i = 0; set != NULL && i < list->count; i++) {
        (void)json_object_set_new(set, list->items[i], json_object());
    }
    return set;
}

static json_t *write_labels(const struct strv *list)
{
    json_t *labels = json_object();
    for (size_t i = 0; labels != NULL && i < list->count; i++) {
        size_t n = strcspn(list->items[i], "=");
        const char *value = list->items[i] + n + (list->items[i][n] == '=' ? 1 : 0);
        AUTO(freep) char *name = strndup(list->items[i], n);
        if (name == NULL) {
            json_decref(labels);
            return NULL;
        }
        (void)json_object_set_new(labels, name, json_string(value));
    }
    return labels;
}

static json_t *write_health(const struct image_health *h)
{
    json_t *health = json_pack("{s:o}", "Test", json_from_strv(&h->test));
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        {"Interval", h->interval_ns},
        {"Timeout", h->timeout_ns},
        {"StartPeriod", h->start_period_ns},
        {"StartInterval", h->start_interval_ns},
        {"Retries", h->retries},
    };
    for (size_t i = 0; health != NULL && i < COUNT(numbers); i++) {
        if (numbers[i].value != 0) {
            (void)json_object_set_new(health, numbers[i].key, json_integer(numbers[i].value));
        }
    }
    return health;
}

json_t *image_config_write(const struct image_config *c)
{
    json_t *object = json_object();
    const struct {
        const char *key;
        json_t *value; /* taken over by the object */
        bool wanted;
    } parts[] = {
        {"User", json_string(c->user != NULL ? c->user : ""), c->user != NULL && c->user[0]},
        {"ExposedPorts", write_set(&c->ports), c->ports.count > 0},
        {"Env", json_from_strv(&c->env), true},
        {"Entrypoint", json_from_strv(&c->entrypoint), c->entrypoint.count > 0},
        {"Cmd", json_from_strv(&c->cmd), c->cmd.count > 0},
        {"Volumes", write_set(&c->volumes), c->volumes.count > 0},
        {"WorkingDir", json_string(c->workdir != NULL ? c->workdir : ""),
         c->workdir != NULL && c->workdir[0]},
        {"Labels", write_labels(&c->labels), c->labels.count > 0},
        {"StopSignal", json_string(c->stop_signal != NULL ? c->stop_signal : ""),
         c->stop_signal != NULL && c->stop_signal[0]},
        {"Shell", json_from_strv(&c->shell), c->shell.count > 0},
        {"OnBuild", json_from_strv(&c->on_build), c->on_build.count > 0},
        {"Healthcheck", write_health(&c->health), c->health.given},
    };
    bool whole = object != NULL;
    for (size_t i = 0; i < COUNT(parts); i++) {
        if (parts[i].wanted) {
            whole = json_object_set_new(object, parts[i].key, parts[i].value) == 0 && whole;
        } else {
            json_decref(parts[i].value);
        }
    }
    if (!whole) {
        json_decref(object);
        return NULL;
    }
    return object;
}
