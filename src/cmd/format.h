/*
 * format.h - Docker's --format: a subset of Go's text/template over JSON values.
 *
 * {{.A.B}} {{.}} {{"text"}} {{json X}} {{index X KEY...}} {{len X}} {{upper X}} {{lower X}}
 * {{title X}} {{join X SEP}} {{split X SEP}} {{truncate X N}} {{pad X BEFORE AFTER}} {{println X}}
 * {{print X...}} {{eq A B...}} {{ne A B}} {{not X}} {{and ...}} {{or ...}} {{printf FMT X...}}
 * {{if X}}..{{else}}..{{end}} {{range [$k, $v :=] X}}..{{else}}..{{end}} {{with X}}..{{end}},
 * pipelines ({{.X | json}}), parentheses, $ and $variables, {{- and -}} trimming, comments.
 * "table TEMPLATE" prints a header of upper-case field names and aligned columns (split at \t);
 * "json" prints each value as one line of JSON.
 */
#ifndef CMD_FORMAT_H
#define CMD_FORMAT_H

#include <jansson.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct err;
struct format;

/* Column titles for "table": {"ID", "IMAGE ID"}; fields without a row are upper-cased. */
struct format_header {
    const char *field;
    const char *title;
};

/*
 * headers ends with a NULL field and may be NULL; it must live as long as the format. -EINVAL names
 * the place in the template.
 */
int format_new(const char *text, const struct format_header *headers, struct format **ret_format,
               struct err *err);
void format_free(struct format *format);
DEFINE_FREEP(struct format *, format_free)

/*
 * Adds one value (an object): its text and a line end. Fields that do not exist are an error, as in
 * Docker. Tables are kept until format_finish().
 */
int format_add(struct format *format, const json_t *value, struct err *err);

/* Writes what was added to out: for a table the header and aligned columns. */
int format_finish(struct format *format, FILE *out, struct err *err);

/* One value through one template, without a line end. */
int format_value(const char *text, const json_t *value, struct buf *out, struct err *err);

#endif
