#include <stdint.h>
#include <string.h>

#include "engine/config.h"
#include "engine/mount_spec.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Lines of "v" (-v), "m" (--mount), "t" (--tmpfs) or "i" (VOLUME of an image), and the text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(config_donep) struct workload_config config = {0};
    AUTO(mount_specs_donep) struct mount_specs specs = {0};
    AUTO(freep) char *text = fuzz_text(data, len);
    char *cursor = text;
    for (char *line; (line = strsep(&cursor, "\n")) != NULL;) {
        struct strv *list = line[0] == 'v'   ? &config.volume
                            : line[0] == 'm' ? &config.mount
                            : line[0] == 't' ? &config.tmpfs
                            : line[0] == 'i' ? &config.image_volume
                                             : NULL;
        if (list != NULL && strv_add(list, line + 1) < 0) {
            abort();
        }
    }
    if (mount_specs_parse(&config, &specs, NULL) < 0) {
        return 0;
    }
    for (size_t i = 0; i < specs.count; i++) {
        const struct mount_spec *mount = &specs.items[i];
        /* Absolute, normalised, once. */
        if (mount->target[0] != '/' || strstr(mount->target, "//") != NULL ||
            strstr(mount->target, "/../") != NULL ||
            (mount->type == MOUNT_BIND && (mount->source == NULL || mount->source[0] != '/')) ||
            (i > 0 && strcmp(mount->target, specs.items[i - 1].target) == 0)) {
            abort();
        }
    }
    return 0;
}
