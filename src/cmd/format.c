#include "cmd/format.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "cmd/format_internal.h"

#define COLUMN_GAP 3
#define COLUMNS_MAX 32

struct format {
    struct format_nodes nodes;
    const struct format_header *headers;
    bool table;
    bool json;
    struct buf rows; /* lines; columns are split at tabs in a table */
};

/* "\t" and "\n" typed in a shell are two characters. */
static int unescape(const char *text, struct buf *out)
{
    int r = buf_reserve(out, 1);
    for (; r == 0 && *text != '\0'; text++) {
        if (text[0] == '\\' && (text[1] == 't' || text[1] == 'n')) {
            text++;
            r = buf_add_char(out, *text == 't' ? '\t' : '\n');
        } else {
            r = buf_add_char(out, *text);
        }
    }
    return r;
}

int format_new(const char *text, const struct format_header *headers, struct format **ret_format,
               struct err *err)
{
    AUTO(format_freep) struct format *format = calloc(1, sizeof(*format));
    AUTO(buf_donep) struct buf plain = {0};
    if (format == NULL) {
        return err_set(err, ENOMEM, "read template");
    }
    format->headers = headers;
    if (str_starts(text, "table") && (text[5] == '\0' || isspace((unsigned char)text[5]))) {
        format->table = true;
        text += 5;
        text += strspn(text, " \t");
    }
    format->json = str_eq(text, "json");
    if (unescape(format->json ? "{{json .}}" : text, &plain) < 0) {
        return err_set(err, ENOMEM, "read template");
    }
    int r = format_parse(plain.data, &format->nodes, err);
    if (r < 0) {
        return r;
    }
    *ret_format = TAKE_PTR(format);
    return 0;
}

void format_free(struct format *format)
{
    if (format != NULL) {
        format_nodes_done(&format->nodes);
        buf_done(&format->rows);
        free(format);
    }
}

int format_add(struct format *format, const json_t *value, struct err *err)
{
    int r = format_eval(&format->nodes, value, &format->rows, err);
    r = r < 0 ? r : buf_add_char(&format->rows, '\n');
    return r < 0 && err != NULL && err->code == 0 ? err_set(err, -r, "template") : r;
}

/* The title of ".A.B": that of its last field. */
static void add_title(const struct format *format, const char *field, struct buf *out)
{
    for (const struct format_header *h = format->headers; h != NULL && h->field != NULL; h++) {
        if (strcmp(h->field, field) == 0) {
            (void)buf_add_str(out, h->title);
            return;
        }
    }
    for (const char *p = field; *p != '\0'; p++) {
        (void)buf_add_char(out, (char)toupper((unsigned char)*p));
    }
}

/* Texts of the template, and for each action the title of the first field in it. */
static void add_header(const struct format *format, const struct format_nodes *nodes,
                       struct buf *out)
{
    for (size_t i = 0; i < nodes->count; i++) {
        const struct format_node *node = &nodes->items[i];
        if (node->kind == NODE_TEXT) {
            (void)buf_add_str(out, node->text);
            continue;
        }
        bool found = false;
        for (size_t c = 0; node->kind == NODE_ACTION && c < node->pipeline->count; c++) {
            const struct format_command *command = &node->pipeline->commands[c];
            for (size_t k = 0; !found && k < command->count; k++) {
                const struct strv *fields = &command->operands[k].fields;
                if (fields->count > 0) {
                    add_title(format, fields->items[fields->count - 1], out);
                    found = true;
                }
            }
        }
    }
}

/* Columns that a terminal shows for UTF-8 text of ordinary width. */
static size_t shown_width(const char *text, size_t len)
{
    size_t width = 0;
    for (size_t i = 0; i < len; i++) {
        width += ((unsigned char)text[i] & 0xc0) != 0x80 ? 1 : 0;
    }
    return width;
}

static void measure(const char *text, size_t widths[COLUMNS_MAX])
{
    while (*text != '\0') {
        size_t line = strcspn(text, "\n");
        const char *end = text + line;
        for (size_t column = 0; text < end && column < COLUMNS_MAX; column++) {
            size_t n = strcspn(text, "\t\n");
            /* The last column of a line needs no room. */
            if (text[n] == '\t') {
                widths[column] = MAX(widths[column], shown_width(text, n));
            }
            text += n + (text[n] == '\t' ? 1 : 0);
        }
        text = *end == '\n' ? end + 1 : end;
    }
}

static void print_aligned(const char *text, const size_t widths[COLUMNS_MAX], FILE *out)
{
    while (*text != '\0') {
        const char *end = text + strcspn(text, "\n");
        for (size_t column = 0; text < end; column++) {
            size_t n = strcspn(text, "\t\n");
            (void)fwrite(text, 1, n, out);
            if (text[n] == '\t') {
                size_t width = column < COLUMNS_MAX ? widths[column] : 0;
                size_t shown = shown_width(text, n);
                (void)fprintf(out, "%*s", (int)(MAX(width, shown) - shown + COLUMN_GAP), "");
            }
            text += n + (text[n] == '\t' ? 1 : 0);
        }
        (void)fputc('\n', out);
        text = *end == '\n' ? end + 1 : end;
    }
}

int format_finish(struct format *format, FILE *out, struct err *err)
{
    const char *rows = format->rows.data != NULL ? format->rows.data : "";
    if (!format->table) {
        (void)fwrite(rows, 1, format->rows.len, out);
        return ferror(out) ? err_set(err, EIO, "write") : 0;
    }
    AUTO(buf_donep) struct buf all = {0};
    size_t widths[COLUMNS_MAX] = {0};
    add_header(format, &format->nodes, &all);
    if (buf_add_char(&all, '\n') < 0 || buf_add(&all, rows, format->rows.len) < 0) {
        return err_set(err, ENOMEM, "print table");
    }
    measure(all.data, widths);
    print_aligned(all.data, widths, out);
    return ferror(out) ? err_set(err, EIO, "write") : 0;
}

int format_value(const char *text, const json_t *value, struct buf *out, struct err *err)
{
    struct format_nodes nodes = {0};
    AUTO(buf_donep) struct buf plain = {0};
    if (unescape(str_eq(text, "json") ? "{{json .}}" : text, &plain) < 0) {
        return err_set(err, ENOMEM, "read template");
    }
    int r = format_parse(plain.data, &nodes, err);
    r = r < 0 ? r : format_eval(&nodes, value, out, err);
    format_nodes_done(&nodes);
    return r;
}
