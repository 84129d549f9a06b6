#include "container/dbus.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "base/unix_socket.h"

#define TIMEOUT_MS 30000
#define MANAGER "org.freedesktop.systemd1.Manager"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define REMOVED_JOBS_MAX ((size_t)64)

struct dbus {
    int fd;
    bool direct; /* no bus between us and systemd */
    uint32_t serial;
    struct buf in;       /* the message that came last */
    struct strv removed; /* "JOB RESULT": jobs that ended while we waited for something else */
};

void dbus_close(struct dbus *bus)
{
    if (bus == NULL) {
        return;
    }
    (void)close_fd(bus->fd);
    buf_done(&bus->in);
    strv_done(&bus->removed);
    free(bus);
}

static int hex_value(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* "%2d" stands for a byte. */
static bool unescape(const char *from, size_t len, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = from[i];
        if (c == '%') {
            if (len - i < 3 || !isxdigit((unsigned char)from[i + 1]) ||
                !isxdigit((unsigned char)from[i + 2])) {
                return false;
            }
            c = (char)(hex_value(from[i + 1]) * 16 + hex_value(from[i + 2]));
            i += 2;
        }
        if (c == '\0' || n + 1 >= size) {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0;
}

/* One address without its ';': "unix:key=value,key=value". */
static bool read_address(const char *text, size_t len, char *path, size_t size)
{
    static const char *const keys[] = {"path=", "abstract="};
    if (len < strlen("unix:") || strncmp(text, "unix:", strlen("unix:")) != 0) {
        return false;
    }
    const char *end = text + len;
    for (const char *p = text + strlen("unix:"); p < end;) {
        size_t part = 0;
        while (p + part < end && p[part] != ',') {
            part++;
        }
        for (size_t i = 0; i < COUNT(keys); i++) {
            size_t key = strlen(keys[i]);
            bool abstract = i == 1;
            if (part > key && strncmp(p, keys[i], key) == 0 && size > 1) {
                path[0] = '@';
                return unescape(p + key, part - key, path + abstract, size - abstract) &&
                       (abstract || path[0] == '/');
            }
        }
        p += part + (p + part < end);
    }
    return false;
}

bool dbus_next_address(const char **list, char *path, size_t size)
{
    while (**list != '\0') {
        const char *text = *list;
        size_t len = strcspn(text, ";");
        *list += len + (text[len] == ';');
        if (read_address(text, len, path, size)) {
            return true;
        }
    }
    return false;
}

static int connect_to(const char *path)
{
    if (path[0] != '@') {
        return unix_connect(path, SOCK_STREAM);
    }
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof(addr.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(addr.sun_path + 1, path + 1, len - 1);
    AUTO(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return fd < 0 || connect(fd, (struct sockaddr *)&addr, size) < 0 ? -errno : TAKE_FD(fd);
}

static int read_some(const struct dbus *bus, void *data, size_t len, int64_t deadline_ns)
{
    size_t done = 0;
    while (done < len) {
        int64_t left = (deadline_ns - clock_monotonic_ns()) / NS_PER_MS;
        struct pollfd wait = {.fd = bus->fd, .events = POLLIN};
        int n = poll(&wait, 1, left > 0 ? (int)left : 0);
        if (n == 0) {
            return -ETIMEDOUT;
        }
        ssize_t got = n < 0 ? -1 : recv(bus->fd, (char *)data + done, len - done, 0);
        if (got < 0 && errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
        if (got == 0) {
            return -ECONNRESET;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

static int64_t deadline(void)
{
    return clock_monotonic_ns() + (int64_t)TIMEOUT_MS * NS_PER_MS;
}

/* The answer must be "DATA" and "OK guid": who we are the socket says, in any user namespace. */
static int authenticate(const struct dbus *bus)
{
    static const char hello[] = "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
    int64_t until = deadline();
    int r = send(bus->fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) == sizeof(hello) - 1 ? 0 : -errno;
    bool ok = false;
    while (r == 0 && !ok) {
        char line[256];
        size_t n = 0;
        do {
            r = n + 1 < sizeof(line) ? read_some(bus, line + n, 1, until) : -EBADMSG;
        } while (r == 0 && line[n++] != '\n');
        line[n] = '\0';
        ok = r == 0 && str_starts(line, "OK ");
        if (r == 0 && !ok && !str_starts(line, "DATA")) {
            r = -EACCES;
        }
    }
    return r;
}

static int receive(struct dbus *bus, int64_t until, struct dbus_message *ret)
{
    uint8_t head[DBUS_HEAD_SIZE];
    size_t len;
    int r = read_some(bus, head, sizeof(head), until);
    r = r < 0 ? r : dbus_message_length(head, &len);
    buf_clear(&bus->in);
    r = r < 0 ? r : buf_reserve(&bus->in, len);
    if (r < 0) {
        return r;
    }
    memcpy(bus->in.data, head, sizeof(head));
    r = read_some(bus, bus->in.data + sizeof(head), len - sizeof(head), until);
    return r < 0 ? r : dbus_message_parse((const uint8_t *)bus->in.data, len, ret);
}

/* JobRemoved(u id, o job, s unit, s result) */
static int note_signal(struct dbus *bus, const struct dbus_message *message)
{
    struct dbus_reader r = {.data = message->body, .len = message->body_len};
    uint32_t id;
    const char *job;
    const char *unit;
    const char *result;
    if (message->type != DBUS_SIGNAL || !str_eq(message->interface, MANAGER) ||
        !str_eq(message->member, "JobRemoved") || strcmp(message->signature, "uoss") != 0 ||
        dbus_get_u32(&r, &id) < 0 || dbus_get_string(&r, &job) < 0 ||
        dbus_get_string(&r, &unit) < 0 || dbus_get_string(&r, &result) < 0) {
        return 0;
    }
    if (bus->removed.count == REMOVED_JOBS_MAX) {
        strv_done(&bus->removed); /* a busy host: these were of others */
    }
    return strv_addf(&bus->removed, "%s %s", job, result);
}

static int explain_error(const struct dbus_message *message, struct err *err)
{
    struct dbus_reader r = {.data = message->body, .len = message->body_len};
    const char *text = message->error != NULL ? message->error : "an error";
    if (message->signature[0] == 's') {
        (void)dbus_get_string(&r, &text);
    }
    bool missing = str_eq(message->error, "org.freedesktop.systemd1.NoSuchUnit");
    return err_say(err, missing ? ENOENT : EPROTO, "systemd answers: %s", text);
}

static int call(struct dbus *bus, const struct dbus_call *what, const struct dbus_writer *body,
                struct dbus_message *ret, struct err *err)
{
    AUTO(buf_donep) struct buf out = {0};
    uint32_t serial = ++bus->serial;
    int r = dbus_call_write(what, serial, body, &out);
    for (size_t done = 0; r == 0 && done < out.len;) {
        ssize_t n = send(bus->fd, out.data + done, out.len - done, MSG_NOSIGNAL);
        r = n < 0 && errno != EINTR ? -errno : 0;
        done += n > 0 ? (size_t)n : 0;
    }
    int64_t until = deadline();
    while (r == 0) {
        r = receive(bus, until, ret);
        if (r == 0 && ret->reply_serial == serial && ret->type == DBUS_ERROR) {
            return explain_error(ret, err);
        }
        if (r == 0 && ret->reply_serial == serial && ret->type == DBUS_RETURN) {
            return 0;
        }
        r = r < 0 ? r : note_signal(bus, ret);
    }
    return err_set(err, -r, "call systemd's %s", what->member);
}

int dbus_call(struct dbus *bus, const char *interface, const char *member, const char *signature,
              const struct dbus_writer *body, struct dbus_message *ret, struct err *err)
{
    const struct dbus_call what = {
        .destination = bus->direct ? NULL : "org.freedesktop.systemd1",
        .path = MANAGER_PATH,
        .interface = interface[0] != '\0' ? interface : MANAGER,
        .member = member,
        .signature = signature,
    };
    return call(bus, &what, body, ret, err);
}

/* Says hello to the bus and asks for the end of jobs; systemd's own socket sends it unasked. */
static int introduce(struct dbus *bus, struct err *err)
{
    struct dbus_call what = {
        .destination = "org.freedesktop.DBus",
        .path = "/org/freedesktop/DBus",
        .interface = "org.freedesktop.DBus",
        .member = "Hello",
        .signature = "",
    };
    AUTO(dbus_writer_donep) struct dbus_writer match = {0};
    dbus_put_string(&match, "type='signal',sender='org.freedesktop.systemd1',path='" MANAGER_PATH
                            "',interface='" MANAGER "',member='JobRemoved'");
    struct dbus_message answer;
    if (bus->direct) {
        return 0;
    }
    int r = call(bus, &what, NULL, &answer, err);
    what.member = "AddMatch";
    what.signature = "s";
    r = r < 0 ? r : call(bus, &what, &match, &answer, err);
    return r < 0 ? r : dbus_call(bus, "", "Subscribe", "", NULL, &answer, err);
}

static int open_at(const char *path, bool direct, struct dbus **ret, struct err *err)
{
    AUTO(dbus_closep) struct dbus *bus = malloc(sizeof(*bus));
    if (bus == NULL) {
        return err_set(err, ENOMEM, "connect to systemd");
    }
    *bus = (struct dbus){.fd = connect_to(path), .direct = direct};
    int r = bus->fd < 0 ? bus->fd : authenticate(bus);
    if (r < 0) {
        return err_set(err, -r, "connect to systemd at '%s'", path);
    }
    r = introduce(bus, err);
    if (r == 0) {
        *ret = TAKE_PTR(bus);
    }
    return r;
}

int dbus_open(bool user, struct dbus **ret, struct err *err)
{
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    const char *runtime = user ? getenv("XDG_RUNTIME_DIR") : NULL;
    const char *list = getenv(user ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS");
    AUTO(freep) char *fallback = NULL;
    if (list == NULL || list[0] == '\0') {
        fallback = !user             ? strdup("unix:path=/run/dbus/system_bus_socket")
                   : runtime != NULL ? str_printf("unix:path=%s/bus", runtime)
                                     : strdup("");
        list = fallback;
    }
    int r = list == NULL ? -ENOMEM : -ENOENT;
    while (r < 0 && list != NULL && dbus_next_address(&list, path, sizeof(path))) {
        r = open_at(path, false, ret, err);
    }
    AUTO(freep)
    char *own = !user             ? strdup("/run/systemd/private")
                : runtime != NULL ? str_printf("%s/systemd/private", runtime)
                                  : NULL;
    if (r < 0 && own != NULL) {
        r = open_at(own, true, ret, NULL);
    }
    if (r == 0) {
        return 0;
    }
    if (err == NULL || err->code == 0) {
        (void)err_say(err, ENOTCONN, "no %s bus was found", user ? "user" : "system");
    }
    (void)err_wrap(err, ENOTCONN, "the systemd cgroup driver (--systemd-cgroup)");
    err_hint(err, "%s use the cgroupfs driver (podman: --cgroup-manager=cgroupfs)",
             user ? "log in through systemd-logind (loginctl enable-linger), or"
                  : "where systemd does not run,");
    return -ENOTCONN;
}

int dbus_wait_job(struct dbus *bus, const char *job, char *result, size_t size, struct err *err)
{
    int64_t until = deadline();
    size_t len = strlen(job);
    for (;;) {
        for (size_t i = 0; i < bus->removed.count; i++) {
            const char *line = bus->removed.items[i];
            if (strncmp(line, job, len) == 0 && line[len] == ' ') {
                (void)snprintf(result, size, "%s", line + len + 1);
                return 0;
            }
        }
        struct dbus_message message;
        int r = receive(bus, until, &message);
        r = r < 0 ? r : note_signal(bus, &message);
        if (r < 0) {
            return err_set(err, -r, "wait for systemd's job '%s'", job);
        }
    }
}

bool dbus_has_user(void)
{
    static const char *const names[] = {"bus", "systemd/private"};
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    bool found = false;
    for (size_t i = 0; !found && runtime != NULL && i < COUNT(names); i++) {
        AUTO(freep) char *path = str_printf("%s/%s", runtime, names[i]);
        found = path != NULL && access(path, W_OK) == 0;
    }
    return found;
}
