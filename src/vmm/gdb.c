#include "vmm/gdb.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/macros.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "vmm/gdb_internal.h"
#include "vmm/machine.h"

#define SIGNAL_INTERRUPT 2
#define SIGNAL_TRAP 5

static void hang_up(struct gdb *gdb);

/* False: the debugger is gone. */
static bool flush(struct gdb *gdb)
{
    while (gdb->sent < gdb->out.len) {
        ssize_t n = send(gdb->fd, gdb->out.data + gdb->sent, gdb->out.len - gdb->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN && loop_source_set_events(gdb->source, EPOLLIN | EPOLLOUT) == 0;
        }
        gdb->sent += (size_t)n;
    }
    buf_clear(&gdb->out);
    gdb->sent = 0;
    return loop_source_set_events(gdb->source, EPOLLIN) == 0;
}

static void reply(struct gdb *gdb, const char *text)
{
    if (gdb_packet_put(&gdb->out, text, strlen(text)) < 0) {
        buf_clear(&gdb->out);
    }
}

static void reply_buf(struct gdb *gdb, const struct buf *answer)
{
    reply(gdb, answer->data == NULL ? "" : answer->data);
}

static void reply_result(struct gdb *gdb, int r)
{
    char text[8];
    (void)snprintf(text, sizeof(text), "E%02x", (unsigned)-r & 0xff);
    reply(gdb, r < 0 ? text : "OK");
}

static bool uses_software(const struct gdb *gdb)
{
    for (size_t i = 0; i < GDB_BREAKPOINTS_MAX; i++) {
        if (gdb->breakpoint[i].used) {
            return true;
        }
    }
    return false;
}

/* All CPUs meet the same breakpoints; at most one of them steps (-1: none). */
static void set_debug(struct gdb *gdb, int64_t stepping)
{
    struct cpu_debug debug = gdb->debug;
    debug.software_breakpoints = uses_software(gdb);
    for (uint32_t i = 0; i < machine_cpu_count(gdb->machine); i++) {
        struct cpu *cpu = machine_cpu(gdb->machine, i);
        debug.single_step = i == stepping;
        (void)cpu->ops->debug(cpu, &debug);
    }
}

/* others: the CPUs that do not step go on meanwhile. */
static void go(struct gdb *gdb, int64_t stepping, bool others)
{
    set_debug(gdb, stepping);
    for (uint32_t i = 0; i < machine_cpu_count(gdb->machine); i++) {
        machine_hold_cpu(gdb->machine, i, stepping >= 0 && i != stepping && !others);
    }
    gdb->stopped = false;
    (void)machine_resume(gdb->machine, NULL);
}

static void tell_stop(struct gdb *gdb, unsigned signal, const char *why)
{
    char text[96];
    gdb->stopped = true;
    (void)snprintf(text, sizeof(text), "T%02xthread:%x;%s", signal, gdb->selected + 1, why);
    reply(gdb, text);
}

static void on_stop(struct machine *machine, uint32_t cpu, uint8_t watch, void *data)
{
    struct gdb *gdb = data;
    static const char *const names[] = {"hwbreak:", "watch:", "", "awatch:"};
    struct x86_state *state = calloc(1, sizeof(*state));
    struct cpu *stopped = machine_cpu(machine, cpu);
    char why[48] = "";
    if (gdb->fd < 0) {
        free(state);
        (void)machine_resume(machine, NULL);
        return;
    }
    gdb->selected = cpu;
    if (state != NULL && watch == 0 && stopped->ops->get_core(stopped, state) == 0 &&
        gdb_breakpoint_at(gdb, state->rip)) {
        (void)snprintf(why, sizeof(why), "swbreak:;");
    }
    for (unsigned i = 0; i < CPU_WATCH_MAX; i++) {
        if ((watch >> i & 1) != 0 && gdb->debug.watch[i].len != 0) {
            unsigned kind = gdb->debug.watch[i].kind;
            (void)snprintf(why, sizeof(why), kind == 0 ? "%s;" : "%s%llx;", names[kind],
                           (unsigned long long)gdb->debug.watch[i].address);
        }
    }
    free(state);
    tell_stop(gdb, SIGNAL_TRAP, why);
    if (!flush(gdb)) {
        hang_up(gdb);
    }
}

static void read_registers(struct gdb *gdb, unsigned first, unsigned end)
{
    AUTO(buf_donep) struct buf answer = {0};
    AUTO(freep) struct x86_state *state = calloc(1, sizeof(*state));
    struct cpu *cpu = machine_cpu(gdb->machine, gdb->selected);
    int r = state == NULL ? -ENOMEM : cpu->ops->get_state(cpu, state, NULL);
    for (unsigned i = first; r == 0 && i < end; i++) {
        uint8_t data[GDB_REGISTER_MAX];
        size_t len = gdb_register_get(state, i, data);
        r = len == 0 ? -EINVAL : gdb_hex_put(&answer, data, len);
    }
    if (r < 0) {
        reply_result(gdb, r);
    } else {
        reply_buf(gdb, &answer);
    }
}

static void on_read_registers(struct gdb *gdb, const char *args)
{
    (void)args;
    read_registers(gdb, 0, GDB_REGISTERS);
}

static void on_read_register(struct gdb *gdb, const char *args)
{
    uint64_t number = 0;
    if (!gdb_number_then(&args, '\0', &number) || number >= GDB_REGISTERS) {
        reply_result(gdb, -EINVAL);
    } else {
        read_registers(gdb, (unsigned)number, (unsigned)number + 1);
    }
}

static void on_write_register(struct gdb *gdb, const char *args)
{
    AUTO(freep) struct x86_state *state = calloc(1, sizeof(*state));
    struct cpu *cpu = machine_cpu(gdb->machine, gdb->selected);
    uint64_t number = 0;
    uint8_t data[GDB_REGISTER_MAX];
    int r = state == NULL ? -ENOMEM : 0;
    if (!gdb_number_then(&args, '=', &number) || number >= GDB_REGISTERS ||
        gdb_register_writable((unsigned)number) == 0 ||
        !gdb_hex_get(args, data, gdb_register_writable((unsigned)number))) {
        r = -EINVAL;
    }
    r = r < 0 ? r : cpu->ops->get_core(cpu, state);
    if (r == 0) {
        gdb_register_set(state, (unsigned)number, data);
        r = cpu->ops->set_core(cpu, state);
    }
    reply_result(gdb, r);
}

static void on_read_memory(struct gdb *gdb, const char *args)
{
    AUTO(buf_donep) struct buf answer = {0};
    uint64_t address = 0;
    uint64_t len = 0;
    uint8_t data[GDB_PACKET_MAX / 2 - 8];
    int r =
        gdb_number_then(&args, ',', &address) && gdb_number_then(&args, '\0', &len) ? 0 : -EINVAL;
    len = MIN(len, (uint64_t)sizeof(data));
    r = r < 0 ? r : gdb_memory_read(gdb, address, data, len);
    r = r < 0 ? r : gdb_hex_put(&answer, data, len);
    if (r < 0) {
        reply_result(gdb, r);
    } else {
        reply_buf(gdb, &answer);
    }
}

static void write_memory(struct gdb *gdb, const char *args, bool binary)
{
    uint64_t address = 0;
    uint64_t len = 0;
    uint8_t data[GDB_PACKET_MAX];
    const char *end = gdb->packet.data + gdb->packet.len;
    if (!gdb_number_then(&args, ',', &address) || !gdb_number_then(&args, ':', &len) ||
        len > (uint64_t)(end - args) / (binary ? 1 : 2)) {
        reply_result(gdb, -EINVAL);
        return;
    }
    if (binary) {
        memcpy(data, args, len);
    } else if (!gdb_hex_get(args, data, len)) {
        reply_result(gdb, -EINVAL);
        return;
    }
    reply_result(gdb, gdb_memory_write(gdb, address, data, len));
}

static void on_write_memory(struct gdb *gdb, const char *args)
{
    write_memory(gdb, args, false);
}

static void on_write_binary(struct gdb *gdb, const char *args)
{
    write_memory(gdb, args, true);
}

static void change_breakpoint(struct gdb *gdb, const char *args, bool on)
{
    uint64_t kind = 0;
    uint64_t address = 0;
    uint64_t len = 0;
    if (!gdb_number_then(&args, ',', &kind) || !gdb_number_then(&args, ',', &address) ||
        !gdb_number(&args, &len)) {
        reply_result(gdb, -EINVAL);
        return;
    }
    int r = gdb_breakpoint_set(gdb, (unsigned)kind, address, len, on);
    if (r == -EOPNOTSUPP) {
        reply(gdb, "");
    } else {
        reply_result(gdb, r);
    }
}

static void on_set_breakpoint(struct gdb *gdb, const char *args)
{
    change_breakpoint(gdb, args, true);
}

static void on_remove_breakpoint(struct gdb *gdb, const char *args)
{
    change_breakpoint(gdb, args, false);
}

static void on_continue(struct gdb *gdb, const char *args)
{
    (void)args;
    go(gdb, -1, true);
}

static void on_step(struct gdb *gdb, const char *args)
{
    (void)args;
    go(gdb, gdb->selected, false);
}

/* vCont;s:1;c - who steps, and do the others run? */
static void on_vcont(struct gdb *gdb, const char *args)
{
    int64_t stepping = -1;
    bool others = false;
    while (*args == ';') {
        char action = *++args;
        uint64_t thread = 0;
        while (*args != '\0' && *args != ';' && *args != ':') {
            args++;
        }
        bool named = *args == ':';
        args += named ? 1 : 0;
        if (named && !gdb_number(&args, &thread)) {
            thread = gdb->selected + 1u; /* -1: all of them */
            args += strcspn(args, ";");
        }
        if (action == 's' || action == 'S') {
            uint64_t cpu = named ? thread - 1 : gdb->selected;
            stepping = cpu < machine_cpu_count(gdb->machine) ? (int64_t)cpu : 0;
        } else {
            others = others || !named || machine_cpu_count(gdb->machine) == 1;
        }
    }
    go(gdb, stepping, others);
}

static void on_v(struct gdb *gdb, const char *args)
{
    if (str_eq(args, "Cont?")) {
        reply(gdb, "vCont;c;C;s;S");
    } else if (str_starts(args, "Cont;")) {
        on_vcont(gdb, args + strlen("Cont"));
    } else if (str_starts(args, "Kill")) {
        reply(gdb, "OK");
        machine_stop(gdb->machine, BOARD_STOPPED);
    } else {
        reply(gdb, "");
    }
}

static void send_target(struct gdb *gdb, const char *args)
{
    AUTO(buf_donep) struct buf answer = {0};
    uint64_t offset = 0;
    uint64_t len = 0;
    size_t size = strlen(gdb_target_xml);
    if (!gdb_number_then(&args, ',', &offset) || !gdb_number_then(&args, '\0', &len)) {
        reply_result(gdb, -EINVAL);
        return;
    }
    size_t from = MIN(offset, (uint64_t)size);
    size_t count = MIN(MIN(len, (uint64_t)size - from), (uint64_t)GDB_PACKET_MAX / 2 - 8);
    int r = buf_add_char(&answer, from + count < size ? 'm' : 'l');
    r = r < 0 ? r : buf_add(&answer, gdb_target_xml + from, count);
    if (r < 0) {
        reply_result(gdb, r);
    } else {
        reply_buf(gdb, &answer);
    }
}

static void send_threads(struct gdb *gdb)
{
    AUTO(buf_donep) struct buf answer = {0};
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < machine_cpu_count(gdb->machine); i++) {
        r = buf_printf(&answer, "%c%x", i == 0 ? 'm' : ',', i + 1);
    }
    reply_buf(gdb, &answer);
}

static void on_query(struct gdb *gdb, const char *args)
{
    static const char target[] = "Xfer:features:read:target.xml:";
    char text[128];
    if (str_starts(args, "Supported")) {
        (void)snprintf(text, sizeof(text),
                       "PacketSize=%zx;qXfer:features:read+;QStartNoAckMode+;vContSupported+;"
                       "swbreak+;hwbreak+",
                       GDB_PACKET_MAX - 1);
        reply(gdb, text);
    } else if (str_starts(args, target)) {
        send_target(gdb, args + strlen(target));
    } else if (str_eq(args, "fThreadInfo")) {
        send_threads(gdb);
    } else if (str_eq(args, "sThreadInfo")) {
        reply(gdb, "l");
    } else if (str_eq(args, "C")) {
        (void)snprintf(text, sizeof(text), "QC%x", gdb->selected + 1);
        reply(gdb, text);
    } else if (str_eq(args, "Attached")) {
        reply(gdb, "1");
    } else {
        reply(gdb, "");
    }
}

static void on_set(struct gdb *gdb, const char *args)
{
    bool known = str_eq(args, "StartNoAckMode");
    reply(gdb, known ? "OK" : "");
    gdb->no_ack = gdb->no_ack || known;
}

static void on_select(struct gdb *gdb, const char *args)
{
    uint64_t thread = 0;
    args += *args == '\0' ? 0 : 1; /* for what: 'g' or 'c' */
    if (!gdb_number_then(&args, '\0', &thread)) {
        thread = 0; /* -1: all */
    }
    if (thread > machine_cpu_count(gdb->machine)) {
        reply_result(gdb, -ESRCH);
        return;
    }
    gdb->selected = thread == 0 ? gdb->selected : (uint32_t)thread - 1;
    reply(gdb, "OK");
}

static void on_alive(struct gdb *gdb, const char *args)
{
    uint64_t thread = 0;
    bool alive = gdb_number_then(&args, '\0', &thread) && thread >= 1 &&
                 thread <= machine_cpu_count(gdb->machine);
    reply_result(gdb, alive ? 0 : -ESRCH);
}

static void on_why(struct gdb *gdb, const char *args)
{
    (void)args;
    tell_stop(gdb, SIGNAL_TRAP, "");
}

static void let_go(struct gdb *gdb)
{
    gdb_breakpoints_clear(gdb);
    if (machine_pause(gdb->machine, NULL) == 0) {
        go(gdb, -1, true);
    }
}

static void on_detach(struct gdb *gdb, const char *args)
{
    (void)args;
    let_go(gdb);
    reply(gdb, "OK");
}

static void on_kill(struct gdb *gdb, const char *args)
{
    (void)args;
    machine_stop(gdb->machine, BOARD_STOPPED);
}

static const struct {
    char letter;
    void (*run)(struct gdb *gdb, const char *args);
} commands[] = {
    {'?', on_why},
    {'g', on_read_registers},
    {'p', on_read_register},
    {'P', on_write_register},
    {'m', on_read_memory},
    {'M', on_write_memory},
    {'X', on_write_binary},
    {'Z', on_set_breakpoint},
    {'z', on_remove_breakpoint},
    {'c', on_continue},
    {'s', on_step},
    {'v', on_v},
    {'q', on_query},
    {'Q', on_set},
    {'H', on_select},
    {'T', on_alive},
    {'D', on_detach},
    {'k', on_kill},
};

static void interrupt(struct gdb *gdb)
{
    if (!gdb->stopped && machine_pause(gdb->machine, NULL) == 0) {
        tell_stop(gdb, SIGNAL_INTERRUPT, "");
    }
}

static void run_command(struct gdb *gdb)
{
    const struct gdb_packet *packet = &gdb->packet;
    for (size_t i = 0; i < COUNT(commands); i++) {
        if (packet->len > 0 && commands[i].letter == packet->data[0]) {
            commands[i].run(gdb, packet->data + 1);
            return;
        }
    }
    reply(gdb, "");
}

static void run_packet(struct gdb *gdb)
{
    switch (gdb->packet.kind) {
    case GDB_ACK:
    case GDB_NAK: /* a stream loses nothing: whatever he misses he asks for again */
        break;
    case GDB_INTERRUPT:
        interrupt(gdb);
        break;
    case GDB_DAMAGED:
        (void)buf_add_char(&gdb->out, '-');
        break;
    case GDB_COMMAND:
        if (!gdb->no_ack) {
            (void)buf_add_char(&gdb->out, '+');
        }
        run_command(gdb);
        break;
    }
}

static void hang_up(struct gdb *gdb)
{
    loop_remove(gdb->source);
    gdb->source = NULL;
    gdb->fd = close_fd(gdb->fd);
    buf_clear(&gdb->in);
    buf_clear(&gdb->out);
    gdb->sent = 0;
    gdb->no_ack = false;
    let_go(gdb);
}

static bool receive(struct gdb *gdb)
{
    char data[4096];
    ssize_t n = recv(gdb->fd, data, sizeof(data), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (n <= 0 || buf_add(&gdb->in, data, (size_t)n) < 0) {
        return false;
    }
    size_t at = 0;
    size_t used = 0;
    int r = 0;
    while ((r = gdb_packet_next(gdb->in.data + at, gdb->in.len - at, &gdb->packet, &used)) == 0) {
        at += used;
        run_packet(gdb);
    }
    memmove(gdb->in.data, gdb->in.data + at, gdb->in.len - at);
    gdb->in.len -= at;
    return r == -EAGAIN;
}

static void on_debugger(struct loop_source *source, int fd, uint32_t events, void *data)
{
    struct gdb *gdb = data;
    (void)source;
    (void)fd;
    bool there = (events & ~(uint32_t)EPOLLOUT) == 0 || receive(gdb);
    if (!there || !flush(gdb)) {
        hang_up(gdb);
    }
}

static void on_accept(struct loop_source *source, int fd, uint32_t events, void *data)
{
    struct gdb *gdb = data;
    (void)source;
    (void)events;
    AUTO(closep) int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0 || gdb->fd >= 0 || gdb->machine == NULL) {
        return; /* one debugger at a time */
    }
    if (machine_pause(gdb->machine, NULL) < 0 ||
        loop_add_fd(gdb->loop, client, EPOLLIN, on_debugger, gdb, &gdb->source) < 0) {
        return;
    }
    gdb->fd = TAKE_FD(client);
    gdb->stopped = true;
    gdb->selected = 0;
}

int gdb_new(int fd, struct loop *loop, struct gdb **ret, struct err *err)
{
    AUTO(gdb_freep) struct gdb *gdb = calloc(1, sizeof(*gdb));
    if (gdb == NULL) {
        (void)close(fd);
        return err_set(err, ENOMEM, "listen to a debugger");
    }
    gdb->loop = loop;
    gdb->fd = -1;
    gdb->listen_fd = fd;
    int r = loop_add_fd(loop, fd, EPOLLIN, on_accept, gdb, &gdb->listen_source);
    if (r < 0) {
        return err_set(err, -r, "listen to a debugger");
    }
    *ret = TAKE_PTR(gdb);
    return 0;
}

int gdb_attach(struct gdb *gdb, struct machine *machine, struct err *err)
{
    if (machine == NULL) {
        gdb->machine = NULL;
        return 0;
    }
    int r = machine_set_debug(machine, on_stop, gdb, err);
    r = r < 0 ? r : machine_pause(machine, err);
    if (r == 0) {
        gdb->machine = machine;
    }
    return r;
}

void gdb_free(struct gdb *gdb)
{
    if (gdb == NULL) {
        return;
    }
    if (gdb->fd >= 0) {
        reply(gdb, "W00");
        (void)flush(gdb);
    }
    loop_remove(gdb->source);
    loop_remove(gdb->listen_source);
    (void)close_fd(gdb->fd);
    (void)close_fd(gdb->listen_fd);
    buf_done(&gdb->in);
    buf_done(&gdb->out);
    free(gdb);
}
