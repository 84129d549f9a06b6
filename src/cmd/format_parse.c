#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "cmd/format_internal.h"

struct parser {
    const char *text;
    const char *at;
    const char *end; /* of the action being read */
    int depth;
    bool trim_next; /* "-}}" was read */
    struct err *err;
};

static int bad(struct parser *p, const char *what)
{
    return err_say(p->err, EINVAL, "template, character %zu: %s", (size_t)(p->at - p->text) + 1,
                   what);
}

static void pipeline_free(struct format_pipeline *pipeline);

static void operand_done(struct format_operand *operand)
{
    free(operand->name);
    strv_done(&operand->fields);
    json_decref(operand->literal);
    pipeline_free(operand->group);
}

static void pipeline_free(struct format_pipeline *pipeline)
{
    if (pipeline == NULL) {
        return;
    }
    for (size_t i = 0; i < pipeline->count; i++) {
        for (size_t k = 0; k < pipeline->commands[i].count; k++) {
            operand_done(&pipeline->commands[i].operands[k]);
        }
        free(pipeline->commands[i].operands);
    }
    free(pipeline->commands);
    free(pipeline->variables[0]);
    free(pipeline->variables[1]);
    free(pipeline);
}

void format_nodes_done(struct format_nodes *nodes)
{
    for (size_t i = 0; i < nodes->count; i++) {
        free(nodes->items[i].text);
        pipeline_free(nodes->items[i].pipeline);
        format_nodes_done(&nodes->items[i].body);
        format_nodes_done(&nodes->items[i].otherwise);
    }
    free(nodes->items);
    *nodes = (struct format_nodes){0};
}

static struct format_node *add_node(struct format_nodes *nodes, enum node_kind kind)
{
    struct format_node *items = reallocarray(nodes->items, nodes->count + 1, sizeof(*items));
    if (items == NULL) {
        return NULL;
    }
    nodes->items = items;
    items[nodes->count] = (struct format_node){.kind = kind};
    return &items[nodes->count++];
}

static void skip_space(struct parser *p)
{
    while (p->at < p->end && isspace((unsigned char)*p->at)) {
        p->at++;
    }
}

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static char *read_name(struct parser *p)
{
    const char *start = p->at;
    while (p->at < p->end && is_name_char(*p->at)) {
        p->at++;
    }
    return strndup(start, (size_t)(p->at - start));
}

/* ".A.B" behind a dot, a variable or a group. */
static int read_fields(struct parser *p, struct strv *fields)
{
    while (p->at + 1 < p->end && p->at[0] == '.' && is_name_char(p->at[1])) {
        p->at++;
        if (strv_push(fields, read_name(p)) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int read_string(struct parser *p, json_t **ret)
{
    char quote = *p->at++;
    AUTO(buf_donep) struct buf text = {0};
    while (p->at < p->end && *p->at != quote) {
        char c = *p->at++;
        if (c == '\\' && quote == '"' && p->at < p->end) {
            static const char from[] = "ntr\"\\";
            static const char to[] = "\n\t\r\"\\";
            const char *found = strchr(from, *p->at);
            if (found == NULL || *p->at == '\0') {
                return bad(p, "unknown escape in a string");
            }
            c = to[found - from];
            p->at++;
        }
        if (buf_add_char(&text, c) < 0) {
            return -ENOMEM;
        }
    }
    if (p->at >= p->end) {
        return bad(p, "a string without its closing quote");
    }
    p->at++;
    *ret = json_stringn(text.data != NULL ? text.data : "", text.len);
    return *ret != NULL ? 0 : bad(p, "a string that is not UTF-8");
}

static int read_number(struct parser *p, json_t **ret)
{
    char *end = NULL;
    errno = 0;
    long long whole = strtoll(p->at, &end, 10);
    if (errno != 0 || end > p->end || end == p->at) {
        return bad(p, "a bad number");
    }
    p->at = end;
    *ret = json_integer(whole);
    return *ret != NULL ? 0 : -ENOMEM;
}

static int read_pipeline(struct parser *p, struct format_pipeline **ret);

static int read_group(struct parser *p, struct format_operand *operand)
{
    p->at++;
    operand->kind = OPERAND_GROUP;
    int r = read_pipeline(p, &operand->group);
    if (r < 0) {
        return r;
    }
    if (p->at >= p->end || *p->at != ')') {
        return bad(p, "a '(' without its ')'");
    }
    p->at++;
    return read_fields(p, &operand->fields);
}

static int read_word(struct parser *p, struct format_operand *operand)
{
    AUTO(freep) char *name = read_name(p);
    if (name == NULL) {
        return -ENOMEM;
    }
    operand->kind = OPERAND_LITERAL;
    if (str_eq(name, "true") || str_eq(name, "false")) {
        operand->literal = json_boolean(str_eq(name, "true"));
        return 0;
    }
    if (str_eq(name, "nil")) {
        operand->literal = json_null();
        return 0;
    }
    if (!format_function_exists(name)) {
        return err_say(p->err, EINVAL, "template, character %zu: there is no function '%s'",
                       (size_t)(p->at - p->text) - strlen(name) + 1, name);
    }
    operand->kind = OPERAND_FUNCTION;
    operand->name = TAKE_PTR(name);
    return 0;
}

static int read_operand(struct parser *p, struct format_operand *operand)
{
    char c = *p->at;
    if (c == '.') {
        operand->kind = OPERAND_DOT;
        if (p->at + 1 < p->end && is_name_char(p->at[1])) {
            return read_fields(p, &operand->fields);
        }
        p->at++;
        return 0;
    }
    if (c == '$') {
        p->at++;
        operand->kind = OPERAND_VARIABLE;
        operand->name = read_name(p);
        return operand->name != NULL ? read_fields(p, &operand->fields) : -ENOMEM;
    }
    if (c == '(') {
        return read_group(p, operand);
    }
    operand->kind = OPERAND_LITERAL;
    if (c == '"' || c == '`') {
        return read_string(p, &operand->literal);
    }
    if (isdigit((unsigned char)c) || (c == '-' && isdigit((unsigned char)p->at[1]))) {
        return read_number(p, &operand->literal);
    }
    if (isalpha((unsigned char)c) || c == '_') {
        return read_word(p, operand);
    }
    return bad(p, "unexpected character");
}

static int read_command(struct parser *p, struct format_command *command)
{
    for (;;) {
        skip_space(p);
        if (p->at >= p->end || *p->at == '|' || *p->at == ')') {
            return command->count > 0 ? 0 : bad(p, "an empty command");
        }
        struct format_operand *operands =
            reallocarray(command->operands, command->count + 1, sizeof(*operands));
        if (operands == NULL) {
            return -ENOMEM;
        }
        command->operands = operands;
        operands[command->count] = (struct format_operand){0};
        int r = read_operand(p, &operands[command->count++]);
        if (r < 0) {
            return r;
        }
    }
}

/* "$a :=" or "$k, $v :="; leaves p alone when there is none. */
static int read_declaration(struct parser *p, struct format_pipeline *pipeline)
{
    const char *start = p->at;
    for (int i = 0; i < 2; i++) {
        skip_space(p);
        if (p->at >= p->end || *p->at != '$') {
            break;
        }
        p->at++;
        pipeline->variables[i] = read_name(p);
        if (pipeline->variables[i] == NULL) {
            return -ENOMEM;
        }
        skip_space(p);
        if (p->at + 1 < p->end && p->at[0] == ':' && p->at[1] == '=') {
            p->at += 2;
            return 0;
        }
        if (p->at >= p->end || *p->at != ',') {
            break;
        }
        p->at++;
    }
    free(pipeline->variables[0]);
    free(pipeline->variables[1]);
    pipeline->variables[0] = pipeline->variables[1] = NULL;
    p->at = start;
    return 0;
}

static int read_pipeline(struct parser *p, struct format_pipeline **ret)
{
    if (++p->depth > FORMAT_DEPTH_MAX) {
        return bad(p, "too deeply nested");
    }
    struct format_pipeline *pipeline = calloc(1, sizeof(*pipeline));
    if (pipeline == NULL) {
        return -ENOMEM;
    }
    int r = read_declaration(p, pipeline);
    while (r == 0) {
        struct format_command *commands =
            reallocarray(pipeline->commands, pipeline->count + 1, sizeof(*commands));
        if (commands == NULL) {
            r = -ENOMEM;
            break;
        }
        pipeline->commands = commands;
        commands[pipeline->count] = (struct format_command){0};
        r = read_command(p, &commands[pipeline->count++]);
        skip_space(p);
        if (r < 0 || p->at >= p->end || *p->at != '|') {
            break;
        }
        p->at++;
    }
    p->depth--;
    if (r < 0) {
        pipeline_free(pipeline);
        return r;
    }
    *ret = pipeline;
    return 0;
}

static bool take_word(struct parser *p, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(p->end - p->at) < n || strncmp(p->at, word, n) != 0 ||
        (p->at + n < p->end && is_name_char(p->at[n]))) {
        return false;
    }
    p->at += n;
    return true;
}

/* Text up to the next "{{", with the trimming that both neighbours ask for. */
static int read_text(struct parser *p, struct format_nodes *nodes)
{
    const char *open = strstr(p->at, "{{");
    const char *end = open != NULL ? open : p->at + strlen(p->at);
    const char *start = p->at;
    p->at = end;
    while (p->trim_next && start < end && isspace((unsigned char)*start)) {
        start++;
    }
    p->trim_next = false;
    if (open != NULL && open[2] == '-' && isspace((unsigned char)open[3])) {
        while (end > start && isspace((unsigned char)end[-1])) {
            end--;
        }
    }
    if (end == start) {
        return 0;
    }
    struct format_node *node = add_node(nodes, NODE_TEXT);
    if (node == NULL || (node->text = strndup(start, (size_t)(end - start))) == NULL) {
        return -ENOMEM;
    }
    return 0;
}

/* The "}}" of the action that starts at p->at, outside of strings. */
static const char *find_close(const char *s)
{
    char quote = '\0';
    for (; *s != '\0'; s++) {
        if (quote != '\0') {
            if (*s == '\\' && quote == '"' && s[1] != '\0') {
                s++;
            } else if (*s == quote) {
                quote = '\0';
            }
        } else if (*s == '"' || *s == '`') {
            quote = *s;
        } else if (s[0] == '}' && s[1] == '}') {
            return s;
        }
    }
    return NULL;
}

/* Steps into "{{"; afterwards the inside is p->at..p->end and *ret_after is behind "}}". */
static int open_action(struct parser *p, const char **ret_after)
{
    const char *inside = p->at + 2;
    if (inside[0] == '-' && isspace((unsigned char)inside[1])) {
        inside++;
    }
    const char *comment = inside + strspn(inside, " \t\n");
    const char *from = inside;
    if (strncmp(comment, "/*", 2) == 0) {
        from = strstr(comment, "*/");
        if (from == NULL) {
            return bad(p, "a comment without its end");
        }
    }
    const char *close = find_close(from);
    if (close == NULL) {
        return bad(p, "'{{' without its '}}'");
    }
    p->end = close;
    if (close > inside + 1 && close[-1] == '-' && isspace((unsigned char)close[-2])) {
        p->end--;
        p->trim_next = true;
    }
    p->at = from == inside ? inside : p->end;
    *ret_after = close + 2;
    return 0;
}

enum stop { STOP_END_OF_TEXT, STOP_END, STOP_ELSE, STOP_ELSE_IF };

static int read_nodes(struct parser *p, struct format_nodes *nodes, bool inside, enum stop *ret);

static int end_of_action(struct parser *p, const char *after)
{
    skip_space(p);
    if (p->at < p->end) {
        return bad(p, "unexpected text in an action");
    }
    p->at = after;
    return 0;
}

/* Condition, body and else part; the word itself has been read. */
static int read_block(struct parser *p, struct format_node *node, const char *after)
{
    enum stop stop = STOP_END_OF_TEXT;
    if (++p->depth > FORMAT_DEPTH_MAX) {
        return bad(p, "too deeply nested");
    }
    int r = read_pipeline(p, &node->pipeline);
    r = r < 0 ? r : end_of_action(p, after);
    r = r < 0 ? r : read_nodes(p, &node->body, true, &stop);
    if (r == 0 && stop == STOP_ELSE) {
        r = read_nodes(p, &node->otherwise, true, &stop);
        if (r == 0 && stop != STOP_END) {
            r = bad(p, "'else' twice");
        }
    } else if (r == 0 && stop == STOP_ELSE_IF) {
        /* {{else if X}} is {{else}}{{if X}} that shares the end. */
        struct format_node *next = add_node(&node->otherwise, NODE_IF);
        const char *inner = p->end;
        inner = strstr(inner, "}}") + 2;
        r = next != NULL ? read_block(p, next, inner) : -ENOMEM;
    }
    p->depth--;
    return r;
}

static int read_action(struct parser *p, struct format_nodes *nodes, bool inside, enum stop *ret,
                       bool *ret_stop)
{
    static const struct {
        const char *word;
        enum node_kind kind;
    } blocks[] = {{"if", NODE_IF}, {"range", NODE_RANGE}, {"with", NODE_WITH}};
    const char *after = NULL;
    int r = open_action(p, &after);
    if (r < 0) {
        return r;
    }
    skip_space(p);
    if (p->at >= p->end) {
        p->at = after;
        return 0; /* a comment */
    }
    bool is_end = take_word(p, "end");
    if (is_end || take_word(p, "else")) {
        if (!inside) {
            return bad(p, is_end ? "'end' of nothing" : "'else' of nothing");
        }
        *ret_stop = true;
        *ret = is_end ? STOP_END : STOP_ELSE;
        skip_space(p);
        if (!is_end && take_word(p, "if")) {
            *ret = STOP_ELSE_IF;
            return 0;
        }
        return end_of_action(p, after);
    }
    for (size_t i = 0; i < COUNT(blocks); i++) {
        if (take_word(p, blocks[i].word)) {
            struct format_node *node = add_node(nodes, blocks[i].kind);
            return node != NULL ? read_block(p, node, after) : -ENOMEM;
        }
    }
    struct format_node *node = add_node(nodes, NODE_ACTION);
    r = node != NULL ? read_pipeline(p, &node->pipeline) : -ENOMEM;
    return r < 0 ? r : end_of_action(p, after);
}

static int read_nodes(struct parser *p, struct format_nodes *nodes, bool inside, enum stop *ret)
{
    bool stop = false;
    while (*p->at != '\0') {
        int r = read_text(p, nodes);
        if (r == 0 && *p->at != '\0') {
            r = read_action(p, nodes, inside, ret, &stop);
        }
        if (r < 0 || stop) {
            return r;
        }
    }
    *ret = STOP_END_OF_TEXT;
    return inside ? bad(p, "an 'if', 'range' or 'with' without its 'end'") : 0;
}

int format_parse(const char *text, struct format_nodes *ret, struct err *err)
{
    struct parser p = {.text = text, .at = text, .err = err};
    struct format_nodes nodes = {0};
    enum stop stop;
    int r = read_nodes(&p, &nodes, false, &stop);
    if (r < 0) {
        format_nodes_done(&nodes);
        return err != NULL && err->code == 0 ? err_set(err, -r, "read template") : r;
    }
    *ret = nodes;
    return 0;
}
