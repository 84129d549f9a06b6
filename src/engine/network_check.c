/*
 * What exists against what should: links, nftables elements, names and leases.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "engine/firewall.h"
#include "engine/network_host.h"
#include "engine/network_rootless.h"
#include "netlink/link.h"
#include "netlink/message.h"
#include "netlink/nft.h"
#include "netlink/socket.h"

/* A namespace that has just died takes its links along a little later. */
#define DYING_LINK_WAIT_NS (300 * NS_PER_MS)

struct check {
    struct network_host *host;
    const struct strv *live;
    bool repair;
    struct strv *findings;
    struct err *err;
};

static int say(struct check *c, const char *what, const char *name, const char *why)
{
    int r = strv_addf(c->findings, "%s %s: %s%s", what, name, why, c->repair ? " (mended)" : "");
    return r < 0 ? err_set(c->err, ENOMEM, "check networks") : 0;
}

static int count_rows(struct check *c, const char *sql, const char *name)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(c->host->db, &stmt, c->err, sql, "s", name);
    return r < 0 ? r : db_step(c->host->db, stmt, c->err);
}

/*
 * Whether the workload neither was alive when the list was made nor is by the database now: one
 * that has been started since has its state before it has anything else.
 */
static int is_dead(struct check *c, const char *id)
{
    if (strv_has(c->live, id)) {
        return 0;
    }
    int r = count_rows(c,
                       "SELECT 1 FROM workload WHERE id = ?"
                       " AND state IN ('starting', 'running', 'paused')",
                       id);
    return r < 0 ? r : r == 0;
}

/* ---- Leases of workloads that do not live ---- */

static int check_lease(struct check *c, const char *id)
{
    AUTO(db_tx_donep) struct db_tx tx = {0};
    int r = db_begin(c->host->db, &tx, c->err);
    if (r < 0 || (r = is_dead(c, id)) <= 0) {
        return r;
    }
    r = say(c, "lease of", id, "the workload does not run");
    if (r >= 0 && c->repair) {
        r = network_release(c->host, id, c->err);
    }
    return r < 0 ? r : db_commit(&tx, c->err);
}

static int check_leases(struct check *c)
{
    AUTO(strv_donep) struct strv dead = {0};
    {
        AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(c->host->db, &stmt, c->err,
                           "SELECT workload FROM endpoint UNION SELECT workload FROM port", "");
        while (r >= 0 && (r = db_step(c->host->db, stmt, c->err)) > 0) {
            if (!strv_has(c->live, db_text(stmt, 0)) && strv_add(&dead, db_text(stmt, 0)) < 0) {
                return err_set(c->err, ENOMEM, "check leases");
            }
        }
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < dead.count; i++) {
        int r = check_lease(c, dead.items[i]);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* ---- Links ---- */

struct links {
    struct link *items;
    size_t count;
};

static void links_done(struct links *links)
{
    free(links->items);
    *links = (struct links){0};
}
DEFINE_DONEP(struct links, links_done)

static int keep_link(const struct link *link, void *data)
{
    struct links *links = data;
    struct link *items = realloc(links->items, (links->count + 1) * sizeof(*items));
    if (items == NULL) {
        return -ENOMEM;
    }
    links->items = items;
    items[links->count++] = *link;
    return 0;
}

/* Our bridges by their alias; our veths because they are ports of such a bridge. */
static bool is_our_bridge(const struct check *c, const struct link *link)
{
    return str_eq(link->kind, "bridge") && network_is_ours(c->host, link->alias);
}

static bool is_our_veth(const struct check *c, const struct links *links, const struct link *link)
{
    if (!str_eq(link->kind, "veth") || link->master == 0 || !str_starts(link->name, "iv")) {
        return false;
    }
    for (size_t i = 0; i < links->count; i++) {
        if (links->items[i].index == link->master) {
            return is_our_bridge(c, &links->items[i]);
        }
    }
    return false;
}

/* 1: has an owner; 0: has none; negative: the database failed. */
static int has_owner(struct check *c, const struct link *link)
{
    return str_eq(link->kind, "bridge")
               ? count_rows(c, "SELECT 1 FROM network WHERE bridge = ?", link->name)
               : count_rows(c, "SELECT 1 FROM endpoint WHERE veth = ?", link->name);
}

static int collect_orphans(struct check *c, struct strv *names)
{
    AUTO(links_donep) struct links links = {0};
    int r = link_list(c->host->route_fd, 0, keep_link, &links, c->err);
    for (size_t i = 0; i < links.count && r >= 0; i++) {
        const struct link *link = &links.items[i];
        if (!is_our_bridge(c, link) && !is_our_veth(c, &links, link)) {
            continue;
        }
        r = has_owner(c, link);
        if (r == 0 && !strv_has(names, link->name) && strv_add(names, link->name) < 0) {
            return err_set(c->err, ENOMEM, "check links");
        }
    }
    return r < 0 ? r : 0;
}

static int check_links(struct check *c)
{
    AUTO(strv_donep) struct strv orphans = {0};
    int r = collect_orphans(c, &orphans);
    if (r == 0 && orphans.count > 0) {
        const struct timespec wait = {.tv_nsec = DYING_LINK_WAIT_NS};
        (void)nanosleep(&wait, NULL);
        strv_done(&orphans);
        r = collect_orphans(c, &orphans);
    }
    for (size_t i = 0; i < orphans.count && r >= 0; i++) {
        r = say(c, "interface", orphans.items[i], "belongs to no network or workload");
        if (r < 0 || !c->repair) {
            continue;
        }
        AUTO(nl_batch_donep) struct nl_batch batch = {0};
        link_put_delete(&batch, orphans.items[i]);
        r = nl_send(c->host->route_fd, &batch, NULL, c->err);
        r = r == -ENODEV ? 0 : r;
    }
    return r;
}

/* ---- nftables ---- */

static bool contains(const struct firewall_elements *elements, size_t set,
                     const struct nft_element *element)
{
    const struct nft_set *s = &firewall_sets[set];
    for (size_t i = 0; i < elements->sets[set].count; i++) {
        const struct nft_element *other = &elements->sets[set].items[i];
        if (memcmp(other->key, element->key, s->key_len) == 0 &&
            memcmp(other->data, element->data, s->data_len) == 0) {
            return true;
        }
    }
    return false;
}

struct element_check {
    const struct firewall_elements *wanted;
    size_t set;
    size_t seen;
    size_t foreign;
};

static int on_element(const struct nft_element *element, void *data)
{
    struct element_check *e = data;
    e->seen++;
    e->foreign += !contains(e->wanted, e->set, element);
    return 0;
}

/* Counts what is too much and too little. Elements differ: the table is made anew as a whole. */
static int compare_table(struct check *c, const struct firewall_elements *wanted, bool *ret_differs)
{
    for (size_t set = 0; set < FIREWALL_SETS; set++) {
        struct element_check e = {.wanted = wanted, .set = set};
        int r = -EINTR;
        for (int i = 0; r == -EINTR && i < NL_DUMP_TRIES; i++) {
            e.seen = e.foreign = 0;
            r = nft_element_list(c->host->nft_fd, c->host->tag, &firewall_sets[set], on_element, &e,
                                 c->err);
        }
        if (r < 0) {
            return r;
        }
        size_t missing = wanted->sets[set].count - (e.seen - e.foreign);
        char why[96];
        if (e.foreign > 0 || missing > 0) {
            (void)snprintf(why, sizeof(why), "%zu elements of nobody, %zu missing", e.foreign,
                           missing);
            *ret_differs = true;
            r = say(c, "nftables set", firewall_sets[set].name, why);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Chains without their rules ("nft flush table") are found by what the kernel counts. */
static int check_table(struct check *c)
{
    AUTO(firewall_elements_donep) struct firewall_elements wanted = {0};
    int r = network_collect_elements(c->host, &wanted, c->err);
    if (r < 0) {
        return r;
    }
    r = firewall_probe(c->host->nft_fd, c->host->tag, c->err);
    bool differs = r == -ENOENT && !firewall_is_empty(&wanted);
    if (differs) {
        r = say(c, "nftables table", c->host->tag, "is missing");
    } else if (r == -ENOENT) {
        return 0;
    } else if (r == 0) {
        r = compare_table(c, &wanted, &differs);
        if (r >= 0 && !differs &&
            firewall_rules_missing(c->host->nft_fd, c->host->tag, c->err) > 0) {
            differs = true;
            r = say(c, "nftables table", c->host->tag, "lacks rules");
        }
    }
    if (r < 0 || !differs || !c->repair) {
        return r;
    }
    return firewall_is_empty(&wanted)
               ? firewall_drop(c->host->nft_fd, c->host->tag, c->err)
               : firewall_build(c->host->nft_fd, c->host->tag, &wanted, c->err);
}

/* ---- Directories of names ---- */

static int check_names(struct check *c)
{
    int run = network_host_run(c->host, c->err);
    if (run < 0) {
        return run;
    }
    int fd = openat(run, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int r = -errno;
        (void)close_fd(fd);
        return err_set(c->err, -r, "read '%s'", c->host->run);
    }
    struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) {
        if (strlen(entry->d_name) != NETWORK_ID_SIZE - 1) {
            continue;
        }
        int r = count_rows(c, "SELECT 1 FROM network WHERE id = ?", entry->d_name);
        if (r == 0) {
            r = say(c, "names of network", entry->d_name, "the network does not exist");
            if (r >= 0 && c->repair) {
                r = remove_tree_at(run, entry->d_name);
            }
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int check_pasta(struct check *c)
{
    AUTO(strv_donep) struct strv ids = {0};
    int r = network_rootless_list(c->host, &ids, c->err);
    for (size_t i = 0; i < ids.count && r >= 0; i++) {
        r = is_dead(c, ids.items[i]);
        if (r <= 0) {
            continue;
        }
        r = say(c, "pasta of", ids.items[i], "the workload does not run");
        if (r >= 0 && c->repair) {
            r = network_rootless_detach(c->host, ids.items[i], c->err);
        }
    }
    return r;
}

/* findings NULL: only whether there is something to find; nothing is mended then. */
static int look_at_table(struct check *c, struct strv *findings, bool *ret_differs)
{
    AUTO(strv_donep) struct strv unheard = {0};
    struct check look = *c;
    if (findings == NULL) {
        look.findings = &unheard;
        look.repair = false;
    }
    /* Inside a transaction no lease comes or goes between the look at them and at the table. */
    AUTO(db_tx_donep) struct db_tx tx = {0};
    int r = db_begin(c->host->db, &tx, c->err);
    AUTO(closep) int lock = r < 0 ? r : network_host_lock(c->host, c->err);
    r = lock < 0 ? lock : check_table(&look);
    *ret_differs = unheard.count > 0;
    return MIN(r, 0);
}

int network_check(struct network_host *host, const struct strv *live_ids, bool repair,
                  struct strv *findings, struct err *err)
{
    struct check c = {host, live_ids, repair, findings, err};
    if (host->rootless) {
        int result = check_leases(&c);
        return result < 0 ? result : check_pasta(&c);
    }
    int r = network_host_route(host, err);
    /* Leases before the lock: `network rm` takes the lock inside its transaction. */
    if (r < 0 || (r = network_host_nft(host, err)) < 0 || (r = check_leases(&c)) < 0) {
        return r;
    }
    AUTO(closep) int lock = network_host_lock(host, err);
    if (lock < 0) {
        return lock;
    }
    if ((r = check_links(&c)) < 0 || (r = check_names(&c)) < 0) {
        return r;
    }
    lock = close_fd(lock);
    /* What is dying has links but no ports any more; after a while it has neither. */
    bool differs = false;
    r = look_at_table(&c, NULL, &differs);
    if (r == 0 && differs) {
        const struct timespec wait = {.tv_nsec = DYING_LINK_WAIT_NS};
        (void)nanosleep(&wait, NULL);
        r = look_at_table(&c, findings, &differs);
    }
    return r;
}

/* ---- Doctor ---- */

struct doctor {
    const struct network_host *host;
    struct strv *findings;
};

static int on_chain(const struct nft_base_chain *chain, void *data)
{
    const struct doctor *d = data;
    static const char *const families[] = {
        [NFPROTO_INET] = "inet", [NFPROTO_IPV4] = "ip", [NFPROTO_IPV6] = "ip6"};
    if (chain->hook != NF_INET_FORWARD || chain->policy != NF_DROP ||
        chain->family >= COUNT(families) || families[chain->family] == NULL ||
        str_starts(chain->table, d->host->tag)) {
        return 0;
    }
    const char *family = families[chain->family];
    bool is_ufw = str_eq(chain->table, "filter") && str_eq(chain->name, "FORWARD");
    return strv_addf(
        d->findings,
        "the chain '%s %s %s' drops forwarded packets unless a rule accepts them: workloads reach "
        "nothing outside and published ports nothing inside%s. Accept what you want, for example: "
        "nft 'add rule %s %s %s ct state established,related accept'; "
        "nft 'add rule %s %s %s iifname \"isola*\" accept'; "
        "nft 'add rule %s %s %s meta l4proto tcp ct status dnat ct original proto-dst { 80, 443 } "
        "accept'",
        family, chain->table, chain->name,
        is_ufw ? " (ufw: ufw route allow in on isola0; ufw route allow proto tcp to any port 80)"
               : "",
        family, chain->table, chain->name, family, chain->table, chain->name, family, chain->table,
        chain->name);
}

int network_doctor(struct network_host *host, struct strv *findings, struct err *err)
{
    struct doctor d = {host, findings};
    if (host->rootless) {
        bool bad = access("/dev/net/tun", R_OK | W_OK) < 0;
        return bad && strv_add(findings, "users may not open /dev/net/tun, which pasta needs for "
                                         "rootless networks: chmod 0666 /dev/net/tun") < 0
                   ? err_set(err, ENOMEM, "doctor")
                   : 0;
    }
    int r = network_host_nft(host, err);
    if (r < 0) {
        return r;
    }
    char note[32];
    r = nft_table_get(host->nft_fd, host->tag, note, sizeof(note), err);
    if (r == -EOPNOTSUPP) {
        r = strv_add(findings, "this kernel has no nftables (CONFIG_NF_TABLES_INET, "
                               "CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_FIB_INET): use "
                               "--network none or host, or another kernel");
        return r < 0 ? err_set(err, ENOMEM, "doctor") : 0;
    }
    bool in_use = r == 0;
    if (r < 0 && r != -ENOENT) {
        return r;
    }
    AUTO(buf_donep) struct buf forward = {0};
    if (in_use && read_file("/proc/sys/net/ipv4/ip_forward", 16, &forward) == 0 &&
        forward.len > 0 && forward.data[0] == '0' &&
        strv_add(findings, "IPv4 forwarding was switched off after isola had switched it on: "
                           "sysctl -w net.ipv4.ip_forward=1") < 0) {
        return err_set(err, ENOMEM, "doctor");
    }
    return nft_base_chain_list(host->nft_fd, on_chain, &d, err);
}
