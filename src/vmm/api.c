#include "vmm/api.h"

#include <errno.h>

#include "base/err.h"
#include "base/json.h"
#include "base/macros.h"
#include "base/str.h"
#include "vmm/control.h"
#include "vmm/virtio/balloon.h"

#define MIB ((uint64_t)1 << 20)

typedef int act_fn(struct control *control, const struct api_call *call, json_t **ret,
                   struct err *err);

static int give(json_t *json, json_t **ret, struct err *err)
{
    if (json == NULL) {
        return err_set(err, ENOMEM, "answer");
    }
    *ret = json;
    return 0;
}

static int get_instance(struct control *control, const struct api_call *call, json_t **ret,
                        struct err *err)
{
    (void)call;
    bool paused = false;
    int r = control_is_started(control) ? control_is_paused(control, &paused, err) : 0;
    if (r < 0) {
        return r;
    }
    const char *state = !control_is_started(control) ? "Not started"
                        : paused                     ? "Paused"
                                                     : "Running";
    return give(json_pack("{s:s, s:s, s:s, s:s}", "id",
                          control->id == NULL ? "anonymous-instance" : control->id, "state", state,
                          "vmm_version", ISOLA_VERSION, "app_name", "isola-vmm"),
                ret, err);
}

static int get_version(struct control *control, const struct api_call *call, json_t **ret,
                       struct err *err)
{
    (void)control, (void)call;
    /* The key under which clients of that specification look; the number is ours. */
    return give(json_pack("{s:s}", "firecracker_version", ISOLA_VERSION), ret, err);
}

static int get_config(struct control *control, const struct api_call *call, json_t **ret,
                      struct err *err)
{
    (void)call;
    return give(json_deep_copy(control->described), ret, err);
}

static int get_machine_config(struct control *control, const struct api_call *call, json_t **ret,
                              struct err *err)
{
    (void)call;
    AUTO(vmm_config_donep) struct vmm_config config = {0};
    AUTO(json_unrefp) json_t *json = NULL;
    int r = vmm_config_from_json(control->described, false, &config, err);
    if (r < 0) {
        return r;
    }
    json = json_pack("{s:i, s:I, s:s}", "vcpu_count", (int)config.cpus, "mem_size_mib",
                     (json_int_t)(config.memory / MIB), "huge_pages",
                     config.huge_pages ? "Transparent" : "None");
    json_t *said = json_object_get(control->described, "machine-config");
    if (json == NULL || (said != NULL && json_object_update(json, said) < 0)) {
        return err_set(err, ENOMEM, "answer");
    }
    *ret = TAKE_PTR(json);
    return 0;
}

static int get_balloon(struct control *control, const struct api_call *call, json_t **ret,
                       struct err *err)
{
    (void)call;
    json_t *said = json_object_get(control->described, "balloon");
    return said == NULL ? err_say(err, EINVAL, "the machine has no balloon")
                        : give(json_deep_copy(said), ret, err);
}

static int get_statistics(struct control *control, const struct api_call *call, json_t **ret,
                          struct err *err)
{
    static const char *const names[VIRTIO_BALLOON_STATS] = {
        [VIRTIO_BALLOON_SWAP_IN] = "swap_in",
        [VIRTIO_BALLOON_SWAP_OUT] = "swap_out",
        [VIRTIO_BALLOON_MAJOR_FAULTS] = "major_faults",
        [VIRTIO_BALLOON_MINOR_FAULTS] = "minor_faults",
        [VIRTIO_BALLOON_FREE] = "free_memory",
        [VIRTIO_BALLOON_TOTAL] = "total_memory",
        [VIRTIO_BALLOON_AVAILABLE] = "available_memory",
        [VIRTIO_BALLOON_CACHES] = "disk_caches",
        [VIRTIO_BALLOON_HUGE_ALLOCATIONS] = "hugetlb_allocations",
        [VIRTIO_BALLOON_HUGE_FAILURES] = "hugetlb_failures",
    };
    (void)call;
    struct virtio_balloon_info info;
    int r = control_get_balloon(control, &info, err);
    if (r < 0) {
        return r;
    }
    AUTO(json_unrefp)
    json_t *json =
        json_pack("{s:I, s:I, s:I, s:I, s:I}", "target_pages", (json_int_t)(info.target / 4096),
                  "actual_pages", (json_int_t)(info.actual / 4096), "target_mib",
                  (json_int_t)(info.target / MIB), "actual_mib", (json_int_t)(info.actual / MIB),
                  "discarded_bytes", (json_int_t)info.discarded);
    r = json == NULL ? -1 : 0;
    for (size_t i = 0; r == 0 && i < COUNT(names); i++) {
        if ((info.known >> i & 1) != 0) {
            r = json_object_set_new(json, names[i], json_integer((json_int_t)info.stat[i]));
        }
    }
    return r < 0 ? err_set(err, ENOMEM, "answer") : give(TAKE_PTR(json), ret, err);
}

static int describe(struct control *control, const struct api_call *call, json_t **ret,
                    struct err *err)
{
    (void)ret;
    return control_describe(control, call->section, call->key, call->body, err);
}

static int merge(struct control *control, const struct api_call *call, json_t **ret,
                 struct err *err)
{
    (void)ret;
    json_t *said = json_object_get(control->described, call->section);
    AUTO(json_unrefp) json_t *whole = said == NULL ? json_object() : json_deep_copy(said);
    if (whole == NULL || json_object_update(whole, call->body) < 0) {
        return err_set(err, ENOMEM, "describe the machine");
    }
    return control_describe(control, call->section, NULL, whole, err);
}

static int set_balloon(struct control *control, const struct api_call *call, json_t **ret,
                       struct err *err)
{
    (void)ret;
    return control_set_balloon(control, call->balloon_mib, err);
}

/* The entry of a list that call names, as it is described; NULL: none. */
static json_t *find_entry(const struct control *control, const struct api_call *call)
{
    const char *id = json_string_value(json_object_get(call->body, call->key));
    size_t i;
    json_t *entry;
    json_array_foreach (json_object_get(control->described, call->section), i, entry) {
        if (str_eq(json_string_value(json_object_get(entry, call->key)), id)) {
            return entry;
        }
    }
    return NULL;
}

/* entry with what body says; buckets that it does not name stay. The caller's; NULL: no memory. */
static json_t *merge_limits(const json_t *entry, const json_t *body)
{
    AUTO(json_unrefp) json_t *merged = json_deep_copy(entry);
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)body, name, value) {
        json_t *old = json_object_get(merged, name);
        int r = json_is_object(old) && json_is_object(value)
                    ? json_object_update(old, value)
                    : json_object_set_new(merged, name, json_deep_copy(value));
        if (r < 0) {
            return NULL;
        }
    }
    return TAKE_PTR(merged);
}

static int set_limits(struct control *control, const struct api_call *call, json_t **ret,
                      struct err *err)
{
    (void)ret;
    const json_t *entry = find_entry(control, call);
    if (entry == NULL) {
        return err_say(err, EINVAL, "the machine has no such %s", call->key);
    }
    AUTO(json_unrefp) json_t *merged = merge_limits(entry, call->body);
    if (merged == NULL) {
        return err_set(err, ENOMEM, "describe the machine");
    }
    return control_set_limits(control, call->section, call->key, merged, err);
}

static int start(struct control *control, const struct api_call *call, json_t **ret,
                 struct err *err)
{
    (void)call, (void)ret;
    return control_start(control, err);
}

static int ctrl_alt_del(struct control *control, const struct api_call *call, json_t **ret,
                        struct err *err)
{
    (void)call, (void)ret;
    return control_ctrl_alt_del(control, err);
}

static int power_button(struct control *control, const struct api_call *call, json_t **ret,
                        struct err *err)
{
    (void)call, (void)ret;
    return control_power_button(control, err);
}

static int pause_machine(struct control *control, const struct api_call *call, json_t **ret,
                         struct err *err)
{
    (void)call, (void)ret;
    return control_pause(control, err);
}

static int resume_machine(struct control *control, const struct api_call *call, json_t **ret,
                          struct err *err)
{
    (void)call, (void)ret;
    return control_resume(control, err);
}

static int save(struct control *control, const struct api_call *call, json_t **ret, struct err *err)
{
    (void)ret;
    return control_save(control, call->kind, &call->paths, err);
}

static int restore(struct control *control, const struct api_call *call, json_t **ret,
                   struct err *err)
{
    (void)ret;
    control->track_dirty = call->track_dirty;
    return control_restore(control, &call->paths, call->resume, err);
}

enum when { ALWAYS, BEFORE, AFTER }; /* the start */

static const struct {
    act_fn *act;
    enum when when;
} verbs[] = {
    [API_GET_INSTANCE] = {get_instance, ALWAYS},
    [API_GET_VERSION] = {get_version, ALWAYS},
    [API_GET_CONFIG] = {get_config, ALWAYS},
    [API_GET_MACHINE_CONFIG] = {get_machine_config, ALWAYS},
    [API_GET_BALLOON] = {get_balloon, ALWAYS},
    [API_GET_STATISTICS] = {get_statistics, AFTER},
    [API_DESCRIBE] = {describe, BEFORE},
    [API_MERGE] = {merge, BEFORE},
    [API_SET_BALLOON] = {set_balloon, AFTER},
    [API_SET_LIMITS] = {set_limits, AFTER},
    [API_START] = {start, BEFORE},
    [API_CTRL_ALT_DEL] = {ctrl_alt_del, AFTER},
    [API_POWER_BUTTON] = {power_button, AFTER},
    [API_PAUSE] = {pause_machine, AFTER},
    [API_RESUME] = {resume_machine, AFTER},
    [API_SAVE] = {save, AFTER},
    [API_RESTORE] = {restore, BEFORE},
};

static int act(struct control *control, const struct api_call *call, json_t **ret, struct err *err)
{
    enum when when = verbs[call->verb].when;
    if (when == BEFORE && control_is_started(control)) {
        return err_say(err, EBUSY, "not possible: the machine is started");
    }
    if (when == AFTER && !control_is_started(control)) {
        return err_say(err, EINVAL, "not possible: the machine is not started");
    }
    return verbs[call->verb].act(control, call, ret, err);
}

void api_serve(const struct http_request *request, struct http_answer *answer, void *data)
{
    AUTO(api_call_donep) struct api_call call = {0};
    AUTO(json_unrefp) json_t *json = NULL;
    struct err err = ERR_NONE;
    int r = api_parse(request, &call, &err);
    r = r < 0 ? r : act(data, &call, &json, &err);
    if (r < 0) {
        json = json_pack("{s:s}", "fault_message", err_text(&err));
    }
    answer->status = r < 0 ? 400 : json == NULL ? 204 : 200;
    AUTO(freep) char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    if (text != NULL) {
        (void)buf_add_str(&answer->body, text);
    }
}
