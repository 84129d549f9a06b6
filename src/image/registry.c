#include "image/registry.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "image/digest.h"
#include "image/layer_writer.h"
#include "image/manifest.h"
#include "image/registry_http.h"
#include "image/store_internal.h"

#define ACCEPT_MANIFESTS                                                                           \
    MEDIA_OCI_INDEX ", " MEDIA_DOCKER_LIST ", " MEDIA_OCI_MANIFEST ", " MEDIA_DOCKER_MANIFEST

int registry_open(const struct reference *reference, bool for_push,
                  const struct credential *credential, struct registry **ret_registry,
                  struct err *err)
{
    AUTO(registry_closep) struct registry *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return err_set(err, ENOMEM, "reach registry");
    }
    (void)pthread_mutex_init(&g->asking, NULL);
    (void)pthread_mutex_init(&g->mutex, NULL);
    g->for_push = for_push;
    g->name = strdup(reference->registry);
    g->repository = strdup(reference->repository != NULL ? reference->repository : "");
    if (g->name == NULL || g->repository == NULL) {
        return err_set(err, ENOMEM, "reach registry");
    }
    int r = registry_config_load(reference->registry, for_push, &g->config, err);
    if (r < 0) {
        return r;
    }
    if (credential != NULL) {
        g->credential.user = strdup(credential->user);
        g->credential.password = strdup(credential->password);
        r = g->credential.user != NULL && g->credential.password != NULL ? 0 : -ENOMEM;
    } else {
        r = docker_config_get(reference->registry, &g->credential, err);
    }
    if (r < 0) {
        return err != NULL && err->code != 0 ? r : err_set(err, -r, "reach registry");
    }
    *ret_registry = TAKE_PTR(g);
    return 0;
}

void registry_close(struct registry *g)
{
    if (g == NULL) {
        return;
    }
    for (size_t i = 0; i < g->handle_count; i++) {
        curl_easy_cleanup(g->handles[i]);
    }
    if (g->authorization != NULL) {
        explicit_bzero(g->authorization, strlen(g->authorization));
    }
    free(g->authorization);
    free(g->name);
    free(g->repository);
    registry_config_done(&g->config);
    credential_done(&g->credential);
    strv_done(&g->more_scopes);
    (void)pthread_mutex_destroy(&g->mutex);
    (void)pthread_mutex_destroy(&g->asking);
    free(g);
}

uint64_t registry_layer_bytes_max(const struct registry *registry)
{
    return registry->config.layer_bytes_max;
}

int registry_may_read(struct registry *registry, const char *repository)
{
    (void)pthread_mutex_lock(&registry->mutex);
    int r = strv_addf(&registry->more_scopes, "repository:%s:pull", repository);
    (void)pthread_mutex_unlock(&registry->mutex);
    return r;
}

int registry_ping(struct registry *registry, struct err *err)
{
    AUTO(http_response_donep) struct http_response response = {0};
    const struct http_request request = {.method = "GET", .url = "/v2/", .body_fd = -1};
    int r = http_exchange(registry, &request, &response, err);
    return r < 0 || response.status == 200 ? r : http_fail(registry, &response, "log in", err);
}

void registry_manifest_done(struct registry_manifest *m)
{
    buf_done(&m->text);
    free(m->content_type);
    *m = (struct registry_manifest){0};
}

int registry_get_manifest(struct registry *registry, const char *what,
                          struct registry_manifest *ret, struct err *err)
{
    AUTO(registry_manifest_donep) struct registry_manifest m = {0};
    AUTO(http_response_donep) struct http_response response = {0};
    AUTO(freep) char *path = str_printf("/v2/%s/manifests/%s", registry->repository, what);
    const struct http_request request = {.method = "GET",
                                         .url = path,
                                         .accept = ACCEPT_MANIFESTS,
                                         .body_fd = -1,
                                         .body_max = MANIFEST_SIZE_MAX};
    if (path == NULL) {
        return err_set(err, ENOMEM, "get manifest");
    }
    int r = http_exchange(registry, &request, &response, err);
    if (r < 0) {
        return r;
    }
    if (response.status != 200) {
        AUTO(freep) char *name = str_printf("manifest %s:%s", registry->repository, what);
        return http_fail(registry, &response, name != NULL ? name : "manifest", err);
    }
    if (digest_of(response.body.data, response.body.len, m.digest) < 0) {
        return err_set(err, ENOMEM, "get manifest");
    }
    if (digest_is_valid(what) && !str_eq(what, m.digest)) {
        return err_say(err, EBADMSG, "registry %s: manifest %s has the digest %s", registry->name,
                       what, m.digest);
    }
    m.text = response.body;
    response.body = (struct buf){0};
    m.content_type = TAKE_PTR(response.content_type);
    if (m.text.data == NULL) {
        return err_say(err, EBADMSG, "registry %s: an empty manifest", registry->name);
    }
    *ret = m;
    m = (struct registry_manifest){0};
    return 0;
}

static char *blob_path(const struct registry *registry, const char *digest)
{
    return str_printf("/v2/%s/blobs/%s", registry->repository, digest);
}

int registry_get_blob(struct registry *registry, const struct descriptor *blob, struct buf *ret,
                      struct err *err)
{
    AUTO(http_response_donep) struct http_response response = {0};
    AUTO(freep) char *path = blob_path(registry, blob->digest);
    const struct http_request request = {.method = "GET",
                                         .url = path,
                                         .body_fd = -1,
                                         .body_max = MAX((size_t)blob->size, (size_t)1)};
    if (path == NULL) {
        return err_set(err, ENOMEM, "get blob");
    }
    if (blob->size > CONFIG_SIZE_MAX) {
        return err_say(err, EFBIG, "image configuration: %llu bytes are more than the limit",
                       (unsigned long long)blob->size);
    }
    int r = http_exchange(registry, &request, &response, err);
    if (r < 0) {
        return r;
    }
    if (response.status != 200) {
        return http_fail(registry, &response, blob->digest, err);
    }
    if (response.body.len != blob->size || response.body.data == NULL) {
        return err_say(err, EBADMSG, "registry %s: blob %s has %zu bytes instead of %llu",
                       registry->name, blob->digest, response.body.len,
                       (unsigned long long)blob->size);
    }
    *ret = response.body;
    response.body = (struct buf){0};
    return 0;
}

struct layer_sink {
    struct layer_writer *writer;
    uint64_t skip; /* bytes that come again because the server took no notice of the range */
    uint64_t asked_from;
    bool started;
    void (*bytes)(void *data, uint64_t now);
    void *bytes_data;
    struct err err;
};

static int take_bytes(void *data, long status, const char *bytes, size_t len)
{
    struct layer_sink *sink = data;
    if (!sink->started) {
        sink->started = true;
        sink->skip = status == 206 ? 0 : sink->asked_from;
    }
    size_t skip = (size_t)MIN((uint64_t)len, sink->skip);
    sink->skip -= skip;
    int r = len > skip ? layer_writer_push(sink->writer, bytes + skip, len - skip, &sink->err) : 0;
    if (r == 0) {
        sink->bytes(sink->bytes_data, layer_writer_offset(sink->writer));
    }
    return r;
}

int registry_fetch_layer(void *data, const struct descriptor *blob, struct layer_writer *writer,
                         void (*bytes)(void *data, uint64_t now), void *bytes_data,
                         const bool *cancel, struct err *err)
{
    struct registry *registry = data;
    AUTO(freep) char *path = blob_path(registry, blob->digest);
    if (path == NULL) {
        return err_set(err, ENOMEM, "get layer");
    }
    int64_t fruitless = 0;
    while (layer_writer_offset(writer) < blob->size) {
        AUTO(http_response_donep) struct http_response response = {0};
        uint64_t from = layer_writer_offset(writer);
        struct layer_sink sink = {
            .writer = writer, .asked_from = from, .bytes = bytes, .bytes_data = bytes_data};
        const struct http_request request = {.method = "GET",
                                             .url = path,
                                             .body_fd = -1,
                                             .sink = take_bytes,
                                             .sink_data = &sink,
                                             .range_from = from,
                                             .cancel = cancel,
                                             .no_retry = true};
        struct err own = ERR_NONE;
        int r = http_exchange(registry, &request, &response, &own);
        if (sink.err.code != 0) {
            *err = sink.err;
            return -sink.err.code;
        }
        if (__atomic_load_n(cancel, __ATOMIC_RELAXED)) {
            return err_set(err, ECANCELED, "get layer");
        }
        if (r == 0 && response.status >= 400 && response.status < 500 && response.status != 429 &&
            response.status != 408) {
            return http_fail(registry, &response, blob->digest, err);
        }
        if (layer_writer_offset(writer) >= blob->size) {
            break;
        }
        /* Cut, stalled or short: go on from where it stopped, as long as that gets us anywhere. */
        uint64_t gained = layer_writer_offset(writer) - from;
        fruitless = gained >= MIN(blob->size / 8, (uint64_t)1 << 20) ? 0 : fruitless + 1;
        if (fruitless > registry->config.retries) {
            if (r < 0) {
                *err = own;
                return r;
            }
            return response.status >= 300
                       ? http_fail(registry, &response, blob->digest, err)
                       : err_say(err, EBADMSG, "registry %s: blob %s ends after %llu of %llu bytes",
                                 registry->name, blob->digest, (unsigned long long)from,
                                 (unsigned long long)blob->size);
        }
        http_wait_before_retry(fruitless, response.retry_after_sec);
    }
    return 0;
}

int registry_has_blob(struct registry *registry, const char *digest, struct err *err)
{
    AUTO(http_response_donep) struct http_response response = {0};
    AUTO(freep) char *path = blob_path(registry, digest);
    const struct http_request request = {.method = "HEAD", .url = path, .body_fd = -1};
    int r = path != NULL ? http_exchange(registry, &request, &response, err)
                         : err_set(err, ENOMEM, "push");
    if (r < 0) {
        return r;
    }
    if (response.status == 200 || response.status == 404) {
        return response.status == 200;
    }
    return http_fail(registry, &response, "push", err);
}

int registry_put_manifest(struct registry *registry, const char *tag, const char *media_type,
                          const char *text, size_t len, struct err *err)
{
    AUTO(http_response_donep) struct http_response response = {0};
    AUTO(freep) char *path = str_printf("/v2/%s/manifests/%s", registry->repository, tag);
    const struct http_request request = {.method = "PUT",
                                         .url = path,
                                         .content_type = media_type,
                                         .body = text,
                                         .body_len = len,
                                         .body_fd = -1};
    int r = path != NULL ? http_exchange(registry, &request, &response, err)
                         : err_set(err, ENOMEM, "push");
    if (r < 0) {
        return r;
    }
    return response.status == 201 || response.status == 200
               ? 0
               : http_fail(registry, &response, "push manifest", err);
}
