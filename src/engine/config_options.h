/*
 * config_options.h - the options that make a workload, as rows of an option table.
 *
 * Docker's names and letters, in the order of the alphabet. A macro and not an array, so that
 * `isola run`, `create` and `update` put rows of their own beside them; the struct workload_config
 * must be the first member of what the table writes into.
 */
#ifndef ENGINE_CONFIG_OPTIONS_H
#define ENGINE_CONFIG_OPTIONS_H

#include <stddef.h>

#include "base/option.h"
#include "engine/config.h"

struct err;

int config_parse_cpus(const char *value, void *target, struct err *err);
int config_parse_swap(const char *value, void *target, struct err *err);
int config_parse_entrypoint(const char *value, void *target, struct err *err);

#define CONFIG_AT(member) offsetof(struct workload_config, member)

/* clang-format off */
#define CONFIG_OPTIONS \
    {"add-host", 0, OPTION_LIST, CONFIG_AT(add_host), "HOST:IP", "Add a line to /etc/hosts", NULL}, \
    {"blkio-weight", 0, OPTION_INT, CONFIG_AT(blkio_weight), "N", "Block I/O weight, 10 to 1000", NULL}, \
    {"cap-add", 0, OPTION_LIST, CONFIG_AT(cap_add), "CAP", "Add a Linux capability, or ALL", NULL}, \
    {"cap-drop", 0, OPTION_LIST, CONFIG_AT(cap_drop), "CAP", "Drop a Linux capability, or ALL", NULL}, \
    {"cgroup-parent", 0, OPTION_STRING, CONFIG_AT(cgroup_parent), "PATH", "Cgroup to make its own in (/isola)", NULL}, \
    {"cgroupns", 0, OPTION_STRING, CONFIG_AT(cgroupns), "MODE", "Cgroup namespace: private or host", NULL}, \
    {"cpu-period", 0, OPTION_INT, CONFIG_AT(cpu_period), "US", "CFS period in microseconds", NULL}, \
    {"cpu-quota", 0, OPTION_INT, CONFIG_AT(cpu_quota), "US", "CFS quota in microseconds", NULL}, \
    {"cpu-shares", 'c', OPTION_INT, CONFIG_AT(cpu_shares), "N", "Relative CPU weight", NULL}, \
    {"cpus", 0, OPTION_CALL, CONFIG_AT(nano_cpus), "N", "Number of CPUs, such as 1.5", config_parse_cpus}, \
    {"cpuset-cpus", 0, OPTION_STRING, CONFIG_AT(cpuset_cpus), "LIST", "CPUs to run on (0-3, 0,1)", NULL}, \
    {"cpuset-mems", 0, OPTION_STRING, CONFIG_AT(cpuset_mems), "LIST", "Memory nodes to use", NULL}, \
    {"device", 0, OPTION_LIST, CONFIG_AT(device), "PATH[:PATH[:rwm]]", "Add a host device", NULL}, \
    {"device-cgroup-rule", 0, OPTION_LIST, CONFIG_AT(device_cgroup_rule), "RULE", \
     "Allow devices by number, such as 'c 42:* rmw'", NULL}, \
    {"dns", 0, OPTION_LIST, CONFIG_AT(dns), "IP", "Set a DNS server", NULL}, \
    {"dns-option", 0, OPTION_LIST, CONFIG_AT(dns_option), "OPTION", "Set a resolver option", NULL}, \
    {"dns-search", 0, OPTION_LIST, CONFIG_AT(dns_search), "DOMAIN", "Set a search domain", NULL}, \
    {"domainname", 0, OPTION_STRING, CONFIG_AT(domainname), "NAME", "NIS domain name", NULL}, \
    {"entrypoint", 0, OPTION_CALL, 0, "COMMAND", "Replace the image's entry point; \"\": none", \
     config_parse_entrypoint}, \
    {"env", 'e', OPTION_LIST, CONFIG_AT(env), "NAME[=VALUE]", "Set an environment variable", NULL}, \
    {"env-file", 0, OPTION_LIST, CONFIG_AT(env_file), "FILE", "Read environment variables from a file", NULL}, \
    {"expose", 0, OPTION_LIST, CONFIG_AT(expose), "PORT", "Name a port for --publish-all", NULL}, \
    {"group-add", 0, OPTION_LIST, CONFIG_AT(group_add), "GROUP", "Add a supplementary group", NULL}, \
    {"health-cmd", 0, OPTION_STRING, CONFIG_AT(health_cmd), "COMMAND", "Command that checks health", NULL}, \
    {"health-interval", 0, OPTION_DURATION, CONFIG_AT(health_interval), "TIME", \
     "Time between checks (30s)", NULL}, \
    {"health-retries", 0, OPTION_INT, CONFIG_AT(health_retries), "N", \
     "Failures in a row that mean unhealthy (3)", NULL}, \
    {"health-start-period", 0, OPTION_DURATION, CONFIG_AT(health_start_period), "TIME", \
     "Time in which failures do not count", NULL}, \
    {"health-timeout", 0, OPTION_DURATION, CONFIG_AT(health_timeout), "TIME", \
     "Longest time of one check (30s)", NULL}, \
    {"hostname", 'h', OPTION_STRING, CONFIG_AT(hostname), "NAME", "Host name", NULL}, \
    {"init", 0, OPTION_FLAG, CONFIG_AT(init), NULL, "Run a small init that reaps and forwards signals", \
     NULL}, \
    {"interactive", 'i', OPTION_FLAG, CONFIG_AT(interactive), NULL, "Keep standard input open", NULL}, \
    {"ip", 0, OPTION_STRING, CONFIG_AT(ip), "ADDRESS", "IPv4 address", NULL}, \
    {"ip6", 0, OPTION_STRING, CONFIG_AT(ip6), "ADDRESS", "IPv6 address", NULL}, \
    {"ipc", 0, OPTION_STRING, CONFIG_AT(ipc), "MODE", "IPC namespace: private, host, container:NAME", \
     NULL}, \
    {"isolation", 0, OPTION_STRING, CONFIG_AT(isolation), "WALL", "Wall: container or vm", NULL}, \
    {"kernel", 0, OPTION_STRING, CONFIG_AT(kernel), "KERNEL", \
     "Kernel of the machine: an installed version or a file", NULL}, \
    {"label", 'l', OPTION_LIST, CONFIG_AT(label), "KEY=VALUE", "Set a label", NULL}, \
    {"label-file", 0, OPTION_LIST, CONFIG_AT(label_file), "FILE", "Read labels from a file", NULL}, \
    {"log-driver", 0, OPTION_STRING, CONFIG_AT(log_driver), "DRIVER", "k8s-file (default) or none", NULL}, \
    {"log-opt", 0, OPTION_LIST, CONFIG_AT(log_opt), "KEY=VALUE", "max-size=SIZE, max-file=N", NULL}, \
    {"mac-address", 0, OPTION_STRING, CONFIG_AT(mac_address), "MAC", "Ethernet address", NULL}, \
    {"memory", 'm', OPTION_SIZE, CONFIG_AT(memory), "SIZE", "Memory limit", NULL}, \
    {"memory-reservation", 0, OPTION_SIZE, CONFIG_AT(memory_reservation), "SIZE", "Soft memory limit", \
     NULL}, \
    {"memory-swap", 0, OPTION_CALL, CONFIG_AT(memory_swap), "SIZE", "Memory and swap together; -1: any", \
     config_parse_swap}, \
    {"mount", 0, OPTION_LIST, CONFIG_AT(mount), "SPEC", "type=bind|volume|tmpfs,src=...,dst=...", NULL}, \
    {"name", 0, OPTION_STRING, CONFIG_AT(name), "NAME", "Name of the workload", NULL}, \
    {"network", 0, OPTION_LIST, CONFIG_AT(network), "NETWORK", \
     "bridge, host, none, container:NAME or a network", NULL}, \
    {"net", 0, OPTION_LIST, CONFIG_AT(network), "NETWORK", NULL, NULL}, \
    {"network-alias", 0, OPTION_LIST, CONFIG_AT(network_alias), "NAME", "Name on the network", NULL}, \
    {"net-alias", 0, OPTION_LIST, CONFIG_AT(network_alias), "NAME", NULL, NULL}, \
    {"no-healthcheck", 0, OPTION_FLAG, CONFIG_AT(no_healthcheck), NULL, "Ignore the image's health check", \
     NULL}, \
    {"oom-score-adj", 0, OPTION_INT, CONFIG_AT(oom_score_adj), "N", "OOM preference, -1000 to 1000", NULL}, \
    {"pid", 0, OPTION_STRING, CONFIG_AT(pid), "MODE", "PID namespace: private, host, container:NAME", \
     NULL}, \
    {"pids-limit", 0, OPTION_INT, CONFIG_AT(pids_limit), "N", "Most processes and threads; -1: any", NULL}, \
    {"platform", 0, OPTION_STRING, CONFIG_AT(platform), "OS/ARCH", "Platform of the image", NULL}, \
    {"privileged", 0, OPTION_FLAG, CONFIG_AT(privileged), NULL, "Give all capabilities and devices", NULL}, \
    {"publish", 'p', OPTION_LIST, CONFIG_AT(publish), "[IP:][HOST:]PORT[/udp]", "Publish a port", NULL}, \
    {"publish-all", 'P', OPTION_FLAG, CONFIG_AT(publish_all), NULL, "Publish all exposed ports", NULL}, \
    {"read-only", 0, OPTION_FLAG, CONFIG_AT(read_only), NULL, "Read-only root file system", NULL}, \
    {"restart", 0, OPTION_STRING, CONFIG_AT(restart), "POLICY", \
     "no, on-failure[:N], always, unless-stopped", NULL}, \
    {"rm", 0, OPTION_FLAG, CONFIG_AT(rm), NULL, "Remove the workload when it ends", NULL}, \
    {"security-opt", 0, OPTION_LIST, CONFIG_AT(security_opt), "OPTION", \
     "seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE|unconfined, label=disable", NULL}, \
    {"shm-size", 0, OPTION_SIZE, CONFIG_AT(shm_size), "SIZE", "Size of /dev/shm (64m)", NULL}, \
    {"stop-signal", 0, OPTION_STRING, CONFIG_AT(stop_signal), "SIGNAL", "Signal that asks it to stop (TERM)", NULL}, \
    {"stop-timeout", 0, OPTION_INT, CONFIG_AT(stop_timeout), "SECONDS", "Time from that signal to SIGKILL (10)", NULL}, \
    {"sysctl", 0, OPTION_LIST, CONFIG_AT(sysctl), "KEY=VALUE", "Set a kernel parameter of its namespaces", NULL}, \
    {"tmpfs", 0, OPTION_LIST, CONFIG_AT(tmpfs), "PATH[:OPTIONS]", "Mount an empty file system in memory", NULL}, \
    {"tty", 't', OPTION_FLAG, CONFIG_AT(tty), NULL, "Give it a terminal", NULL}, \
    {"ulimit", 0, OPTION_LIST, CONFIG_AT(ulimit), "NAME=SOFT[:HARD]", "Resource limit", NULL}, \
    {"user", 'u', OPTION_STRING, CONFIG_AT(user), "USER[:GROUP]", "User and group, by name or id", NULL}, \
    {"userns", 0, OPTION_STRING, CONFIG_AT(userns), "MODE", "User namespace: host, auto[:size=N], private, container:NAME", NULL}, \
    {"uts", 0, OPTION_STRING, CONFIG_AT(uts), "MODE", "UTS namespace: private or host", NULL}, \
    {"volume", 'v', OPTION_LIST, CONFIG_AT(volume), "SRC:DST[:OPTIONS]", "Mount a volume or directory", \
     NULL}, \
    {"volumes-from", 0, OPTION_LIST, CONFIG_AT(volumes_from), "NAME", "Mount another workload's volumes", \
     NULL}, \
    {"workdir", 'w', OPTION_STRING, CONFIG_AT(workdir), "DIR", "Working directory", NULL},
/* clang-format on */

#endif
