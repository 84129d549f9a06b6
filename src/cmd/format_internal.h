/*
 * format_internal.h - the parsed form of a template, for src/cmd/format*.c only.
 */
#ifndef CMD_FORMAT_INTERNAL_H
#define CMD_FORMAT_INTERNAL_H

#include <jansson.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"
#include "cmd/format.h"

#define FORMAT_DEPTH_MAX 50

enum operand_kind {
    OPERAND_DOT,      /* . or .A.B */
    OPERAND_VARIABLE, /* $x or $x.A.B; "" is $ itself */
    OPERAND_LITERAL,
    OPERAND_FUNCTION,
    OPERAND_GROUP, /* (pipeline).A */
};

struct format_pipeline;

struct format_operand {
    enum operand_kind kind;
    char *name; /* variable or function */
    struct strv fields;
    json_t *literal;
    struct format_pipeline *group;
};

struct format_command {
    struct format_operand *operands;
    size_t count;
};

struct format_pipeline {
    char *variables[2]; /* of "$a, $b :=" */
    struct format_command *commands;
    size_t count;
};

enum node_kind {
    NODE_TEXT,
    NODE_ACTION,
    NODE_IF,
    NODE_RANGE,
    NODE_WITH,
};

struct format_nodes {
    struct format_node *items;
    size_t count;
};

struct format_node {
    enum node_kind kind;
    char *text;
    struct format_pipeline *pipeline;
    struct format_nodes body, otherwise;
};

int format_parse(const char *text, struct format_nodes *ret, struct err *err);
void format_nodes_done(struct format_nodes *nodes);

/* Writes value through the nodes. */
int format_eval(const struct format_nodes *nodes, const json_t *value, struct buf *out,
                struct err *err);

/* Functions but and, or, index: args are borrowed, *ret is new. */
bool format_function_exists(const char *name);
int format_call(const char *name, json_t *const *args, size_t count, json_t **ret, struct err *err);

/* How Go prints a value. */
int format_print(const json_t *value, struct buf *out);
bool format_is_true(const json_t *value);

#endif
