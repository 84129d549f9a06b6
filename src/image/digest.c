#include "image/digest.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct digest {
    EVP_MD_CTX *context;
};

int digest_new(struct digest **ret_digest)
{
    AUTO(digest_freep) struct digest *digest = calloc(1, sizeof(*digest));
    if (digest == NULL) {
        return -ENOMEM;
    }
    digest->context = EVP_MD_CTX_new();
    if (digest->context == NULL || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
        return -ENOMEM;
    }
    *ret_digest = TAKE_PTR(digest);
    return 0;
}

void digest_free(struct digest *digest)
{
    if (digest != NULL) {
        EVP_MD_CTX_free(digest->context);
        free(digest);
    }
}

void digest_update(struct digest *digest, const void *data, size_t len)
{
    int ok = EVP_DigestUpdate(digest->context, data, len);
    assert(ok == 1);
}

void digest_final(struct digest *digest, char out[DIGEST_TEXT_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    int ok = EVP_DigestFinal_ex(digest->context, bytes, &n);
    assert(ok == 1 && n == 32);
    memcpy(out, "sha256:", DIGEST_HEX_OFFSET);
    for (size_t i = 0; i < 32; i++) {
        out[DIGEST_HEX_OFFSET + 2 * i] = hex[bytes[i] >> 4];
        out[DIGEST_HEX_OFFSET + 2 * i + 1] = hex[bytes[i] & 15];
    }
    out[DIGEST_LENGTH] = '\0';
}

int digest_of(const void *data, size_t len, char out[DIGEST_TEXT_SIZE])
{
    AUTO(digest_freep) struct digest *digest = NULL;
    int r = digest_new(&digest);
    if (r == 0) {
        digest_update(digest, data, len);
        digest_final(digest, out);
    }
    return r;
}

int digest_chain(const char *parent, const char *diff_id, char out[DIGEST_TEXT_SIZE])
{
    char text[2 * DIGEST_TEXT_SIZE];
    if (parent == NULL || parent[0] == '\0') {
        memmove(out, diff_id, DIGEST_TEXT_SIZE);
        return 0;
    }
    int n = snprintf(text, sizeof(text), "%s %s", parent, diff_id);
    return digest_of(text, (size_t)n, out);
}

int digest_leaning(const char *parent, const char *diff_id, char out[DIGEST_TEXT_SIZE])
{
    bool first = parent == NULL || parent[0] == '\0';
    return digest_chain(first ? "first" : parent, diff_id, out);
}
