#include "engine/config_options.h"

#include <errno.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* "1.5" CPUs as billionths. */
int config_parse_cpus(const char *value, void *target, struct err *err)
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

int config_parse_swap(const char *value, void *target, struct err *err)
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

int config_parse_entrypoint(const char *value, void *target, struct err *err)
{
    (void)err;
    struct workload_config *config = target;
    config->entrypoint = value;
    config->entrypoint_set = true;
    return 0;
}
