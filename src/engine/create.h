/*
 * create.h - from options and an image to a workload in state.db.
 */
#ifndef ENGINE_CREATE_H
#define ENGINE_CREATE_H

#include "engine/network.h"
#include "engine/workload.h"

struct err;

/*
 * Merges the options with the image (which must be in the store: -ENOENT else), checks everything
 * that can be checked before a start, takes the name, the volumes and the image. config is
 * completed in place; its strings live as long as the caller's argv and *keep. On success *ret_id
 * names the workload.
 */
int create_workload(struct engine *engine, struct workload_config *config,
                    char ret_id[WORKLOAD_ID_SIZE], struct err *err);

/* What the options say about the network. The caller gives *ret to network_request_done(). */
int create_network_request(const struct workload_config *config, struct network_request *ret,
                           struct err *err);

struct restart_policy {
    enum {
        RESTART_NO,
        RESTART_ON_FAILURE,
        RESTART_ALWAYS,
        RESTART_UNLESS_STOPPED,
    } kind;
    int64_t max; /* RESTART_ON_FAILURE: 0 is any number */
};
int create_restart_policy(const char *text, struct restart_policy *ret, struct err *err);

#endif
