#include "image/push.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "image/digest.h"
#include "image/image.h"
#include "image/registry.h"
#include "image/store_internal.h"

#define WORKERS_MAX 4
/* Of one blob: repositories of the registry that have it. */
#define SOURCES_MAX 3

struct push;

struct push_blob {
    struct push *push;
    size_t index;
    const struct descriptor *blob;
    struct strv sources;
};

struct pushed_image {
    const struct image *image;
    struct buf text;
    struct manifest manifest;
};

struct push {
    struct image_store *store;
    const struct push_request *request;
    struct registry *registry;
    struct pushed_image *images;
    struct push_blob *blobs; /* each digest once */
    size_t blob_count;
    pthread_mutex_t mutex; /* all below */
    size_t next;
    struct strv closed; /* repositories that are not for us */
    int result;
    struct err err;
    bool cancel;
};

static void tell(const struct push_blob *b, const char *state)
{
    const struct install_progress *p = &b->push->request->progress;
    if (p->state != NULL) {
        p->state(p->data, b->index, b->blob->digest, state);
    }
}

static void tell_bytes(void *data, uint64_t now)
{
    const struct push_blob *b = data;
    const struct install_progress *p = &b->push->request->progress;
    if (p->bytes != NULL) {
        p->bytes(p->data, b->index, b->blob->digest, now, b->blob->size);
    }
}

/* 1 mounted. 0: to be uploaded, perhaps in *ret_session. */
static int mount_blob(struct push_blob *b, char **ret_session)
{
    struct push *p = b->push;
    for (size_t i = 0; i < b->sources.count; i++) {
        const char *source = b->sources.items[i];
        (void)pthread_mutex_lock(&p->mutex);
        bool closed = strv_has(&p->closed, source);
        (void)pthread_mutex_unlock(&p->mutex);
        if (closed) {
            continue;
        }
        free(*ret_session);
        *ret_session = NULL;
        /* A registry that will not mount is no failure. */
        int r = registry_mount_blob(p->registry, b->blob->digest, source, ret_session, NULL);
        if (r == 1) {
            return 1;
        }
        if (r == -EACCES) {
            (void)pthread_mutex_lock(&p->mutex);
            (void)strv_add(&p->closed, source);
            (void)pthread_mutex_unlock(&p->mutex);
        }
    }
    return 0;
}

static int push_blob(struct push_blob *b, struct err *err)
{
    struct push *p = b->push;
    char path[BLOB_PATH_SIZE];
    uint64_t size;
    AUTO(freep) char *session = NULL;
    int r = registry_has_blob(p->registry, b->blob->digest, err);
    if (r != 0) {
        if (r == 1) {
            tell(b, "Layer already exists");
        }
        return MIN(r, 0);
    }
    if (mount_blob(b, &session) == 1) {
        tell(b, "Mounted");
        return 0;
    }
    store_blob_path(b->blob->digest, path);
    AUTO(closep) int fd = openat(p->store->fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !store_blob_exists(p->store, b->blob->digest, &size) || size != b->blob->size) {
        return err_say(err, EIO, "blob %s is damaged; run: isola image check --repair",
                       b->blob->digest);
    }
    tell(b, "Pushing");
    const struct registry_upload upload = {.digest = b->blob->digest,
                                           .fd = fd,
                                           .size = size,
                                           .cancel = &p->cancel,
                                           .bytes = tell_bytes,
                                           .bytes_data = b};
    r = registry_put_blob(p->registry, &upload, TAKE_PTR(session), err);
    if (r == 0) {
        tell(b, "Pushed");
    }
    return r;
}

static void *worker(void *data)
{
    struct push *p = data;
    for (;;) {
        (void)pthread_mutex_lock(&p->mutex);
        struct push_blob *b = p->cancel || p->next == p->blob_count ? NULL : &p->blobs[p->next++];
        (void)pthread_mutex_unlock(&p->mutex);
        if (b == NULL) {
            return NULL;
        }
        struct err err = ERR_NONE;
        int r = push_blob(b, &err);
        if (r == 0) {
            continue;
        }
        (void)pthread_mutex_lock(&p->mutex);
        /* The first error is the cause; the others were cancelled by it. */
        if (p->result == 0) {
            p->result = r;
            p->err = err;
            (void)err_wrap(&p->err, -r, "blob %.12s", b->blob->digest + DIGEST_HEX_OFFSET);
        }
        __atomic_store_n(&p->cancel, true, __ATOMIC_RELAXED);
        (void)pthread_mutex_unlock(&p->mutex);
        return NULL;
    }
}

static int run_workers(struct push *p, struct err *err)
{
    pthread_t threads[WORKERS_MAX];
    size_t count = 0;
    size_t want = MIN((size_t)WORKERS_MAX, p->blob_count);
    for (size_t i = 0; i < p->blob_count; i++) {
        tell(&p->blobs[i], "Preparing");
    }
    while (count < want && pthread_create(&threads[count], NULL, worker, p) == 0) {
        count++;
    }
    if (count == 0 && want > 0) {
        return err_set(err, EAGAIN, "start a thread");
    }
    for (size_t i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    if (p->result < 0 && err != NULL) {
        *err = p->err;
    }
    return p->result;
}

static struct push_blob *find_blob(struct push *p, const char *digest)
{
    for (size_t i = 0; i < p->blob_count; i++) {
        if (str_eq(p->blobs[i].blob->digest, digest)) {
            return &p->blobs[i];
        }
    }
    return NULL;
}

static void add_blob(struct push *p, const struct descriptor *blob)
{
    if (find_blob(p, blob->digest) == NULL) {
        p->blobs[p->blob_count] =
            (struct push_blob){.push = p, .index = p->blob_count, .blob = blob};
        p->blob_count++;
    }
}

/* Reads the manifests and lists their blobs. */
static int read_images(struct push *p, struct err *err)
{
    const struct push_request *q = p->request;
    size_t most = 0;
    p->images = calloc(q->image_count, sizeof(*p->images));
    if (p->images == NULL) {
        return err_set(err, ENOMEM, "push");
    }
    for (size_t i = 0; i < q->image_count; i++) {
        struct pushed_image *image = &p->images[i];
        image->image = &q->images[i];
        int r =
            store_blob_read(p->store, image->image->digest, MANIFEST_SIZE_MAX, &image->text, err);
        r = r < 0 ? r
                  : manifest_parse(image->text.data, image->text.len, NULL, &image->manifest, err);
        if (r < 0) {
            return r;
        }
        most += image->manifest.layer_count + 1;
    }
    p->blobs = calloc(most, sizeof(*p->blobs));
    if (p->blobs == NULL) {
        return err_set(err, ENOMEM, "push");
    }
    for (size_t i = 0; i < q->image_count; i++) {
        const struct manifest *manifest = &p->images[i].manifest;
        for (size_t k = 0; k < manifest->layer_count; k++) {
            add_blob(p, &manifest->layers[k]);
        }
        add_blob(p, &manifest->config);
    }
    return 0;
}

/* Notes that the repository may have the blobs of one more image of the store. */
static int add_sources(struct push *p, const char *id, const char *repository)
{
    AUTO(image_donep) struct image image = {0};
    AUTO(buf_donep) struct buf text = {0};
    AUTO(manifest_donep) struct manifest manifest = {0};
    if (image_resolve(p->store, id, NULL, &image, NULL) < 0 ||
        store_blob_read(p->store, image.digest, MANIFEST_SIZE_MAX, &text, NULL) < 0 ||
        manifest_parse(text.data, text.len, NULL, &manifest, NULL) < 0) {
        return 0; /* not our concern here */
    }
    bool of_use = false;
    for (size_t i = 0; i <= manifest.layer_count; i++) {
        const struct descriptor *d =
            i < manifest.layer_count ? &manifest.layers[i] : &manifest.config;
        struct push_blob *b = find_blob(p, d->digest);
        if (b == NULL || b->sources.count == SOURCES_MAX || strv_has(&b->sources, repository)) {
            continue;
        }
        if (strv_add(&b->sources, repository) < 0) {
            return -ENOMEM;
        }
        of_use = true;
    }
    return of_use ? registry_may_read(p->registry, repository) : 0;
}

/* Where else the registry may have these blobs already. */
static int find_sources(struct push *p, struct err *err)
{
    const struct reference *to = p->request->reference;
    AUTO(image_list_donep) struct image_list list = {0};
    int r = image_store_list(p->store, &list, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        AUTO(reference_donep) struct reference other = {0};
        if (list.rows[i].name != NULL && reference_parse(list.rows[i].name, &other, NULL) == 0 &&
            str_eq(other.registry, to->registry) && !str_eq(other.repository, to->repository) &&
            add_sources(p, list.rows[i].id, other.repository) < 0) {
            r = err_set(err, ENOMEM, "push");
        }
    }
    return r;
}

/* An index of the images, with their platforms; the caller frees. */
static char *make_index(const struct push *p)
{
    json_t *entries = json_array();
    AUTO(json_unrefp)
    json_t *index = json_pack("{s:i, s:s, s:o}", "schemaVersion", 2, "mediaType", MEDIA_OCI_INDEX,
                              "manifests", entries);
    for (size_t i = 0; index != NULL && i < p->request->image_count; i++) {
        const struct pushed_image *image = &p->images[i];
        const struct platform *platform = &image->image->platform;
        json_t *entry =
            descriptor_json(image->manifest.media_type, image->image->digest, image->text.len);
        json_t *where =
            json_pack("{s:s, s:s}", "architecture", platform->architecture, "os", platform->os);
        if (where != NULL && platform->variant[0] != '\0') {
            (void)json_object_set_new(where, "variant", json_string(platform->variant));
        }
        if (json_object_set_new(entry, "platform", where) < 0 ||
            json_array_append_new(entries, entry) < 0) {
            return NULL;
        }
    }
    return index != NULL ? json_dumps(index, JSON_COMPACT) : NULL;
}

static int push_manifests(struct push *p, char ret_digest[DIGEST_LENGTH + 1], struct err *err)
{
    const struct push_request *q = p->request;
    for (size_t i = 0; i < q->image_count; i++) {
        const struct pushed_image *image = &p->images[i];
        int r = registry_put_manifest(
            p->registry, q->index ? image->image->digest : q->reference->tag,
            image->manifest.media_type, image->text.data, image->text.len, err);
        if (r < 0) {
            return r;
        }
    }
    if (!q->index) {
        (void)strcpy(ret_digest, q->images[0].digest);
        return 0;
    }
    AUTO(freep) char *index = make_index(p);
    if (index == NULL || digest_of(index, strlen(index), ret_digest) < 0) {
        return err_set(err, ENOMEM, "push index");
    }
    return registry_put_manifest(p->registry, q->reference->tag, MEDIA_OCI_INDEX, index,
                                 strlen(index), err);
}

int image_push(struct image_store *store, const struct push_request *request,
               char ret_digest[DIGEST_LENGTH + 1], struct err *err)
{
    struct push p = {.store = store, .request = request};
    const struct reference *reference = request->reference;
    char digest[DIGEST_LENGTH + 1];
    if (reference->tag == NULL || reference->digest != NULL) {
        return err_say(err, EINVAL, "push needs a name with a tag, not a digest");
    }
    AUTO(closep) int lock = store_lock_shared(store, err);
    if (lock < 0) {
        return lock;
    }
    (void)pthread_mutex_init(&p.mutex, NULL);
    int r = registry_open(reference, true, NULL, &p.registry, err);
    r = r < 0 ? r : read_images(&p, err);
    r = r < 0 ? r : find_sources(&p, err);
    r = r < 0 ? r : run_workers(&p, err);
    r = r < 0 ? r : push_manifests(&p, digest, err);
    for (size_t i = 0; i < p.blob_count; i++) {
        strv_done(&p.blobs[i].sources);
    }
    free(p.blobs);
    for (size_t i = 0; p.images != NULL && i < request->image_count; i++) {
        manifest_done(&p.images[i].manifest);
        buf_done(&p.images[i].text);
    }
    free(p.images);
    strv_done(&p.closed);
    registry_close(p.registry);
    (void)pthread_mutex_destroy(&p.mutex);
    if (r == 0) {
        (void)strcpy(ret_digest, digest);
    }
    return r;
}
