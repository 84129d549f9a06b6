#include "image/manifest.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "image/reference.h"
#include "image/store_internal.h"

static int parse_descriptor(const json_t *json, const struct json_path *at, struct descriptor *ret,
                            struct err *err)
{
    int64_t size = -1;
    struct descriptor d = {.media_type = ""};
    if (!json_is_object(json)) {
        return json_fail(at, json, err, "must be a descriptor");
    }
    int r = json_get_string(json, at, "mediaType", &d.media_type, err);
    r = r < 0 ? r : json_get_string(json, at, "digest", &d.digest, err);
    r = r < 0 ? r : json_get_int(json, at, "size", 0, INT64_MAX, &size, err);
    if (r < 0) {
        return r;
    }
    if (!digest_is_valid(d.digest) || size < 0) {
        return json_fail(at, json, err, "needs a size and a sha256 digest");
    }
    d.size = (uint64_t)size;
    *ret = d;
    return 0;
}

json_t *descriptor_json(const char *media_type, const char *digest, uint64_t size)
{
    return json_pack("{s:s, s:s, s:I}", "mediaType", media_type, "digest", digest, "size",
                     (json_int_t)size);
}

void manifest_done(struct manifest *manifest)
{
    free(manifest->layers);
    json_decref(manifest->json);
    *manifest = (struct manifest){0};
}

static int parse_layers(struct manifest *m, struct err *err)
{
    const struct json_path path = {.key = "layers"};
    json_t *layers = NULL;
    int r = json_get_array(m->json, NULL, "layers", &layers, err);
    if (r < 0) {
        return r;
    }
    size_t count = json_array_size(layers);
    if (count > IMAGE_LAYERS_MAX) {
        return json_fail(&path, NULL, err, "more than %d layers", IMAGE_LAYERS_MAX);
    }
    m->layers = calloc(count + 1, sizeof(*m->layers));
    if (m->layers == NULL) {
        return err_set(err, ENOMEM, "read manifest");
    }
    for (; m->layer_count < count; m->layer_count++) {
        const struct json_path item = {.parent = &path, .index = m->layer_count};
        struct descriptor *layer = &m->layers[m->layer_count];
        r = parse_descriptor(json_array_get(layers, m->layer_count), &item, layer, err);
        if (r < 0) {
            return r;
        }
        if (strstr(layer->media_type, "tar") == NULL && layer->media_type[0] != '\0') {
            return json_fail(&item, NULL, err,
                             "media type '%s' is not an image layer; this is no container image",
                             layer->media_type);
        }
    }
    return 0;
}

int manifest_parse(const char *text, size_t len, const char *content_type, struct manifest *ret,
                   struct err *err)
{
    AUTO(manifest_donep) struct manifest m = {.media_type = ""};
    const struct json_path config_path = {.key = "config"};
    int64_t version = 0;
    int r = json_parse(text, len, "manifest", &m.json, err);
    r = r < 0 ? r : json_get_int(m.json, NULL, "schemaVersion", 0, 99, &version, err);
    r = r < 0 ? r : json_get_string(m.json, NULL, "mediaType", &m.media_type, err);
    if (r < 0) {
        return r;
    }
    if (version != 2) {
        return err_say(err, EINVAL, "manifest: schema version %lld is not supported, only 2",
                       (long long)version);
    }
    if (m.media_type[0] == '\0') {
        bool docker = content_type != NULL && strstr(content_type, "docker") != NULL;
        m.media_type = docker ? MEDIA_DOCKER_MANIFEST : MEDIA_OCI_MANIFEST;
    }
    r = parse_descriptor(json_object_get(m.json, "config"), &config_path, &m.config, err);
    r = r < 0 ? r : parse_layers(&m, err);
    if (r < 0) {
        return r;
    }
    *ret = m;
    m = (struct manifest){0};
    return 0;
}

bool manifest_is_index(const char *text, size_t len, const char *content_type)
{
    AUTO(json_unrefp) json_t *json = NULL;
    if (json_parse(text, len, "manifest", &json, NULL) < 0) {
        return false;
    }
    const char *type = json_string_value(json_object_get(json, "mediaType"));
    type = type != NULL ? type : content_type;
    if (type != NULL &&
        (str_starts(type, MEDIA_OCI_INDEX) || str_starts(type, MEDIA_DOCKER_LIST))) {
        return true;
    }
    return json_is_array(json_object_get(json, "manifests"));
}

static int entry_platform(const json_t *entry, struct platform *ret)
{
    const json_t *p = json_object_get(entry, "platform");
    const char *os = json_string_value(json_object_get(p, "os"));
    const char *architecture = json_string_value(json_object_get(p, "architecture"));
    const char *variant = json_string_value(json_object_get(p, "variant"));
    if (os == NULL || architecture == NULL) {
        return -ENOENT;
    }
    return platform_set(ret, os, architecture, variant != NULL ? variant : "");
}

int index_choose(const char *text, size_t len, const struct platform *platform, json_t **ret_json,
                 struct descriptor *ret, struct err *err)
{
    AUTO(json_unrefp) json_t *json = NULL;
    AUTO(buf_donep) struct buf there = {0};
    const struct json_path path = {.key = "manifests"};
    struct platform want;
    platform_host(&want);
    if (platform != NULL) {
        want = *platform;
    }
    json_t *manifests = NULL;
    int r = json_parse(text, len, "index", &json, err);
    r = r < 0 ? r : json_get_array(json, NULL, "manifests", &manifests, err);
    if (r < 0) {
        return r;
    }
    int best = 0;
    size_t i;
    json_t *entry;
    json_array_foreach (manifests, i, entry) {
        const struct json_path item = {.parent = &path, .index = i};
        struct platform have;
        char shown[PLATFORM_TEXT_SIZE];
        if (entry_platform(entry, &have) < 0) {
            /* An index of one image often does not say for what. */
            if (json_array_size(manifests) != 1 || platform != NULL) {
                continue;
            }
            have = want;
        }
        platform_format(&have, shown);
        if (!str_starts(shown, "unknown/")) {
            (void)buf_printf(&there, "%s%s", there.len > 0 ? ", " : "", shown);
        }
        int score = platform_match(&want, &have);
        if (score > best) {
            r = parse_descriptor(entry, &item, ret, err);
            if (r < 0) {
                return r;
            }
            best = score;
        }
    }
    if (best == 0) {
        char shown[PLATFORM_TEXT_SIZE];
        platform_format(&want, shown);
        return err_say(err, ENOENT, "there is no image for %s%s%s", shown,
                       there.len > 0 ? "; there are " : "", there.len > 0 ? there.data : "");
    }
    *ret_json = TAKE_PTR(json);
    return 0;
}

void image_facts_done(struct image_facts *facts)
{
    json_decref(facts->json);
    strv_done(&facts->diff_ids);
    *facts = (struct image_facts){0};
}

int image_facts_parse(const char *text, size_t len, struct image_facts *ret, struct err *err)
{
    AUTO(image_facts_donep) struct image_facts f = {0};
    const char *os = "linux";
    const char *architecture = NULL;
    const char *variant = "";
    const char *created = NULL;
    const char *type = "layers";
    const struct json_path rootfs_path = {.key = "rootfs"};
    json_t *rootfs = NULL;
    int r = json_parse(text, len, "image configuration", &f.json, err);
    r = r < 0 ? r : json_get_string(f.json, NULL, "os", &os, err);
    r = r < 0 ? r : json_get_string(f.json, NULL, "architecture", &architecture, err);
    r = r < 0 ? r : json_get_string(f.json, NULL, "variant", &variant, err);
    r = r < 0 ? r : json_get_string(f.json, NULL, "created", &created, err);
    r = r < 0 ? r : json_get_object(f.json, NULL, "rootfs", &rootfs, err);
    r = r < 0 ? r : json_get_string(rootfs, &rootfs_path, "type", &type, err);
    r = r < 0 ? r : json_get_strings(rootfs, &rootfs_path, "diff_ids", &f.diff_ids, err);
    if (r < 0) {
        return err_wrap(err, -r, "image configuration");
    }
    if (rootfs == NULL || !str_eq(type, "layers")) {
        return err_say(err, EINVAL, "image configuration: rootfs must have the type \"layers\"");
    }
    if (architecture == NULL ||
        platform_set(&f.platform, os[0] != '\0' ? os : "linux", architecture, variant) < 0) {
        return err_say(err, EINVAL, "image configuration: no valid os and architecture");
    }
    for (size_t i = 0; i < f.diff_ids.count; i++) {
        if (!digest_is_valid(f.diff_ids.items[i])) {
            return err_say(err, EINVAL,
                           "image configuration: rootfs.diff_ids[%zu] is no sha256 digest", i);
        }
    }
    if (created != NULL && parse_time(created, 0, &f.created_ns) < 0) {
        f.created_ns = 0; /* a date that nobody can read is no reason to refuse an image */
    }
    *ret = f;
    f = (struct image_facts){0};
    return 0;
}
