/*
 * RUN/networks/ID/names: who answers to which name in a network.
 *
 *   @ NETWORK                                once: the network's own name
 *   IPV4 IPV6 NAME ALIAS... +NETWORK-ID...   one a workload: "-" for an address that it has not;
 *                                            its other networks, where it may look names up too
 *
 * Replaced in one step; read by the responders in engine/dns.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "engine/network_host.h"

static int add_line(struct buf *out, sqlite3_stmt *stmt)
{
    const char *ip4 = db_text(stmt, 2);
    int r = buf_printf(out, "%s ", ip4[0] != '\0' ? ip4 : "-");
    const char *ip6 = db_text(stmt, 3);
    r |= buf_printf(out, "%s %s %.12s", ip6[0] != '\0' ? ip6 : "-", db_text(stmt, 1),
                    db_text(stmt, 0));
    AUTO(json_unrefp) json_t *aliases = json_loads(db_text(stmt, 4), 0, NULL);
    for (size_t i = 0; i < json_array_size(aliases); i++) {
        const char *alias = json_string_value(json_array_get(aliases, i));
        if (alias != NULL && strpbrk(alias, " \n") == NULL) {
            r |= buf_printf(out, " %s", alias);
        }
    }
    const char *others = db_text(stmt, 5);
    if (others[0] != '\0') {
        r |= buf_printf(out, " %s", others);
    }
    return r | buf_add_char(out, '\n');
}

int network_write_names(struct network_host *host, const char *network_id, struct err *err)
{
    int run = network_host_run(host, err);
    if (run < 0) {
        return run;
    }
    AUTO(buf_donep) struct buf text = {0};
    /* Two writers at once must not leave the older list: one reads and writes at a time. */
    AUTO(db_tx_donep) struct db_tx tx = {0};
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_begin(host->db, &tx, err);
    if (r < 0) {
        return r;
    }
    AUTO(network_donep) struct network n = {0};
    r = network_find(host, network_id, &n, err);
    if (r < 0) {
        return r;
    }
    if (buf_printf(&text, "@ %s\n", n.name) < 0) {
        return err_set(err, ENOMEM, "write names");
    }
    r = db_prepare(host->db, &stmt, err,
                   "SELECT w.id, w.name, e.ip4, e.ip6, e.aliases,"
                   " (SELECT group_concat('+' || o.network, ' ') FROM endpoint o"
                   "  WHERE o.workload = e.workload AND o.network <> e.network)"
                   " FROM endpoint e"
                   " JOIN workload w ON w.id = e.workload WHERE e.network = ? ORDER BY e.id",
                   "s", network_id);
    while (r >= 0 && (r = db_step(host->db, stmt, err)) > 0) {
        if (add_line(&text, stmt) < 0) {
            return err_set(err, ENOMEM, "write names");
        }
    }
    if (r < 0) {
        return r;
    }
    if (mkdirat(run, network_id, 0755) < 0 && errno != EEXIST) {
        return err_set(err, errno, "make '%s/%s'", host->run, network_id);
    }
    AUTO(closep) int dir = openat(run, network_id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return err_set(err, errno, "open '%s/%s'", host->run, network_id);
    }
    r = replace_file_at(dir, "names", text.data != NULL ? text.data : "", text.len, 0644, false);
    if (r < 0) {
        return err_set(err, -r, "write '%s/%s/names'", host->run, network_id);
    }
    return db_commit(&tx, err);
}
