/*
 * Requests as bytes: no descriptor here.
 */
#include "vmm/http.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

enum {
    STATUS_BAD_REQUEST = 400,
    STATUS_TOO_LARGE = 413,
    STATUS_URI_TOO_LONG = 414,
    STATUS_EXPECTATION_FAILED = 417,
    STATUS_HEAD_TOO_LARGE = 431,
    STATUS_NOT_IMPLEMENTED = 501,
    STATUS_VERSION = 505,
};

struct head {
    struct http_request *request;
    bool has_length;
    size_t length;
};

/* A piece of the head, not ended by NUL. */
struct text {
    const char *at;
    size_t len;
};

static bool text_is(struct text text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.at, word, text.len) == 0;
}

/* RFC 9110, 5.6.2 */
static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Copies up to the character, which is stepped over; -1: it does not come, or room is too small. */
static int take_word(struct text *line, char end, char *word, size_t size)
{
    const char *stop = memchr(line->at, end, line->len);
    size_t len = stop == NULL ? line->len : (size_t)(stop - line->at);
    if (stop == NULL || len == 0 || len >= size) {
        return -1;
    }
    memcpy(word, line->at, len);
    word[len] = '\0';
    line->at += len + 1;
    line->len -= len + 1;
    return 0;
}

static int parse_request_line(struct text line, struct http_request *request)
{
    if (take_word(&line, ' ', request->method, sizeof(request->method)) < 0) {
        return STATUS_BAD_REQUEST;
    }
    for (const char *c = request->method; *c != '\0'; c++) {
        if (!is_token(*c)) {
            return STATUS_BAD_REQUEST;
        }
    }
    if (take_word(&line, ' ', request->path, sizeof(request->path)) < 0) {
        return memchr(line.at, ' ', line.len) != NULL && line.len > sizeof(request->path)
                   ? STATUS_URI_TOO_LONG
                   : STATUS_BAD_REQUEST;
    }
    for (const char *c = request->path; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || strchr("?#%", *c) != NULL) {
            return STATUS_BAD_REQUEST; /* no path of ours needs any of them */
        }
    }
    if (request->path[0] != '/') {
        return STATUS_BAD_REQUEST;
    }
    request->keep = text_is(line, "HTTP/1.1");
    return request->keep || text_is(line, "HTTP/1.0") ? 0 : STATUS_VERSION;
}

static struct text trim(struct text text)
{
    while (text.len > 0 && (*text.at == ' ' || *text.at == '\t')) {
        text.at++;
        text.len--;
    }
    while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t')) {
        text.len--;
    }
    return text;
}

static int parse_length(struct text value, struct head *head)
{
    size_t length = 0;
    if (value.len == 0 || value.len > 10) {
        return value.len == 0 ? STATUS_BAD_REQUEST : STATUS_TOO_LARGE;
    }
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9') {
            return STATUS_BAD_REQUEST;
        }
        length = length * 10 + (size_t)(value.at[i] - '0');
    }
    /* Two that differ are how requests are smuggled (RFC 9112, 6.3). */
    if (head->has_length && head->length != length) {
        return STATUS_BAD_REQUEST;
    }
    head->has_length = true;
    head->length = length;
    return length > HTTP_BODY_MAX ? STATUS_TOO_LARGE : 0;
}

static int parse_field(struct text line, struct head *head)
{
    const char *colon = memchr(line.at, ':', line.len);
    if (colon == NULL || colon == line.at) {
        return STATUS_BAD_REQUEST;
    }
    struct text name = {line.at, (size_t)(colon - line.at)};
    struct text value = trim((struct text){colon + 1, line.len - name.len - 1});
    for (size_t i = 0; i < name.len; i++) {
        if (!is_token(name.at[i])) {
            return STATUS_BAD_REQUEST;
        }
    }
    if (text_is(name, "Content-Length")) {
        return parse_length(value, head);
    }
    if (text_is(name, "Transfer-Encoding")) {
        return STATUS_NOT_IMPLEMENTED;
    }
    if (text_is(name, "Connection") && text_is(value, "close")) {
        head->request->keep = false;
    }
    if (text_is(name, "Expect")) {
        head->request->waiting = text_is(value, "100-continue");
        return head->request->waiting ? 0 : STATUS_EXPECTATION_FAILED;
    }
    return 0;
}

/* A line ends with CR LF; a lone LF is a line, too (2.2), a lone CR is not. */
static int next_line(const char *data, size_t len, size_t *at, struct text *ret)
{
    const char *end = memchr(data + *at, '\n', len - *at);
    if (end == NULL) {
        return -EAGAIN;
    }
    *ret = (struct text){data + *at, (size_t)(end - data) - *at};
    *at = (size_t)(end - data) + 1;
    if (ret->len > 0 && ret->at[ret->len - 1] == '\r') {
        ret->len--;
    }
    bool plain = memchr(ret->at, '\r', ret->len) == NULL && memchr(ret->at, '\0', ret->len) == NULL;
    return plain ? 0 : STATUS_BAD_REQUEST;
}

int http_parse(const char *data, size_t len, struct http_request *ret, size_t *ret_used)
{
    struct head head = {.request = ret};
    struct text line = {0};
    size_t bound = len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX;
    size_t at = 0;
    *ret = (struct http_request){0};
    int r = next_line(data, bound, &at, &line);
    r = r != 0 ? r : parse_request_line(line, ret);
    while (r == 0) {
        r = next_line(data, bound, &at, &line);
        if (r == 0 && line.len == 0) {
            break;
        }
        r = r != 0 ? r : parse_field(line, &head);
    }
    if (r == -EAGAIN) {
        ret->waiting = false; /* its head is not whole */
        return len < HTTP_HEAD_MAX ? -EAGAIN : STATUS_HEAD_TOO_LARGE;
    }
    if (r != 0) {
        return r;
    }
    if (head.length > len - at) {
        return -EAGAIN;
    }
    ret->waiting = false;
    ret->body = data + at;
    ret->body_len = head.length;
    *ret_used = at + head.length;
    return 0;
}
