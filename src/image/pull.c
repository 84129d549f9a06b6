#include "image/pull.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "image/image.h"
#include "image/registry.h"
#include "image/store_internal.h"

struct pull {
    struct image_store *store;
    const struct pull_request *request;
    struct registry *registry;
    struct registry_manifest manifest; /* of one platform */
    struct buf config;
    char name_digest[DIGEST_LENGTH + 1];
};

/* The manifest of the wanted platform; through an index when there is one. */
static int get_manifest(struct pull *p, struct err *err)
{
    const struct reference *ref = p->request->reference;
    const char *what = ref->digest != NULL ? ref->digest : ref->tag;
    AUTO(registry_manifest_donep) struct registry_manifest first = {0};
    AUTO(json_unrefp) json_t *index = NULL;
    struct descriptor chosen;
    int r = registry_get_manifest(p->registry, what, &first, err);
    if (r < 0) {
        return r;
    }
    memcpy(p->name_digest, first.digest, sizeof(p->name_digest));
    if (!manifest_is_index(first.text.data, first.text.len, first.content_type)) {
        p->manifest = first;
        first = (struct registry_manifest){0};
        return 0;
    }
    r = index_choose(first.text.data, first.text.len, p->request->platform, &index, &chosen, err);
    r = r < 0 ? r : registry_get_manifest(p->registry, chosen.digest, &p->manifest, err);
    if (r == 0 &&
        manifest_is_index(p->manifest.text.data, p->manifest.text.len, p->manifest.content_type)) {
        return err_say(err, EBADMSG, "an index inside an index");
    }
    return r;
}

static int get_config(struct pull *p, struct err *err)
{
    AUTO(manifest_donep) struct manifest manifest = {0};
    int r = manifest_parse(p->manifest.text.data, p->manifest.text.len, p->manifest.content_type,
                           &manifest, err);
    if (r < 0) {
        return r;
    }
    if (store_blob_exists(p->store, manifest.config.digest, NULL)) {
        return store_blob_read(p->store, manifest.config.digest, CONFIG_SIZE_MAX, &p->config, err);
    }
    return registry_get_blob(p->registry, &manifest.config, &p->config, err);
}

/* A single image that is for another platform than the one that was asked for is not it. */
static int check_platform(const struct pull *p, struct err *err)
{
    AUTO(image_facts_donep) struct image_facts facts = {0};
    int r = image_facts_parse(p->config.data, p->config.len, &facts, err);
    if (r == 0 && p->request->platform != NULL &&
        platform_match(p->request->platform, &facts.platform) == 0) {
        char want[PLATFORM_TEXT_SIZE];
        char have[PLATFORM_TEXT_SIZE];
        platform_format(p->request->platform, want);
        platform_format(&facts.platform, have);
        return err_say(err, ENOENT, "there is no image for %s; there is %s", want, have);
    }
    return r;
}

/* Whether the name already stands for this very image. */
static bool is_there(struct pull *p, const char *name)
{
    AUTO(image_donep) struct image image = {0};
    return image_resolve(p->store, name, p->request->platform, &image, NULL) == 0 &&
           str_eq(image.digest, p->manifest.digest);
}

static int pull(struct pull *p, struct pull_result *ret, struct err *err)
{
    AUTO(freep) char *name = reference_full(p->request->reference);
    int r = name != NULL ? get_manifest(p, err) : err_set(err, ENOMEM, "pull");
    r = r < 0 ? r : get_config(p, err);
    r = r < 0 ? r : check_platform(p, err);
    if (r < 0) {
        return r;
    }
    if (p->request->reference->digest != NULL && p->request->reference->tag != NULL) {
        /* NAME:TAG@DIGEST: the digest decides, the tag is only said. */
        free(name);
        name = str_printf("%s/%s@%s", p->request->reference->registry,
                          p->request->reference->repository, p->request->reference->digest);
        if (name == NULL) {
            return err_set(err, ENOMEM, "pull");
        }
    }
    const struct install_source source = {.fetch = registry_fetch_layer, .data = p->registry};
    const struct install_request request = {
        .manifest = p->manifest.text.data,
        .manifest_len = p->manifest.text.len,
        .content_type = p->manifest.content_type,
        .config = p->config.data,
        .config_len = p->config.len,
        .name = name,
        .name_digest = p->name_digest,
        .source = &source,
        .progress = p->request->progress,
        .layer_bytes_max = registry_layer_bytes_max(p->registry),
    };
    ret->was_there = is_there(p, name);
    memcpy(ret->digest, p->name_digest, sizeof(ret->digest));
    return image_install(p->store, &request, &ret->id, err);
}

int image_pull(struct image_store *store, const struct pull_request *request,
               struct pull_result *ret, struct err *err)
{
    struct pull p = {.store = store, .request = request};
    struct pull_result result = {0};
    int r = registry_open(request->reference, false, NULL, &p.registry, err);
    r = r < 0 ? r : pull(&p, &result, err);
    registry_manifest_done(&p.manifest);
    buf_done(&p.config);
    registry_close(p.registry);
    if (r == 0) {
        *ret = result;
    }
    return r;
}
