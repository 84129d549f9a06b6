#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "cmd/format_internal.h"

bool format_is_true(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return json_string_length(value) > 0;
    case JSON_INTEGER:
        return json_integer_value(value) != 0;
    case JSON_REAL:
        return json_real_value(value) != 0.0;
    case JSON_ARRAY:
        return json_array_size(value) > 0;
    case JSON_OBJECT:
        return json_object_size(value) > 0;
    case JSON_TRUE:
        return true;
    case JSON_FALSE:
    case JSON_NULL:
        return false;
    }
    return false;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int print_object(const json_t *value, struct buf *out)
{
    AUTO(strv_donep) struct strv keys = {0};
    const char *key;
    json_t *item;
    json_object_foreach ((json_t *)(uintptr_t)value, key, item) {
        if (strv_add(&keys, key) < 0) {
            return -ENOMEM;
        }
    }
    if (keys.count > 0) {
        qsort(keys.items, keys.count, sizeof(*keys.items), compare_keys);
    }
    int r = buf_add_str(out, "map[");
    for (size_t i = 0; r == 0 && i < keys.count; i++) {
        r = buf_printf(out, "%s%s:", i > 0 ? " " : "", keys.items[i]);
        r = r < 0 ? r : format_print(json_object_get(value, keys.items[i]), out);
    }
    return r < 0 ? r : buf_add_char(out, ']');
}

int format_print(const json_t *value, struct buf *out)
{
    int r = 0;
    switch (json_typeof(value)) {
    case JSON_STRING:
        return buf_add(out, json_string_value(value), json_string_length(value));
    case JSON_INTEGER:
        return buf_printf(out, "%lld", (long long)json_integer_value(value));
    case JSON_REAL:
        return buf_printf(out, "%g", json_real_value(value));
    case JSON_TRUE:
        return buf_add_str(out, "true");
    case JSON_FALSE:
        return buf_add_str(out, "false");
    case JSON_NULL:
        return buf_add_str(out, "<nil>");
    case JSON_OBJECT:
        return print_object(value, out);
    case JSON_ARRAY:
        r = buf_add_char(out, '[');
        for (size_t i = 0; r == 0 && i < json_array_size(value); i++) {
            r = i > 0 ? buf_add_char(out, ' ') : 0;
            r = r < 0 ? r : format_print(json_array_get(value, i), out);
        }
        return r < 0 ? r : buf_add_char(out, ']');
    }
    return -EINVAL;
}

typedef int function(json_t *const *args, size_t count, json_t **ret, struct err *err);

static int give(json_t *value, json_t **ret)
{
    *ret = value;
    return value != NULL ? 0 : -ENOMEM;
}

static int give_text(const struct buf *text, json_t **ret)
{
    return give(json_stringn_nocheck(text->data != NULL ? text->data : "", text->len), ret);
}

static int as_json(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    (void)err;
    AUTO(freep) char *text = json_dumps(args[0], JSON_ENCODE_ANY | JSON_COMPACT);
    return give(text != NULL ? json_string(text) : NULL, ret);
}

static int take_index(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    json_t *value = args[0];
    for (size_t i = 1; i < count; i++) {
        json_t *next = NULL;
        if (json_is_object(value) && json_is_string(args[i])) {
            next = json_object_get(value, json_string_value(args[i]));
            if (next == NULL && i + 1 == count) {
                return give(json_string(""), ret); /* a map's zero value */
            }
        } else if (json_is_array(value) && json_is_integer(args[i]) &&
                   json_integer_value(args[i]) >= 0) {
            next = json_array_get(value, (size_t)json_integer_value(args[i]));
        }
        if (next == NULL) {
            return err_say(err, EINVAL, "template: index: there is no such element");
        }
        value = next;
    }
    return give(json_incref(value), ret);
}

static int length(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    const json_t *v = args[0];
    if (json_is_string(v)) {
        return give(json_integer((json_int_t)json_string_length(v)), ret);
    }
    if (!json_is_array(v) && !json_is_object(v) && !json_is_null(v)) {
        return err_say(err, EINVAL, "template: len needs a text, a list or a map");
    }
    return give(json_integer((json_int_t)(json_array_size(v) + json_object_size(v))), ret);
}

/* ASCII letters by a function of ctype.h; the first of each word only with title. */
static int change_case(const json_t *value, int (*change)(int), bool title, json_t **ret)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = format_print(value, &text);
    for (size_t i = 0; r == 0 && i < text.len; i++) {
        bool start = i == 0 || isspace((unsigned char)text.data[i - 1]);
        if ((!title || start) && (unsigned char)text.data[i] < 0x80) {
            text.data[i] = (char)change((unsigned char)text.data[i]);
        }
    }
    return r < 0 ? r : give_text(&text, ret);
}

static int upper(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    (void)err;
    return change_case(args[0], toupper, false, ret);
}

static int lower(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    (void)err;
    return change_case(args[0], tolower, false, ret);
}

static int title(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    (void)err;
    return change_case(args[0], toupper, true, ret);
}

static int join(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    AUTO(buf_donep) struct buf text = {0};
    if ((!json_is_array(args[0]) && !json_is_null(args[0])) || !json_is_string(args[1])) {
        return err_say(err, EINVAL, "template: join needs a list and a separator");
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(args[0]); i++) {
        r = i > 0 ? buf_add_str(&text, json_string_value(args[1])) : 0;
        r = r < 0 ? r : format_print(json_array_get(args[0], i), &text);
    }
    return r < 0 ? r : give_text(&text, ret);
}

static int split(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    const char *text = json_string_value(args[0]);
    const char *separator = json_string_value(args[1]);
    if (text == NULL || separator == NULL || separator[0] == '\0') {
        return err_say(err, EINVAL, "template: split needs a text and a separator");
    }
    json_t *list = json_array();
    for (;;) {
        const char *end = strstr(text, separator);
        size_t n = end != NULL ? (size_t)(end - text) : strlen(text);
        (void)json_array_append_new(list, json_stringn_nocheck(text, n));
        if (end == NULL) {
            return give(list, ret);
        }
        text = end + strlen(separator);
    }
}

static int truncate_text(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    AUTO(buf_donep) struct buf text = {0};
    if (!json_is_integer(args[1]) || json_integer_value(args[1]) < 0) {
        return err_say(err, EINVAL, "template: truncate needs a text and a length");
    }
    int r = format_print(args[0], &text);
    text.len = MIN(text.len, (size_t)json_integer_value(args[1]));
    return r < 0 ? r : give_text(&text, ret);
}

static int pad(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    AUTO(buf_donep) struct buf text = {0};
    json_int_t before = json_integer_value(args[1]);
    json_int_t after = json_integer_value(args[2]);
    if (before < 0 || after < 0 || before > 1000 || after > 1000) {
        return err_say(err, EINVAL, "template: pad needs a text and two small numbers");
    }
    int r = buf_printf(&text, "%*s", (int)before, "");
    r = r < 0 ? r : format_print(args[0], &text);
    r = r < 0 ? r : buf_printf(&text, "%*s", (int)after, "");
    return r < 0 ? r : give_text(&text, ret);
}

static int print_all(json_t *const *args, size_t count, const char *between, const char *end,
                     json_t **ret)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = i > 0 ? buf_add_str(&text, between) : 0;
        r = r < 0 ? r : format_print(args[i], &text);
    }
    r = r < 0 ? r : buf_add_str(&text, end);
    return r < 0 ? r : give_text(&text, ret);
}

static int print(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)err;
    return print_all(args, count, "", "", ret);
}

static int println(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)err;
    return print_all(args, count, " ", "\n", ret);
}

/* %s %v %d %q %% with an optional "-" and width. */
static int print_format(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    const char *p = json_string_value(args[0]);
    size_t next = 1;
    int r = p != NULL ? 0 : err_say(err, EINVAL, "template: printf needs a format");
    for (; r == 0 && *p != '\0'; p++) {
        if (*p != '%' || p[1] == '%') {
            r = buf_add_char(&text, *p);
            p += *p == '%' ? 1 : 0;
            continue;
        }
        bool left = p[1] == '-';
        size_t width = 0;
        for (p += left ? 2 : 1; isdigit((unsigned char)*p) && width < 1000; p++) {
            width = width * 10 + (size_t)(*p - '0');
        }
        if (*p == '\0' || strchr("svdq", *p) == NULL || next >= count) {
            return err_say(err, EINVAL,
                           "template: printf knows %%s, %%v, %%d and %%q, with one "
                           "argument each");
        }
        AUTO(buf_donep) struct buf part = {0};
        r = *p == 'q' ? buf_add_char(&part, '"') : 0;
        r = r < 0 ? r : format_print(args[next++], &part);
        r = r < 0 || *p != 'q' ? r : buf_add_char(&part, '"');
        const char *shown = part.data != NULL ? part.data : "";
        r = r < 0 ? r : buf_printf(&text, left ? "%-*s" : "%*s", (int)width, shown);
    }
    return r < 0 ? r : give_text(&text, ret);
}

static int equal(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)err;
    bool found = false;
    for (size_t i = 1; i < count; i++) {
        found = found || json_equal(args[0], args[i]) == 1;
    }
    return give(json_boolean(found), ret);
}

static int not_equal(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    (void)err;
    return give(json_boolean(json_equal(args[0], args[1]) != 1), ret);
}

static int not_true(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)count;
    (void)err;
    return give(json_boolean(!format_is_true(args[0])), ret);
}

static int first_that_is(json_t *const *args, size_t count, bool wanted, json_t **ret)
{
    for (size_t i = 0; i + 1 < count; i++) {
        if (format_is_true(args[i]) == wanted) {
            return give(json_incref(args[i]), ret);
        }
    }
    return give(json_incref(args[count - 1]), ret);
}

static int all_of(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)err;
    return first_that_is(args, count, false, ret);
}

static int any_of(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    (void)err;
    return first_that_is(args, count, true, ret);
}

static int compare(json_t *const *args, int *ret, struct err *err)
{
    if (json_is_number(args[0]) && json_is_number(args[1])) {
        double a = json_number_value(args[0]);
        double b = json_number_value(args[1]);
        *ret = a < b ? -1 : a > b ? 1 : 0;
        return 0;
    }
    if (json_is_string(args[0]) && json_is_string(args[1])) {
        *ret = strcmp(json_string_value(args[0]), json_string_value(args[1]));
        return 0;
    }
    return err_say(err, EINVAL, "template: only two numbers or two texts can be compared");
}

static int less(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    int order = 0;
    (void)count;
    int r = compare(args, &order, err);
    return r < 0 ? r : give(json_boolean(order < 0), ret);
}

static int greater(json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    int order = 0;
    (void)count;
    int r = compare(args, &order, err);
    return r < 0 ? r : give(json_boolean(order > 0), ret);
}

static const struct {
    const char *name;
    size_t min, max;
    function *call;
} functions[] = {
    {"json", 1, 1, as_json},
    {"index", 1, 15, take_index},
    {"len", 1, 1, length},
    {"upper", 1, 1, upper},
    {"lower", 1, 1, lower},
    {"title", 1, 1, title},
    {"join", 2, 2, join},
    {"split", 2, 2, split},
    {"truncate", 2, 2, truncate_text},
    {"pad", 3, 3, pad},
    {"print", 0, 15, print},
    {"println", 0, 15, println},
    {"printf", 1, 15, print_format},
    {"eq", 2, 15, equal},
    {"ne", 2, 2, not_equal},
    {"not", 1, 1, not_true},
    {"and", 1, 15, all_of},
    {"or", 1, 15, any_of},
    {"lt", 2, 2, less},
    {"gt", 2, 2, greater},
};

bool format_function_exists(const char *name)
{
    for (size_t i = 0; i < COUNT(functions); i++) {
        if (strcmp(functions[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

int format_call(const char *name, json_t *const *args, size_t count, json_t **ret, struct err *err)
{
    for (size_t i = 0; i < COUNT(functions); i++) {
        if (strcmp(functions[i].name, name) != 0) {
            continue;
        }
        if (count < functions[i].min || count > functions[i].max) {
            return err_say(err, EINVAL, "template: wrong number of arguments for '%s'", name);
        }
        return functions[i].call(args, count, ret, err);
    }
    return -EINVAL;
}
