/*
 * control.h - what is done with the one machine of this process: described, started, paused, saved,
 * restored, ended. On the loop's thread.
 */
#ifndef VMM_CONTROL_H
#define VMM_CONTROL_H

#include <jansson.h>
#include <stdbool.h>

#include "vmm/config.h"
#include "vmm/snapshot.h"

struct agent;
struct control;
struct err;
struct loop;
struct machine;

/* Called for each machine that was made, before its CPUs run; with none when that failed. */
typedef int control_made_fn(struct control *control, void *data, struct err *err);

struct control {
    struct loop *loop;
    const char *id;    /* may be NULL */
    bool jail;         /* before the guest runs (jail.h): no file is opened afterwards */
    json_t *described; /* the machine so far, in the shape of config.h; never NULL */
    struct vmm_config config;
    struct machine *machine; /* NULL: not started */
    struct agent *agent;
    control_made_fn *made; /* may be NULL */
    void *made_data;
};

int control_init(struct control *control, struct loop *loop, const char *id, struct err *err);
void control_done(struct control *control);
DEFINE_DONEP(struct control, control_done)

/* The whole description from a file. */
int control_load_file(struct control *control, const char *path, struct err *err);

/*
 * Replaces one section by the object, or one entry of a list by that whose key has the same value
 * ("drives", "drive_id"); what comes out is checked as a whole, and nothing changes on failure.
 */
int control_describe(struct control *control, const char *section, const char *key, json_t *object,
                     struct err *err);

/* Makes the machine that was described, and runs it. The loop quits when it ends. */
int control_start(struct control *control, struct err *err);

int control_save(struct control *control, const struct snapshot_paths *paths, struct err *err);
/* Nothing may be described or started yet. */
int control_restore(struct control *control, const struct snapshot_paths *paths, bool resume,
                    struct err *err);

#endif
