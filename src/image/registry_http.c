#include "image/registry_http.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "image/registry_auth.h"

#define REDIRECTS_MAX 5
#define CONNECT_TIMEOUT_SEC 20L
#define ERROR_BODY_MAX ((size_t)65536)
#define RETRY_AFTER_MAX_SEC 30
#define PATIENCE 20
#define BACKOFF_NS ((int64_t)200 * NS_PER_MS)

struct exchange {
    struct registry *registry;
    const struct http_request *request;
    struct http_response *response;
    CURL *curl;
    uint64_t body_at;
    int sink_result;
    bool whole_header; /* up to its empty line */
    bool stalled;
    uint64_t moved; /* bytes, both ways */
    int64_t moved_ns;
    uint64_t window_moved; /* at the window's start */
    int64_t window_ns;
};

void http_response_done(struct http_response *r)
{
    buf_done(&r->body);
    free(r->content_type);
    free(r->location);
    free(r->digest);
    free(r->range);
    strv_done(&r->challenges);
    *r = (struct http_response){0};
}

static CURL *take_handle(struct registry *registry)
{
    CURL *curl = NULL;
    (void)pthread_mutex_lock(&registry->mutex);
    if (registry->handle_count > 0) {
        curl = registry->handles[--registry->handle_count];
    }
    (void)pthread_mutex_unlock(&registry->mutex);
    if (curl != NULL) {
        curl_easy_reset(curl);
        return curl;
    }
    return curl_easy_init();
}

static void give_handle(struct registry *registry, CURL *curl)
{
    (void)pthread_mutex_lock(&registry->mutex);
    bool kept = registry->handle_count < HTTP_HANDLES_MAX;
    if (kept) {
        registry->handles[registry->handle_count++] = curl;
    }
    (void)pthread_mutex_unlock(&registry->mutex);
    if (!kept) {
        curl_easy_cleanup(curl);
    }
}

static size_t on_body(char *bytes, size_t one, size_t len, void *data)
{
    struct exchange *x = data;
    long status = 0;
    (void)one;
    (void)curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status < 300 && x->request->sink != NULL) {
        x->sink_result = x->request->sink(x->request->sink_data, status, bytes, len);
        return x->sink_result < 0 ? 0 : len;
    }
    bool fine = status >= 200 && status < 300;
    size_t max = fine && x->request->body_max > 0 ? x->request->body_max : ERROR_BODY_MAX;
    if (len > max || x->response->body.len > max - len) {
        x->sink_result = -EFBIG;
        return fine ? 0 : len; /* an endless error text is just not kept */
    }
    x->sink_result = buf_add(&x->response->body, bytes, len);
    return x->sink_result < 0 ? 0 : len;
}

/* The value of a header line when it has that name; the caller frees. */
static char *header_value(const char *line, size_t len, const char *name)
{
    size_t n = strlen(name);
    if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':') {
        return NULL;
    }
    const char *value = line + n + 1;
    const char *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) {
        end--;
    }
    return strndup(value, (size_t)(end - value));
}

static void keep_header(char **target, char *value)
{
    if (value != NULL) {
        free(*target);
        *target = value;
    }
}

static void keep_number(uint64_t *target, char *value)
{
    if (value != NULL) {
        (void)parse_u64(value, 10, target);
        free(value);
    }
}

static size_t on_header(char *line, size_t one, size_t len, void *data)
{
    struct exchange *x = data;
    struct http_response *r = x->response;
    (void)one;
    if (len > 5 && strncmp(line, "HTTP/", 5) == 0) {
        strv_done(&r->challenges);
        x->whole_header = false;
    }
    x->whole_header = x->whole_header || len == 2;
    keep_header(&r->content_type, header_value(line, len, "Content-Type"));
    keep_header(&r->location, header_value(line, len, "Location"));
    keep_header(&r->digest, header_value(line, len, "Docker-Content-Digest"));
    keep_header(&r->range, header_value(line, len, "Range"));
    char *challenge = header_value(line, len, "WWW-Authenticate");
    if (challenge != NULL && r->challenges.count < 16) {
        (void)strv_push(&r->challenges, challenge);
    } else {
        free(challenge);
    }
    keep_number(&r->retry_after_sec, header_value(line, len, "Retry-After"));
    keep_number(&r->chunk_min, header_value(line, len, "OCI-Chunk-Min-Length"));
    return len;
}

static size_t on_read(char *out, size_t one, size_t len, void *data)
{
    struct exchange *x = data;
    (void)one;
    const struct http_request *q = x->request;
    if (q->body_fd < 0) {
        size_t n = MIN(len, q->body_len - (size_t)x->body_at);
        memcpy(out, q->body + x->body_at, n);
        x->body_at += n;
        return n;
    }
    size_t want = (size_t)MIN((uint64_t)len, q->body_size - x->body_at);
    ssize_t n = pread(q->body_fd, out, want, (off_t)(q->body_offset + x->body_at));
    if (n < 0 || (n == 0 && want > 0)) {
        return CURL_READFUNC_ABORT;
    }
    x->body_at += (uint64_t)n;
    return (size_t)n;
}

static int on_seek(void *data, curl_off_t offset, int origin)
{
    struct exchange *x = data;
    if (origin != SEEK_SET || offset < 0) {
        return CURL_SEEKFUNC_FAIL;
    }
    x->body_at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* No bytes at all, or too few in a whole window; libcurl's own check takes five seconds more. */
static bool is_stalled(struct exchange *x, uint64_t moved)
{
    const struct registry_config *config = &x->registry->config;
    int64_t now = clock_monotonic_ns();
    int64_t window = MAX((int64_t)config->stall_ns, NS_PER_SEC);
    if (x->request->patient) {
        window *= PATIENCE;
    }
    if (moved != x->moved || x->moved_ns == 0) {
        x->moved = moved;
        x->moved_ns = now;
    }
    if (x->window_ns == 0 || moved < x->window_moved) {
        x->window_ns = now;
        x->window_moved = moved;
    }
    bool slow = false;
    if (now - x->window_ns >= window) {
        uint64_t seconds = (uint64_t)((now - x->window_ns) / NS_PER_SEC);
        slow = !x->request->patient &&
               moved - x->window_moved < MIN(config->low_speed, UINT64_MAX / 3600) * seconds;
        x->window_ns = now;
        x->window_moved = moved;
    }
    x->stalled = slow || now - x->moved_ns >= window;
    return x->stalled;
}

static int on_progress(void *data, curl_off_t total, curl_off_t now, curl_off_t send_total,
                       curl_off_t sent)
{
    struct exchange *x = data;
    (void)total;
    (void)send_total;
    if (is_stalled(x, (uint64_t)now + (uint64_t)sent)) {
        return 1;
    }
    if (x->request->sent != NULL) {
        x->request->sent(x->request->sent_data, (uint64_t)sent);
    }
    return x->request->cancel != NULL && __atomic_load_n(x->request->cancel, __ATOMIC_RELAXED);
}

static struct curl_slist *make_headers(const struct http_request *q, const char *authorization)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    const struct {
        const char *name;
        const char *value;
    } headers[] = {{"Accept", q->accept},
                   {"Content-Type", q->content_type},
                   {"Content-Range", q->content_range}};
    for (size_t i = 0; i < COUNT(headers); i++) {
        AUTO(freep)
        char *line = headers[i].value != NULL
                         ? str_printf("%s: %s", headers[i].name, headers[i].value)
                         : NULL;
        list = line != NULL ? curl_slist_append(list, line) : list;
    }
    return authorization != NULL ? curl_slist_append(list, authorization) : list;
}

static void set_body(struct exchange *x)
{
    const struct http_request *q = x->request;
    CURL *c = x->curl;
    bool has_body = q->body != NULL || q->body_fd >= 0;
    if (strcmp(q->method, "HEAD") == 0) {
        (void)curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (has_body || strcmp(q->method, "PUT") == 0) {
        uint64_t size = q->body_fd >= 0 ? q->body_size : q->body_len;
        (void)curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
        (void)curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)size);
        (void)curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
        (void)curl_easy_setopt(c, CURLOPT_READDATA, x);
        (void)curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        (void)curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
    } else if (strcmp(q->method, "POST") == 0) {
        (void)curl_easy_setopt(c, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, 0L);
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, "");
    }
}

static bool is_loopback_url(const char *url)
{
    const char *host = strstr(url, "://");
    host = host != NULL ? host + 3 : url;
    return str_starts(host, "127.") || str_starts(host, "localhost:") ||
           str_starts(host, "localhost/") || str_starts(host, "[::1]");
}

static void set_options(struct exchange *x, const char *url)
{
    const struct registry_config *config = &x->registry->config;
    const struct http_request *q = x->request;
    CURL *c = x->curl;
    (void)curl_easy_setopt(c, CURLOPT_URL, url);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "isola/" ISOLA_VERSION);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_SEC);
    (void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
    (void)curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    (void)curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
    if (is_loopback_url(url)) {
        (void)curl_easy_setopt(c, CURLOPT_NOPROXY, "*"); /* no proxy can reach our own loopback */
    }
    if (config->ca != NULL) {
        (void)curl_easy_setopt(c, CURLOPT_CAINFO, config->ca);
    }
    if (config->insecure) {
        (void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
        (void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (q->range_from > 0) {
        char range[32];
        (void)snprintf(range, sizeof(range), "%llu-", (unsigned long long)q->range_from);
        (void)curl_easy_setopt(c, CURLOPT_RANGE, range);
    }
    set_body(x);
}

/* Resolves a Location against the URL that was asked; what cannot be resolved is dropped. */
static void make_absolute(const char *base, char **location)
{
    if (*location == NULL) {
        return;
    }
    CURLU *url = curl_url();
    char *whole = NULL;
    if (url != NULL && curl_url_set(url, CURLUPART_URL, base, 0) == CURLUE_OK &&
        curl_url_set(url, CURLUPART_URL, *location, 0) == CURLUE_OK) {
        (void)curl_url_get(url, CURLUPART_URL, &whole, 0);
    }
    free(*location);
    *location = whole != NULL ? strdup(whole) : NULL;
    curl_free(whole);
    curl_url_cleanup(url);
}

/* Those that say more than "input/output error". */
static int errno_of(CURLcode code)
{
    static const struct {
        CURLcode code;
        int number;
    } known[] = {
        {CURLE_COULDNT_RESOLVE_HOST, EHOSTUNREACH}, {CURLE_COULDNT_CONNECT, ECONNREFUSED},
        {CURLE_OPERATION_TIMEDOUT, ETIMEDOUT},      {CURLE_ABORTED_BY_CALLBACK, ECANCELED},
        {CURLE_PEER_FAILED_VERIFICATION, EPROTO},   {CURLE_SSL_CACERT_BADFILE, EPROTO},
        {CURLE_SSL_CONNECT_ERROR, EPROTO},
    };
    for (size_t i = 0; i < COUNT(known); i++) {
        if (known[i].code == code) {
            return known[i].number;
        }
    }
    return EIO;
}

/* One transfer without following anything. *ret_code is curl's own result. */
static int transfer(struct registry *registry, const struct http_request *q, const char *url,
                    const char *authorization, struct http_response *ret, CURLcode *ret_code,
                    struct err *err)
{
    struct exchange x = {.registry = registry, .request = q, .response = ret};
    char text[CURL_ERROR_SIZE] = "";
    x.curl = take_handle(registry);
    struct curl_slist *headers = make_headers(q, authorization);
    if (x.curl == NULL || headers == NULL) {
        curl_slist_free_all(headers);
        curl_easy_cleanup(x.curl);
        return err_set(err, ENOMEM, "reach registry");
    }
    set_options(&x, url);
    (void)curl_easy_setopt(x.curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(x.curl, CURLOPT_ERRORBUFFER, text);
    log_debug("%s %s", q->method, url);
    CURLcode code = curl_easy_perform(x.curl);
    (void)curl_easy_getinfo(x.curl, CURLINFO_RESPONSE_CODE, &ret->status);
    make_absolute(url, &ret->location);
    (void)curl_easy_setopt(x.curl, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    give_handle(registry, x.curl);
    log_debug("%s %s: %ld", q->method, url, ret->status);
    /* libcurl takes a connection that ends in the middle of a header for the end of it. */
    if (code == CURLE_OK && !x.whole_header) {
        code = CURLE_RECV_ERROR;
        (void)snprintf(text, sizeof(text), "the answer ends in its header");
    }
    if (x.stalled) {
        code = CURLE_OPERATION_TIMEDOUT;
        (void)snprintf(text, sizeof(text), "timed out: less than %llu bytes a second for %llu s",
                       (unsigned long long)registry->config.low_speed,
                       (unsigned long long)(registry->config.stall_ns / (uint64_t)NS_PER_SEC));
    }
    *ret_code = code;
    if (code == CURLE_OK) {
        return 0;
    }
    if (x.sink_result < 0) {
        return x.sink_result == -EFBIG ? err_say(err, EFBIG, "the registry's answer is too large")
                                       : x.sink_result;
    }
    return err_say(err, errno_of(code), "%s", text[0] != '\0' ? text : curl_easy_strerror(code));
}

/* The host part ("https://a:5000") of a URL. */
static size_t origin_length(const char *url)
{
    const char *host = strstr(url, "://");
    return host != NULL ? (size_t)(host - url) + 3 + strcspn(host + 3, "/?#") : 0;
}

static bool same_origin(const char *a, const char *b)
{
    size_t n = origin_length(a);
    return n > 0 && n == origin_length(b) && strncasecmp(a, b, n) == 0;
}

static char *copy_authorization(struct registry *registry, uint64_t *ret_version)
{
    (void)pthread_mutex_lock(&registry->mutex);
    char *copy = registry->authorization != NULL ? strdup(registry->authorization) : NULL;
    *ret_version = registry->authorization_version;
    (void)pthread_mutex_unlock(&registry->mutex);
    return copy;
}

static bool is_redirect(const struct http_response *r)
{
    return (r->status == 301 || r->status == 302 || r->status == 303 || r->status == 307 ||
            r->status == 308) &&
           r->location != NULL;
}

static int fall_back(struct registry *registry, char **url)
{
    if (!registry->config.may_fall_back || !str_starts(*url, "https://")) {
        return -ENOENT;
    }
    char *plain = str_printf("http://%s", *url + strlen("https://"));
    (void)pthread_mutex_lock(&registry->mutex);
    size_t at = registry->config.endpoints.count - 1;
    char *endpoint = registry->config.endpoints.items[at];
    if (str_starts(endpoint, "https://")) {
        memmove(endpoint + 4, endpoint + 5, strlen(endpoint + 5) + 1);
    }
    (void)pthread_mutex_unlock(&registry->mutex);
    free(*url);
    *url = plain;
    return plain != NULL ? 0 : -ENOMEM;
}

/* Where Authorization may go: never to a host that only an answer has named. */
static char *authorized_host(struct registry *registry, const struct http_request *q,
                             const char *first)
{
    if (q->url[0] == '/' || q->own_host) {
        return strdup(first);
    }
    (void)pthread_mutex_lock(&registry->mutex);
    char *home = strdup(registry->config.endpoints.items[registry->endpoint]);
    (void)pthread_mutex_unlock(&registry->mutex);
    return home;
}

/* Follows redirects and answers challenges, each a few times. */
static int follow(struct registry *registry, const struct http_request *q, const char *first,
                  struct http_response *ret, CURLcode *ret_code, struct err *err)
{
    AUTO(freep) char *url = strdup(first);
    AUTO(freep) char *home = authorized_host(registry, q, first);
    bool challenged = false;
    for (int hops = 0; url != NULL && home != NULL;) {
        uint64_t version;
        AUTO(freep) char *authorization = copy_authorization(registry, &version);
        bool at_home = same_origin(url, home);
        http_response_done(ret);
        int r = transfer(registry, q, url, at_home ? authorization : NULL, ret, ret_code, err);
        if (*ret_code == CURLE_SSL_CONNECT_ERROR && fall_back(registry, &url) == 0) {
            free(home);
            home = strdup(url);
            if (err != NULL) {
                *err = ERR_NONE;
            }
            continue;
        }
        if (r < 0) {
            return r;
        }
        if (is_redirect(ret) && !(q->body_fd >= 0 && ret->status == 303)) {
            if (++hops > REDIRECTS_MAX) {
                return err_say(err, ELOOP, "too many redirects");
            }
            if (str_starts(url, "https://") && !str_starts(ret->location, "https://") &&
                !registry->config.insecure) {
                return err_say(err, EPROTO, "a redirect from https to '%.100s'", ret->location);
            }
            free(url);
            url = strdup(ret->location);
            continue;
        }
        if (ret->status == 401 && at_home && !challenged && !q->no_challenge) {
            challenged = true;
            r = registry_authorize(registry, &ret->challenges, version, err);
            if (r < 0) {
                return r;
            }
            if (r == 1) {
                continue;
            }
        }
        return 0;
    }
    return err_set(err, ENOMEM, "reach registry");
}

static bool is_transient(CURLcode code, const struct http_response *r)
{
    if (code != CURLE_OK) {
        return code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT ||
               code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING ||
               code == CURLE_PARTIAL_FILE || code == CURLE_COULDNT_RESOLVE_HOST ||
               code == CURLE_HTTP2 || code == CURLE_HTTP2_STREAM || code == CURLE_SSL_CONNECT_ERROR;
    }
    return r->status == 429 || r->status == 408 || (r->status >= 500 && r->status != 501);
}

/* Doubling waits; a registry's own wish counts up to a limit. */
void http_wait_before_retry(int64_t attempt, uint64_t retry_after_sec)
{
    int64_t ns = BACKOFF_NS << MIN(attempt, (int64_t)6);
    ns += clock_monotonic_ns() % (BACKOFF_NS / 2); /* so that many do not come at once again */
    if (retry_after_sec > 0) {
        ns = (int64_t)MIN(retry_after_sec, (uint64_t)RETRY_AFTER_MAX_SEC) * NS_PER_SEC;
    }
    const struct timespec time = {.tv_sec = ns / NS_PER_SEC, .tv_nsec = ns % NS_PER_SEC};
    (void)nanosleep(&time, NULL);
}

static int try_endpoint(struct registry *registry, const struct http_request *q, const char *url,
                        struct http_response *ret, struct err *err)
{
    for (int64_t attempt = 0;; attempt++) {
        CURLcode code = CURLE_OK;
        struct err own = ERR_NONE;
        int r = follow(registry, q, url, ret, &code, &own);
        bool again = is_transient(code, ret) && !q->no_retry &&
                     attempt < registry->config.retries &&
                     (q->cancel == NULL || !__atomic_load_n(q->cancel, __ATOMIC_RELAXED));
        if (!again) {
            if (r < 0 && err != NULL) {
                *err = own;
                if (own.code != 0) {
                    (void)err_wrap(err, -r, "registry %s", registry->name);
                }
            }
            return r;
        }
        log_debug("registry %s: again after: %s", registry->name, err_text(&own));
        http_wait_before_retry(attempt, ret->retry_after_sec);
    }
}

int http_exchange(struct registry *registry, const struct http_request *q,
                  struct http_response *ret, struct err *err)
{
    if (q->url[0] != '/') {
        return try_endpoint(registry, q, q->url, ret, err);
    }
    for (;;) {
        (void)pthread_mutex_lock(&registry->mutex);
        size_t at = registry->endpoint;
        bool last = at + 1 >= registry->config.endpoints.count;
        AUTO(freep)
        char *url = str_printf("%s%s", registry->config.endpoints.items[at], q->url);
        (void)pthread_mutex_unlock(&registry->mutex);
        if (url == NULL) {
            return err_set(err, ENOMEM, "reach registry");
        }
        struct err own = ERR_NONE;
        int r = try_endpoint(registry, q, url, ret, &own);
        bool useless = r < 0 || ret->status >= 400;
        bool cancelled = r == -ECANCELED || (r < 0 && own.code == 0);
        if (!useless || last || cancelled) {
            if (r < 0 && err != NULL && own.code != 0) {
                *err = own;
            }
            return r;
        }
        log_debug("mirror %s: %s; trying the next", url, r < 0 ? err_text(&own) : "no");
        (void)pthread_mutex_lock(&registry->mutex);
        if (registry->endpoint == at) {
            registry->endpoint++;
            /* What one endpoint gave is not for the next. */
            free(registry->authorization);
            registry->authorization = NULL;
            registry->authorization_version++;
        }
        (void)pthread_mutex_unlock(&registry->mutex);
    }
}

/* The first error of a distribution-spec error body, without control characters. */
static void error_text(const struct buf *body, char *out, size_t size)
{
    AUTO(json_unrefp) json_t *json = NULL;
    const char *text = NULL;
    out[0] = '\0';
    if (body->len == 0 || json_parse(body->data, body->len, "error", &json, NULL) < 0) {
        return;
    }
    const json_t *first = json_array_get(json_object_get(json, "errors"), 0);
    text = json_string_value(json_object_get(first, "message"));
    if (text == NULL) {
        text = json_string_value(json_object_get(json, "details"));
    }
    size_t n = 0;
    for (; text != NULL && text[n] != '\0' && n + 1 < size; n++) {
        out[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7f ? '?' : text[n];
    }
    out[n] = '\0';
}

int http_fail(const struct registry *registry, const struct http_response *r, const char *what,
              struct err *err)
{
    char text[200];
    error_text(&r->body, text, sizeof(text));
    const char *said = text[0] != '\0' ? text : "no reason given";
    switch (r->status) {
    case 401:
    case 403:
        (void)err_say(err, EACCES, "%s: registry %s: access denied (%ld: %s)", what, registry->name,
                      r->status, said);
        err_hint(err, "log in with: isola login %s", registry->name);
        return -EACCES;
    case 404:
        return err_say(err, ENOENT, "%s: registry %s: not found (%s)", what, registry->name, said);
    case 429:
        return err_say(err, EAGAIN, "%s: registry %s: too many requests; try again later", what,
                       registry->name);
    default:
        return err_say(err, EIO, "%s: registry %s: status %ld: %s", what, registry->name, r->status,
                       said);
    }
}
