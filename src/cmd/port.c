#include "engine/port.h"

#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/network.h"

static void print_port(const struct port *port, bool with_port)
{
    char address[IP_TEXT_SIZE];
    const char *host = port->host.family == 0 ? "0.0.0.0" : ip_format(&port->host, address);
    bool v6 = strchr(host, ':') != NULL;
    if (with_port) {
        (void)printf("%u/%s -> ", port->port, port_protocol_name(port->protocol));
    }
    (void)printf("%s%s%s:%u\n", v6 ? "[" : "", host, v6 ? "]" : "", port->host_first);
}

/* "80" or "80/udp" */
static bool is_asked(const struct port *port, const char *text)
{
    AUTO(freep) char *full = str_printf("%u/%s", port->port, port_protocol_name(port->protocol));
    AUTO(freep) char *asked = str_printf("%s%s", text, strchr(text, '/') == NULL ? "/tcp" : "");
    return str_eq(full, asked);
}

static int run_port(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    (void)data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(network_lease_donep) struct network_lease lease = {0};
    struct network_host *host;
    bool found = argc < 2;
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = workload_find(engine, argv[0], &workload, err);
    }
    if (r == 0) {
        r = engine_network(engine, &host, err);
    }
    if (r == 0) {
        r = network_load(host, workload.id, &lease, err);
    }
    for (size_t i = 0; r == 0 && i < lease.ports.count; i++) {
        if (argc < 2 || is_asked(&lease.ports.items[i], argv[1])) {
            print_port(&lease.ports.items[i], argc < 2);
            found = true;
        }
    }
    if (r == 0 && !found) {
        r = err_say(err, ENOENT, "workload '%s' does not publish port %s", workload.name, argv[1]);
    }
    return r;
}

const struct command port_commands[] = {
    {
        .name = "port",
        .operands = "NAME [PORT[/PROTOCOL]]",
        .summary = "Show where the ports of a workload are published",
        .operands_min = 1,
        .operands_max = 2,
        .run = run_port,
    },
    {0},
};
