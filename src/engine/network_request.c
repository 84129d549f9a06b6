/*
 * What a workload asks of the network: --network and its companions, and their JSON form.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/json.h"
#include "base/path.h"
#include "engine/network.h"

#define ENDPOINTS_MAX ((size_t)16)

static void endpoint_request_done(struct network_endpoint_request *e)
{
    free(e->network);
    strv_done(&e->aliases);
    *e = (struct network_endpoint_request){0};
}
DEFINE_DONEP(struct network_endpoint_request, endpoint_request_done)

void network_request_done(struct network_request *request)
{
    for (size_t i = 0; i < request->endpoint_count; i++) {
        endpoint_request_done(&request->endpoints[i]);
    }
    free(request->endpoints);
    free(request->container);
    port_list_done(&request->ports);
    port_list_done(&request->exposed);
    *request = (struct network_request){0};
}

static int push_endpoint(struct network_request *request, struct network_endpoint_request *e,
                         struct err *err)
{
    if (request->endpoint_count == ENDPOINTS_MAX) {
        return err_say(err, E2BIG, "more than %zu networks", ENDPOINTS_MAX);
    }
    struct network_endpoint_request *items =
        realloc(request->endpoints, (request->endpoint_count + 1) * sizeof(*items));
    if (items == NULL) {
        return err_set(err, ENOMEM, "network '%s'", e->network);
    }
    request->endpoints = items;
    items[request->endpoint_count++] = *e;
    *e = (struct network_endpoint_request){0};
    return 0;
}

/* Host names of DNS, as aliases: labels of letters, digits, '-' and '_'. */
static bool alias_is_valid(const char *s)
{
    size_t label = 0;
    size_t len = strlen(s);
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '_' || c == '-';
        if (c == '.' && label > 0) {
            label = 0;
        } else if (!plain || ++label > 63) {
            return false;
        }
    }
    return label > 0 && len <= 253;
}

static int add_alias(struct network_endpoint_request *e, const char *alias, struct err *err)
{
    if (!alias_is_valid(alias)) {
        return err_say(err, EINVAL, "network alias '%s': not a host name", alias);
    }
    if (strv_add(&e->aliases, alias) < 0) {
        return err_set(err, ENOMEM, "network alias '%s'", alias);
    }
    return 0;
}

static int set_ip(struct network_endpoint_request *e, size_t f, const char *text, struct err *err)
{
    struct ip_address ip;
    if (ip_parse(text, &ip) < 0 || ip.family != (f == 0 ? AF_INET : AF_INET6)) {
        return err_say(err, EINVAL, "'%s': not an IPv%d address", text, f == 0 ? 4 : 6);
    }
    e->ip[f] = ip;
    return 0;
}

static int set_mac(struct network_endpoint_request *e, const char *text, struct err *err)
{
    if (mac_parse(text, e->mac) < 0) {
        return err_say(err, EINVAL, "MAC address '%s': six pairs of digits with ':', unicast",
                       text);
    }
    return 0;
}

/* One KEY=VALUE of the long form. */
static int apply_key(struct network_endpoint_request *e, const char *part, struct err *err)
{
    const char *value = strchr(part, '=');
    if (value == NULL || value[1] == '\0') {
        return err_say(err, EINVAL, "--network: '%s': want KEY=VALUE", part);
    }
    value++;
    if (str_starts(part, "name=")) {
        free(e->network);
        e->network = strdup(value);
        return e->network != NULL ? 0 : err_set(err, ENOMEM, "--network");
    }
    if (str_starts(part, "alias=")) {
        return add_alias(e, value, err);
    }
    if (str_starts(part, "ip=")) {
        return set_ip(e, 0, value, err);
    }
    if (str_starts(part, "ip6=")) {
        return set_ip(e, 1, value, err);
    }
    if (str_starts(part, "mac-address=")) {
        return set_mac(e, value, err);
    }
    (void)err_say(err, EINVAL, "--network: '%s' is not known", part);
    err_hint(err, "keys are name, alias, ip, ip6 and mac-address");
    return -EINVAL;
}

static int check_mix(const struct network_request *request, const char *text, struct err *err)
{
    if (request->mode != NETWORK_MODE_BRIDGED || request->endpoint_count > 0) {
        return err_say(err, EINVAL, "--network %s cannot be combined with another --network", text);
    }
    return 0;
}

int network_request_add(struct network_request *request, const char *text, struct err *err)
{
    bool is_host = str_eq(text, "host");
    if (is_host || str_eq(text, "none") || str_starts(text, "container:")) {
        int r = check_mix(request, text, err);
        if (r < 0) {
            return r;
        }
        if (is_host || str_eq(text, "none")) {
            request->mode = is_host ? NETWORK_MODE_HOST : NETWORK_MODE_NONE;
            return 0;
        }
        const char *name = text + strlen("container:");
        if (*name == '\0') {
            return err_say(err, EINVAL, "--network container:NAME: the name is missing");
        }
        request->container = strdup(name);
        request->mode = NETWORK_MODE_CONTAINER;
        return request->container != NULL ? 0 : err_set(err, ENOMEM, "--network");
    }
    if (request->mode != NETWORK_MODE_BRIDGED) {
        return err_say(err, EINVAL, "--network %s cannot be combined with another --network", text);
    }
    AUTO(endpoint_request_donep) struct network_endpoint_request e = {0};
    if (strchr(text, '=') == NULL) {
        e.network = strdup(text);
    } else {
        AUTO(strv_donep) struct strv parts = {0};
        int r = strv_split(&parts, text, ",");
        for (size_t i = 0; i < parts.count && r >= 0; i++) {
            r = apply_key(&e, parts.items[i], err);
        }
        if (r < 0) {
            return r;
        }
    }
    if (e.network == NULL || e.network[0] == '\0') {
        return err_say(err, EINVAL, "--network '%s': no network named", text);
    }
    for (size_t i = 0; i < request->endpoint_count; i++) {
        if (str_eq(request->endpoints[i].network, e.network)) {
            return err_say(err, EINVAL, "--network %s is given twice", e.network);
        }
    }
    return push_endpoint(request, &e, err);
}

int network_request_set(struct network_request *request, const char *ip4, const char *ip6,
                        const char *mac, const struct strv *aliases, struct err *err)
{
    bool any = ip4 != NULL || ip6 != NULL || mac != NULL || aliases->count > 0;
    if (!any) {
        return 0;
    }
    if (request->mode != NETWORK_MODE_BRIDGED) {
        return err_say(err, EINVAL,
                       "--ip, --ip6, --mac-address and --network-alias need a bridge network");
    }
    if (request->endpoint_count == 0) {
        int r = network_request_add(request, "bridge", err);
        if (r < 0) {
            return r;
        }
    }
    struct network_endpoint_request *e = &request->endpoints[0];
    int r = 0;
    if (ip4 != NULL) {
        r = set_ip(e, 0, ip4, err);
    }
    if (r >= 0 && ip6 != NULL) {
        r = set_ip(e, 1, ip6, err);
    }
    if (r >= 0 && mac != NULL) {
        r = set_mac(e, mac, err);
    }
    for (size_t i = 0; i < aliases->count && r >= 0; i++) {
        r = add_alias(e, aliases->items[i], err);
    }
    return r;
}

int network_request_check(const struct network_request *request, struct err *err)
{
    static const char *const names[] = {
        [NETWORK_MODE_BRIDGED] = "bridge",
        [NETWORK_MODE_HOST] = "host",
        [NETWORK_MODE_NONE] = "none",
        [NETWORK_MODE_CONTAINER] = "container:NAME",
    };
    if (request->mode != NETWORK_MODE_BRIDGED &&
        (request->ports.count > 0 || request->publish_all)) {
        (void)err_say(err, EINVAL, "ports cannot be published with --network %s",
                      names[request->mode]);
        err_hint(err, request->mode == NETWORK_MODE_HOST
                          ? "the workload's ports are the host's already; leave -p out"
                          : "leave -p and -P out");
        return -EINVAL;
    }
    return 0;
}

static json_t *endpoint_to_json(const struct network_endpoint_request *e)
{
    static const uint8_t no_mac[6];
    char text[IP_TEXT_SIZE];
    json_t *json = json_object();
    int r = json_object_set_new(json, "network", json_string(e->network));
    if (e->ip[0].family != 0) {
        r |= json_object_set_new(json, "ip", json_string(ip_format(&e->ip[0], text)));
    }
    if (e->ip[1].family != 0) {
        r |= json_object_set_new(json, "ip6", json_string(ip_format(&e->ip[1], text)));
    }
    if (memcmp(e->mac, no_mac, sizeof(no_mac)) != 0) {
        char mac[MAC_TEXT_SIZE];
        r |= json_object_set_new(json, "mac", json_string(mac_format(e->mac, mac)));
    }
    r |= json_object_set_new(json, "aliases", json_from_strv(&e->aliases));
    if (r != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

json_t *network_request_to_json(const struct network_request *request)
{
    static const char *const modes[] = {"bridged", "host", "none", "container"};
    json_t *json = json_object();
    json_t *endpoints = json_array();
    int r = json_object_set_new(json, "mode", json_string(modes[request->mode]));
    if (request->container != NULL) {
        r |= json_object_set_new(json, "container", json_string(request->container));
    }
    for (size_t i = 0; i < request->endpoint_count; i++) {
        r |= json_array_append_new(endpoints, endpoint_to_json(&request->endpoints[i]));
    }
    r |= json_object_set_new(json, "endpoints", endpoints);
    r |= json_object_set_new(json, "ports", port_list_to_json(&request->ports));
    r |= json_object_set_new(json, "publishAll", json_boolean(request->publish_all));
    r |= json_object_set_new(json, "exposed", port_list_to_json(&request->exposed));
    if (r != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static int endpoint_from_json(const json_t *json, const struct json_path *at,
                              struct network_request *request, struct err *err)
{
    AUTO(endpoint_request_donep) struct network_endpoint_request e = {0};
    const char *text = NULL;
    int r = json_get_string(json, at, "network", &text, err);
    if (r <= 0) {
        return r < 0 ? r : json_fail(at, json, err, "has no network");
    }
    e.network = strdup(text);
    if (e.network == NULL) {
        return err_set(err, ENOMEM, "read networks");
    }
    r = json_get_string(json, at, "ip", &text, err);
    if (r > 0) {
        r = set_ip(&e, 0, text, err);
    }
    if (r >= 0 && (r = json_get_string(json, at, "ip6", &text, err)) > 0) {
        r = set_ip(&e, 1, text, err);
    }
    if (r >= 0 && (r = json_get_string(json, at, "mac", &text, err)) > 0) {
        r = set_mac(&e, text, err);
    }
    if (r >= 0) {
        r = json_get_strings(json, at, "aliases", &e.aliases, err);
    }
    return r < 0 ? r : push_endpoint(request, &e, err);
}

static int mode_from_json(const json_t *json, struct network_request *request, struct err *err)
{
    const char *mode = "bridged";
    const char *container = NULL;
    int r = json_get_string(json, NULL, "mode", &mode, err);
    if (r < 0 || (r = json_get_string(json, NULL, "container", &container, err)) < 0) {
        return r;
    }
    if (str_eq(mode, "bridged")) {
        request->mode = NETWORK_MODE_BRIDGED;
    } else if (str_eq(mode, "host")) {
        request->mode = NETWORK_MODE_HOST;
    } else if (str_eq(mode, "none")) {
        request->mode = NETWORK_MODE_NONE;
    } else if (str_eq(mode, "container") && container != NULL) {
        request->mode = NETWORK_MODE_CONTAINER;
        request->container = strdup(container);
        if (request->container == NULL) {
            return err_set(err, ENOMEM, "read networks");
        }
    } else {
        return err_say(err, EINVAL, "network mode '%s' is not known", mode);
    }
    return 0;
}

int network_request_from_json(const json_t *json, struct network_request *ret, struct err *err)
{
    AUTO(network_request_donep) struct network_request request = {0};
    json_t *list = NULL;
    int r = mode_from_json(json, &request, err);
    if (r < 0 || (r = json_get_array(json, NULL, "endpoints", &list, err)) < 0) {
        return r;
    }
    const struct json_path list_path = {.key = "endpoints"};
    for (size_t i = 0; i < json_array_size(list) && r >= 0; i++) {
        const struct json_path path = {.parent = &list_path, .index = i};
        r = endpoint_from_json(json_array_get(list, i), &path, &request, err);
    }
    list = NULL;
    if (r >= 0 && (r = json_get_array(json, NULL, "ports", &list, err)) > 0) {
        r = port_list_from_json(list, &request.ports, err);
    }
    list = NULL;
    if (r >= 0 && (r = json_get_array(json, NULL, "exposed", &list, err)) > 0) {
        r = port_list_from_json(list, &request.exposed, err);
    }
    if (r < 0 || (r = json_get_bool(json, NULL, "publishAll", &request.publish_all, err)) < 0) {
        return r;
    }
    *ret = request;
    request = (struct network_request){0};
    return 0;
}
