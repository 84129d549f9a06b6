/* Any bytes as config.json, process.json and resources: read, or refused with a text. */
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "container/cgroup.h"
#include "container/device_bpf.h"
#include "container/mount_options.h"
#include "container/spec.h"

typedef int parse_fn(const char *text, size_t len, const char *name, struct spec **ret_spec,
                     struct err *err);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void use(const struct spec *spec)
{
    char path[200];
    struct mount_options options;
    struct bpf_insn *code;
    size_t count;
    (void)cgroup_path_for(spec, "id", path, sizeof(path), NULL);
    for (size_t i = 0; i < spec->mount_count; i++) {
        (void)mount_options_parse(&spec->mounts[i], i, &options, NULL);
    }
    if (device_bpf_build(spec->resources.devices, spec->resources.device_count, &code, &count) ==
        0) {
        free(code);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static parse_fn *const parsers[] = {spec_parse, spec_parse_process, spec_parse_resources};
    for (size_t i = 0; i < COUNT(parsers); i++) {
        struct err err = ERR_NONE;
        AUTO(spec_freep) struct spec *spec = NULL;
        int r = parsers[i]((const char *)data, len, "config.json", &spec, &err);
        if ((r < 0) != (spec == NULL) || (r < 0 && err.text[0] == '\0')) {
            abort();
        }
        if (spec != NULL) {
            use(spec);
        }
    }
    return 0;
}
