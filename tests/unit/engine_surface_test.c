#include "engine/surface.h"

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"
#include "unit.h"
#include "wall/wall.h"

static struct surface surface(const char *wall, const char *network, const char *capability,
                              size_t layers)
{
    struct surface surface = {0};
    struct workload_config config;
    const struct wall *found = NULL;
    struct err err = ERR_NONE;
    config_init(&config);
    ck_assert(wall == NULL || wall_find(wall, &found, &err) == 0);
    ck_assert_int_eq(strv_add(&config.network, network), 0);
    ck_assert(capability == NULL || strv_add(&config.cap_drop, capability) == 0);
    int r = surface_of(found, &config, layers, &surface, &err);
    ck_assert_msg(r == 0, "%s", err_text(&err));
    config_done(&config);
    return surface;
}

START_TEST(each_wall_leaves_less_open_than_the_thinner_one)
{
    struct surface bare = surface(NULL, "none", NULL, 1);
    struct surface container = surface("container", "none", NULL, 1);
    struct surface vm = surface("vm", "none", NULL, 1);
    ck_assert_uint_gt(bare.calls, container.calls);
    ck_assert_uint_gt(container.calls, vm.calls);
    ck_assert_uint_gt(vm.calls, vm.cpu_calls);
    ck_assert_uint_gt(vm.cpu_calls, 0);
    ck_assert_uint_eq(container.cpu_calls, 0);
    ck_assert_uint_eq(bare.devices + container.devices, 0);
}
END_TEST

START_TEST(a_capability_that_is_dropped_closes_its_calls)
{
    size_t all = surface("container", "none", NULL, 1).calls;
    ck_assert_uint_eq(surface("container", "none", "SYS_CHROOT", 1).calls, all - 1);
}
END_TEST

START_TEST(a_machine_has_a_device_more_for_each_layer_and_for_its_network)
{
    size_t least = surface("vm", "none", NULL, 1).devices;
    ck_assert_uint_eq(surface("vm", "none", NULL, 4).devices, least + 3);
    ck_assert_uint_eq(surface("vm", "bridge", NULL, 1).devices, least + 1);
    /* power, serial port, panic port; two drives, vsock, balloon, entropy */
    ck_assert_uint_eq(least, 8);
}
END_TEST

int main(void)
{
    return unit_run("engine/surface",
                    (const TTest *const[]){
                        each_wall_leaves_less_open_than_the_thinner_one,
                        a_capability_that_is_dropped_closes_its_calls,
                        a_machine_has_a_device_more_for_each_layer_and_for_its_network,
                        NULL,
                    });
}
