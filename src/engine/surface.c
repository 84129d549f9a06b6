#include "engine/surface.h"

#include <errno.h>
#include <seccomp.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/json.h"
#include "engine/bundle.h"
#include "engine/seccomp_profile.h"
#include "engine/vm_bundle.h"
#include "vmm/jail.h"
#include "wall/vm.h"

/* No architecture has numbers near it. */
#define NUMBERS_MAX 1024

/* Names that only other architectures have are negative for ours. */
static int count_allowed(const json_t *profile, size_t *ret, struct err *err)
{
    AUTO(freep) bool *allowed = calloc(NUMBERS_MAX, sizeof(*allowed));
    size_t calls = 0;
    size_t i;
    size_t k;
    json_t *rule;
    json_t *name;
    if (allowed == NULL) {
        return err_set(err, ENOMEM, "count system calls");
    }
    json_array_foreach (json_object_get(profile, "syscalls"), i, rule) {
        if (!str_eq(json_string_value(json_object_get(rule, "action")), "SCMP_ACT_ALLOW")) {
            continue;
        }
        json_array_foreach (json_object_get(rule, "names"), k, name) {
            int number = seccomp_syscall_resolve_name(json_string_value(name));
            if (number >= 0 && number < NUMBERS_MAX && !allowed[number]) {
                allowed[number] = true;
                calls++;
            }
        }
    }
    *ret = calls;
    return 0;
}

static int of_container(const struct workload_config *config, struct surface *ret, struct err *err)
{
    AUTO(strv_donep) struct strv capabilities = {0};
    AUTO(json_unrefp) json_t *profile = NULL;
    struct surface surface = {
        .note = "what the default system call filter lets the workload ask of the host's kernel",
    };
    int r = bundle_capabilities(config, &capabilities, err);
    r = r < 0 ? r : seccomp_profile_default(&capabilities, &profile, err);
    r = r < 0 ? r : count_allowed(profile, &surface.calls, err);
    if (r == 0) {
        *ret = surface;
    }
    return r;
}

static int of_vm(const struct workload_config *config, size_t layers, struct surface *ret,
                 struct err *err)
{
    struct surface surface = {
        .calls = jail_process_calls(),
        .cpu_calls = jail_cpu_calls(),
        .note = "the workload asks its own kernel, and that the devices; the system calls are what "
                "the filter leaves to one who has taken isola-vmm through a device",
    };
    int r = vm_bundle_devices(config, layers, &surface.devices, err);
    if (r == 0) {
        *ret = surface;
    }
    return r;
}

static void of_bare(struct surface *ret)
{
    struct surface surface = {.note = "no filter: all that libseccomp knows for this architecture"};
    for (int number = 0; number < NUMBERS_MAX; number++) {
        AUTO(freep) char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
        surface.calls += name != NULL;
    }
    *ret = surface;
}

int surface_of(const struct wall *wall, const struct workload_config *config, size_t layers,
               struct surface *ret, struct err *err)
{
    if (wall == NULL) {
        of_bare(ret);
        return 0;
    }
    return wall == &vm_wall ? of_vm(config, layers, ret, err) : of_container(config, ret, err);
}
