#include <errno.h>
#include <seccomp.h>

#include "base/err.h"
#include "base/str.h"
#include "container/names.h"
#include "container/spec_fields.h"

#define ERRNO_MAX 4095
#define SECCOMP_ARGS_MAX 6

/* object[key] is a word of the table. */
static int read_word(const json_t *object, const struct json_path *at, const char *key,
                     const struct name_value *table, uint64_t *ret, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    const char *word = NULL;
    int r = json_get_string(object, at, key, &word, err);
    if (r < 0) {
        return r;
    }
    if (word == NULL) {
        return json_fail(&path, NULL, err, "is missing");
    }
    if (name_lookup(table, word, ret) < 0) {
        return json_fail(&path, json_object_get(object, key), err, "is not known");
    }
    return 0;
}

static int read_action(const json_t *object, const struct json_path *at, const char *key,
                       const char *errno_key, uint32_t *ret, struct err *err)
{
    uint64_t action;
    int r = read_word(object, at, key, seccomp_action_names, &action, err);
    if (r < 0) {
        return r;
    }
    bool takes_errno = action == SCMP_ACT_ERRNO(0U) || action == SCMP_ACT_TRACE(0U);
    int64_t number = EPERM;
    r = json_get_int(object, at, errno_key, 0, ERRNO_MAX, &number, err);
    if (r < 0) {
        return r;
    }
    if (r > 0 && !takes_errno && number != 0) {
        const struct json_path path = {.parent = at, .key = errno_key};
        return json_fail(&path, json_object_get(object, errno_key), err,
                         "goes with SCMP_ACT_ERRNO and SCMP_ACT_TRACE only");
    }
    *ret = (uint32_t)action | (takes_errno ? (uint32_t)number : 0);
    return 0;
}

static int read_arg(struct spec *spec, const json_t *item, const struct json_path *at,
                    void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"index", FIELD_U32, offsetof(struct spec_seccomp_arg, index), 0, 0},
        {"value", FIELD_U64, offsetof(struct spec_seccomp_arg, value), 0, 0},
        {"valueTwo", FIELD_U64, offsetof(struct spec_seccomp_arg, value_two), 0, 0},
        {0},
    };
    struct spec_seccomp_arg *arg = element;
    uint64_t op;
    int r = spec_read_fields(spec, item, at, fields, arg, err);
    if (r >= 0) {
        r = read_word(item, at, "op", seccomp_op_names, &op, err);
    }
    if (r < 0) {
        return r;
    }
    arg->op = (uint32_t)op;
    if (arg->index >= SECCOMP_ARGS_MAX) {
        const struct json_path path = {.parent = at, .key = "index"};
        return json_fail(&path, json_object_get(item, "index"), err, "must be 0 to 5");
    }
    return 0;
}

static int read_rule(struct spec *spec, const json_t *item, const struct json_path *at,
                     void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"names", FIELD_STRINGS, offsetof(struct spec_seccomp_rule, names), 0, 0},
        {0},
    };
    struct spec_seccomp_rule *rule = element;
    int r = spec_read_fields(spec, item, at, fields, rule, err);
    if (r < 0) {
        return r;
    }
    if (rule->names.count == 0) {
        const struct json_path path = {.parent = at, .key = "names"};
        return json_fail(&path, json_object_get(item, "names"), err,
                         "must hold at least one system call");
    }
    r = read_action(item, at, "action", "errnoRet", &rule->action, err);
    if (r < 0) {
        return r;
    }
    if (rule->action == SCMP_ACT_NOTIFY) {
        spec->seccomp.has_notify = true;
    }
    void *items = NULL;
    r = spec_read_array(spec, item, at, "args", sizeof(struct spec_seccomp_arg), read_arg, &items,
                        &rule->arg_count, err);
    rule->args = items;
    return r < 0 ? r : 0;
}

static int read_words(struct spec *spec, const json_t *object, const struct json_path *at,
                      const char *key, const struct name_value *table, uint32_t **ret,
                      size_t *ret_count, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *array;
    int r = json_get_array(object, at, key, &array, err);
    if (r <= 0) {
        return r;
    }
    size_t count = json_array_size(array);
    uint32_t *values = spec_alloc(spec, count, sizeof(*values));
    if (values == NULL) {
        return err_set(err, ENOMEM, "read %s", key);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        uint64_t value;
        if (!json_is_string(item) || name_lookup(table, json_string_value(item), &value) < 0) {
            const struct json_path item_path = {.parent = &path, .index = i};
            return json_fail(&item_path, item, err, "is not known");
        }
        values[i] = (uint32_t)value;
    }
    *ret = values;
    *ret_count = count;
    return 0;
}

int spec_read_seccomp(struct spec *spec, const json_t *object, const struct json_path *at,
                      struct err *err)
{
    static const struct spec_field fields[] = {
        {"listenerPath", FIELD_STRING, offsetof(struct spec_seccomp, listener_path), 0, 0},
        {"listenerMetadata", FIELD_STRING, offsetof(struct spec_seccomp, listener_metadata), 0, 0},
        {0},
    };
    struct spec_seccomp *s = &spec->seccomp;
    uint32_t *flags = NULL;
    size_t flag_count = 0;
    int r = spec_read_fields(spec, object, at, fields, s, err);
    if (r >= 0) {
        r = read_action(object, at, "defaultAction", "defaultErrnoRet", &s->default_action, err);
    }
    if (r >= 0) {
        r = read_words(spec, object, at, "architectures", seccomp_arch_names, &s->architectures,
                       &s->architecture_count, err);
    }
    if (r >= 0) {
        r = read_words(spec, object, at, "flags", seccomp_flag_names, &flags, &flag_count, err);
    }
    for (size_t i = 0; i < flag_count; i++) {
        s->flags |= flags[i];
    }
    if (r >= 0) {
        void *items = NULL;
        r = spec_read_array(spec, object, at, "syscalls", sizeof(struct spec_seccomp_rule),
                            read_rule, &items, &s->rule_count, err);
        s->rules = items;
    }
    if (r < 0) {
        return r;
    }
    if (s->default_action == SCMP_ACT_NOTIFY) {
        const struct json_path path = {.parent = at, .key = "defaultAction"};
        return json_fail(&path, json_object_get(object, "defaultAction"), err,
                         "cannot be the default: the listener's own set-up would wait for itself");
    }
    const struct json_path listener = {.parent = at, .key = "listenerPath"};
    if (s->has_notify && s->listener_path == NULL) {
        return json_fail(&listener, NULL, err, "is needed for SCMP_ACT_NOTIFY");
    }
    if (s->listener_path != NULL && s->listener_path[0] != '/') {
        return json_fail(&listener, json_object_get(object, "listenerPath"), err,
                         "must be an absolute path");
    }
    s->set = true;
    return 0;
}
