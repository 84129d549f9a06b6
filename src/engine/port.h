/*
 * port.h - published ports: what the user wrote, and what became of it.
 */
#ifndef ENGINE_PORT_H
#define ENGINE_PORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "netlink/ip.h"

struct buf;
struct err;

/* One port of a workload seen at one place of the host. */
struct port {
    uint8_t protocol;       /* IPPROTO_TCP or IPPROTO_UDP */
    struct ip_address host; /* where; family 0: every address of the families that there are */
    uint16_t host_first;    /* 0: a free one is to be chosen */
    uint16_t host_last;     /* >= host_first: one free port of this range is chosen */
    uint16_t port;          /* inside the workload */
};

/* A zeroed struct is an empty list. */
struct port_list {
    struct port *items;
    size_t count;
    size_t size;
};

void port_list_done(struct port_list *list);
DEFINE_DONEP(struct port_list, port_list_done)

/* 0 or -ENOMEM. */
int port_list_add(struct port_list *list, const struct port *port);

/*
 * Docker's -p: "80", "8080:80", "127.0.0.1:8080:80/udp", "8000-8010:80-90", "8000-8010:80",
 * "[::1]:80:80", "127.0.0.1::80". Appends one entry a workload port. -EINVAL with err set.
 */
int port_parse_publish(const char *text, struct port_list *list, struct err *err);

/* --expose and EXPOSE: "80", "80/udp", "80-90/tcp"; entries with host_first 0. */
int port_parse_expose(const char *text, struct port_list *list, struct err *err);

const char *port_protocol_name(uint8_t protocol);

/* "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp": the PORTS column of ps. Runs of ports are joined. */
int port_list_print(const struct port_list *list, struct buf *out);

/* [{"HostIp": ..., "HostPort": "8000-8010", "Port": 80, "Protocol": "tcp"}]; both directions. */
json_t *port_list_to_json(const struct port_list *list);
int port_list_from_json(const json_t *json, struct port_list *list, struct err *err);

/* Docker's NetworkSettings.Ports: {"80/tcp": [{"HostIp": ..., "HostPort": ...}]}. */
json_t *port_list_to_inspect(const struct port_list *list);

#endif
