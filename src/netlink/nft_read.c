#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/macros.h"
#include "netlink/message.h"
#include "netlink/nft.h"
#include "netlink/socket.h"

#define NFT_TYPE(message) ((uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | (message)))

static const struct nfgenmsg inet = {.nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0};

struct note {
    char *out;
    size_t size;
};

static int on_table(uint16_t type, const void *payload, size_t len, void *data)
{
    const struct note *note = data;
    struct nl_attribute a;
    note->out[0] = '\0';
    if (type == NFT_TYPE(NFT_MSG_NEWTABLE) &&
        nl_attribute_find(nl_attributes_after(payload, len, sizeof(inet)), NFTA_TABLE_USERDATA,
                          &a)) {
        (void)nl_get_str(&a, note->out, note->size);
    }
    return 0;
}

int nft_table_get(int fd, const char *table, char *ret_note, size_t size, struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    nl_message_begin(&batch, NFT_TYPE(NFT_MSG_GETTABLE), 0, &inet, sizeof(inet));
    nl_put_str(&batch, NFTA_TABLE_NAME, table);
    struct note note = {ret_note, size};
    struct err ours = ERR_NONE;
    int r = nl_query(fd, &batch, on_table, &note, &ours);
    if (r == -ENOENT) {
        return r;
    }
    if (r == -EOPNOTSUPP || r == -EINVAL) {
        return err_say(err, EOPNOTSUPP, "this kernel has no nftables (CONFIG_NF_TABLES_INET)");
    }
    return r < 0 ? err_set(err, -r, "look up nftables table '%s'", table) : 0;
}

struct element_walk {
    const struct nft_set *set;
    nft_element_fn *fn;
    void *data;
};

static bool read_data(struct nl_attributes element, uint16_t type, uint8_t *out, size_t len)
{
    struct nl_attribute outer;
    struct nl_attribute value;
    if (!nl_attribute_find(element, type, &outer) ||
        !nl_attribute_find(nl_attributes_of(&outer), NFTA_DATA_VALUE, &value) || value.len != len) {
        return false;
    }
    memcpy(out, value.data, len);
    return true;
}

static int on_elements(uint16_t type, const void *payload, size_t len, void *data)
{
    const struct element_walk *walk = data;
    struct nl_attribute list;
    if (type != NFT_TYPE(NFT_MSG_NEWSETELEM) ||
        !nl_attribute_find(nl_attributes_after(payload, len, sizeof(inet)),
                           NFTA_SET_ELEM_LIST_ELEMENTS, &list)) {
        return 0;
    }
    struct nl_attributes elements = nl_attributes_of(&list);
    struct nl_attribute a;
    while (nl_attribute_next(&elements, &a)) {
        struct nft_element element = {0};
        struct nl_attributes parts = nl_attributes_of(&a);
        if (!read_data(parts, NFTA_SET_ELEM_KEY, element.key, walk->set->key_len) ||
            (walk->set->data_len != 0 &&
             !read_data(parts, NFTA_SET_ELEM_DATA, element.data, walk->set->data_len))) {
            continue;
        }
        int r = walk->fn(&element, walk->data);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int nft_element_list(int fd, const char *table, const struct nft_set *set, nft_element_fn *fn,
                     void *data, struct err *err)
{
    struct nft_element any;
    if (set->key_len > sizeof(any.key) || set->data_len > sizeof(any.data)) {
        return err_set(err, EINVAL, "list nftables set '%s'", set->name);
    }
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    nl_message_begin(&batch, NFT_TYPE(NFT_MSG_GETSETELEM), NLM_F_DUMP, &inet, sizeof(inet));
    nl_put_str(&batch, NFTA_SET_ELEM_LIST_TABLE, table);
    nl_put_str(&batch, NFTA_SET_ELEM_LIST_SET, set->name);
    struct element_walk walk = {set, fn, data};
    int r = nl_query(fd, &batch, on_elements, &walk, err);
    return r < 0 ? err_wrap(err, -r, "list nftables set '%s %s'", table, set->name) : 0;
}

static int on_rule(uint16_t type, const void *payload, size_t len, void *data)
{
    (void)payload;
    (void)len;
    *(size_t *)data += type == NFT_TYPE(NFT_MSG_NEWRULE);
    return 0;
}

int nft_rule_count(int fd, const char *table, size_t *ret, struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    size_t count = 0;
    nl_message_begin(&batch, NFT_TYPE(NFT_MSG_GETRULE), NLM_F_DUMP, &inet, sizeof(inet));
    nl_put_str(&batch, NFTA_RULE_TABLE, table);
    int r = -EINTR;
    for (int i = 0; r == -EINTR && i < NL_DUMP_TRIES; i++) {
        count = 0;
        r = nl_query(fd, &batch, on_rule, &count, err);
    }
    if (r < 0) {
        return err_wrap(err, -r, "list rules of nftables table '%s'", table);
    }
    *ret = count;
    return 0;
}

struct chain_walk {
    nft_base_chain_fn *fn;
    void *data;
};

static int on_chain(uint16_t type, const void *payload, size_t len, void *data)
{
    const struct chain_walk *walk = data;
    struct nfgenmsg header;
    if (type != NFT_TYPE(NFT_MSG_NEWCHAIN) || len < sizeof(header)) {
        return 0;
    }
    memcpy(&header, payload, sizeof(header));
    struct nft_base_chain chain = {.family = header.nfgen_family, .policy = NF_ACCEPT};
    struct nl_attributes list = nl_attributes_after(payload, len, sizeof(header));
    struct nl_attribute a;
    bool hooked = false;
    while (nl_attribute_next(&list, &a)) {
        if (a.type == NFTA_CHAIN_TABLE) {
            (void)nl_get_str(&a, chain.table, sizeof(chain.table));
        } else if (a.type == NFTA_CHAIN_NAME) {
            (void)nl_get_str(&a, chain.name, sizeof(chain.name));
        } else if (a.type == NFTA_CHAIN_POLICY) {
            (void)nl_get_be32(&a, &chain.policy);
        } else if (a.type == NFTA_CHAIN_HOOK) {
            struct nl_attribute part;
            uint32_t priority = 0;
            hooked = nl_attribute_find(nl_attributes_of(&a), NFTA_HOOK_HOOKNUM, &part) &&
                     nl_get_be32(&part, &chain.hook);
            if (nl_attribute_find(nl_attributes_of(&a), NFTA_HOOK_PRIORITY, &part) &&
                nl_get_be32(&part, &priority)) {
                chain.priority = (int32_t)priority;
            }
        }
    }
    return hooked ? walk->fn(&chain, walk->data) : 0;
}

int nft_base_chain_list(int fd, nft_base_chain_fn *fn, void *data, struct err *err)
{
    static const struct nfgenmsg all = {.nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0};
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    nl_message_begin(&batch, NFT_TYPE(NFT_MSG_GETCHAIN), NLM_F_DUMP, &all, sizeof(all));
    struct chain_walk walk = {fn, data};
    int r = nl_query(fd, &batch, on_chain, &walk, err);
    return r < 0 ? err_wrap(err, -r, "list nftables chains") : 0;
}
