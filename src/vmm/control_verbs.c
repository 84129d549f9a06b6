/* What is done with a machine that is started, here or in another process. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "vmm/control.h"
#include "vmm/machine.h"
#include "vmm/machine_devices.h"
#include "vmm/monitor.h"

#define MIB ((uint64_t)1 << 20)

static int ask(struct control *control, enum monitor_verb verb, struct err *err)
{
    return monitor_call(control->monitor, verb, 0, NULL, 0, NULL, err);
}

bool control_is_started(const struct control *control)
{
    return control->machine != NULL || control->monitor != NULL;
}

int control_is_paused(struct control *control, bool *ret, struct err *err)
{
    if (control->monitor == NULL) {
        *ret = machine_is_paused(control->machine);
        return 0;
    }
    struct monitor_answer answer;
    int r = monitor_call(control->monitor, MONITOR_STATE, 0, NULL, 0, &answer, err);
    if (r == 0) {
        *ret = answer.paused != 0;
    }
    return r;
}

int control_pause(struct control *control, struct err *err)
{
    return control->monitor != NULL ? ask(control, MONITOR_PAUSE, err)
                                    : machine_pause(control->machine, err);
}

int control_resume(struct control *control, struct err *err)
{
    return control->monitor != NULL ? ask(control, MONITOR_RESUME, err)
                                    : machine_resume(control->machine, err);
}

int control_ctrl_alt_del(struct control *control, struct err *err)
{
    return control->monitor != NULL ? ask(control, MONITOR_CTRL_ALT_DEL, err)
                                    : machine_press_ctrl_alt_del(control->machine, err);
}

int control_power_button(struct control *control, struct err *err)
{
    if (control->monitor != NULL) {
        return ask(control, MONITOR_POWER_BUTTON, err);
    }
    machine_press_power(control->machine);
    return 0;
}

static int check_balloon(const struct control *control, struct err *err)
{
    return control->config.balloon.present ? 0 : err_say(err, EINVAL, "the machine has no balloon");
}

int control_get_balloon(struct control *control, struct virtio_balloon_info *ret, struct err *err)
{
    int r = check_balloon(control, err);
    if (r == 0 && control->monitor == NULL) {
        virtio_balloon_get(machine_balloon(control->machine), ret);
    } else if (r == 0) {
        struct monitor_answer answer;
        r = monitor_call(control->monitor, MONITOR_GET_BALLOON, 0, NULL, 0, &answer, err);
        if (r == 0) {
            *ret = answer.balloon;
        }
    }
    return r;
}

int control_set_balloon(struct control *control, uint32_t mib, struct err *err)
{
    int r = check_balloon(control, err);
    if (r < 0) {
        return r;
    }
    AUTO(json_unrefp)
    json_t *whole = json_deep_copy(json_object_get(control->described, "balloon"));
    if (whole == NULL || json_object_set_new(whole, "amount_mib", json_integer(mib)) < 0) {
        return err_set(err, ENOMEM, "describe the machine");
    }
    r = control_describe(control, "balloon", NULL, whole, err);
    if (r == 0 && control->monitor != NULL) {
        return monitor_call(control->monitor, MONITOR_SET_BALLOON, mib, NULL, 0, NULL, err);
    }
    if (r == 0) {
        virtio_balloon_set_target(machine_balloon(control->machine), mib * MIB);
    }
    return r;
}

static bool same_bucket(const struct config_bucket *a, const struct config_bucket *b)
{
    return a->size == b->size && a->burst == b->burst && a->refill_ms == b->refill_ms;
}

static bool same_limit(const struct config_limit *a, const struct config_limit *b)
{
    return same_bucket(&a->bytes, &b->bytes) && same_bucket(&a->ops, &b->ops);
}

/* Only what differs: whoever is limited anew begins with full buckets. */
static int apply_limits(struct control *control, const struct vmm_config *config, struct err *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < config->drive_count; i++) {
        struct config_drive *now = &control->config.drive[i];
        if (!same_limit(&now->limit, &config->drive[i].limit)) {
            r = machine_set_drive_limit(control->machine, i, &config->drive[i], err);
            now->limit = config->drive[i].limit;
        }
    }
    for (size_t i = 0; r == 0 && i < config->net_count; i++) {
        struct config_net *now = &control->config.net[i];
        if (!same_limit(&now->receive, &config->net[i].receive) ||
            !same_limit(&now->transmit, &config->net[i].transmit)) {
            r = machine_set_net_limits(control->machine, i, &config->net[i], err);
            now->receive = config->net[i].receive;
            now->transmit = config->net[i].transmit;
        }
    }
    return r;
}

static int send_limits(struct control *control, struct err *err)
{
    AUTO(closep) int text = memfd_create("machine", MFD_CLOEXEC);
    if (text < 0 || json_dumpfd(control->described, text, JSON_COMPACT) < 0 ||
        lseek(text, 0, SEEK_SET) < 0) {
        return err_set(err, text < 0 ? errno : EIO, "describe the machine");
    }
    return monitor_call(control->monitor, MONITOR_SET_LIMITS, 0, &text, 1, NULL, err);
}

int control_set_limits(struct control *control, const char *section, const char *key, json_t *entry,
                       struct err *err)
{
    AUTO(vmm_config_donep) struct vmm_config config = {0};
    int r = control_describe(control, section, key, entry, err);
    if (r < 0 || control->monitor != NULL) {
        return r < 0 ? r : send_limits(control, err);
    }
    r = vmm_config_from_json(control->described, true, &config, err);
    return r < 0 ? r : apply_limits(control, &config, err);
}

int control_take_limits(struct control *control, const struct buf *text, struct err *err)
{
    AUTO(vmm_config_donep) struct vmm_config config = {0};
    AUTO(json_unrefp) json_t *json = NULL;
    int r = json_parse(text->data == NULL ? "" : text->data, text->len, "limits", &json, err);
    r = r < 0 ? r : vmm_config_from_json(json, true, &config, err);
    if (r == 0 && (config.drive_count != control->config.drive_count ||
                   config.net_count != control->config.net_count)) {
        r = err_say(err, EINVAL, "limits of another machine");
    }
    r = r < 0 ? r : apply_limits(control, &config, err);
    if (r == 0) {
        /* Snapshots say what was set last. */
        json_decref(control->described);
        control->described = TAKE_PTR(json);
    }
    return r;
}

int control_save_files(struct control *control, enum snapshot_kind kind, int state_fd,
                       int memory_fd, struct err *err)
{
    AUTO(freep) char *text = json_dumps(control->described, JSON_COMPACT);
    return text == NULL ? err_set(err, ENOMEM, "save the machine")
                        : snapshot_write(control->machine, kind, text, state_fd, memory_fd, err);
}

int control_save(struct control *control, enum snapshot_kind kind,
                 const struct snapshot_paths *paths, struct err *err)
{
    AUTO(snapshot_files_donep) struct snapshot_files files = {.state_fd = -1, .memory_fd = -1};
    int r = snapshot_files_make(paths, &files, err);
    if (r < 0) {
        return r;
    }
    const int fds[] = {files.state_fd, files.memory_fd};
    r = control->monitor != NULL
            ? monitor_call(control->monitor, MONITOR_SAVE, kind, fds, COUNT(fds), NULL, err)
            : control_save_files(control, kind, files.state_fd, files.memory_fd, err);
    r = r < 0 ? r : snapshot_files_name(&files, paths, err);
    if (r < 0) {
        return r;
    }
    if (control->monitor != NULL) {
        return ask(control, MONITOR_SAVED, err);
    }
    snapshot_written(control->machine);
    return 0;
}
