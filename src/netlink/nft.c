#include "netlink/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "netlink/message.h"
#include "netlink/socket.h"

/* Elements in one message: an attribute list must stay below 64 KiB. */
#define ELEMENTS_A_MESSAGE ((size_t)400)

#define NFT_TYPE(message) ((uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | (message)))

static const struct nfgenmsg inet = {.nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0};

static void put_batch_mark(struct nl_batch *batch, uint16_t type)
{
    struct nfgenmsg header = {.nfgen_family = AF_UNSPEC, .res_id = htons(NFNL_SUBSYS_NFTABLES)};
    nl_message_begin(batch, type, 0, &header, sizeof(header));
}

void nft_begin(struct nl_batch *batch)
{
    put_batch_mark(batch, NFNL_MSG_BATCH_BEGIN);
}

void nft_end(struct nl_batch *batch)
{
    /* The end itself is answered only since Linux 6.10: the last message before it is asked. */
    nl_ask_answer(batch);
    put_batch_mark(batch, NFNL_MSG_BATCH_END);
}

void nft_put_table(struct nl_batch *batch, const char *table, const char *note)
{
    nl_message_begin(batch, NFT_TYPE(NFT_MSG_NEWTABLE), NLM_F_CREATE, &inet, sizeof(inet));
    nl_put_str(batch, NFTA_TABLE_NAME, table);
    nl_put_be32(batch, NFTA_TABLE_FLAGS, 0);
    nl_put(batch, NFTA_TABLE_USERDATA, note, strlen(note));
}

void nft_put_table_delete(struct nl_batch *batch, const char *table)
{
    nl_message_begin(batch, NFT_TYPE(NFT_MSG_DELTABLE), 0, &inet, sizeof(inet));
    nl_put_str(batch, NFTA_TABLE_NAME, table);
}

void nft_put_chain(struct nl_batch *batch, const char *table, const struct nft_chain *chain)
{
    nl_message_begin(batch, NFT_TYPE(NFT_MSG_NEWCHAIN), NLM_F_CREATE, &inet, sizeof(inet));
    nl_put_str(batch, NFTA_CHAIN_TABLE, table);
    nl_put_str(batch, NFTA_CHAIN_NAME, chain->name);
    if (chain->type == NULL) {
        return;
    }
    size_t hook = nl_nest_begin(batch, NFTA_CHAIN_HOOK);
    nl_put_be32(batch, NFTA_HOOK_HOOKNUM, chain->hook);
    nl_put_be32(batch, NFTA_HOOK_PRIORITY, (uint32_t)chain->priority);
    nl_nest_end(batch, hook);
    nl_put_be32(batch, NFTA_CHAIN_POLICY, NF_ACCEPT);
    nl_put_str(batch, NFTA_CHAIN_TYPE, chain->type);
}

void nft_put_set(struct nl_batch *batch, const char *table, const struct nft_set *set)
{
    /* What the nft program itself leaves there, so that it can print names: type 0, length 4. */
    static const uint8_t key_host_order[] = {0, 4, 1, 0, 0, 0};
    nl_message_begin(batch, NFT_TYPE(NFT_MSG_NEWSET), NLM_F_CREATE, &inet, sizeof(inet));
    nl_put_str(batch, NFTA_SET_TABLE, table);
    nl_put_str(batch, NFTA_SET_NAME, set->name);
    nl_put_be32(batch, NFTA_SET_FLAGS, set->data_len != 0 ? NFT_SET_MAP : 0);
    nl_put_be32(batch, NFTA_SET_KEY_TYPE, set->key_type);
    nl_put_be32(batch, NFTA_SET_KEY_LEN, set->key_len);
    if (set->data_len != 0) {
        nl_put_be32(batch, NFTA_SET_DATA_TYPE, set->data_type);
        nl_put_be32(batch, NFTA_SET_DATA_LEN, set->data_len);
    }
    nl_put_be32(batch, NFTA_SET_ID, batch->count);
    if (set->host_order) {
        nl_put(batch, NFTA_SET_USERDATA, key_host_order, sizeof(key_host_order));
    }
}

static void put_data(struct nl_batch *batch, uint16_t type, const void *data, size_t len)
{
    size_t nest = nl_nest_begin(batch, type);
    nl_put(batch, NFTA_DATA_VALUE, data, len);
    nl_nest_end(batch, nest);
}

static void put_elements(struct nl_batch *batch, uint16_t type, uint16_t flags, const char *table,
                         const struct nft_set *set, const struct nft_element *elements,
                         size_t count)
{
    for (size_t i = 0; i < count;) {
        nl_message_begin(batch, type, flags, &inet, sizeof(inet));
        nl_put_str(batch, NFTA_SET_ELEM_LIST_TABLE, table);
        nl_put_str(batch, NFTA_SET_ELEM_LIST_SET, set->name);
        size_t list = nl_nest_begin(batch, NFTA_SET_ELEM_LIST_ELEMENTS);
        size_t end = count - i < ELEMENTS_A_MESSAGE ? count : i + ELEMENTS_A_MESSAGE;
        for (; i < end; i++) {
            size_t element = nl_nest_begin(batch, NFTA_LIST_ELEM);
            put_data(batch, NFTA_SET_ELEM_KEY, elements[i].key, set->key_len);
            if (set->data_len != 0 && (flags & NLM_F_CREATE) != 0) {
                put_data(batch, NFTA_SET_ELEM_DATA, elements[i].data, set->data_len);
            }
            nl_nest_end(batch, element);
        }
        nl_nest_end(batch, list);
    }
}

void nft_put_elements(struct nl_batch *batch, const char *table, const struct nft_set *set,
                      const struct nft_element *elements, size_t count)
{
    put_elements(batch, NFT_TYPE(NFT_MSG_NEWSETELEM), NLM_F_CREATE, table, set, elements, count);
}

void nft_put_elements_delete(struct nl_batch *batch, const char *table, const struct nft_set *set,
                             const struct nft_element *elements, size_t count)
{
    put_elements(batch, NFT_TYPE(NFT_MSG_DELSETELEM), 0, table, set, elements, count);
}

void nft_rule_begin(struct nft_rule *rule, struct nl_batch *batch, const char *table,
                    const char *chain)
{
    nl_message_begin(batch, NFT_TYPE(NFT_MSG_NEWRULE), NLM_F_CREATE | NLM_F_APPEND, &inet,
                     sizeof(inet));
    nl_put_str(batch, NFTA_RULE_TABLE, table);
    nl_put_str(batch, NFTA_RULE_CHAIN, chain);
    rule->batch = batch;
    rule->list = nl_nest_begin(batch, NFTA_RULE_EXPRESSIONS);
}

void nft_rule_end(struct nft_rule *rule)
{
    nl_nest_end(rule->batch, rule->list);
}

struct expression {
    size_t element;
    size_t data;
};

static struct expression begin(struct nft_rule *rule, const char *name)
{
    struct expression e = {.element = nl_nest_begin(rule->batch, NFTA_LIST_ELEM)};
    nl_put_str(rule->batch, NFTA_EXPR_NAME, name);
    e.data = nl_nest_begin(rule->batch, NFTA_EXPR_DATA);
    return e;
}

static void end(struct nft_rule *rule, struct expression e)
{
    nl_nest_end(rule->batch, e.data);
    nl_nest_end(rule->batch, e.element);
}

void nft_meta(struct nft_rule *rule, uint32_t key, uint32_t reg)
{
    struct expression e = begin(rule, "meta");
    nl_put_be32(rule->batch, NFTA_META_KEY, key);
    nl_put_be32(rule->batch, NFTA_META_DREG, reg);
    end(rule, e);
}

void nft_payload(struct nft_rule *rule, uint32_t base, uint32_t offset, uint32_t len, uint32_t reg)
{
    struct expression e = begin(rule, "payload");
    nl_put_be32(rule->batch, NFTA_PAYLOAD_DREG, reg);
    nl_put_be32(rule->batch, NFTA_PAYLOAD_BASE, base);
    nl_put_be32(rule->batch, NFTA_PAYLOAD_OFFSET, offset);
    nl_put_be32(rule->batch, NFTA_PAYLOAD_LEN, len);
    end(rule, e);
}

void nft_fib_type(struct nft_rule *rule, uint32_t reg)
{
    struct expression e = begin(rule, "fib");
    nl_put_be32(rule->batch, NFTA_FIB_DREG, reg);
    nl_put_be32(rule->batch, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
    nl_put_be32(rule->batch, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
    end(rule, e);
}

void nft_ct(struct nft_rule *rule, uint32_t key, uint32_t reg)
{
    struct expression e = begin(rule, "ct");
    nl_put_be32(rule->batch, NFTA_CT_KEY, key);
    nl_put_be32(rule->batch, NFTA_CT_DREG, reg);
    end(rule, e);
}

void nft_mask(struct nft_rule *rule, uint32_t reg, uint32_t mask)
{
    static const uint32_t zero;
    struct expression e = begin(rule, "bitwise");
    nl_put_be32(rule->batch, NFTA_BITWISE_SREG, reg);
    nl_put_be32(rule->batch, NFTA_BITWISE_DREG, reg);
    nl_put_be32(rule->batch, NFTA_BITWISE_LEN, sizeof(mask));
    put_data(rule->batch, NFTA_BITWISE_MASK, &mask, sizeof(mask));
    put_data(rule->batch, NFTA_BITWISE_XOR, &zero, sizeof(zero));
    end(rule, e);
}

void nft_cmp(struct nft_rule *rule, uint32_t reg, bool equal, const void *data, size_t len)
{
    struct expression e = begin(rule, "cmp");
    nl_put_be32(rule->batch, NFTA_CMP_SREG, reg);
    nl_put_be32(rule->batch, NFTA_CMP_OP, equal ? NFT_CMP_EQ : NFT_CMP_NEQ);
    put_data(rule->batch, NFTA_CMP_DATA, data, len);
    end(rule, e);
}

void nft_cmp_u32(struct nft_rule *rule, uint32_t reg, bool equal, uint32_t value)
{
    nft_cmp(rule, reg, equal, &value, sizeof(value));
}

static void lookup(struct nft_rule *rule, uint32_t reg, const char *set, uint32_t flags,
                   uint32_t dreg)
{
    struct expression e = begin(rule, "lookup");
    nl_put_str(rule->batch, NFTA_LOOKUP_SET, set);
    nl_put_be32(rule->batch, NFTA_LOOKUP_SREG, reg);
    if (dreg != 0) {
        nl_put_be32(rule->batch, NFTA_LOOKUP_DREG, dreg);
    }
    if (flags != 0) {
        nl_put_be32(rule->batch, NFTA_LOOKUP_FLAGS, flags);
    }
    end(rule, e);
}

void nft_in(struct nft_rule *rule, uint32_t reg, const char *set, bool invert)
{
    lookup(rule, reg, set, invert ? NFT_LOOKUP_F_INV : 0, 0);
}

void nft_map(struct nft_rule *rule, uint32_t reg, const char *map, uint32_t dreg)
{
    lookup(rule, reg, map, 0, dreg);
}

void nft_verdict(struct nft_rule *rule, int32_t verdict, const char *chain)
{
    struct expression e = begin(rule, "immediate");
    nl_put_be32(rule->batch, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    size_t data = nl_nest_begin(rule->batch, NFTA_IMMEDIATE_DATA);
    size_t nest = nl_nest_begin(rule->batch, NFTA_DATA_VERDICT);
    nl_put_be32(rule->batch, NFTA_VERDICT_CODE, (uint32_t)verdict);
    if (chain != NULL) {
        nl_put_str(rule->batch, NFTA_VERDICT_CHAIN, chain);
    }
    nl_nest_end(rule->batch, nest);
    nl_nest_end(rule->batch, data);
    end(rule, e);
}

void nft_dnat(struct nft_rule *rule, uint32_t family, uint32_t address_reg, uint32_t port_reg)
{
    struct expression e = begin(rule, "nat");
    nl_put_be32(rule->batch, NFTA_NAT_TYPE, NFT_NAT_DNAT);
    nl_put_be32(rule->batch, NFTA_NAT_FAMILY, family);
    nl_put_be32(rule->batch, NFTA_NAT_REG_ADDR_MIN, address_reg);
    nl_put_be32(rule->batch, NFTA_NAT_REG_PROTO_MIN, port_reg);
    end(rule, e);
}

void nft_masquerade(struct nft_rule *rule)
{
    struct expression e = begin(rule, "masq");
    end(rule, e);
}
