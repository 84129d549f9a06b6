#include "engine/mount_spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/path.h"
#include "engine/config.h"

static void spec_done(struct mount_spec *spec)
{
    free(spec->source);
    free(spec->target);
    strv_done(&spec->options);
}
DEFINE_DONEP(struct mount_spec, spec_done)

void mount_specs_done(struct mount_specs *specs)
{
    for (size_t i = 0; i < specs->count; i++) {
        spec_done(&specs->items[i]);
    }
    free(specs->items);
    *specs = (struct mount_specs){0};
}

/* Takes *spec over. */
static int add(struct mount_specs *specs, struct mount_spec *spec, struct err *err)
{
    struct mount_spec *items = reallocarray(specs->items, specs->count + 1, sizeof(*items));
    if (items == NULL) {
        return err_set(err, ENOMEM, "mount '%s'", spec->target);
    }
    specs->items = items;
    items[specs->count++] = *spec;
    *spec = (struct mount_spec){0};
    return 0;
}

/* An absolute target without "//", "." and a trailing '/'; ".." is refused. */
static int set_target(struct mount_spec *spec, const char *text, struct err *err)
{
    if (text[0] != '/') {
        return err_say(err, EINVAL, "mount target '%s' is not an absolute path", text);
    }
    AUTO(strv_donep) struct strv parts = {0};
    AUTO(buf_donep) struct buf path = {0};
    int r = strv_split(&parts, text, "/");
    for (size_t i = 0; r == 0 && i < parts.count; i++) {
        if (str_eq(parts.items[i], "..")) {
            return err_say(err, EINVAL, "mount target '%s' holds '..'", text);
        }
        if (!str_eq(parts.items[i], ".")) {
            r = buf_printf(&path, "/%s", parts.items[i]);
        }
    }
    if (r < 0) {
        return err_set(err, -r, "mount target '%s'", text);
    }
    if (path.len == 0) {
        return err_say(err, EINVAL, "mount target '%s' is the root itself", text);
    }
    free(spec->target);
    spec->target = buf_take(&path);
    return 0;
}

/* A host path made absolute (relative ones are below the working directory), or a volume's name. */
static int set_source(struct mount_spec *spec, const char *text, struct err *err)
{
    char *copy = NULL;
    if (spec->type == MOUNT_BIND && text[0] != '/') {
        AUTO(freep) char *cwd = getcwd(NULL, 0);
        copy = cwd != NULL ? str_printf("%s/%s", cwd, text) : NULL;
    } else {
        copy = strdup(text);
    }
    if (copy == NULL) {
        return err_set(err, ENOMEM, "mount source '%s'", text);
    }
    free(spec->source);
    spec->source = copy;
    if (spec->type == MOUNT_VOLUME && !name_is_safe(text)) {
        return err_say(err, EINVAL,
                       "'%s' is neither an absolute path nor a volume name ([a-zA-Z0-9_.+-])",
                       text);
    }
    return 0;
}

static const char *const propagations[] = {"shared",  "slave",  "private",
                                           "rshared", "rslave", "rprivate"};

/* One word behind the second colon of -v, shared by --mount's flags. */
static int set_option(struct mount_spec *spec, const char *word, struct err *err)
{
    if (str_eq(word, "ro") || str_eq(word, "readonly")) {
        spec->read_only = true;
        return 0;
    }
    if (str_eq(word, "nocopy")) {
        spec->no_copy = true;
        return 0;
    }
    if (str_eq(word, "rbind") || str_eq(word, "bind")) {
        spec->recursive = word[0] == 'r';
        return 0;
    }
    /* z and Z relabel for SELinux; without SELinux they mean nothing, to Docker as well. */
    if (str_eq(word, "rw") || str_eq(word, "z") || str_eq(word, "Z") || str_eq(word, "cached") ||
        str_eq(word, "delegated") || str_eq(word, "consistent")) {
        return 0;
    }
    for (size_t i = 0; i < COUNT(propagations); i++) {
        if (str_eq(word, propagations[i])) {
            spec->propagation = propagations[i];
            return 0;
        }
    }
    return err_say(err, EINVAL, "mount option '%s' is not known", word);
}

static int parse_volume(const char *text, struct mount_specs *specs, struct err *err)
{
    AUTO(spec_donep) struct mount_spec spec = {.create_source = true, .recursive = true};
    AUTO(strv_donep) struct strv parts = {0};
    int r = strv_split(&parts, text, ":");
    if (r < 0) {
        return err_set(err, -r, "volume '%s'", text);
    }
    if (parts.count < 1 || parts.count > 3) {
        return err_say(err, EINVAL, "volume '%s' is not [SOURCE:]TARGET[:OPTIONS]", text);
    }
    if (parts.count == 1) {
        spec.type = MOUNT_VOLUME;
        r = set_target(&spec, parts.items[0], err);
        return r < 0 ? r : add(specs, &spec, err);
    }
    const char *source = parts.items[0];
    spec.type =
        source[0] == '/' || source[0] == '.' || source[0] == '~' ? MOUNT_BIND : MOUNT_VOLUME;
    r = set_source(&spec, source, err);
    if (r == 0) {
        r = set_target(&spec, parts.items[1], err);
    }
    if (r == 0 && parts.count == 3) {
        AUTO(strv_donep) struct strv words = {0};
        r = strv_split(&words, parts.items[2], ",");
        for (size_t i = 0; r == 0 && i < words.count; i++) {
            r = set_option(&spec, words.items[i], err);
        }
    }
    return r < 0 ? err_wrap(err, -r, "volume '%s'", text) : add(specs, &spec, err);
}

static int set_mount_type(struct mount_spec *spec, const char *value, struct err *err)
{
    static const char *const names[] = {"bind", "volume", "tmpfs"};
    for (size_t i = 0; i < COUNT(names); i++) {
        if (str_eq(value, names[i])) {
            spec->type = (enum mount_type)i;
            return 0;
        }
    }
    return err_say(err, EINVAL, "mount type '%s' is not bind, volume or tmpfs", value);
}

static bool is_true(const char *value)
{
    return value == NULL || str_eq(value, "true") || str_eq(value, "1");
}

static int set_mount_key(struct mount_spec *spec, const char *key, const char *value,
                         const char **ret_source, struct err *err)
{
    if (str_eq(key, "type")) {
        return set_mount_type(spec, value != NULL ? value : "", err);
    }
    if (str_eq(key, "readonly") || str_eq(key, "ro")) {
        spec->read_only = is_true(value);
        return 0;
    }
    if (str_eq(key, "volume-nocopy")) {
        spec->no_copy = is_true(value);
        return 0;
    }
    if (value == NULL) {
        return err_say(err, EINVAL, "'%s' needs a value", key);
    }
    if (str_eq(key, "source") || str_eq(key, "src")) {
        *ret_source = value;
        return 0;
    }
    if (str_eq(key, "target") || str_eq(key, "dst") || str_eq(key, "destination")) {
        return set_target(spec, value, err);
    }
    if (str_eq(key, "bind-propagation")) {
        return set_option(spec, value, err);
    }
    if (str_eq(key, "bind-recursive")) {
        spec->recursive = !str_eq(value, "disabled");
        return 0;
    }
    if (str_eq(key, "tmpfs-size") || str_eq(key, "tmpfs-mode")) {
        return strv_addf(&spec->options, "%s=%s", key + strlen("tmpfs-"), value);
    }
    return err_say(err, EINVAL, "key '%s' is not known", key);
}

static int parse_mount(const char *text, struct mount_specs *specs, struct err *err)
{
    AUTO(spec_donep) struct mount_spec spec = {.type = MOUNT_VOLUME, .recursive = true};
    AUTO(strv_donep) struct strv words = {0};
    const char *source = NULL;
    int r = strv_split(&words, text, ",");
    for (size_t i = 0; r == 0 && i < words.count; i++) {
        char *value = strchr(words.items[i], '=');
        if (value != NULL) {
            *value++ = '\0';
        }
        r = set_mount_key(&spec, words.items[i], value, &source, err);
    }
    if (r == 0 && source != NULL) {
        r = set_source(&spec, source, err);
    }
    if (r < 0) {
        return err_wrap(err, -r, "mount '%s'", text);
    }
    if (spec.target == NULL) {
        return err_say(err, EINVAL, "mount '%s' has no target", text);
    }
    if (spec.type == MOUNT_BIND && source == NULL) {
        return err_say(err, EINVAL, "mount '%s': a bind mount needs a source", text);
    }
    if (spec.type == MOUNT_TMPFS && source != NULL) {
        return err_say(err, EINVAL, "mount '%s': a tmpfs has no source", text);
    }
    return add(specs, &spec, err);
}

static int parse_tmpfs(const char *text, struct mount_specs *specs, struct err *err)
{
    AUTO(spec_donep) struct mount_spec spec = {.type = MOUNT_TMPFS};
    AUTO(freep) char *target = strdup(text);
    if (target == NULL) {
        return err_set(err, ENOMEM, "tmpfs '%s'", text);
    }
    char *options = strchr(target, ':');
    if (options != NULL) {
        *options++ = '\0';
    }
    int r = set_target(&spec, target, err);
    if (r == 0 && options != NULL) {
        r = strv_split(&spec.options, options, ",");
    }
    return r < 0 ? err_wrap(err, -r, "tmpfs '%s'", text) : add(specs, &spec, err);
}

static bool has_target(const struct mount_specs *specs, const char *target)
{
    for (size_t i = 0; i < specs->count; i++) {
        if (str_eq(specs->items[i].target, target)) {
            return true;
        }
    }
    return false;
}

static int add_image_volumes(const struct workload_config *config, struct mount_specs *specs,
                             struct err *err)
{
    for (size_t i = 0; i < config->image_volume.count; i++) {
        AUTO(spec_donep) struct mount_spec spec = {.type = MOUNT_VOLUME, .from_image = true};
        int r = set_target(&spec, config->image_volume.items[i], err);
        if (r < 0) {
            return err_wrap(err, -r, "VOLUME of the image");
        }
        if (has_target(specs, spec.target)) {
            continue;
        }
        r = add(specs, &spec, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int by_target(const void *a, const void *b)
{
    return strcmp(((const struct mount_spec *)a)->target, ((const struct mount_spec *)b)->target);
}

int mount_specs_parse(const struct workload_config *config, struct mount_specs *ret,
                      struct err *err)
{
    static const struct {
        size_t offset;
        int (*parse)(const char *text, struct mount_specs *specs, struct err *err);
    } sources[] = {
        {offsetof(struct workload_config, volume), parse_volume},
        {offsetof(struct workload_config, mount), parse_mount},
        {offsetof(struct workload_config, tmpfs), parse_tmpfs},
    };
    AUTO(mount_specs_donep) struct mount_specs specs = {0};
    for (size_t s = 0; s < COUNT(sources); s++) {
        const struct strv *list = (const void *)((const char *)config + sources[s].offset);
        for (size_t i = 0; i < list->count; i++) {
            int r = sources[s].parse(list->items[i], &specs, err);
            if (r < 0) {
                return r;
            }
        }
    }
    int r = add_image_volumes(config, &specs, err);
    if (r < 0) {
        return r;
    }
    if (specs.count > 1) {
        qsort(specs.items, specs.count, sizeof(*specs.items), by_target);
    }
    for (size_t i = 1; i < specs.count; i++) {
        if (str_eq(specs.items[i - 1].target, specs.items[i].target)) {
            return err_say(err, EINVAL, "two mounts on '%s'", specs.items[i].target);
        }
    }
    *ret = specs;
    specs = (struct mount_specs){0};
    return 0;
}
