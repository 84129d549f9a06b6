#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "image/image.h"
#include "image/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Manifest, index and configuration are told apart by what they hold: try all three. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *text = (const char *)data;
    AUTO(manifest_donep) struct manifest manifest = {0};
    AUTO(image_facts_donep) struct image_facts facts = {0};
    AUTO(image_config_donep) struct image_config config = {0};
    AUTO(json_unrefp) json_t *index = NULL;
    struct descriptor chosen;
    struct err err = ERR_NONE;
    (void)manifest_parse(text, len, NULL, &manifest, &err);
    (void)manifest_is_index(text, len, NULL);
    (void)index_choose(text, len, NULL, &index, &chosen, &err);
    if (image_facts_parse(text, len, &facts, &err) == 0 &&
        image_config_read(json_object_get(facts.json, "config"), &config, &err) == 0) {
        json_decref(image_config_write(&config));
    }
    return 0;
}
