/*
 * What a client of the API sends: requests as bytes, then what they ask for.
 */
#include <stdint.h>
#include <stdlib.h>

#include "vmm/api.h"
#include "vmm/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct http_request request;
    struct api_call call;
    size_t at = 0;
    size_t used = 0;
    while (at < len && http_parse((const char *)data + at, len - at, &request, &used) == 0) {
        if (used == 0 || used > len - at || request.body_len > used) {
            abort();
        }
        if (api_parse(&request, &call, NULL) == 0) {
            api_call_done(&call);
        }
        at += used;
    }
    return 0;
}
