/*
 * api.h - the HTTP API of a machine: the shape of Firecracker's published specification for what
 * both have. 204 without a body for what was done, 200 with JSON for what was asked, 400 with
 * {"fault_message": ...} for what is refused.
 */
#ifndef VMM_API_H
#define VMM_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/http.h"
#include "vmm/snapshot.h"

struct control;
struct err;

enum api_verb {
    API_GET_INSTANCE,
    API_GET_VERSION,
    API_GET_CONFIG,
    API_GET_MACHINE_CONFIG,
    API_GET_BALLOON,
    API_GET_STATISTICS,
    API_DESCRIBE,
    API_MERGE, /* keys of a section, the others stay */
    API_SET_BALLOON,
    API_SET_LIMITS, /* of a drive or a network interface */
    API_START,
    API_CTRL_ALT_DEL,
    API_POWER_BUTTON, /* ours */
    API_PAUSE,
    API_RESUME,
    API_SAVE,
    API_RESTORE,
};

/* A request that was understood. Strings point into body. */
struct api_call {
    enum api_verb verb;
    const char *section; /* of config.h */
    const char *key;     /* what names an entry of that list; NULL: no list */
    json_t *body;
    struct snapshot_paths paths;
    enum snapshot_kind kind; /* of API_SAVE */
    bool resume, track_dirty;
    uint32_t balloon_mib;
};

/* Reads without acting. On failure nothing is left to free. */
int api_parse(const struct http_request *request, struct api_call *ret, struct err *err);
void api_call_done(struct api_call *call);
DEFINE_DONEP(struct api_call, api_call_done)

/* An http_handler_fn; data is a struct control. */
void api_serve(const struct http_request *request, struct http_answer *answer, void *data);

#endif
