#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/err.h"
#include "engine/config.h"

/* "1.5" CPUs as billionths. */
static int parse_cpus(const char *value, void *target, struct err *err)
{
    uint64_t ns;
    /* A duration of that many seconds has the same digits, without rounding. */
    if (value[0] == '\0' || value[strspn(value, "0123456789.")] != '\0' ||
        parse_duration(value, &ns) < 0 || ns > (uint64_t)INT64_MAX) {
        return err_say(err, EINVAL, "'%s' is not a number of CPUs such as 1.5", value);
    }
    *(int64_t *)target = (int64_t)ns;
    return 0;
}

static int parse_swap(const char *value, void *target, struct err *err)
{
    uint64_t bytes;
    if (str_eq(value, "-1")) {
        *(int64_t *)target = -1;
        return 0;
    }
    if (parse_size(value, &bytes) < 0 || bytes > INT64_MAX) {
        return err_say(err, EINVAL, "'%s' is not a size such as 1g, nor -1 for unlimited", value);
    }
    *(int64_t *)target = (int64_t)bytes;
    return 0;
}

static int parse_entrypoint(const char *value, void *target, struct err *err)
{
    (void)err;
    struct workload_config *config = target;
    config->entrypoint = value;
    config->entrypoint_set = true;
    return 0;
}

#define AT(member) offsetof(struct workload_config, member)

/* Docker's names and letters; in the order of the alphabet, as --help prints them. */
const struct option_spec config_options[] = {
    {"add-host", 0, OPTION_LIST, AT(add_host), "HOST:IP", "Add a line to /etc/hosts", NULL},
    {"blkio-weight", 0, OPTION_INT, AT(blkio_weight), "N", "Block I/O weight, 10 to 1000", NULL},
    {"cap-add", 0, OPTION_LIST, AT(cap_add), "CAP", "Add a Linux capability, or ALL", NULL},
    {"cap-drop", 0, OPTION_LIST, AT(cap_drop), "CAP", "Drop a Linux capability, or ALL", NULL},
    {"cgroup-parent", 0, OPTION_STRING, AT(cgroup_parent), "PATH", "Parent cgroup", NULL},
    {"cgroupns", 0, OPTION_STRING, AT(cgroupns), "MODE", "Cgroup namespace: private or host", NULL},
    {"cpu-period", 0, OPTION_INT, AT(cpu_period), "US", "CFS period in microseconds", NULL},
    {"cpu-quota", 0, OPTION_INT, AT(cpu_quota), "US", "CFS quota in microseconds", NULL},
    {"cpu-shares", 'c', OPTION_INT, AT(cpu_shares), "N", "Relative CPU weight", NULL},
    {"cpus", 0, OPTION_CALL, AT(nano_cpus), "N", "Number of CPUs, such as 1.5", parse_cpus},
    {"cpuset-cpus", 0, OPTION_STRING, AT(cpuset_cpus), "LIST", "CPUs to run on (0-3, 0,1)", NULL},
    {"cpuset-mems", 0, OPTION_STRING, AT(cpuset_mems), "LIST", "Memory nodes to use", NULL},
    {"device", 0, OPTION_LIST, AT(device), "PATH[:PATH[:rwm]]", "Add a host device", NULL},
    {"device-cgroup-rule", 0, OPTION_LIST, AT(device_cgroup_rule), "RULE",
     "Allow devices by number, such as 'c 42:* rmw'", NULL},
    {"dns", 0, OPTION_LIST, AT(dns), "IP", "Set a DNS server", NULL},
    {"dns-option", 0, OPTION_LIST, AT(dns_option), "OPTION", "Set a resolver option", NULL},
    {"dns-search", 0, OPTION_LIST, AT(dns_search), "DOMAIN", "Set a search domain", NULL},
    {"domainname", 0, OPTION_STRING, AT(domainname), "NAME", "NIS domain name", NULL},
    {"entrypoint", 0, OPTION_CALL, 0, "COMMAND", "Replace the image's entry point",
     parse_entrypoint},
    {"env", 'e', OPTION_LIST, AT(env), "NAME[=VALUE]", "Set an environment variable", NULL},
    {"env-file", 0, OPTION_LIST, AT(env_file), "FILE", "Read environment variables", NULL},
    {"expose", 0, OPTION_LIST, AT(expose), "PORT", "Expose a port (for -P)", NULL},
    {"group-add", 0, OPTION_LIST, AT(group_add), "GROUP", "Add a supplementary group", NULL},
    {"health-cmd", 0, OPTION_STRING, AT(health_cmd), "COMMAND", "Command that checks health", NULL},
    {"health-interval", 0, OPTION_DURATION, AT(health_interval), "TIME",
     "Time between checks (30s)", NULL},
    {"health-retries", 0, OPTION_INT, AT(health_retries), "N",
     "Failures in a row that mean unhealthy (3)", NULL},
    {"health-start-period", 0, OPTION_DURATION, AT(health_start_period), "TIME",
     "Time in which failures do not count", NULL},
    {"health-timeout", 0, OPTION_DURATION, AT(health_timeout), "TIME",
     "Longest time of one check (30s)", NULL},
    {"hostname", 'h', OPTION_STRING, AT(hostname), "NAME", "Host name", NULL},
    {"init", 0, OPTION_FLAG, AT(init), NULL, "Run a small init that reaps and forwards signals",
     NULL},
    {"interactive", 'i', OPTION_FLAG, AT(interactive), NULL, "Keep standard input open", NULL},
    {"ip", 0, OPTION_STRING, AT(ip), "ADDRESS", "IPv4 address", NULL},
    {"ip6", 0, OPTION_STRING, AT(ip6), "ADDRESS", "IPv6 address", NULL},
    {"ipc", 0, OPTION_STRING, AT(ipc), "MODE", "IPC namespace: private, host, container:NAME",
     NULL},
    {"isolation", 0, OPTION_STRING, AT(isolation), "WALL", "Wall: container (default) or vm", NULL},
    {"label", 'l', OPTION_LIST, AT(label), "KEY=VALUE", "Set a label", NULL},
    {"label-file", 0, OPTION_LIST, AT(label_file), "FILE", "Read labels", NULL},
    {"log-driver", 0, OPTION_STRING, AT(log_driver), "DRIVER", "k8s-file (default) or none", NULL},
    {"log-opt", 0, OPTION_LIST, AT(log_opt), "KEY=VALUE", "max-size=SIZE, max-file=N", NULL},
    {"mac-address", 0, OPTION_STRING, AT(mac_address), "MAC", "Ethernet address", NULL},
    {"memory", 'm', OPTION_SIZE, AT(memory), "SIZE", "Memory limit", NULL},
    {"memory-reservation", 0, OPTION_SIZE, AT(memory_reservation), "SIZE", "Soft memory limit",
     NULL},
    {"memory-swap", 0, OPTION_CALL, AT(memory_swap), "SIZE", "Memory and swap together; -1: any",
     parse_swap},
    {"mount", 0, OPTION_LIST, AT(mount), "SPEC", "type=bind|volume|tmpfs,src=...,dst=...", NULL},
    {"name", 0, OPTION_STRING, AT(name), "NAME", "Name of the workload", NULL},
    {"network", 0, OPTION_LIST, AT(network), "NETWORK",
     "bridge, host, none, container:NAME or a network", NULL},
    {"net", 0, OPTION_LIST, AT(network), "NETWORK", NULL, NULL},
    {"network-alias", 0, OPTION_LIST, AT(network_alias), "NAME", "Name on the network", NULL},
    {"net-alias", 0, OPTION_LIST, AT(network_alias), "NAME", NULL, NULL},
    {"no-healthcheck", 0, OPTION_FLAG, AT(no_healthcheck), NULL, "Ignore the image's health check",
     NULL},
    {"oom-score-adj", 0, OPTION_INT, AT(oom_score_adj), "N", "OOM preference, -1000 to 1000", NULL},
    {"pid", 0, OPTION_STRING, AT(pid), "MODE", "PID namespace: private, host, container:NAME",
     NULL},
    {"pids-limit", 0, OPTION_INT, AT(pids_limit), "N", "Most processes; -1: any", NULL},
    {"platform", 0, OPTION_STRING, AT(platform), "OS/ARCH", "Platform of the image", NULL},
    {"privileged", 0, OPTION_FLAG, AT(privileged), NULL, "Give all capabilities and devices", NULL},
    {"publish", 'p', OPTION_LIST, AT(publish), "[IP:][HOST:]PORT[/udp]", "Publish a port", NULL},
    {"publish-all", 'P', OPTION_FLAG, AT(publish_all), NULL, "Publish all exposed ports", NULL},
    {"read-only", 0, OPTION_FLAG, AT(read_only), NULL, "Read-only root file system", NULL},
    {"restart", 0, OPTION_STRING, AT(restart), "POLICY",
     "no, on-failure[:N], always, unless-stopped", NULL},
    {"rm", 0, OPTION_FLAG, AT(rm), NULL, "Remove the workload when it ends", NULL},
    {"security-opt", 0, OPTION_LIST, AT(security_opt), "OPTION",
     "seccomp=FILE|unconfined, no-new-privileges, apparmor=, label=", NULL},
    {"shm-size", 0, OPTION_SIZE, AT(shm_size), "SIZE", "Size of /dev/shm (64m)", NULL},
    {"stop-signal", 0, OPTION_STRING, AT(stop_signal), "SIGNAL", "Signal that stops it", NULL},
    {"stop-timeout", 0, OPTION_INT, AT(stop_timeout), "SECONDS", "Time before SIGKILL (10)", NULL},
    {"sysctl", 0, OPTION_LIST, AT(sysctl), "KEY=VALUE", "Set a kernel parameter", NULL},
    {"tmpfs", 0, OPTION_LIST, AT(tmpfs), "PATH[:OPTIONS]", "Mount a tmpfs", NULL},
    {"tty", 't', OPTION_FLAG, AT(tty), NULL, "Give it a terminal", NULL},
    {"ulimit", 0, OPTION_LIST, AT(ulimit), "NAME=SOFT[:HARD]", "Resource limit", NULL},
    {"user", 'u', OPTION_STRING, AT(user), "USER[:GROUP]", "User name or id", NULL},
    {"userns", 0, OPTION_STRING, AT(userns), "MODE", "User namespace: host, auto", NULL},
    {"uts", 0, OPTION_STRING, AT(uts), "MODE", "UTS namespace: private or host", NULL},
    {"volume", 'v', OPTION_LIST, AT(volume), "SRC:DST[:OPTIONS]", "Mount a volume or directory",
     NULL},
    {"volumes-from", 0, OPTION_LIST, AT(volumes_from), "NAME", "Mount another workload's volumes",
     NULL},
    {"workdir", 'w', OPTION_STRING, AT(workdir), "DIR", "Working directory", NULL},
    {0},
};
