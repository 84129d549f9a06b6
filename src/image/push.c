#include "image/push.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/err.h"
#include "image/image.h"
#include "image/registry.h"
#include "image/store_internal.h"

struct push {
    struct image_store *store;
    struct registry *registry;
    const struct install_progress *progress;
    struct strv sources; /* other repositories of the registry that have the image */
    const struct descriptor *blob;
    size_t layer;
};

static void tell(const struct push *p, const char *state)
{
    if (p->progress->state != NULL) {
        p->progress->state(p->progress->data, p->layer, p->blob->digest, state);
    }
}

static void tell_bytes(void *data, uint64_t now)
{
    const struct push *p = data;
    if (p->progress->bytes != NULL) {
        p->progress->bytes(p->progress->data, p->layer, p->blob->digest, now, p->blob->size);
    }
}

/* Where else the registry may have these blobs already. */
static int find_sources(struct push *p, const struct image *image, const struct reference *ref)
{
    for (size_t i = 0; i < image->names.count; i++) {
        AUTO(reference_donep) struct reference other = {0};
        if (reference_parse(image->names.items[i], &other, NULL) == 0 &&
            str_eq(other.registry, ref->registry) && !str_eq(other.repository, ref->repository) &&
            !strv_has(&p->sources, other.repository) &&
            strv_add(&p->sources, other.repository) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int push_blob(struct push *p, const struct descriptor *blob, size_t layer, struct err *err)
{
    char path[BLOB_PATH_SIZE];
    p->blob = blob;
    p->layer = layer;
    tell(p, "Preparing");
    int r = registry_has_blob(p->registry, blob->digest, err);
    if (r != 0) {
        if (r == 1) {
            tell(p, "Layer already exists");
        }
        return MIN(r, 0);
    }
    for (size_t i = 0; i < p->sources.count; i++) {
        /* A registry that will not mount is no failure. */
        if (registry_mount_blob(p->registry, blob->digest, p->sources.items[i], NULL) == 1) {
            tell(p, "Mounted");
            return 0;
        }
    }
    store_blob_path(blob->digest, path);
    AUTO(closep) int fd = openat(p->store->fd, path, O_RDONLY | O_CLOEXEC);
    uint64_t size;
    if (fd < 0 || !store_blob_exists(p->store, blob->digest, &size) || size != blob->size) {
        return err_say(err, EIO, "blob %s is damaged; run: isola system check", blob->digest);
    }
    tell(p, "Pushing");
    r = registry_put_blob(p->registry, blob->digest, fd, size, tell_bytes, p, err);
    if (r == 0) {
        tell(p, "Pushed");
    }
    return r;
}

static int push_all(struct push *p, const struct image *image, const struct reference *ref,
                    struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(manifest_donep) struct manifest manifest = {0};
    int r = find_sources(p, image, ref);
    r = r < 0 ? err_set(err, -r, "push")
              : store_blob_read(p->store, image->digest, MANIFEST_SIZE_MAX, &text, err);
    r = r < 0 ? r : manifest_parse(text.data, text.len, NULL, &manifest, err);
    for (size_t i = 0; r == 0 && i < manifest.layer_count; i++) {
        r = push_blob(p, &manifest.layers[i], i, err);
    }
    r = r < 0 ? r : push_blob(p, &manifest.config, manifest.layer_count, err);
    return r < 0 ? r
                 : registry_put_manifest(p->registry, ref->tag, manifest.media_type, text.data,
                                         text.len, err);
}

int image_push(struct image_store *store, const struct image *image,
               const struct reference *reference, const struct install_progress *progress,
               char ret_digest[DIGEST_LENGTH + 1], struct err *err)
{
    struct push p = {.store = store, .progress = progress};
    if (reference->tag == NULL || reference->digest != NULL) {
        return err_say(err, EINVAL, "push needs a name with a tag, not a digest");
    }
    AUTO(closep) int lock = store_lock_shared(store, err);
    int r = lock < 0 ? lock : registry_open(reference, true, NULL, &p.registry, err);
    r = r < 0 ? r : push_all(&p, image, reference, err);
    strv_done(&p.sources);
    registry_close(p.registry);
    if (r == 0) {
        (void)strcpy(ret_digest, image->digest);
    }
    return r;
}
