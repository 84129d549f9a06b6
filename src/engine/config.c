#include "engine/config.h"

#include <errno.h>
#include <stddef.h>

#include "base/err.h"
#include "base/json.h"

enum field_kind {
    FIELD_STRING, /* const char * */
    FIELD_LIST,   /* struct strv */
    FIELD_BOOL,   /* bool */
    FIELD_INT,    /* int64_t */
    FIELD_SIZE,   /* uint64_t up to INT64_MAX */
};

#define FIELD(kind, member)                                                                        \
    {                                                                                              \
#member, FIELD_##kind, offsetof(struct workload_config, member)                            \
    }

static const struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
} fields[] = {
    FIELD(STRING, name),
    FIELD(STRING, image),
    FIELD(STRING, image_id),
    FIELD(STRING, isolation),
    FIELD(STRING, kernel),
    FIELD(STRING, platform),
    FIELD(STRING, hostname),
    FIELD(STRING, domainname),
    FIELD(LIST, label),
    FIELD(LIST, command),
    FIELD(STRING, entrypoint),
    FIELD(BOOL, entrypoint_set),
    FIELD(LIST, args),
    FIELD(INT, entry_count),
    FIELD(LIST, env),
    FIELD(STRING, workdir),
    FIELD(STRING, user),
    FIELD(LIST, group_add),
    FIELD(BOOL, tty),
    FIELD(BOOL, interactive),
    FIELD(BOOL, init),
    FIELD(STRING, stop_signal),
    FIELD(INT, stop_timeout),
    FIELD(BOOL, privileged),
    FIELD(BOOL, read_only),
    FIELD(LIST, cap_add),
    FIELD(LIST, cap_drop),
    FIELD(LIST, security_opt),
    FIELD(LIST, device),
    FIELD(LIST, device_cgroup_rule),
    FIELD(LIST, ulimit),
    FIELD(LIST, sysctl),
    FIELD(STRING, userns),
    FIELD(STRING, ipc),
    FIELD(STRING, pid),
    FIELD(STRING, uts),
    FIELD(STRING, cgroupns),
    FIELD(STRING, cgroup_parent),
    FIELD(LIST, volume),
    FIELD(LIST, mount),
    FIELD(LIST, tmpfs),
    FIELD(LIST, image_volume),
    FIELD(SIZE, shm_size),
    FIELD(LIST, network),
    FIELD(LIST, network_alias),
    FIELD(STRING, ip),
    FIELD(STRING, ip6),
    FIELD(STRING, mac_address),
    FIELD(LIST, publish),
    FIELD(BOOL, publish_all),
    FIELD(LIST, expose),
    FIELD(LIST, dns),
    FIELD(LIST, dns_search),
    FIELD(LIST, dns_option),
    FIELD(LIST, add_host),
    FIELD(SIZE, memory),
    FIELD(INT, memory_swap),
    FIELD(SIZE, memory_reservation),
    FIELD(INT, nano_cpus),
    FIELD(INT, cpu_shares),
    FIELD(INT, cpu_period),
    FIELD(INT, cpu_quota),
    FIELD(STRING, cpuset_cpus),
    FIELD(STRING, cpuset_mems),
    FIELD(INT, pids_limit),
    FIELD(INT, blkio_weight),
    FIELD(INT, oom_score_adj),
    FIELD(STRING, restart),
    FIELD(BOOL, rm),
    FIELD(STRING, log_driver),
    FIELD(LIST, log_opt),
    FIELD(BOOL, no_healthcheck),
    FIELD(STRING, health_cmd),
    FIELD(LIST, health_test),
    FIELD(SIZE, health_interval),
    FIELD(SIZE, health_timeout),
    FIELD(SIZE, health_start_period),
    FIELD(INT, health_retries),
    FIELD(LIST, layers),
    FIELD(LIST, anonymous_volume),
};

#define STOP_TIMEOUT_DEFAULT_S 10

void config_init(struct workload_config *config)
{
    *config = (struct workload_config){.stop_timeout = STOP_TIMEOUT_DEFAULT_S};
}

void config_done(struct workload_config *config)
{
    for (size_t i = 0; i < COUNT(fields); i++) {
        if (fields[i].kind == FIELD_LIST) {
            strv_done((struct strv *)(void *)((char *)config + fields[i].offset));
        }
    }
    strv_done(&config->env_file);
    strv_done(&config->label_file);
    strv_done(&config->volumes_from);
    json_unrefp(&config->json);
    *config = (struct workload_config){0};
}

static bool is_text(const char *s)
{
    AUTO(json_unrefp) json_t *string = json_string(s);
    return string != NULL;
}

int config_check_text(const struct workload_config *config, struct err *err)
{
    for (size_t i = 0; i < COUNT(fields); i++) {
        const void *value = (const char *)config + fields[i].offset;
        const char *const *one = value;
        const struct strv *list = value;
        bool good = fields[i].kind != FIELD_STRING || *one == NULL || is_text(*one);
        for (size_t k = 0; fields[i].kind == FIELD_LIST && good && k < list->count; k++) {
            good = is_text(list->items[k]);
        }
        if (!good) {
            return err_say(err, EILSEQ, "%s: the text is not valid UTF-8", fields[i].name);
        }
    }
    return 0;
}

/* NULL for a value that need not be written; *ret_failed without memory. */
static json_t *field_to_json(const struct field *field, const void *value, bool *ret_failed)
{
    json_t *json = NULL;
    switch (field->kind) {
    case FIELD_STRING: {
        const char *s = *(const char *const *)value;
        if (s == NULL) {
            return NULL;
        }
        json = json_string(s);
        break;
    }
    case FIELD_LIST: {
        const struct strv *list = value;
        if (list->count == 0) {
            return NULL;
        }
        json = json_from_strv(list);
        break;
    }
    case FIELD_BOOL:
        if (!*(const bool *)value) {
            return NULL;
        }
        json = json_true();
        break;
    case FIELD_INT:
    case FIELD_SIZE:
        if (*(const int64_t *)value == 0) {
            return NULL;
        }
        json = json_integer(*(const int64_t *)value);
        break;
    }
    *ret_failed = json == NULL;
    return json;
}

json_t *config_to_json(const struct workload_config *config)
{
    json_t *object = json_object();
    bool failed = object == NULL;
    for (size_t i = 0; i < COUNT(fields) && !failed; i++) {
        const void *value = (const char *)config + fields[i].offset;
        json_t *json = field_to_json(&fields[i], value, &failed);
        if (json != NULL && json_object_set_new(object, fields[i].name, json) < 0) {
            failed = true;
        }
    }
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

int config_from_json(json_t *json, struct workload_config *config, struct err *err)
{
    if (!json_is_object(json)) {
        return err_say(err, EINVAL, "the workload's configuration is not an object");
    }
    config->stop_timeout = 0; /* 0 is not written */
    for (size_t i = 0; i < COUNT(fields); i++) {
        const struct field *field = &fields[i];
        void *value = (char *)config + field->offset;
        int r = 0;
        switch (field->kind) {
        case FIELD_STRING:
            r = json_get_string(json, NULL, field->name, value, err);
            break;
        case FIELD_LIST:
            r = json_get_strings(json, NULL, field->name, value, err);
            break;
        case FIELD_BOOL:
            r = json_get_bool(json, NULL, field->name, value, err);
            break;
        case FIELD_INT:
            r = json_get_int(json, NULL, field->name, INT64_MIN, INT64_MAX, value, err);
            break;
        case FIELD_SIZE:
            r = json_get_int(json, NULL, field->name, 0, INT64_MAX, value, err);
            break;
        }
        if (r < 0) {
            return r;
        }
    }
    json_unrefp(&config->json);
    config->json = json_incref(json);
    return 0;
}
