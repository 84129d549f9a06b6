#include "cmd/image_change.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "image/image.h"

/* ["a", "b"], or NULL when it is not the JSON form. */
static json_t *json_form(const char *text)
{
    json_t *array = NULL;
    if (text[0] != '[' || json_parse(text, strlen(text), "instruction", &array, NULL) < 0) {
        return NULL;
    }
    size_t i;
    json_t *item;
    json_array_foreach (array, i, item) {
        if (!json_is_string(item)) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static int add_json(struct strv *list, const json_t *array)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(array); i++) {
        r = strv_add(list, json_string_value(json_array_get(array, i)));
    }
    return r;
}

/* The JSON form, or the shell form: ["/bin/sh", "-c", text]. */
static int set_command(struct strv *list, const char *text)
{
    AUTO(json_unrefp) json_t *array = json_form(text);
    strv_done(list);
    if (array != NULL) {
        return add_json(list, array);
    }
    int r = strv_add(list, "/bin/sh");
    r = r < 0 ? r : strv_add(list, "-c");
    return r < 0 ? r : strv_add(list, text);
}

/* The JSON form, or words. */
static int add_words(struct strv *list, const char *text)
{
    AUTO(json_unrefp) json_t *array = json_form(text);
    return array != NULL ? add_json(list, array) : strv_split(list, text, " \t");
}

/* One word of NAME="a value" NAME=b; quotes are taken off. */
static char *next_word(const char **at)
{
    AUTO(buf_donep) struct buf word = {0};
    const char *p = *at + strspn(*at, " \t");
    char quote = '\0';
    if (*p == '\0') {
        return NULL;
    }
    for (; *p != '\0' && (quote != '\0' || !isspace((unsigned char)*p)); p++) {
        if (quote == '\0' && (*p == '"' || *p == '\'')) {
            quote = *p;
        } else if (*p == quote) {
            quote = '\0';
        } else {
            if (*p == '\\' && quote != '\'' && p[1] != '\0') {
                p++;
            }
            (void)buf_add_char(&word, *p);
        }
    }
    *at = p;
    return buf_take(&word);
}

/* NAME=value pairs, or the old "NAME value". */
static int set_pairs(struct strv *list, const char *text, struct err *err)
{
    size_t n = strcspn(text, "= \t");
    if (text[n] == ' ' || text[n] == '\t') {
        AUTO(freep)
        char *pair = str_printf("%.*s=%s", (int)n, text, text + n + strspn(text + n, " \t"));
        return pair != NULL ? env_set(list, pair) : -ENOMEM;
    }
    int r = 0;
    for (;;) {
        AUTO(freep) char *pair = next_word(&text);
        if (pair == NULL || r < 0) {
            return r;
        }
        if (strchr(pair, '=') == NULL) {
            return err_say(err, EINVAL, "'%s' is not NAME=value", pair);
        }
        r = env_set(list, pair);
    }
}

static int set_text(char **target, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        return -ENOMEM;
    }
    free(*target);
    *target = copy;
    return 0;
}

static int add_ports(struct strv *list, const char *text)
{
    AUTO(strv_donep) struct strv words = {0};
    int r = strv_split(&words, text, " \t");
    for (size_t i = 0; r == 0 && i < words.count; i++) {
        bool bare = strchr(words.items[i], '/') == NULL;
        r = strv_addf(list, "%s%s", words.items[i], bare ? "/tcp" : "");
    }
    return r;
}

static int apply(struct image_config *c, const char *name, const char *text, struct err *err)
{
    if (strcasecmp(name, "CMD") == 0) {
        return set_command(&c->cmd, text);
    }
    if (strcasecmp(name, "ENTRYPOINT") == 0) {
        return set_command(&c->entrypoint, text);
    }
    if (strcasecmp(name, "ENV") == 0) {
        return set_pairs(&c->env, text, err);
    }
    if (strcasecmp(name, "LABEL") == 0) {
        return set_pairs(&c->labels, text, err);
    }
    if (strcasecmp(name, "EXPOSE") == 0) {
        return add_ports(&c->ports, text);
    }
    if (strcasecmp(name, "VOLUME") == 0) {
        return add_words(&c->volumes, text);
    }
    if (strcasecmp(name, "USER") == 0) {
        return set_text(&c->user, text);
    }
    if (strcasecmp(name, "WORKDIR") == 0) {
        return set_text(&c->workdir, text);
    }
    if (strcasecmp(name, "STOPSIGNAL") == 0) {
        return set_text(&c->stop_signal, text);
    }
    if (strcasecmp(name, "ONBUILD") == 0) {
        return strv_add(&c->on_build, text);
    }
    return err_say(err, EINVAL, "'%s' cannot be used here", name);
}

int image_change_all(struct image_config *config, const struct strv *changes, struct err *err)
{
    for (size_t i = 0; i < changes->count; i++) {
        const char *text = changes->items[i] + strspn(changes->items[i], " \t");
        size_t n = strcspn(text, " \t");
        AUTO(freep) char *name = strndup(text, n);
        const char *rest = text + n + strspn(text + n, " \t");
        if (name == NULL) {
            return err_set(err, ENOMEM, "--change");
        }
        int r = *rest != '\0' ? apply(config, name, rest, err)
                              : err_say(err, EINVAL, "'%s' needs a value", name);
        if (r < 0) {
            return err_wrap(err, -r, "--change '%s'", changes->items[i]);
        }
    }
    return 0;
}
