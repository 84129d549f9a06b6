#include "container/spec.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "container/names.h"
#include "container/spec_fields.h"

static int read_root(struct spec *spec, const json_t *json, struct err *err)
{
    static const struct spec_field fields[] = {
        {"path", FIELD_STRING, offsetof(struct spec, root_path), 0, 0},
        {"readonly", FIELD_BOOL, offsetof(struct spec, root_readonly), 0, 0},
        {0},
    };
    const struct json_path at = {.key = "root"};
    json_t *root;
    int r = json_get_object(json, NULL, "root", &root, err);
    if (r <= 0) {
        return r < 0 ? r : json_fail(&at, NULL, err, "is missing");
    }
    r = spec_read_fields(spec, root, &at, fields, spec, err);
    if (r < 0) {
        return r;
    }
    if (spec->root_path == NULL) {
        const struct json_path path = {.parent = &at, .key = "path"};
        return json_fail(&path, NULL, err, "is missing");
    }
    return 0;
}

static int read_mount(struct spec *spec, const json_t *item, const struct json_path *at,
                      void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"destination", FIELD_STRING, offsetof(struct spec_mount, destination), 0, 0},
        {"type", FIELD_STRING, offsetof(struct spec_mount, type), 0, 0},
        {"source", FIELD_STRING, offsetof(struct spec_mount, source), 0, 0},
        {"options", FIELD_STRINGS, offsetof(struct spec_mount, options), 0, 0},
        {0},
    };
    struct spec_mount *mount = element;
    int r = spec_read_fields(spec, item, at, fields, mount, err);
    if (r < 0) {
        return r;
    }
    if (mount->destination == NULL) {
        const struct json_path path = {.parent = at, .key = "destination"};
        return json_fail(&path, NULL, err, "is missing");
    }
    r = spec_read_id_maps(spec, item, at, "uidMappings", &mount->uid_maps, err);
    if (r >= 0) {
        r = spec_read_id_maps(spec, item, at, "gidMappings", &mount->gid_maps, err);
    }
    if (r >= 0 && (mount->uid_maps.count == 0) != (mount->gid_maps.count == 0)) {
        return json_fail(at, NULL, err, "uidMappings and gidMappings must be given together");
    }
    return r;
}

static int read_hook(struct spec *spec, const json_t *item, const struct json_path *at,
                     void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"path", FIELD_STRING, offsetof(struct spec_hook, path), 0, 0},
        {"args", FIELD_STRINGS, offsetof(struct spec_hook, args), 0, 0},
        {"env", FIELD_STRINGS, offsetof(struct spec_hook, env), 0, 0},
        {0},
    };
    struct spec_hook *hook = element;
    int r = spec_read_fields(spec, item, at, fields, hook, err);
    if (r < 0) {
        return r;
    }
    const struct json_path path = {.parent = at, .key = "path"};
    if (hook->path == NULL || hook->path[0] != '/') {
        return json_fail(&path, json_object_get(item, "path"), err, "must be an absolute path");
    }
    r = json_get_int(item, at, "timeout", 1, INT32_MAX, &hook->timeout, err);
    return r < 0 ? r : 0;
}

static int read_hooks(struct spec *spec, const json_t *json, struct err *err)
{
    const struct json_path at = {.key = "hooks"};
    json_t *hooks;
    int r = json_get_object(json, NULL, "hooks", &hooks, err);
    if (r <= 0) {
        return r;
    }
    for (size_t i = 0; i < SPEC_HOOK_KIND_COUNT; i++) {
        void *items = NULL;
        r = spec_read_array(spec, hooks, &at, hook_kind_names[i], sizeof(struct spec_hook),
                            read_hook, &items, &spec->hooks[i].count, err);
        if (r < 0) {
            return r;
        }
        spec->hooks[i].items = items;
    }
    return 0;
}

static int read_version(struct spec *spec, const json_t *json, struct err *err)
{
    const struct json_path at = {.key = "ociVersion"};
    int r = json_get_string(json, NULL, "ociVersion", &spec->version, err);
    if (r <= 0) {
        return r < 0 ? r : json_fail(&at, NULL, err, "is missing");
    }
    if (!str_starts(spec->version, "1.")) {
        return json_fail(&at, json_object_get(json, "ociVersion"), err,
                         "this runtime knows versions 1.0 to " SPEC_VERSION);
    }
    return 0;
}

static int refuse_foreign(const json_t *json, struct err *err)
{
    static const char *const platforms[] = {"windows", "solaris", "vm", "zos", "freebsd"};
    for (size_t i = 0; i < COUNT(platforms); i++) {
        const json_t *value = json_object_get(json, platforms[i]);
        if (value != NULL && !json_is_null(value)) {
            const struct json_path at = {.key = platforms[i]};
            return json_fail(&at, NULL, err, "this runtime runs Linux containers only");
        }
    }
    return 0;
}

static int read_spec(struct spec *spec, struct err *err)
{
    static const struct spec_field fields[] = {
        {"hostname", FIELD_STRING, offsetof(struct spec, hostname), 0, 0},
        {"domainname", FIELD_STRING, offsetof(struct spec, domainname), 0, 0},
        {0},
    };
    const json_t *json = spec->json;
    int r = read_version(spec, json, err);
    if (r >= 0) {
        r = refuse_foreign(json, err);
    }
    if (r >= 0) {
        r = read_root(spec, json, err);
    }
    if (r >= 0) {
        r = spec_read_fields(spec, json, NULL, fields, spec, err);
    }
    if (r >= 0) {
        r = spec_read_pairs(spec, json, NULL, "annotations", &spec->annotations, err);
    }
    json_t *process = NULL;
    if (r >= 0) {
        r = json_get_object(json, NULL, "process", &process, err);
    }
    if (r > 0) {
        const struct json_path at = {.key = "process"};
        spec->has_process = true;
        r = spec_read_process(spec, process, &at, err);
    }
    if (r >= 0) {
        void *items = NULL;
        r = spec_read_array(spec, json, NULL, "mounts", sizeof(struct spec_mount), read_mount,
                            &items, &spec->mount_count, err);
        spec->mounts = items;
    }
    if (r >= 0) {
        r = read_hooks(spec, json, err);
    }
    json_t *platform = NULL;
    if (r >= 0) {
        r = json_get_object(json, NULL, "linux", &platform, err);
    }
    if (r > 0) {
        const struct json_path at = {.key = "linux"};
        r = spec_read_linux(spec, platform, &at, err);
    }
    return r < 0 ? r : spec_check(spec, err);
}

/* A number of 19 digits can grow by its sign. */
static size_t folded_size_max(size_t len)
{
    return len + len / 19 + 2;
}

/* An integer between what the JSON library reads and what 64 bits hold: its length, else 0. */
static size_t large_number(const char *text, size_t len, bool after_sign, uint64_t *ret)
{
    char number[24];
    size_t digits = 0;
    while (digits < len && isdigit((unsigned char)text[digits])) {
        digits++;
    }
    bool whole = digits == len || strchr(".eE", text[digits]) == NULL;
    if ((digits != 19 && digits != 20) || !whole || after_sign) {
        return 0;
    }
    memcpy(number, text, digits);
    number[digits] = '\0';
    return parse_u64(number, 10, ret) == 0 && *ret > INT64_MAX ? digits : 0;
}

/*
 * Go writes unsigned 64-bit numbers ("no limit" is 18446744073709551615), the JSON library reads
 * signed ones. Numbers between are rewritten as the negative number of the same bits; the readers
 * of unsigned fields take them back. Returns the new length.
 */
static size_t fold_unsigned(const char *text, size_t len, char *out)
{
    bool in_string = false;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char before = i > 0 ? text[i - 1] : ' ';
        bool number_starts =
            !in_string && isdigit((unsigned char)text[i]) && !isdigit((unsigned char)before);
        uint64_t value = 0;
        size_t digits =
            number_starts ? large_number(text + i, len - i, strchr("-+.eE", before) != NULL, &value)
                          : 0;
        if (digits > 0) {
            n += (size_t)snprintf(out + n, sizeof("-9223372036854775808"), "%lld",
                                  (long long)(int64_t)value);
            i += digits - 1;
            continue;
        }
        if (in_string && text[i] == '\\' && i + 1 < len) {
            out[n++] = text[i++];
        } else if (text[i] == '"') {
            in_string = !in_string;
        }
        out[n++] = text[i];
    }
    out[n] = '\0';
    return n;
}

typedef int read_fn(struct spec *spec, struct err *err);

static int parse_with(const char *text, size_t len, const char *name, read_fn *fn,
                      struct spec **ret_spec, struct err *err)
{
    AUTO(spec_freep) struct spec *spec = calloc(1, sizeof(*spec));
    char *copy = spec != NULL ? spec_alloc(spec, folded_size_max(len), 1) : NULL;
    if (copy == NULL) {
        return err_set(err, ENOMEM, "read %s", name);
    }
    spec->text = copy;
    spec->text_len = fold_unsigned(text, len, copy);
    int r = json_parse(copy, spec->text_len, name, &spec->json, err);
    if (r < 0) {
        return r;
    }
    if (!json_is_object(spec->json)) {
        return err_say(err, EINVAL, "%s: must be an object", name);
    }
    r = fn(spec, err);
    if (r < 0) {
        return err_wrap(err, -r, "%s", name);
    }
    *ret_spec = TAKE_PTR(spec);
    return 0;
}

int spec_parse(const char *text, size_t len, const char *name, struct spec **ret_spec,
               struct err *err)
{
    return parse_with(text, len, name, read_spec, ret_spec, err);
}

int spec_load(int dir_fd, const char *path, struct spec **ret_spec, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = read_file_at(dir_fd, path, SPEC_FILE_SIZE_MAX, &text);
    if (r < 0) {
        return err_set(err, -r, "read '%s'", path);
    }
    return spec_parse(text.data != NULL ? text.data : "", text.len, path, ret_spec, err);
}

static int read_process_only(struct spec *spec, struct err *err)
{
    spec->has_process = true;
    return spec_read_process(spec, spec->json, NULL, err);
}

int spec_parse_process(const char *text, size_t len, const char *name, struct spec **ret_spec,
                       struct err *err)
{
    return parse_with(text, len, name, read_process_only, ret_spec, err);
}

static int read_resources_only(struct spec *spec, struct err *err)
{
    return spec_read_resources(spec, spec->json, NULL, err);
}

int spec_parse_resources(const char *text, size_t len, const char *name, struct spec **ret_spec,
                         struct err *err)
{
    return parse_with(text, len, name, read_resources_only, ret_spec, err);
}
