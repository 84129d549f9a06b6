/* The real agent, driven as the host drives it. */
#include "container/guest_filter.h"
#include "container/seccomp_filter.h"
#include "guest_machine.h"

START_TEST(a_workload_runs_in_the_overlay_and_its_exit_code_arrives)
{
    struct machine m;
    machine_start(&m, NULL);
    machine_begin(&m, machine_configuration(
                          &m, "cat /etc/which; echo x >/etc/new && echo err >&2; exit 7", false));
    AUTO(closep) int in = machine_accept(&m, 1);
    AUTO(closep) int out = machine_accept(&m, 2);
    AUTO(closep) int error = machine_accept(&m, 3);
    AUTO(freep) char *said = machine_read_all(out);
    AUTO(freep) char *complained = machine_read_all(error);
    ck_assert_str_eq(said, "top");
    ck_assert_str_eq(complained, "err\n");
    out = close_fd(out);
    error = close_fd(error);
    ck_assert_int_eq(machine_exit_code(m.control), 7);
    machine_end(&m);
}
END_TEST

START_TEST(input_reaches_the_workload_to_its_end)
{
    struct machine m;
    machine_start(&m, NULL);
    machine_begin(&m, machine_configuration(&m, "cat; echo done", false));
    AUTO(closep) int in = machine_accept(&m, 1);
    AUTO(closep) int out = machine_accept(&m, 2);
    machine_discard(&m, 3);
    ck_assert_int_eq(write_full(in, "hello\n", 6), 0);
    in = close_fd(in);
    AUTO(freep) char *said = machine_read_all(out);
    ck_assert_str_eq(said, "hello\ndone\n");
    out = close_fd(out);
    ck_assert_int_eq(machine_exit_code(m.control), 0);
    machine_end(&m);
}
END_TEST

START_TEST(output_is_whole_for_a_slow_reader)
{
    struct machine m;
    machine_start(&m, NULL);
    machine_begin(
        &m, machine_configuration(&m, "dd if=/dev/zero bs=65536 count=80 2>/dev/null", false));
    AUTO(closep) int out = machine_accept(&m, 2);
    machine_discard(&m, 3);
    (void)usleep(300000);
    size_t total = 0;
    char data[8192];
    ssize_t n;
    while ((n = read(out, data, sizeof(data))) > 0) {
        total += (size_t)n;
        if (total % (1 << 20) < sizeof(data)) {
            (void)usleep(20000);
        }
    }
    ck_assert_uint_eq(total, (size_t)80 * 65536);
    out = close_fd(out);
    ck_assert_int_eq(machine_exit_code(m.control), 0);
    machine_end(&m);
}
END_TEST

START_TEST(signals_reach_the_workload)
{
    struct machine m;
    machine_start(&m, NULL);
    machine_begin(&m, machine_configuration(
                          &m, "trap 'exit 3' TERM; echo on; while :; do sleep 0.05; done", false));
    AUTO(closep) int out = machine_accept(&m, 2);
    machine_discard(&m, 3);
    char on[3];
    ck_assert_int_eq(read_full(out, on, sizeof(on)), 0);
    machine_expect(machine_ask(&m, json_pack("{s:s, s:i}", "type", "signal", "signal", SIGTERM)),
                   "ok");
    out = close_fd(out);
    ck_assert_int_eq(machine_exit_code(m.control), 3);
    machine_end(&m);
}
END_TEST

static json_t *exec_request(const char *script, int port)
{
    return json_pack("{s:s, s:s, s:i, s:{s:[s,s,s], s:s}}", "type", "exec", "name", "e", "stdout",
                     port, "process", "args", "/bin/sh", "-c", script, "cwd", "/tmp");
}

static void end_workload(struct machine *m)
{
    machine_expect(machine_ask(m, json_pack("{s:s, s:i}", "type", "signal", "signal", SIGKILL)),
                   "ok");
    ck_assert_int_eq(machine_exit_code(m->control), 137);
    machine_end(m);
}

/* One that does nothing until it is killed; nobody reads its output. */
static void begin_sleeper(struct machine *m)
{
    machine_start(m, NULL);
    machine_begin(m, machine_configuration(m, "sleep 1000", false));
    for (int i = 1; i <= 3; i++) {
        machine_discard(m, i);
    }
}

START_TEST(an_exec_has_streams_and_an_exit_code_of_its_own)
{
    struct machine m;
    begin_sleeper(&m);
    AUTO(closep) int exec = machine_connect(&m);
    machine_expect(machine_ask_on(exec, exec_request("pwd; echo $PATH; exit 9", 6)), "started");
    AUTO(closep) int out = machine_accept(&m, 6);
    AUTO(freep) char *said = machine_read_all(out);
    ck_assert_str_eq(said, "/tmp\n/bin\n");
    out = close_fd(out);
    ck_assert_int_eq(machine_exit_code(exec), 9);
    end_workload(&m);
}
END_TEST

START_TEST(an_exec_of_a_missing_program_says_so)
{
    struct machine m;
    begin_sleeper(&m);
    AUTO(json_unrefp)
    json_t *answer = machine_ask(
        &m, json_pack("{s:s, s:{s:[s]}}", "type", "exec", "process", "args", "/bin/nothing"));
    bool exec_failed = false;
    struct err err = ERR_NONE;
    ck_assert_int_eq(guest_answer_check(answer, "started", &exec_failed, &err), -ENOENT);
    ck_assert(exec_failed);
    ck_assert_ptr_nonnull(strstr(err.text, "/bin/nothing"));
    end_workload(&m);
}
END_TEST

START_TEST(an_exec_can_be_signalled_and_does_not_hang_on_what_it_leaves_behind)
{
    struct machine m;
    begin_sleeper(&m);
    AUTO(closep) int exec = machine_connect(&m);
    machine_expect(machine_ask_on(exec, exec_request("sleep 1000 & echo on; wait", 6)), "started");
    AUTO(closep) int out = machine_accept(&m, 6);
    char on[3];
    ck_assert_int_eq(read_full(out, on, sizeof(on)), 0);
    machine_expect(machine_ask(&m, json_pack("{s:s, s:s, s:i}", "type", "signal", "name", "e",
                                             "signal", SIGKILL)),
                   "ok");
    ck_assert_int_eq(machine_exit_code(exec), 137);
    end_workload(&m);
}
END_TEST

START_TEST(an_exec_ends_with_its_connection)
{
    struct machine m;
    begin_sleeper(&m);
    AUTO(closep) int exec = machine_connect(&m);
    machine_expect(machine_ask_on(exec, exec_request("exec sleep 1000", 6)), "started");
    AUTO(closep) int out = machine_accept(&m, 6);
    exec = close_fd(exec);
    /* Only the end of the process lets this return. */
    AUTO(freep) char *said = machine_read_all(out);
    ck_assert_str_eq(said, "");
    end_workload(&m);
}
END_TEST

START_TEST(a_terminal_has_the_size_that_the_host_says)
{
    struct machine m;
    machine_start(&m, NULL);
    machine_expect(machine_ask(&m, machine_configuration(&m, "read x; stty size; echo $x", true)),
                   "ok");
    machine_expect(
        machine_ask(&m, json_pack("{s:s, s:i, s:i}", "type", "resize", "rows", 33, "columns", 99)),
        "ok");
    m.control = machine_connect(&m);
    machine_expect(machine_ask_on(m.control, json_pack("{s:s}", "type", "start")), "started");
    AUTO(closep) int in = machine_accept(&m, 1);
    AUTO(closep) int out = machine_accept(&m, 2);
    ck_assert_int_eq(write_full(in, "word\n", 5), 0);
    AUTO(freep) char *said = machine_read_all(out);
    ck_assert_str_eq(said, "word\r\n33 99\r\nword\r\n");
    out = close_fd(out);
    ck_assert_int_eq(machine_exit_code(m.control), 0);
    machine_end(&m);
}
END_TEST

START_TEST(stats_processes_and_pause_speak_of_the_workload)
{
    struct machine m;
    machine_start(&m, NULL);
    machine_begin(&m, machine_configuration(&m, "while :; do echo x; done", false));
    AUTO(closep) int out = machine_accept(&m, 2);
    machine_discard(&m, 3);
    char data[4096];
    ck_assert_int_eq(read_full(out, data, sizeof(data)), 0);

    struct container_stats stats;
    struct err err = ERR_NONE;
    AUTO(json_unrefp) json_t *answer = machine_ask(&m, json_pack("{s:s}", "type", "stats"));
    ck_assert_msg(guest_stats_read(answer, &stats, &err) == 0, "%s", err_text(&err));
    ck_assert(stats.cpu.set && stats.cpu.usage_ns > 0);

    AUTO(json_unrefp) json_t *pids = machine_ask(&m, json_pack("{s:s}", "type", "pids"));
    const json_t *first = json_array_get(json_object_get(pids, "processes"), 0);
    const char *command = json_string_value(json_object_get(first, "command"));
    ck_assert_str_eq(command, "/bin/sh -c while :; do echo x; done");

    machine_expect(machine_ask(&m, json_pack("{s:s}", "type", "pause")), "ok");
    /* What is in buffers on the way still comes; then nothing. */
    struct pollfd p = {.fd = out, .events = POLLIN};
    while (poll(&p, 1, 300) == 1) {
        ck_assert_int_gt(read(out, data, sizeof(data)), 0);
    }
    machine_expect(machine_ask(&m, json_pack("{s:s}", "type", "resume")), "ok");
    ck_assert_int_eq(poll(&p, 1, MACHINE_TIMEOUT_MS), 1);
    out = close_fd(out);
    end_workload(&m);
}
END_TEST

START_TEST(interfaces_are_found_by_mac_and_files_written_into_the_root)
{
    struct machine m;
    machine_start(&m, "ip link add eth0 type veth peer name x0 && ip link add eth1 type veth peer "
                      "name x1 && ip link set eth0 address 02:00:00:00:00:01 && ip link set eth1 "
                      "address 02:00:00:00:00:02 && ip link set x0 up && ip link set x1 up");
    json_t *configuration = machine_configuration(
        &m, "hostname; cat /etc/resolv.conf; ip -o -4 addr; ip route; cat /sys/class/net/eth0/mtu",
        false);
    json_t *mount =
        json_pack("{s:s, s:s, s:s}", "destination", "/sys", "type", "sysfs", "source", "sysfs");
    json_t *oci = json_object_get(configuration, "config");
    (void)json_array_append_new(json_object_get(oci, "mounts"), mount);
    /* Swapped: what the kernel calls eth0 is to be eth1. */
    json_t *network =
        json_pack("{s:[{s:s,s:s,s:[s]},{s:s,s:s,s:i,s:[s]}], s:[{s:s,s:s,s:s},{s:s,s:s}]}",
                  "interfaces", "mac", "02:00:00:00:00:01", "name", "eth1", "addresses",
                  "10.9.0.5/24", "mac", "02:00:00:00:00:02", "name", "eth0", "mtu", 1400,
                  "addresses", "10.8.0.5/24", "routes", "to", "0.0.0.0/0", "via", "10.8.0.1",
                  "interface", "eth0", "to", "10.7.0.0/16", "interface", "eth1");
    ck_assert_ptr_nonnull(network);
    (void)json_object_set_new(configuration, "network", network);
    (void)json_object_set_new(configuration, "hostname", json_string("machine"));
    (void)json_object_set_new(
        configuration, "files",
        json_pack("[{s:s,s:s}]", "path", "/etc/resolv.conf", "text", "nameserver 10.8.0.1\n"));
    AUTO(freep) char *link = str_printf("%s/low/etc/resolv.conf", m.dir);
    ck_assert_int_eq(symlink("../run/somewhere/else", link), 0);
    machine_begin(&m, configuration);
    AUTO(closep) int out = machine_accept(&m, 2);
    machine_discard(&m, 3);
    AUTO(freep) char *said = machine_read_all(out);
    static const char *const lines[] = {
        "machine\n",
        "nameserver 10.8.0.1\n",
        "inet 127.0.0.1/8 scope host lo",
        "inet 10.9.0.5/24",
        "inet 10.8.0.5/24",
        "default via 10.8.0.1 dev eth0",
        "10.7.0.0/16 dev eth1",
        "1400\n",
    };
    for (size_t i = 0; i < COUNT(lines); i++) {
        ck_assert_msg(strstr(said, lines[i]) != NULL, "no '%s' in:\n%s", lines[i], said);
    }
    out = close_fd(out);
    ck_assert_int_eq(machine_exit_code(m.control), 0);
    machine_end(&m);
}
END_TEST

static void expect_error(json_t *answer, const char *text)
{
    struct err err = ERR_NONE;
    ck_assert_int_lt(guest_answer_check(answer, "ok", NULL, &err), 0);
    ck_assert_msg(strstr(err.text, text) != NULL, "'%s' is not in '%s'", text, err.text);
    json_decref(answer);
}

/* What the host does with a profile. */
static char *compile_filter(void)
{
    static const char text[] =
        "{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"/"
        "\"},\"linux\":{\"namespaces\":[{\"type\":\"mount\"}],\"seccomp\":{"
        "\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\"],"
        "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":28}]}}}";
    AUTO(spec_freep) struct spec *spec = NULL;
    AUTO(seccomp_filter_donep) struct seccomp_filter filter = {0};
    struct err err = ERR_NONE;
    ck_assert_msg(spec_parse(text, strlen(text), "t", &spec, &err) == 0, "%s", err_text(&err));
    ck_assert_int_eq(seccomp_filter_init(&filter, spec, -1, &err), 0);
    return guest_filter_encode(&filter);
}

START_TEST(the_hosts_filter_holds_for_the_workload_and_for_execs)
{
    struct machine m;
    AUTO(freep) char *filter = compile_filter();
    machine_start(&m, NULL);
    json_t *configuration = machine_configuration(&m, "mkdir /tmp/x; exec sleep 1000", false);
    (void)json_object_set_new(configuration, "seccomp", json_string(filter));
    machine_begin(&m, configuration);
    AUTO(closep) int error = machine_accept(&m, 3);
    char said[64] = "";
    ck_assert_int_gt(read(error, said, sizeof(said) - 1), 0);
    ck_assert_ptr_nonnull(strstr(said, "No space left on device"));
    machine_discard(&m, 2);
    error = close_fd(error);
    AUTO(closep) int exec = machine_connect(&m);
    machine_expect(machine_ask_on(exec, exec_request("mkdir /tmp/y 2>&1", 6)), "started");
    AUTO(closep) int out = machine_accept(&m, 6);
    AUTO(freep) char *refused = machine_read_all(out);
    ck_assert_ptr_nonnull(strstr(refused, "No space left on device"));
    out = close_fd(out);
    ck_assert_int_eq(machine_exit_code(exec), 1);
    end_workload(&m);
}
END_TEST

START_TEST(a_profile_without_its_program_is_refused)
{
    struct machine m;
    machine_start(&m, NULL);
    json_t *configuration = machine_configuration(&m, "true", false);
    json_t *linux_part = json_object_get(json_object_get(configuration, "config"), "linux");
    (void)json_object_set_new(linux_part, "seccomp",
                              json_pack("{s:s}", "defaultAction", "SCMP_ACT_ERRNO"));
    expect_error(machine_ask(&m, configuration), "no compiled program");
    machine_expect(machine_ask(&m, json_pack("{s:s}", "type", "power-off")), "ok");
    machine_end(&m);
}
END_TEST

START_TEST(the_step_that_fails_is_named_to_whoever_asks)
{
    struct machine m;
    machine_start(&m, NULL);
    json_t *configuration = machine_configuration(&m, "true", false);
    json_t *layers = json_object_get(json_object_get(configuration, "root"), "layers");
    (void)json_array_set_new(layers, 0, json_pack("{s:s}", "serial", "layer7"));
    expect_error(machine_ask(&m, configuration), "layer 0: no disk has the serial 'layer7'");
    /* Later ones hear the same. */
    expect_error(machine_ask(&m, json_pack("{s:s}", "type", "start")), "'layer7'");
    machine_expect(machine_ask(&m, json_pack("{s:s}", "type", "power-off")), "ok");
    machine_end(&m);
}
END_TEST

START_TEST(wrong_configurations_are_refused_and_leave_the_machine_usable)
{
    struct machine m;
    machine_start(&m, NULL);
    json_t *bad = machine_configuration(&m, "true", false);
    (void)json_object_set_new(bad, "id", json_string("../x"));
    expect_error(machine_ask(&m, bad), "configure.id");
    bad = machine_configuration(&m, "true", false);
    (void)json_object_set_new(bad, "network",
                              json_pack("{s:[{s:s,s:s}]}", "interfaces", "mac", "1", "name", "e"));
    expect_error(machine_ask(&m, bad), "network.interfaces[0].mac");
    expect_error(machine_ask(&m, json_pack("{s:s}", "type", "dance")), "'dance'");
    expect_error(machine_ask(&m, json_pack("{s:s}", "type", "stats")), "configure it first");
    machine_begin(&m, machine_configuration(&m, "exit 4", false));
    for (int i = 1; i <= 3; i++) {
        machine_discard(&m, i);
    }
    ck_assert_int_eq(machine_exit_code(m.control), 4);
    machine_end(&m);
}
END_TEST

START_TEST(garbage_on_a_connection_ends_that_connection_only)
{
    struct machine m;
    begin_sleeper(&m);
    static const char *const garbage[] = {"\xff\xff\xff\xff", "\x02\0\0\0[]", "\x03\0\0\0{\"a"};
    static const size_t lengths[] = {4, 6, 7};
    for (size_t i = 0; i < COUNT(garbage); i++) {
        AUTO(closep) int fd = machine_connect(&m);
        ck_assert_int_eq(write_full(fd, garbage[i], lengths[i]), 0);
        AUTO(json_unrefp) json_t *answer = machine_receive(fd);
        ck_assert_str_eq(guest_message_type(answer), "error");
        char c;
        ck_assert_int_eq(read(fd, &c, 1), 0);
    }
    end_workload(&m);
}
END_TEST

START_TEST(orphans_are_reaped)
{
    struct machine m;
    machine_start(&m, NULL);
    /* Without a pid namespace the agent is the parent of all that lose theirs. */
    json_t *configuration = machine_configuration(
        &m, "for i in 1 2 3; do (sleep 0.1 & ) ; done; sleep 0.5; ps -o stat,comm | grep -c '^Z'",
        false);
    json_t *linux_part = json_object_get(json_object_get(configuration, "config"), "linux");
    (void)json_array_remove(json_object_get(linux_part, "namespaces"), 1);
    machine_begin(&m, configuration);
    AUTO(closep) int out = machine_accept(&m, 2);
    machine_discard(&m, 3);
    AUTO(freep) char *said = machine_read_all(out);
    ck_assert_str_eq(said, "0\n");
    out = close_fd(out);
    ck_assert_int_eq(machine_exit_code(m.control), 1);
    machine_end(&m);
}
END_TEST

START_TEST(a_cut_stream_is_connected_again)
{
    struct machine m;
    machine_start(&m, NULL);
    machine_begin(&m, machine_configuration(&m, "echo one; read x; echo $x; echo three", false));
    AUTO(closep) int in = machine_accept(&m, 1);
    AUTO(closep) int out = machine_accept(&m, 2);
    machine_discard(&m, 3);
    char one[4];
    ck_assert_int_eq(read_full(out, one, sizeof(one)), 0);
    /* As a restore from a snapshot does; `start`'s connection, too. */
    out = close_fd(out);
    m.control = close_fd(m.control);
    m.control = machine_connect(&m);
    struct err err = ERR_NONE;
    AUTO(json_unrefp) json_t *wait = json_pack("{s:s}", "type", "wait");
    ck_assert_int_eq(guest_send(m.control, wait, &err), 0);
    ck_assert_int_eq(write_full(in, "two\n", 4), 0);
    out = machine_accept(&m, 2);
    AUTO(freep) char *said = machine_read_all(out);
    ck_assert_str_eq(said, "two\nthree\n");
    out = close_fd(out);
    ck_assert_int_eq(machine_exit_code(m.control), 0);
    machine_end(&m);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_workload_runs_in_the_overlay_and_its_exit_code_arrives,
        input_reaches_the_workload_to_its_end,
        output_is_whole_for_a_slow_reader,
        signals_reach_the_workload,
        an_exec_has_streams_and_an_exit_code_of_its_own,
        an_exec_of_a_missing_program_says_so,
        an_exec_can_be_signalled_and_does_not_hang_on_what_it_leaves_behind,
        an_exec_ends_with_its_connection,
        a_terminal_has_the_size_that_the_host_says,
        stats_processes_and_pause_speak_of_the_workload,
        interfaces_are_found_by_mac_and_files_written_into_the_root,
        the_hosts_filter_holds_for_the_workload_and_for_execs,
        a_profile_without_its_program_is_refused,
        the_step_that_fails_is_named_to_whoever_asks,
        wrong_configurations_are_refused_and_leave_the_machine_usable,
        garbage_on_a_connection_ends_that_connection_only,
        orphans_are_reaped,
        a_cut_stream_is_connected_again,
        NULL,
    };
    return unit_run("guest_agent", tests);
}
