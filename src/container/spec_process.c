#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "container/names.h"
#include "container/spec_fields.h"

static int read_user(struct spec *spec, const json_t *process, const struct json_path *at,
                     struct err *err)
{
    const struct json_path user_path = {.parent = at, .key = "user"};
    struct spec_process *p = &spec->process;
    json_t *user;
    int r = json_get_object(process, at, "user", &user, err);
    if (r <= 0) {
        return r;
    }
    static const struct spec_field fields[] = {
        {"uid", FIELD_U32, offsetof(struct spec_process, uid), 0, 0},
        {"gid", FIELD_U32, offsetof(struct spec_process, gid), 0, 0},
        {0},
    };
    r = spec_read_fields(spec, user, &user_path, fields, p, err);
    if (r < 0) {
        return r;
    }
    int64_t number;
    r = json_get_int(user, &user_path, "umask", 0, 0777, &number, err);
    if (r < 0) {
        return r;
    }
    if (r > 0) {
        p->umask_set = true;
        p->umask = (mode_t)number;
    }
    json_t *groups;
    r = json_get_array(user, &user_path, "additionalGids", &groups, err);
    if (r <= 0) {
        return r;
    }
    const struct json_path groups_path = {.parent = &user_path, .key = "additionalGids"};
    p->additional_gid_count = json_array_size(groups);
    p->additional_gids = spec_alloc(spec, p->additional_gid_count, sizeof(gid_t));
    if (p->additional_gids == NULL) {
        return err_set(err, ENOMEM, "read additionalGids");
    }
    for (size_t i = 0; i < p->additional_gid_count; i++) {
        const json_t *item = json_array_get(groups, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0 ||
            json_integer_value(item) > UINT32_MAX) {
            const struct json_path item_path = {.parent = &groups_path, .index = i};
            return json_fail(&item_path, item, err, "must be a group number");
        }
        p->additional_gids[i] = (gid_t)json_integer_value(item);
    }
    return 0;
}

static int read_capability_set(const json_t *sets, const struct json_path *at, const char *key,
                               uint64_t *ret, struct err *err)
{
    const struct json_path path = {.parent = at, .key = key};
    json_t *array;
    int r = json_get_array(sets, at, key, &array, err);
    if (r <= 0) {
        return r;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        const struct json_path item_path = {.parent = &path, .index = i};
        uint64_t bit;
        if (!json_is_string(item) || !str_starts(json_string_value(item), "CAP_")) {
            return json_fail(&item_path, item, err, "must be the name of a capability");
        }
        /* The spec wants names of kernels to come passed over, not refused. */
        if (name_lookup(capability_names, json_string_value(item), &bit) == 0) {
            *ret |= (uint64_t)1 << bit;
        }
    }
    return 0;
}

static int read_capabilities(struct spec *spec, const json_t *process, const struct json_path *at,
                             struct err *err)
{
    const struct json_path path = {.parent = at, .key = "capabilities"};
    struct spec_capabilities *caps = &spec->process.capabilities;
    json_t *sets;
    int r = json_get_object(process, at, "capabilities", &sets, err);
    if (r <= 0) {
        return r;
    }
    caps->set = true;
    const struct {
        const char *key;
        uint64_t *target;
    } rows[] = {
        {"bounding", &caps->bounding},       {"effective", &caps->effective},
        {"inheritable", &caps->inheritable}, {"permitted", &caps->permitted},
        {"ambient", &caps->ambient},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        r = read_capability_set(sets, &path, rows[i].key, rows[i].target, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int read_rlimit(struct spec *spec, const json_t *item, const struct json_path *at,
                       void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"type", FIELD_STRING, offsetof(struct spec_rlimit, name), 0, 0},
        {"soft", FIELD_U64, offsetof(struct spec_rlimit, soft), 0, 0},
        {"hard", FIELD_U64, offsetof(struct spec_rlimit, hard), 0, 0},
        {0},
    };
    struct spec_rlimit *limit = element;
    int r = spec_read_fields(spec, item, at, fields, limit, err);
    if (r < 0) {
        return r;
    }
    const struct json_path path = {.parent = at, .key = "type"};
    uint64_t resource;
    if (limit->name == NULL || name_lookup(rlimit_names, limit->name, &resource) < 0) {
        return json_fail(&path, json_object_get(item, "type"), err, "is not a resource limit");
    }
    limit->resource = (int)resource;
    if (limit->soft > limit->hard) {
        return json_fail(at, item, err, "the soft limit is above the hard limit");
    }
    /* The array is zeroed: rows read before this one are complete. */
    for (const struct spec_rlimit *other = limit - at->index; other < limit; other++) {
        if (other->resource == limit->resource) {
            return json_fail(&path, json_object_get(item, "type"), err, "is given twice");
        }
    }
    return 0;
}

static int read_scheduler(struct spec *spec, const json_t *process, const struct json_path *at,
                          struct err *err)
{
    const struct json_path path = {.parent = at, .key = "scheduler"};
    struct spec_scheduler *s = &spec->process.scheduler;
    json_t *object;
    int r = json_get_object(process, at, "scheduler", &object, err);
    if (r <= 0) {
        return r;
    }
    const char *policy = NULL;
    struct spec_strings flags = {0};
    int64_t nice = 0;
    uint64_t number;
    static const struct spec_field fields[] = {
        {"priority", FIELD_U32, offsetof(struct spec_scheduler, priority), 0, 0},
        {"runtime", FIELD_U64, offsetof(struct spec_scheduler, runtime), 0, 0},
        {"deadline", FIELD_U64, offsetof(struct spec_scheduler, deadline), 0, 0},
        {"period", FIELD_U64, offsetof(struct spec_scheduler, period), 0, 0},
        {0},
    };
    static const struct spec_field flag_fields[] = {{"flags", FIELD_STRINGS, 0, 0, 0}, {0}};
    r = spec_read_fields(spec, object, &path, fields, s, err);
    if (r >= 0) {
        r = spec_read_fields(spec, object, &path, flag_fields, &flags, err);
    }
    if (r >= 0) {
        r = json_get_int(object, &path, "nice", -20, 19, &nice, err);
    }
    if (r >= 0) {
        r = json_get_string(object, &path, "policy", &policy, err);
    }
    if (r < 0) {
        return r;
    }
    if (policy == NULL || name_lookup(scheduler_policy_names, policy, &number) < 0) {
        const struct json_path policy_path = {.parent = &path, .key = "policy"};
        return json_fail(&policy_path, json_object_get(object, "policy"), err,
                         "must be a scheduling policy such as SCHED_OTHER");
    }
    s->set = true;
    s->policy = (uint32_t)number;
    s->nice = (int32_t)nice;
    for (size_t i = 0; i < flags.count; i++) {
        if (name_lookup(scheduler_flag_names, flags.items[i], &number) < 0) {
            const struct json_path flag_path = {.parent = &path, .key = "flags"};
            return json_fail(&flag_path, json_object_get(object, "flags"), err,
                             "'%s' is not a scheduler flag", flags.items[i]);
        }
        s->flags |= number;
    }
    return 0;
}

static int read_io_priority(struct spec *spec, const json_t *process, const struct json_path *at,
                            struct err *err)
{
    const struct json_path path = {.parent = at, .key = "ioPriority"};
    json_t *object;
    int r = json_get_object(process, at, "ioPriority", &object, err);
    if (r <= 0) {
        return r;
    }
    const char *class = NULL;
    int64_t priority = 0;
    uint64_t number;
    r = json_get_string(object, &path, "class", &class, err);
    if (r >= 0) {
        r = json_get_int(object, &path, "priority", 0, 7, &priority, err);
    }
    if (r < 0) {
        return r;
    }
    if (class == NULL || name_lookup(io_class_names, class, &number) < 0) {
        const struct json_path class_path = {.parent = &path, .key = "class"};
        return json_fail(&class_path, json_object_get(object, "class"), err,
                         "must be IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE");
    }
    spec->process.io_priority_set = true;
    spec->process.io_priority = (int)(number << 13) | (int)priority;
    return 0;
}

static int read_console_size(struct spec *spec, const json_t *process, const struct json_path *at,
                             struct err *err)
{
    static const struct spec_field fields[] = {
        {"height", FIELD_U16, offsetof(struct spec_process, console_height), 0, 0},
        {"width", FIELD_U16, offsetof(struct spec_process, console_width), 0, 0},
        {0},
    };
    const struct json_path path = {.parent = at, .key = "consoleSize"};
    json_t *object;
    int r = json_get_object(process, at, "consoleSize", &object, err);
    return r <= 0 ? r : spec_read_fields(spec, object, &path, fields, &spec->process, err);
}

static int read_affinity(struct spec *spec, const json_t *process, const struct json_path *at,
                         struct err *err)
{
    static const struct spec_field fields[] = {
        {"initial", FIELD_STRING, offsetof(struct spec_process, cpu_affinity_initial), 0, 0},
        {"final", FIELD_STRING, offsetof(struct spec_process, cpu_affinity_final), 0, 0},
        {0},
    };
    const struct json_path path = {.parent = at, .key = "execCPUAffinity"};
    json_t *object;
    int r = json_get_object(process, at, "execCPUAffinity", &object, err);
    if (r <= 0) {
        return r;
    }
    spec->process.cpu_affinity_set = true;
    return spec_read_fields(spec, object, &path, fields, &spec->process, err);
}

static int check_process(const struct spec_process *p, const json_t *process,
                         const struct json_path *at, struct err *err)
{
    const struct json_path cwd_path = {.parent = at, .key = "cwd"};
    if (p->cwd == NULL || p->cwd[0] != '/') {
        return json_fail(&cwd_path, json_object_get(process, "cwd"), err,
                         "must be an absolute path");
    }
    const struct json_path args_path = {.parent = at, .key = "args"};
    if (p->args.count == 0) {
        return json_fail(&args_path, json_object_get(process, "args"), err,
                         "must hold at least the program");
    }
    for (size_t i = 0; i < p->env.count; i++) {
        const struct json_path env_path = {.parent = at, .key = "env"};
        const struct json_path item_path = {.parent = &env_path, .index = i};
        const char *equals = strchr(p->env.items[i], '=');
        if (equals == NULL || equals == p->env.items[i]) {
            return json_fail(&item_path, json_array_get(json_object_get(process, "env"), i), err,
                             "must be NAME=value");
        }
    }
    return 0;
}

int spec_read_process(struct spec *spec, const json_t *object, const struct json_path *at,
                      struct err *err)
{
    static const struct spec_field fields[] = {
        {"terminal", FIELD_BOOL, offsetof(struct spec_process, terminal), 0, 0},
        {"args", FIELD_STRINGS, offsetof(struct spec_process, args), 0, 0},
        {"env", FIELD_STRINGS, offsetof(struct spec_process, env), 0, 0},
        {"cwd", FIELD_STRING, offsetof(struct spec_process, cwd), 0, 0},
        {"noNewPrivileges", FIELD_BOOL, offsetof(struct spec_process, no_new_privileges), 0, 0},
        {"apparmorProfile", FIELD_STRING, offsetof(struct spec_process, apparmor_profile), 0, 0},
        {"selinuxLabel", FIELD_STRING, offsetof(struct spec_process, selinux_label), 0, 0},
        {"oomScoreAdj", FIELD_NUMBER, offsetof(struct spec_process, oom_score_adj), -1000, 1000},
        {0},
    };
    struct spec_process *p = &spec->process;
    int r = spec_read_fields(spec, object, at, fields, p, err);
    typedef int part_fn(struct spec *, const json_t *, const struct json_path *, struct err *);
    static part_fn *const parts[] = {
        read_user,        read_capabilities, read_scheduler,
        read_io_priority, read_console_size, read_affinity,
    };
    for (size_t i = 0; r >= 0 && i < COUNT(parts); i++) {
        r = parts[i](spec, object, at, err);
    }
    if (r < 0) {
        return r;
    }
    void *items = NULL;
    r = spec_read_array(spec, object, at, "rlimits", sizeof(struct spec_rlimit), read_rlimit,
                        &items, &p->rlimit_count, err);
    p->rlimits = items;
    return r < 0 ? r : check_process(p, object, at, err);
}
