/*
 * nft.h - nftables: tables, chains, sets, maps, rules, elements. linux/netfilter/nf_tables.h.
 *
 * The put functions append to a batch for a NETLINK_NETFILTER socket; nft_begin() and nft_end()
 * make a transaction of what is between them: all of it happens, or nothing. All tables are of the
 * family inet.
 */
#ifndef NETLINK_NFT_H
#define NETLINK_NFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NFT_NAME_SIZE ((size_t)64)

struct err;
struct nl_batch;

void nft_begin(struct nl_batch *batch);
void nft_end(struct nl_batch *batch);

/* note is kept in the table and read back by nft_table_get(). */
void nft_put_table(struct nl_batch *batch, const char *table, const char *note);
/* Fails with -ENOENT unless the table exists (put it before deleting it to be sure). */
void nft_put_table_delete(struct nl_batch *batch, const char *table);

struct nft_chain {
    const char *name;
    const char *type; /* "filter", "nat"; NULL: not called from a hook */
    uint32_t hook;    /* NF_INET_* */
    int32_t priority;
};
/* The policy is accept: what we do not judge is not our business. */
void nft_put_chain(struct nl_batch *batch, const char *table, const struct nft_chain *chain);

/* Type numbers as the nft program prints them; concatenations are (first << 6 | second). */
enum {
    NFT_TYPE_IPV4 = 7,
    NFT_TYPE_IPV6 = 8,
    NFT_TYPE_PROTOCOL = 12,
    NFT_TYPE_SERVICE = 13,
    NFT_TYPE_IFNAME = 41,
};
#define NFT_TYPE_CONCAT(a, b) ((uint32_t)(a) << 6 | (uint32_t)(b))

struct nft_set {
    const char *name;
    uint32_t key_type;
    uint32_t key_len; /* each part of a concatenation padded to four bytes */
    uint32_t data_type;
    uint32_t data_len; /* 0: a set, else a map */
    bool host_order;   /* the key is an interface name */
};
void nft_put_set(struct nl_batch *batch, const char *table, const struct nft_set *set);

struct nft_element {
    uint8_t key[32];
    uint8_t data[32];
};
/* Adding what is there with the same data is success; with other data -EBUSY. */
void nft_put_elements(struct nl_batch *batch, const char *table, const struct nft_set *set,
                      const struct nft_element *elements, size_t count);
/* -ENOENT when one is not there. */
void nft_put_elements_delete(struct nl_batch *batch, const char *table, const struct nft_set *set,
                             const struct nft_element *elements, size_t count);

/* ---- Rules: expressions between begin and end, run from left to right ---- */

/* Registers of four bytes. */
#define NFT_R(n) ((uint32_t)(8 + (n)))

struct nft_rule {
    struct nl_batch *batch;
    size_t list;
};

void nft_rule_begin(struct nft_rule *rule, struct nl_batch *batch, const char *table,
                    const char *chain);
void nft_rule_end(struct nft_rule *rule);
void nft_meta(struct nft_rule *rule, uint32_t key, uint32_t reg);
void nft_payload(struct nft_rule *rule, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg);
void nft_fib_type(struct nft_rule *rule, uint32_t reg); /* of the destination address */
void nft_ct(struct nft_rule *rule, uint32_t key, uint32_t reg);
void nft_mask(struct nft_rule *rule, uint32_t reg, uint32_t mask);
void nft_cmp(struct nft_rule *rule, uint32_t reg, bool equal, const void *data, size_t len);
void nft_cmp_u32(struct nft_rule *rule, uint32_t reg, bool equal, uint32_t value);
/* Ends the rule unless the key in reg is (invert: is not) in the set. */
void nft_in(struct nft_rule *rule, uint32_t reg, const char *set, bool invert);
/* Ends the rule unless the map has the key; its data goes to dreg. */
void nft_map(struct nft_rule *rule, uint32_t reg, const char *map, uint32_t dreg);
/* verdict: NF_DROP, NF_ACCEPT, NFT_RETURN, NFT_JUMP (with chain). */
void nft_verdict(struct nft_rule *rule, int32_t verdict, const char *chain);
void nft_dnat(struct nft_rule *rule, uint32_t family, uint32_t address_reg, uint32_t port_reg);
void nft_masquerade(struct nft_rule *rule);

/* ---- Reading ---- */

/* Returns 0 and the note, -ENOENT without such a table, -EOPNOTSUPP without nftables. */
int nft_table_get(int fd, const char *table, char *ret_note, size_t size, struct err *err);

typedef int nft_element_fn(const struct nft_element *element, void *data);
/* Elements of a set whose keys and data fit a struct nft_element. */
int nft_element_list(int fd, const char *table, const struct nft_set *set, nft_element_fn *fn,
                     void *data, struct err *err);

/* Rules in all chains of a table. */
int nft_rule_count(int fd, const char *table, size_t *ret, struct err *err);

struct nft_base_chain {
    uint8_t family; /* NFPROTO_* */
    char table[NFT_NAME_SIZE];
    char name[NFT_NAME_SIZE];
    uint32_t hook;
    uint32_t policy; /* NF_ACCEPT or NF_DROP */
    int32_t priority;
};
typedef int nft_base_chain_fn(const struct nft_base_chain *chain, void *data);
/* The chains of all tables of this host that are called from a hook. */
int nft_base_chain_list(int fd, nft_base_chain_fn *fn, void *data, struct err *err);

#endif
