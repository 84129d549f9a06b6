#include "container/guest_protocol.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "freestanding/byteorder.h"

#define HEADER_SIZE ((size_t)4)
#define ERRNO_MAX 4095

int guest_message_add(struct buf *out, const json_t *message)
{
    AUTO(freep) char *text = json_dumps(message, JSON_COMPACT);
    size_t len = text == NULL ? 0 : strlen(text);
    uint8_t header[HEADER_SIZE];
    if (text == NULL) {
        return -ENOMEM;
    }
    if (len > GUEST_MESSAGE_MAX) {
        return -EMSGSIZE;
    }
    store_le32(header, (uint32_t)len);
    int r = buf_reserve(out, HEADER_SIZE + len);
    r = r < 0 ? r : buf_add(out, header, HEADER_SIZE);
    return r < 0 ? r : buf_add(out, text, len);
}

size_t guest_message_missing(const struct buf *in)
{
    if (in->len < HEADER_SIZE) {
        return HEADER_SIZE - in->len;
    }
    size_t len = load_le32(in->data);
    size_t have = in->len - HEADER_SIZE;
    return len > have ? len - have : 0;
}

int guest_message_take(struct buf *in, json_t **ret, struct err *err)
{
    if (in->len < HEADER_SIZE) {
        return 0;
    }
    size_t len = load_le32(in->data);
    if (len < 2 || len > GUEST_MESSAGE_MAX) {
        return err_say(err, EBADMSG, "a message of %zu bytes: 2 to %zu are allowed", len,
                       GUEST_MESSAGE_MAX);
    }
    if (in->len - HEADER_SIZE < len) {
        return 0;
    }
    AUTO(json_unrefp) json_t *message = NULL;
    int r = json_parse(in->data + HEADER_SIZE, len, "message", &message, err);
    if (r < 0 || !json_is_object(message) || guest_message_type(message)[0] == '\0') {
        return r == -ENOMEM ? r
               : r < 0      ? err_wrap(err, EBADMSG, "not a message")
                            : err_say(err, EBADMSG, "not a message: an object with a type");
    }
    size_t used = HEADER_SIZE + len;
    memmove(in->data, in->data + used, in->len - used);
    in->len -= used;
    *ret = TAKE_PTR(message);
    return 1;
}

const char *guest_message_type(const json_t *message)
{
    const char *type = json_string_value(json_object_get(message, "type"));
    return type != NULL ? type : "";
}

int guest_send(int fd, const json_t *message, struct err *err)
{
    AUTO(buf_donep) struct buf out = {0};
    int r = guest_message_add(&out, message);
    size_t sent = 0;
    while (r == 0 && sent < out.len) {
        ssize_t n = send(fd, out.data + sent, out.len - sent, MSG_NOSIGNAL);
        if (n >= 0) {
            sent += (size_t)n;
        } else if (errno != EINTR) {
            r = -errno;
        }
    }
    return r < 0 ? err_set(err, -r, "send a message") : 0;
}

static int wait_readable(int fd, int64_t deadline_ns)
{
    for (;;) {
        int64_t left = deadline_ns < 0 ? -1 : (deadline_ns - clock_monotonic_ns()) / 1000000;
        if (deadline_ns >= 0 && left <= 0) {
            return -ETIMEDOUT;
        }
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = poll(&p, 1, deadline_ns < 0 ? -1 : (int)MIN(left, (int64_t)1 << 30));
        if (n > 0) {
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
    }
}

int guest_receive(int fd, int timeout_ms, json_t **ret, struct err *err)
{
    AUTO(buf_donep) struct buf in = {0};
    int64_t deadline = timeout_ms < 0 ? -1 : clock_monotonic_ns() + (int64_t)timeout_ms * 1000000;
    for (;;) {
        int r = guest_message_take(&in, ret, err);
        if (r != 0) {
            return MIN(r, 0);
        }
        size_t missing = guest_message_missing(&in);
        char data[4096];
        r = wait_readable(fd, deadline);
        if (r < 0) {
            return r == -ETIMEDOUT
                       ? err_say(err, ETIMEDOUT, "the agent gave no answer in %d ms", timeout_ms)
                       : err_set(err, -r, "wait for the agent");
        }
        ssize_t n = recv(fd, data, MIN(missing, sizeof(data)), 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? err_say(err, EPIPE, "the agent closed the connection")
                          : err_set(err, errno, "receive from the agent");
        }
        if (buf_add(&in, data, (size_t)n) < 0) {
            return err_set(err, ENOMEM, "receive from the agent");
        }
    }
}

json_t *guest_error_new(const struct err *err, bool exec_failed)
{
    /* Bytes that are no UTF-8 (a file name, say) would make no JSON at all. */
    const char *text = err_text(err);
    json_t *string = json_string(text);
    if (string == NULL) {
        AUTO(freep) char *plain = strdup(text);
        for (char *p = plain; p != NULL && *p != '\0'; p++) {
            *p = (char)((unsigned char)*p < 0x80 ? *p : '?');
        }
        string = json_string(plain != NULL ? plain : "no memory");
    }
    return json_pack("{s:s, s:i, s:o, s:b}", "type", "error", "code", err->code, "text", string,
                     "exec_failed", exec_failed);
}

void guest_text_copy(const char *from, char *to, size_t size)
{
    size_t i = 0;
    for (; from[i] != '\0' && i + 1 < size; i++) {
        unsigned char c = (unsigned char)from[i];
        /* 0xC2 0x80..0x9F are control characters, too. */
        bool c1 = i > 0 && (unsigned char)from[i - 1] == 0xC2 && c >= 0x80 && c < 0xA0;
        to[i] = (char)(c < 0x20 || c == 0x7F || c1 ? '?' : c);
    }
    to[i] = '\0';
}

int guest_answer_check(const json_t *answer, const char *want, bool *ret_exec_failed,
                       struct err *err)
{
    const char *type = guest_message_type(answer);
    char text[ERR_TEXT_SIZE - 32];
    if (str_eq(type, want)) {
        return 0;
    }
    if (!str_eq(type, "error")) {
        guest_text_copy(type, text, 64);
        return err_say(err, EBADMSG, "the agent answers \"%s\", not \"%s\"", text, want);
    }
    const char *said = json_string_value(json_object_get(answer, "text"));
    json_int_t code = json_integer_value(json_object_get(answer, "code"));
    if (ret_exec_failed != NULL) {
        *ret_exec_failed = json_is_true(json_object_get(answer, "exec_failed"));
    }
    guest_text_copy(said != NULL && said[0] != '\0' ? said : "the agent gave no reason", text,
                    sizeof(text));
    return err_say(err, code > 0 && code <= ERRNO_MAX ? (int)code : EIO, "%s", text);
}

json_t *guest_exit_new(const struct guest_exit *exit)
{
    return json_pack("{s:s, s:i, s:I}", "type", "exited", "code", exit->code, "oom_kills",
                     (json_int_t)exit->oom_kills);
}

int guest_exit_read(const json_t *message, struct guest_exit *ret, struct err *err)
{
    const struct json_path top = {.key = "exited"};
    int64_t code = 0;
    int64_t kills = 0;
    int r = guest_answer_check(message, "exited", NULL, err);
    if (r < 0) {
        return r;
    }
    r = json_get_int(message, &top, "code", 0, 255, &code, err);
    if (r == 0) {
        r = err_say(err, EBADMSG, "exited.code: is missing");
    }
    r = r < 0 ? r : json_get_int(message, &top, "oom_kills", 0, INT64_MAX, &kills, err);
    if (r < 0) {
        return -EBADMSG;
    }
    *ret = (struct guest_exit){.code = (int)code, .oom_kills = (uint64_t)kills};
    return 0;
}
