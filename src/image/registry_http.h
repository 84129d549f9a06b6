/*
 * registry_http.h - one HTTP exchange with a registry: authentication, redirects, retries. For
 * src/image/registry*.c only.
 */
#ifndef IMAGE_REGISTRY_HTTP_H
#define IMAGE_REGISTRY_HTTP_H

#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "image/docker_config.h"
#include "image/registry_config.h"

struct err;

#define HTTP_HANDLES_MAX 8

struct registry {
    struct registry_config config;
    struct credential credential;
    char *name;       /* "localhost:5000" */
    char *repository; /* "library/debian"; "" for login */
    bool for_push;
    pthread_mutex_t asking; /* held by the one who gets a new authorization, before mutex */
    pthread_mutex_t mutex;  /* all below */
    size_t endpoint;        /* the one that answered */
    char *authorization;    /* header line, or NULL */
    uint64_t authorization_version;
    struct strv more_scopes;         /* beside the repository's own, of tokens */
    CURL *handles[HTTP_HANDLES_MAX]; /* idle ones with their open connections */
    size_t handle_count;
};

struct http_request {
    const char *method; /* "GET", "HEAD", "PUT", "POST", "PATCH" */
    const char *url;    /* whole, or a path such as "/v2/" below the endpoint */
    const char *accept;
    const char *content_type;
    const char *content_range;
    const char *body; /* of PUT, POST and PATCH, or NULL */
    size_t body_len;
    int body_fd; /* or -1: a body from a file, from body_offset on */
    uint64_t body_offset;
    uint64_t body_size;
    /* Where a successful answer's bytes go; NULL: into response.body up to body_max. */
    int (*sink)(void *data, long status, const char *bytes, size_t len);
    void *sink_data;
    uint64_t range_from; /* > 0: ask for the rest from here */
    size_t body_max;
    const bool *cancel;
    void (*sent)(void *data, uint64_t now);
    void *sent_data;
    bool patient;      /* the registry reads all of a blob before it answers */
    bool no_retry;     /* the caller repeats it */
    bool no_challenge; /* a 401 is the answer */
    bool own_host;     /* url is whole and its host may have the Authorization */
};

struct http_response {
    long status;
    struct buf body;
    char *content_type;
    char *location;     /* absolute */
    char *digest;       /* Docker-Content-Digest */
    char *range;        /* of an upload: "0-99" */
    uint64_t chunk_min; /* OCI-Chunk-Min-Length */
    struct strv challenges;
    uint64_t retry_after_sec;
};

void http_response_done(struct http_response *response);
DEFINE_DONEP(struct http_response, http_response_done)

/*
 * Does the exchange up to a final status. A negative result means that there was no answer; the
 * status is the caller's to judge. Redirects to other hosts get no Authorization.
 */
int http_exchange(struct registry *registry, const struct http_request *request,
                  struct http_response *ret, struct err *err);

/* Doubling waits; retry_after_sec > 0 is the registry's own wish, up to a limit. */
void http_wait_before_retry(int64_t attempt, uint64_t retry_after_sec);

/* Text and errno of a status that means failure. */
int http_fail(const struct registry *registry, const struct http_response *response,
              const char *what, struct err *err);

#endif
