#include "image/registry_auth.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "image/auth_challenge.h"
#include "image/registry_http.h"

#define TOKEN_ANSWER_MAX ((size_t)1 << 20)

static char *basic_header(const struct credential *c)
{
    AUTO(freep)
    char *plain = str_printf("%s:%s", c->user, c->password != NULL ? c->password : "");
    size_t len = plain != NULL ? strlen(plain) : 0;
    AUTO(freep) char *encoded = plain != NULL ? malloc((len + 2) / 3 * 4 + 1) : NULL;
    if (encoded == NULL) {
        return NULL;
    }
    (void)EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)plain, (int)len);
    explicit_bzero(plain, len);
    return str_printf("Authorization: Basic %s", encoded);
}

static int add_escaped(struct buf *url, const char *name, const char *value, bool first)
{
    char *escaped = curl_easy_escape(NULL, value, 0);
    int r = escaped != NULL ? buf_printf(url, "%s%s=%s", first ? "" : "&", name, escaped) : -ENOMEM;
    curl_free(escaped);
    return r;
}

/* One parameter each in a URL; in a form one for all, as OAuth2 (RFC 6749, 3.3) has it. */
static int add_scopes(const struct strv *scopes, bool form, struct buf *out)
{
    AUTO(buf_donep) struct buf all = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < scopes->count; i++) {
        r = form ? buf_printf(&all, "%s%s", i > 0 ? " " : "", scopes->items[i])
                 : add_escaped(out, "scope", scopes->items[i], out->len == 0);
    }
    return r == 0 && all.len > 0 ? add_escaped(out, "scope", all.data, out->len == 0) : r;
}

/* more: with the scopes beside the repository's own. */
static int make_query(struct registry *registry, const struct auth_challenge *challenge, bool more,
                      bool form, struct buf *out)
{
    AUTO(strv_donep) struct strv scopes = {0};
    int r = challenge->service != NULL ? add_escaped(out, "service", challenge->service, true) : 0;
    if (r == 0 && registry->repository[0] != '\0') {
        r = strv_addf(&scopes, "repository:%s:%s", registry->repository,
                      registry->for_push ? "pull,push" : "pull");
    }
    if (r == 0 && more) {
        (void)pthread_mutex_lock(&registry->mutex);
        r = strv_copy(&registry->more_scopes, &scopes);
        (void)pthread_mutex_unlock(&registry->mutex);
    }
    return r < 0 ? r : add_scopes(&scopes, form, out);
}

/* A GET with basic authentication, or with an identity token an OAuth2 POST. */
static int ask_token(struct registry *registry, const struct auth_challenge *challenge, bool more,
                     struct http_response *response, struct err *err)
{
    const struct credential *c = &registry->credential;
    AUTO(buf_donep) struct buf query = {0};
    AUTO(buf_donep) struct buf url = {0};
    int r = make_query(registry, challenge, more, c->token != NULL, &query);
    const char *questions = query.data != NULL ? query.data : "";
    /* A token server that asks for a token would have us ask for ever. */
    struct http_request request = {.method = "GET",
                                   .body_fd = -1,
                                   .body_max = TOKEN_ANSWER_MAX,
                                   .no_challenge = true,
                                   .own_host = true};
    if (r == 0 && c->token != NULL) {
        r = buf_add_str(&query, "&grant_type=refresh_token&client_id=isola");
        r = r < 0 ? r : add_escaped(&query, "refresh_token", c->token, false);
        r = r < 0 ? r : buf_add_str(&url, challenge->realm);
        request.method = "POST";
        request.content_type = "application/x-www-form-urlencoded";
        request.body = query.data;
        request.body_len = query.len;
    } else if (r == 0) {
        r = buf_printf(&url, "%s%s%s", challenge->realm,
                       strchr(challenge->realm, '?') != NULL ? "&" : "?", questions);
    }
    if (r < 0) {
        return err_set(err, ENOMEM, "ask for a token");
    }
    request.url = url.data;
    /* A session of its own: the token server is another host with another Authorization. */
    struct registry server = {
        .config = registry->config, .name = registry->name, .repository = registry->repository};
    server.config.may_fall_back = false;
    (void)pthread_mutex_init(&server.mutex, NULL);
    if (c->user != NULL && c->token == NULL) {
        server.authorization = basic_header(c);
    }
    r = http_exchange(&server, &request, response, err);
    for (size_t i = 0; i < server.handle_count; i++) {
        curl_easy_cleanup(server.handles[i]);
    }
    free(server.authorization);
    (void)pthread_mutex_destroy(&server.mutex);
    return r;
}

static int get_bearer(struct registry *registry, const struct auth_challenge *challenge,
                      char **ret_header, struct err *err)
{
    AUTO(http_response_donep) struct http_response response = {0};
    AUTO(json_unrefp) json_t *json = NULL;
    bool plain = str_starts(challenge->realm, "http://");
    bool secret = registry->credential.user != NULL || registry->credential.token != NULL;
    (void)pthread_mutex_lock(&registry->mutex);
    const char *endpoint = registry->config.endpoints.items[registry->endpoint];
    bool in_clear = str_starts(endpoint, "http://");
    (void)pthread_mutex_unlock(&registry->mutex);
    /* Who asks in clear text already has nothing to lose; others must not be lured into it. */
    if ((!plain && !str_starts(challenge->realm, "https://")) || (plain && secret && !in_clear)) {
        return err_say(err, EPROTO, "registry %s: refusing to send a password to '%.100s'",
                       registry->name, challenge->realm);
    }
    int r = ask_token(registry, challenge, true, &response, err);
    if (r == 0 && response.status != 200 && registry->more_scopes.count > 0) {
        /* A server that refuses all for one repository too many. */
        http_response_done(&response);
        r = ask_token(registry, challenge, false, &response, err);
    }
    if (r == 0 && response.status != 200) {
        return http_fail(registry, &response, "ask for a token", err);
    }
    r = r < 0 ? r
              : json_parse(response.body.data != NULL ? response.body.data : "", response.body.len,
                           "token", &json, err);
    if (r < 0) {
        return r;
    }
    const char *token = json_string_value(json_object_get(json, "token"));
    token = token != NULL ? token : json_string_value(json_object_get(json, "access_token"));
    if (token == NULL || strpbrk(token, "\r\n") != NULL) {
        return err_say(err, EPROTO, "registry %s: the token server sent no token", registry->name);
    }
    *ret_header = str_printf("Authorization: Bearer %s", token);
    return *ret_header != NULL ? 0 : err_set(err, ENOMEM, "log in");
}

static int choose(const struct strv *challenges, struct auth_challenge *ret)
{
    int found = -ENOENT;
    for (size_t i = 0; i < challenges->count; i++) {
        struct auth_challenge c = {0};
        if (auth_challenge_parse(challenges->items[i], &c) < 0) {
            continue;
        }
        if (found < 0 || (c.bearer && !ret->bearer)) {
            auth_challenge_done(ret);
            *ret = c;
            found = 0;
        } else {
            auth_challenge_done(&c);
        }
    }
    return found;
}

static int authorize(struct registry *registry, const struct strv *challenges, uint64_t version,
                     struct err *err)
{
    AUTO(auth_challenge_donep) struct auth_challenge challenge = {0};
    AUTO(freep) char *header = NULL;
    (void)pthread_mutex_lock(&registry->mutex);
    bool newer = registry->authorization_version != version;
    (void)pthread_mutex_unlock(&registry->mutex);
    if (newer) {
        return 1;
    }
    if (choose(challenges, &challenge) < 0) {
        return 0;
    }
    if (challenge.bearer) {
        int r = get_bearer(registry, &challenge, &header, err);
        if (r < 0) {
            return r;
        }
    } else if (registry->credential.user != NULL && registry->credential.password != NULL) {
        header = basic_header(&registry->credential);
    } else {
        return 0;
    }
    if (header == NULL) {
        return err_set(err, ENOMEM, "log in");
    }
    (void)pthread_mutex_lock(&registry->mutex);
    free(registry->authorization);
    registry->authorization = TAKE_PTR(header);
    registry->authorization_version++;
    (void)pthread_mutex_unlock(&registry->mutex);
    return 1;
}

int registry_authorize(struct registry *registry, const struct strv *challenges, uint64_t version,
                       struct err *err)
{
    /* Several threads are refused at once; one asks, the others find what it got. */
    (void)pthread_mutex_lock(&registry->asking);
    int r = authorize(registry, challenges, version, err);
    (void)pthread_mutex_unlock(&registry->asking);
    return r;
}
