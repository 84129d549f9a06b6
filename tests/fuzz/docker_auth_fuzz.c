#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#include "image/docker_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(freep) char *text = fuzz_text(data, len);
    AUTO(credential_donep) struct credential credential = {0};
    if (docker_config_decode(text, &credential) == 0 &&
        (credential.user == NULL || credential.password == NULL)) {
        abort();
    }
    return 0;
}
