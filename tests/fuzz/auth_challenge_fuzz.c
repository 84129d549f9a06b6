#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#include "image/auth_challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(freep) char *text = fuzz_text(data, len);
    AUTO(auth_challenge_donep) struct auth_challenge challenge = {0};
    if (auth_challenge_parse(text, &challenge) == 0 && challenge.bearer &&
        challenge.realm == NULL) {
        abort();
    }
    return 0;
}
