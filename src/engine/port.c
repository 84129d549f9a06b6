#include "engine/port.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

void port_list_done(struct port_list *list)
{
    free(list->items);
    *list = (struct port_list){0};
}

int port_list_add(struct port_list *list, const struct port *port)
{
    if (list->count == list->size) {
        size_t size = list->size == 0 ? 8 : 2 * list->size;
        struct port *items = realloc(list->items, size * sizeof(*items));
        if (items == NULL) {
            return -ENOMEM;
        }
        list->items = items;
        list->size = size;
    }
    list->items[list->count++] = *port;
    return 0;
}

const char *port_protocol_name(uint8_t protocol)
{
    return protocol == IPPROTO_UDP ? "udp" : "tcp";
}

static int parse_protocol(const char *text, uint8_t *ret)
{
    if (str_eq(text, "tcp") || str_eq(text, "TCP")) {
        *ret = IPPROTO_TCP;
    } else if (str_eq(text, "udp") || str_eq(text, "UDP")) {
        *ret = IPPROTO_UDP;
    } else {
        return -EINVAL;
    }
    return 0;
}

/* "80" or "80-90"; 0 is no port. */
static int parse_range(const char *text, uint16_t *ret_first, uint16_t *ret_last)
{
    char copy[16];
    if (strlen(text) >= sizeof(copy)) {
        return -EINVAL;
    }
    (void)snprintf(copy, sizeof(copy), "%s", text);
    char *dash = strchr(copy, '-');
    if (dash != NULL) {
        *dash = '\0';
    }
    uint64_t first = 0;
    uint64_t last = 0;
    if (parse_u64(copy, 10, &first) < 0 ||
        parse_u64(dash != NULL ? dash + 1 : copy, 10, &last) < 0 || first < 1 || last > 65535 ||
        last < first) {
        return -EINVAL;
    }
    *ret_first = (uint16_t)first;
    *ret_last = (uint16_t)last;
    return 0;
}

/* Cuts "[HOST:][HOSTPORT:]PORT" at its colons; those inside [] belong to the address. */
struct publish {
    char *host;
    char *host_port;
    char *port;
};

static int split_publish(char *text, struct publish *ret)
{
    *ret = (struct publish){.port = text};
    char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return 0;
    }
    *colon = '\0';
    ret->port = colon + 1;
    ret->host_port = text;
    size_t len = strlen(text);
    colon = strrchr(text, ':');
    if (len > 0 && text[len - 1] == ']') {
        return -EINVAL; /* an address without a host port needs "::PORT" */
    }
    if (colon != NULL) {
        *colon = '\0';
        ret->host_port = colon + 1;
        ret->host = text;
        /* A bare IPv6 address is ambiguous. */
        return strchr(text, ':') != NULL && text[0] != '[' ? -EINVAL : 0;
    }
    return 0;
}

static int add_ports(const struct port *base, uint16_t first, uint16_t last, struct port_list *list)
{
    struct port port = *base;
    for (uint32_t p = first; p <= last; p++) {
        port.port = (uint16_t)p;
        /* Equal ranges pair up; else each takes one of the host's range. */
        if (base->host_first != 0 && base->host_last - base->host_first == last - first) {
            port.host_first = (uint16_t)(base->host_first + (p - first));
            port.host_last = port.host_first;
        }
        int r = port_list_add(list, &port);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int port_parse_publish(const char *text, struct port_list *list, struct err *err)
{
    AUTO(freep) char *copy = strdup(text);
    if (copy == NULL) {
        return err_set(err, ENOMEM, "port '%s'", text);
    }
    struct port base = {.protocol = IPPROTO_TCP};
    char *slash = strrchr(copy, '/');
    if (slash != NULL) {
        *slash = '\0';
        if (parse_protocol(slash + 1, &base.protocol) < 0) {
            return err_say(err, EINVAL, "port '%s': protocol '%s' is not tcp or udp", text,
                           slash + 1);
        }
    }
    struct publish parts;
    uint16_t first = 0;
    uint16_t last = 0;
    if (split_publish(copy, &parts) < 0) {
        return err_say(err, EINVAL, "port '%s': write an IPv6 address as [ADDRESS]:HOSTPORT:PORT",
                       text);
    }
    if (parse_range(parts.port, &first, &last) < 0) {
        return err_say(err, EINVAL, "port '%s': '%s' is not a port from 1 to 65535 or a range",
                       text, parts.port);
    }
    if (parts.host_port != NULL && parts.host_port[0] != '\0' &&
        parse_range(parts.host_port, &base.host_first, &base.host_last) < 0) {
        return err_say(err, EINVAL, "port '%s': '%s' is not a port from 1 to 65535 or a range",
                       text, parts.host_port);
    }
    if (parts.host != NULL && parts.host[0] != '\0' && ip_parse(parts.host, &base.host) < 0) {
        return err_say(err, EINVAL, "port '%s': '%s' is not an address", text, parts.host);
    }
    if (base.host_first != 0 && last > first && base.host_last - base.host_first != last - first) {
        return err_say(err, EINVAL, "port '%s': the two ranges differ in length", text);
    }
    return add_ports(&base, first, last, list) < 0 ? err_set(err, ENOMEM, "port '%s'", text) : 0;
}

int port_parse_expose(const char *text, struct port_list *list, struct err *err)
{
    if (strchr(text, ':') != NULL) {
        return err_say(err, EINVAL, "exposed port '%s': want PORT[-PORT][/PROTOCOL]", text);
    }
    return port_parse_publish(text, list, err);
}

static int compare(const void *left, const void *right)
{
    const struct port *a = left;
    const struct port *b = right;
    if (a->port != b->port) {
        return a->port < b->port ? -1 : 1;
    }
    if (a->protocol != b->protocol) {
        return a->protocol < b->protocol ? -1 : 1;
    }
    if (a->host.family != b->host.family) {
        return a->host.family < b->host.family ? -1 : 1;
    }
    int r = memcmp(a->host.bytes, b->host.bytes, sizeof(a->host.bytes));
    return r != 0 ? r : (a->host_first > b->host_first) - (a->host_first < b->host_first);
}

/* The address as people read it: "0.0.0.0" for all, "[::1]" for IPv6. */
static const char *host_text(const struct port *port, char out[IP_TEXT_SIZE + 2])
{
    char plain[IP_TEXT_SIZE];
    if (port->host.family == 0) {
        return "0.0.0.0";
    }
    (void)snprintf(out, IP_TEXT_SIZE + 2, port->host.family == AF_INET6 ? "[%s]" : "%s",
                   ip_format(&port->host, plain));
    return out;
}

static bool continues(const struct port *a, const struct port *b)
{
    return a->protocol == b->protocol && ip_eq(&a->host, &b->host) && b->port == a->port + 1 &&
           b->host_first == a->host_first + 1 && b->host_first != 1;
}

int port_list_print(const struct port_list *list, struct buf *out)
{
    if (list->count == 0) {
        return 0;
    }
    AUTO(freep) struct port *sorted = malloc(list->count * sizeof(*sorted));
    if (sorted == NULL) {
        return -ENOMEM;
    }
    memcpy(sorted, list->items, list->count * sizeof(*sorted));
    /* Families apart, so that a range seen at both stays one run each. */
    qsort(sorted, list->count, sizeof(*sorted), compare);
    AUTO(freep) bool *done = calloc(list->count, sizeof(*done));
    if (done == NULL) {
        return -ENOMEM;
    }
    const char *separator = "";
    for (size_t i = 0; i < list->count; i++) {
        if (done[i]) {
            continue;
        }
        size_t end = i;
        for (size_t j = i + 1; j < list->count && sorted[j].port <= sorted[end].port + 1; j++) {
            if (!done[j] && continues(&sorted[end], &sorted[j])) {
                done[j] = true;
                end = j;
            }
        }
        char host[IP_TEXT_SIZE + 2];
        int r = buf_printf(out, "%s%s:%u", separator, host_text(&sorted[i], host),
                           sorted[i].host_first);
        if (r >= 0 && end != i) {
            r = buf_printf(out, "-%u", sorted[end].host_first);
        }
        if (r >= 0) {
            r = buf_printf(out, "->%u", sorted[i].port);
        }
        if (r >= 0 && end != i) {
            r = buf_printf(out, "-%u", sorted[end].port);
        }
        if (r < 0 || (r = buf_printf(out, "/%s", port_protocol_name(sorted[i].protocol))) < 0) {
            return r;
        }
        separator = ", ";
    }
    return 0;
}

json_t *port_list_to_json(const struct port_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++) {
        const struct port *p = &list->items[i];
        char host[IP_TEXT_SIZE];
        json_t *item = json_pack("{s:s, s:i, s:i, s:i, s:s}", "host", ip_format(&p->host, host),
                                 "hostFirst", (int)p->host_first, "hostLast", (int)p->host_last,
                                 "port", (int)p->port, "protocol", port_protocol_name(p->protocol));
        if (json_array_append_new(array, item) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

int port_list_from_json(const json_t *json, struct port_list *list, struct err *err)
{
    for (size_t i = 0; i < json_array_size(json); i++) {
        const struct json_path path = {.index = i};
        const json_t *item = json_array_get(json, i);
        const char *host = "";
        const char *protocol = "tcp";
        int64_t first = 0;
        int64_t last = 0;
        int64_t inside = 0;
        struct port port = {0};
        int r = json_get_string(item, &path, "host", &host, err);
        if (r < 0 || (r = json_get_string(item, &path, "protocol", &protocol, err)) < 0 ||
            (r = json_get_int(item, &path, "hostFirst", 0, 65535, &first, err)) < 0 ||
            (r = json_get_int(item, &path, "hostLast", first, 65535, &last, err)) < 0 ||
            (r = json_get_int(item, &path, "port", 1, 65535, &inside, err)) < 0) {
            return r;
        }
        if (parse_protocol(protocol, &port.protocol) < 0 ||
            (host[0] != '\0' && ip_parse(host, &port.host) < 0) || inside == 0) {
            return json_fail(&path, item, err, "is not a port");
        }
        port.host_first = (uint16_t)first;
        port.host_last = (uint16_t)last;
        port.port = (uint16_t)inside;
        if (port_list_add(list, &port) < 0) {
            return err_set(err, ENOMEM, "read ports");
        }
    }
    return 0;
}

json_t *port_list_to_inspect(const struct port_list *list)
{
    json_t *object = json_object();
    for (size_t i = 0; i < list->count; i++) {
        const struct port *p = &list->items[i];
        char key[16];
        char number[8];
        char host[IP_TEXT_SIZE];
        (void)snprintf(key, sizeof(key), "%u/%s", p->port, port_protocol_name(p->protocol));
        (void)snprintf(number, sizeof(number), "%u", p->host_first);
        json_t *array = json_object_get(object, key);
        if (array == NULL) {
            array = json_array();
            if (json_object_set_new(object, key, array) != 0) {
                json_decref(object);
                return NULL;
            }
        }
        json_t *item = json_pack("{s:s, s:s}", "HostIp",
                                 p->host.family == 0 ? "0.0.0.0" : ip_format(&p->host, host),
                                 "HostPort", number);
        if (json_array_append_new(array, item) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
