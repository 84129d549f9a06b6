/*
 * Blobs to a registry (distribution-spec 1.1, "Pushing blobs"): whole, in pieces, or mounted.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "image/registry.h"
#include "image/registry_http.h"

/* Up to here a blob travels in the request that ends its upload: two requests instead of three. */
#define SMALL_BLOB ((uint64_t)1 << 20)
/* A chunk that a registry may not be asked to need. */
#define CHUNK_MIN_MAX ((uint64_t)1 << 30)

struct upload {
    struct registry *registry;
    const struct registry_upload *spec;
    char *session;   /* where the next bytes go; NULL: none is open */
    uint64_t offset; /* bytes that the registry has */
    uint64_t chunk_min;
    uint64_t piece_at; /* where the piece that is sent now begins */
};

/* POST to uploads/: *ret_session is where the bytes go. 1: nothing is left to do. */
static int open_session(struct registry *registry, const char *query, char **ret_session,
                        uint64_t *ret_chunk_min, struct err *err)
{
    AUTO(http_response_donep) struct http_response response = {0};
    AUTO(freep)
    char *path = str_printf("/v2/%s/blobs/uploads/%s", registry->repository, query);
    const struct http_request request = {.method = "POST", .url = path, .body_fd = -1};
    int r = path != NULL ? http_exchange(registry, &request, &response, err)
                         : err_set(err, ENOMEM, "push");
    if (r < 0) {
        return r;
    }
    if (response.status == 201) {
        return 1;
    }
    if (response.status != 202) {
        return http_fail(registry, &response, "push", err);
    }
    if (response.location == NULL) {
        return err_say(err, EPROTO, "registry %s: it does not say where to send a blob",
                       registry->name);
    }
    *ret_session = TAKE_PTR(response.location);
    *ret_chunk_min = MIN(response.chunk_min, CHUNK_MIN_MAX);
    return 0;
}

int registry_mount_blob(struct registry *registry, const char *digest, const char *from_repository,
                        char **ret_session, struct err *err)
{
    uint64_t chunk_min;
    char *session = NULL;
    AUTO(freep) char *query = str_printf("?mount=%s&from=%s", digest, from_repository);
    int r = query != NULL ? open_session(registry, query, &session, &chunk_min, err)
                          : err_set(err, ENOMEM, "push");
    if (r == 0) {
        *ret_session = session;
    }
    return r;
}

static void tell_sent(void *data, uint64_t now)
{
    const struct upload *u = data;
    u->spec->bytes(u->spec->bytes_data, u->piece_at + now);
}

/* "0-99": 100 bytes. 0 when there is nothing to learn from it. */
static uint64_t range_end(const char *range)
{
    const char *dash = range != NULL ? strrchr(range, '-') : NULL;
    uint64_t last;
    if (dash == NULL || parse_u64(dash + 1, 10, &last) < 0 || last == 0 || last == UINT64_MAX) {
        return 0; /* "0-0" is what some say of an empty upload */
    }
    return last + 1;
}

static void leave_session(struct upload *u)
{
    free(u->session);
    u->session = NULL;
    u->offset = 0;
}

/* After an answer with a new place for the next bytes. */
static void take_session(struct upload *u, struct http_response *response)
{
    if (response->location != NULL) {
        free(u->session);
        u->session = TAKE_PTR(response->location);
    }
}

/* Asks an upload that was cut how far it got. Without a good answer it begins anew. */
static void ask_offset(struct upload *u)
{
    AUTO(http_response_donep) struct http_response response = {0};
    if (u->session == NULL) {
        return;
    }
    const struct http_request request = {.method = "GET", .url = u->session, .body_fd = -1};
    int r = http_exchange(u->registry, &request, &response, NULL);
    uint64_t has = range_end(response.range);
    if (r < 0 || response.status != 204 || has > u->spec->size) {
        leave_session(u);
        return;
    }
    u->offset = has;
    take_session(u, &response);
}

/* One request: a piece with PATCH, or with last the end of the upload and what is left. */
static int send_piece(struct upload *u, bool last, uint64_t len, struct http_response *response,
                      struct err *err)
{
    char range[64];
    AUTO(freep)
    char *url = last ? str_printf("%s%sdigest=%s", u->session,
                                  strchr(u->session, '?') != NULL ? "&" : "?", u->spec->digest)
                     : strdup(u->session);
    if (url == NULL) {
        return err_set(err, ENOMEM, "push");
    }
    (void)snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)u->offset,
                   (unsigned long long)(u->offset + len - 1));
    u->piece_at = u->offset;
    const struct http_request request = {.method = last ? "PUT" : "PATCH",
                                         .url = url,
                                         .content_type = "application/octet-stream",
                                         .content_range = last ? NULL : range,
                                         .body = len == 0 ? "" : NULL,
                                         .body_fd = len > 0 ? u->spec->fd : -1,
                                         .body_offset = u->offset,
                                         .body_size = len,
                                         .sent = tell_sent,
                                         .sent_data = u,
                                         .cancel = u->spec->cancel,
                                         .patient = last,
                                         .no_retry = true};
    return http_exchange(u->registry, &request, response, err);
}

/* 1: the blob is there. 0: go on. */
static int step(struct upload *u, struct http_response *response, struct err *err)
{
    if (u->session == NULL) {
        u->offset = 0;
        int r = open_session(u->registry, "", &u->session, &u->chunk_min, err);
        if (r != 0) {
            return r;
        }
    }
    uint64_t left = u->spec->size - u->offset;
    bool last = left == 0 || (u->offset == 0 && left <= SMALL_BLOB);
    uint64_t chunk = MAX(u->registry->config.upload_chunk, u->chunk_min);
    uint64_t len = last ? left : MIN(left, chunk);
    int r = send_piece(u, last, len, response, err);
    if (r < 0) {
        return r;
    }
    if (last && (response->status == 201 || response->status == 204)) {
        return 1;
    }
    if (!last && response->status >= 200 && response->status < 300) {
        uint64_t has = range_end(response->range);
        if (has > u->spec->size || (has != 0 && has <= u->offset)) {
            return err_say(err, EPROTO,
                           "registry %s: it has %llu bytes of an upload instead of "
                           "%llu",
                           u->registry->name, (unsigned long long)has,
                           (unsigned long long)(u->offset + len));
        }
        u->offset = has != 0 ? has : u->offset + len;
        take_session(u, response);
        return 0;
    }
    return http_fail(u->registry, response, "push", err);
}

/* Whether another try may help after r, which step() has returned. */
static bool may_recover(struct upload *u, int r, const struct http_response *response, bool resumed)
{
    if (r == -ECANCELED || r == -ENOMEM) {
        return false;
    }
    if (response->status == 0 || response->status >= 500 || response->status == 429 ||
        response->status == 408) {
        ask_offset(u);
        return true;
    }
    /*
     * Not where the registry is, or an upload that it does not know any more: libcurl repeats a
     * request by itself when a connection that was used before is closed.
     */
    uint64_t before = u->offset;
    if (response->status == 404 || response->status == 416) {
        ask_offset(u);
        if (u->offset == before) {
            leave_session(u);
        }
        return true;
    }
    if (resumed && response->status == 400) {
        leave_session(u);
        return true;
    }
    return false;
}

int registry_put_blob(struct registry *registry, const struct registry_upload *spec, char *session,
                      struct err *err)
{
    struct upload u = {.registry = registry, .spec = spec, .session = session};
    bool resumed = session != NULL;
    int64_t fruitless = 0;
    int r;
    for (;;) {
        AUTO(http_response_donep) struct http_response response = {0};
        struct err own = ERR_NONE;
        uint64_t before = u.offset;
        r = step(&u, &response, &own);
        if (r > 0) {
            break;
        }
        if (r == 0) {
            fruitless = 0;
            continue;
        }
        bool again = may_recover(&u, r, &response, resumed);
        fruitless = u.offset > before ? 0 : fruitless + 1;
        if (!again || fruitless > registry->config.retries) {
            if (err != NULL) {
                *err = own;
            }
            break;
        }
        resumed = true;
        http_wait_before_retry(fruitless, response.retry_after_sec);
    }
    free(u.session);
    return MIN(r, 0);
}
