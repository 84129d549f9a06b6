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
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/vsock.h"

struct agent;
struct buf;
struct control;
struct err;
struct loop;
struct machine;
struct monitor;

/* Called for each machine that was made, before its CPUs run; with none when that failed. */
typedef int control_made_fn(struct control *control, void *data, struct err *err);

enum control_place {
    CONTROL_OPEN,      /* the machine runs in this process, with all its rights */
    CONTROL_CONTAINED, /* in this one, which is in a container and enters the jail before the guest
                          runs (jail.h) */
    CONTROL_ALONE,     /* in this one, of monitor.h: the same, and it leaves the host as well */
    CONTROL_APART,     /* in another one: monitor.h */
};

struct control {
    struct loop *loop;
    const char *id; /* may be NULL */
    enum control_place place;
    json_t *described; /* the machine so far, in the shape of config.h; never NULL */
    struct vmm_config config;
    struct machine *machine; /* NULL: not started, or apart */
    struct monitor *monitor; /* where the machine is when it is apart */
    bool ended;              /* that one */
    struct agent *agent;
    int console_fd;        /* keeps what the serial port says; -1: goes elsewhere */
    control_made_fn *made; /* may be NULL */
    void *made_data;
    bool
        track_dirty; /* of a machine that is restored, also where its description does not say so */
    int gdb_fd;      /* borrowed; of machines that are apart; -1: none */
    uint32_t identity;         /* alone: of the process */
    vsock_connect_fn *connect; /* alone: who makes vsock's connections */
    void *connect_data;
};

int control_init(struct control *control, struct loop *loop, const char *id, struct err *err);
/* A struct that is not made yet is CONTROL_INIT. */
#define CONTROL_INIT                                                                               \
    {                                                                                              \
        .gdb_fd = -1, .console_fd = -1                                                             \
    }
void control_done(struct control *control);
DEFINE_DONEP(struct control, control_done)

/* To standard error: what the serial port has said, if that is kept for a crash. */
void control_show_console(const struct control *control);

/* The whole description from a file. */
int control_load_file(struct control *control, const char *path, struct err *err);
/* The same from its text; name is for errors. */
int control_load_text(struct control *control, const struct buf *text, const char *name,
                      struct err *err);

/*
 * Replaces one section by the object, or one entry of a list by that whose key has the same value
 * ("drives", "drive_id"); what comes out is checked as a whole, and nothing changes on failure.
 */
int control_describe(struct control *control, const char *section, const char *key, json_t *object,
                     struct err *err);

/* Makes the machine that was described, and runs it. The loop quits when it ends. */
int control_start(struct control *control, struct err *err);

bool control_is_started(const struct control *control);

/* The following only while it is started. */
int control_is_paused(struct control *control, bool *ret, struct err *err);
int control_pause(struct control *control, struct err *err);
int control_resume(struct control *control, struct err *err);
int control_ctrl_alt_del(struct control *control, struct err *err);
int control_power_button(struct control *control, struct err *err);
int control_get_balloon(struct control *control, struct virtio_balloon_info *ret, struct err *err);
/* Also in the description. */
int control_set_balloon(struct control *control, uint32_t mib, struct err *err);
/* entry: one of "drives" or "network-interfaces" with new limits; also in the description. */
int control_set_limits(struct control *control, const char *section, const char *key, json_t *entry,
                       struct err *err);
/* The same by a whole description that differs in the limits alone, where the machine runs. */
int control_take_limits(struct control *control, const struct buf *text, struct err *err);
int control_save(struct control *control, enum snapshot_kind kind,
                 const struct snapshot_paths *paths, struct err *err);
/* The same into empty files, borrowed, up to snapshot_written(); not of a machine that is apart. */
int control_save_files(struct control *control, enum snapshot_kind kind, int state_fd,
                       int memory_fd, struct err *err);

/* Nothing may be described or started yet. */
int control_restore(struct control *control, const struct snapshot_paths *paths, bool resume,
                    struct err *err);
/* The same from open files, borrowed; paths are for errors. */
int control_restore_files(struct control *control, const struct snapshot_files *files,
                          const struct snapshot_paths *paths, bool resume, struct err *err);

#endif
