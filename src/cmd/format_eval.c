#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "cmd/format_internal.h"

#define VARIABLES_MAX 64
#define ARGUMENTS_MAX 16

struct variable {
    const char *name;
    json_t *value;
};

struct eval {
    struct buf *out;
    struct err *err;
    json_t *root;
    struct variable variables[VARIABLES_MAX];
    size_t count;
};

static int eval_pipeline(struct eval *e, const struct format_pipeline *pipeline, json_t *dot,
                         json_t **ret);

static int set_variable(struct eval *e, const char *name, json_t *value)
{
    if (e->count == VARIABLES_MAX) {
        return err_say(e->err, EINVAL, "template: too many variables");
    }
    e->variables[e->count++] = (struct variable){.name = name, .value = json_incref(value)};
    return 0;
}

static void drop_variables(struct eval *e, size_t count)
{
    while (e->count > count) {
        json_decref(e->variables[--e->count].value);
    }
}

/* A new reference to value.A.B. */
static int take_fields(struct eval *e, json_t *value, const struct strv *fields, json_t **ret)
{
    for (size_t i = 0; i < fields->count; i++) {
        const char *field = fields->items[i];
        json_t *next = json_object_get(value, field);
        if (next == NULL && json_is_null(value)) {
            next = value;
        }
        if (next == NULL) {
            return err_say(e->err, EINVAL, "template: there is no field '%s'", field);
        }
        value = next;
    }
    *ret = json_incref(value);
    return 0;
}

static int eval_operand(struct eval *e, const struct format_operand *o, json_t *dot, json_t **ret)
{
    switch (o->kind) {
    case OPERAND_DOT:
        return take_fields(e, dot, &o->fields, ret);
    case OPERAND_LITERAL:
        *ret = json_incref(o->literal);
        return 0;
    case OPERAND_VARIABLE:
        if (o->name[0] == '\0') {
            return take_fields(e, e->root, &o->fields, ret);
        }
        for (size_t i = e->count; i > 0; i--) {
            if (strcmp(e->variables[i - 1].name, o->name) == 0) {
                return take_fields(e, e->variables[i - 1].value, &o->fields, ret);
            }
        }
        return err_say(e->err, EINVAL, "template: there is no variable '$%s'", o->name);
    case OPERAND_GROUP: {
        AUTO(json_unrefp) json_t *value = NULL;
        int r = eval_pipeline(e, o->group, dot, &value);
        return r < 0 ? r : take_fields(e, value, &o->fields, ret);
    }
    case OPERAND_FUNCTION:
        return format_call(o->name, NULL, 0, ret, e->err);
    }
    return -EINVAL;
}

/* Docker's one method: `.Label "KEY"`, taken from the row's text "KEY=VALUE,KEY=VALUE". */
static bool is_label(const struct format_command *c, json_t *last)
{
    const struct format_operand *o = &c->operands[0];
    return c->count == 2 && last == NULL &&
           (o->kind == OPERAND_DOT || o->kind == OPERAND_VARIABLE) && o->fields.count == 1 &&
           strcmp(o->fields.items[0], "Label") == 0 && c->operands[1].kind == OPERAND_LITERAL &&
           json_is_string(c->operands[1].literal);
}

static int eval_label(struct eval *e, const struct format_command *c, json_t *dot, json_t **ret)
{
    const char *key = json_string_value(c->operands[1].literal);
    size_t key_len = strlen(key);
    struct format_operand row = c->operands[0];
    AUTO(json_unrefp) json_t *object = NULL;
    row.fields.count = 0;
    int r = eval_operand(e, &row, dot, &object);
    const char *text = r == 0 ? json_string_value(json_object_get(object, "Labels")) : NULL;
    if (r == 0 && text == NULL) {
        return err_say(e->err, EINVAL, "template: there is no field 'Label'");
    }
    const char *value = "";
    size_t len = 0;
    while (text != NULL && *text != '\0') {
        const char *end = strchrnul(text, ',');
        if (strncmp(text, key, key_len) == 0 && text[key_len] == '=') {
            value = text + key_len + 1;
            len = (size_t)(end - value);
        }
        text = *end == ',' ? end + 1 : end;
    }
    *ret = r == 0 ? json_stringn(value, len) : NULL;
    return r < 0 ? r : *ret == NULL ? -ENOMEM : 0;
}

/* last: what the command before in the pipeline gave, or NULL. */
static int eval_command(struct eval *e, const struct format_command *c, json_t *dot, json_t *last,
                        json_t **ret)
{
    bool call = c->operands[0].kind == OPERAND_FUNCTION;
    if (!call) {
        if (is_label(c, last)) {
            return eval_label(e, c, dot, ret);
        }
        if (c->count > 1 || last != NULL) {
            return err_say(e->err, EINVAL, "template: a value is not a function");
        }
        return eval_operand(e, &c->operands[0], dot, ret);
    }
    json_t *args[ARGUMENTS_MAX];
    size_t count = 0;
    int r = 0;
    if (c->count + 1 > ARGUMENTS_MAX) {
        return err_say(e->err, EINVAL, "template: too many arguments");
    }
    for (size_t i = 1; r == 0 && i < c->count; i++) {
        r = eval_operand(e, &c->operands[i], dot, &args[count]);
        count += r == 0 ? 1 : 0;
    }
    if (r == 0 && last != NULL) {
        args[count++] = json_incref(last);
    }
    r = r < 0 ? r : format_call(c->operands[0].name, args, count, ret, e->err);
    for (size_t i = 0; i < count; i++) {
        json_decref(args[i]);
    }
    return r;
}

static int eval_pipeline(struct eval *e, const struct format_pipeline *pipeline, json_t *dot,
                         json_t **ret)
{
    AUTO(json_unrefp) json_t *value = NULL;
    for (size_t i = 0; i < pipeline->count; i++) {
        json_t *next = NULL;
        int r = eval_command(e, &pipeline->commands[i], dot, value, &next);
        if (r < 0) {
            return r;
        }
        json_decref(value);
        value = next;
    }
    *ret = TAKE_PTR(value);
    return 0;
}

static int eval_nodes(struct eval *e, const struct format_nodes *nodes, json_t *dot);

static int eval_item(struct eval *e, const struct format_node *node, json_t *key, json_t *item)
{
    size_t before = e->count;
    const char *first = node->pipeline->variables[0];
    const char *second = node->pipeline->variables[1];
    int r = first == NULL ? 0 : set_variable(e, first, second != NULL ? key : item);
    r = r < 0 || second == NULL ? r : set_variable(e, second, item);
    r = r < 0 ? r : eval_nodes(e, &node->body, item);
    drop_variables(e, before);
    return r;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Objects in the order of their keys, as Go does. */
static int range_object(struct eval *e, const struct format_node *node, json_t *value)
{
    AUTO(strv_donep) struct strv keys = {0};
    const char *key;
    json_t *item;
    json_object_foreach (value, key, item) {
        if (strv_add(&keys, key) < 0) {
            return -ENOMEM;
        }
    }
    if (keys.count > 0) {
        qsort(keys.items, keys.count, sizeof(*keys.items), compare_keys);
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < keys.count; i++) {
        AUTO(json_unrefp) json_t *name = json_string(keys.items[i]);
        r = eval_item(e, node, name, json_object_get(value, keys.items[i]));
    }
    return r;
}

static int eval_range(struct eval *e, const struct format_node *node, json_t *value, json_t *dot)
{
    if (json_object_size(value) == 0 && json_array_size(value) == 0) {
        if (!json_is_object(value) && !json_is_array(value) && !json_is_null(value)) {
            return err_say(e->err, EINVAL, "template: range needs a list or a map");
        }
        return eval_nodes(e, &node->otherwise, dot);
    }
    if (json_is_object(value)) {
        return range_object(e, node, value);
    }
    size_t i;
    json_t *item;
    int r = 0;
    json_array_foreach (value, i, item) {
        AUTO(json_unrefp) json_t *index = json_integer((json_int_t)i);
        r = r < 0 ? r : eval_item(e, node, index, item);
    }
    return r;
}

static int eval_node(struct eval *e, const struct format_node *node, json_t *dot)
{
    if (node->kind == NODE_TEXT) {
        return buf_add_str(e->out, node->text);
    }
    AUTO(json_unrefp) json_t *value = NULL;
    int r = eval_pipeline(e, node->pipeline, dot, &value);
    if (r < 0) {
        return r;
    }
    if (node->kind == NODE_RANGE) {
        return eval_range(e, node, value, dot);
    }
    const char *name = node->pipeline->variables[0];
    if (node->kind == NODE_ACTION) {
        return name != NULL ? set_variable(e, name, value) : format_print(value, e->out);
    }
    size_t before = e->count;
    r = name != NULL ? set_variable(e, name, value) : 0;
    bool chosen = format_is_true(value);
    if (r == 0) {
        r = eval_nodes(e, chosen ? &node->body : &node->otherwise,
                       chosen && node->kind == NODE_WITH ? value : dot);
    }
    drop_variables(e, before);
    return r;
}

static int eval_nodes(struct eval *e, const struct format_nodes *nodes, json_t *dot)
{
    size_t before = e->count;
    int r = 0;
    for (size_t i = 0; r == 0 && i < nodes->count; i++) {
        r = eval_node(e, &nodes->items[i], dot);
    }
    drop_variables(e, before);
    return r;
}

int format_eval(const struct format_nodes *nodes, const json_t *value, struct buf *out,
                struct err *err)
{
    /* json_incref() and friends count references on values that are const to our callers. */
    json_t *root = (json_t *)(uintptr_t)value;
    struct eval e = {.out = out, .err = err, .root = root};
    int r = eval_nodes(&e, nodes, root);
    return r < 0 && err != NULL && err->code == 0 ? err_set(err, -r, "template") : r;
}
