#include "image/install.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/user_namespace.h"
#include "image/store_internal.h"

#define WORKERS_MAX 3
#define READ_SIZE ((size_t)256 * 1024)

enum layer_state {
    LAYER_WAITS,
    LAYER_RUNS,
    LAYER_DONE,
};

struct install;

struct layer_job {
    struct install *install;
    size_t index;
    const struct descriptor *blob;
    const char *diff_id;
    char chain_id[DIGEST_TEXT_SIZE];
    char leaning[DIGEST_TEXT_SIZE]; /* its name if it leans on the layers below */
    char *key;                      /* once done */
    enum layer_state state;
    struct layer_stack parent; /* opened by wait_for_parent() */
};

struct install {
    struct image_store *store;
    const struct install_request *request;
    struct manifest manifest;
    struct image_facts facts;
    struct layer_job *jobs;
    pthread_mutex_t mutex; /* jobs' states and keys, next, result, and the store's sqlite handle */
    pthread_cond_t changed;
    size_t next;
    int result;
    struct err err;
    bool cancel;
    bool user_xattrs;
};

static void tell(struct install *in, const struct layer_job *job, const char *state)
{
    const struct install_progress *p = &in->request->progress;
    if (p->state != NULL) {
        p->state(p->data, job->index, job->blob->digest, state);
    }
}

static void tell_bytes(void *data, uint64_t now)
{
    const struct layer_job *job = data;
    const struct install_progress *p = &job->install->request->progress;
    if (p->bytes != NULL) {
        p->bytes(p->data, job->index, job->blob->digest, now, job->blob->size);
    }
}

/* Called by the extracting thread of a layer that leans on those below. */
static int wait_for_parent(void *data, struct err *err)
{
    struct layer_job *job = data;
    struct install *in = job->install;
    AUTO(strv_donep) struct strv paths = {0};
    int r = 0;
    (void)pthread_mutex_lock(&in->mutex);
    for (size_t i = job->index; r == 0 && i > 0; i--) {
        const struct layer_job *below = &in->jobs[i - 1];
        while (below->state != LAYER_DONE && !in->cancel) {
            (void)pthread_cond_wait(&in->changed, &in->mutex);
        }
        r = in->cancel ? -ECANCELED
                       : strv_addf(&paths, "%s/layers/%s", in->store->path, below->key);
    }
    (void)pthread_mutex_unlock(&in->mutex);
    if (r < 0) {
        return err_set(err, -r, "wait for the layers below");
    }
    return layer_stack_open(&paths, &job->parent, err);
}

/* Feeds a blob of the store through the writer. */
static int push_stored(struct install *in, const struct layer_job *job, struct layer_writer *writer,
                       struct err *err)
{
    char path[BLOB_PATH_SIZE];
    store_blob_path(job->blob->digest, path);
    AUTO(closep) int fd = openat(in->store->fd, path, O_RDONLY | O_CLOEXEC);
    AUTO(freep) char *buffer = malloc(READ_SIZE);
    if (fd < 0 || buffer == NULL) {
        return err_set(err, fd < 0 ? errno : ENOMEM, "read blob '%s'", path);
    }
    for (;;) {
        ssize_t n = read_upto(fd, buffer, READ_SIZE);
        if (n <= 0) {
            return n < 0 ? err_set(err, (int)-n, "read blob '%s'", path) : 0;
        }
        int r = __atomic_load_n(&in->cancel, __ATOMIC_RELAXED)
                    ? -ECANCELED
                    : layer_writer_push(writer, buffer, (size_t)n, err);
        if (r < 0) {
            return r;
        }
    }
}

/* One try. stored: the blob is in the store. */
static int run_writer(struct install *in, struct layer_job *job, bool stored, bool unpack,
                      struct layer_result *ret, bool *ret_resumed, struct err *err)
{
    const struct layer_spec spec = {
        .blob_digest = job->blob->digest,
        .blob_size = job->blob->size,
        .diff_id = job->diff_id,
        .parent_chain = job->index > 0 ? in->jobs[job->index - 1].chain_id : "",
        .keep_blob = !stored,
        .unpack = unpack,
        .user_xattrs = in->user_xattrs,
        .bytes_max = in->request->layer_bytes_max,
        .parent = job->index > 0 ? &job->parent : NULL,
        .parent_wait = wait_for_parent,
        .parent_wait_data = job,
    };
    AUTO(layer_writer_freep) struct layer_writer *writer = NULL;
    int r = layer_writer_new(in->store, &spec, &writer, err);
    if (r < 0) {
        return r;
    }
    *ret_resumed = layer_writer_offset(writer) > 0;
    if (stored) {
        tell(in, job, "Extracting");
        r = push_stored(in, job, writer, err);
    } else {
        tell(in, job, "Downloading");
        r = in->request->source->fetch(in->request->source->data, job->blob, writer, tell_bytes,
                                       job, &in->cancel, err);
    }
    return r < 0 ? r : layer_writer_finish(writer, ret, err);
}

static int find_layer(struct install *in, struct layer_job *job, char **ret_key, struct err *err)
{
    (void)pthread_mutex_lock(&in->mutex);
    int r = store_layer_find(in->store, job->diff_id, job->leaning, ret_key, err);
    (void)pthread_mutex_unlock(&in->mutex);
    return r;
}

/* One blob twice in an image: the upper must not hold its lock while it waits for the lower. */
static void wait_for_twin(struct install *in, const struct layer_job *job)
{
    (void)pthread_mutex_lock(&in->mutex);
    for (size_t i = 0; i < job->index; i++) {
        while (str_eq(in->jobs[i].blob->digest, job->blob->digest) &&
               in->jobs[i].state != LAYER_DONE && !in->cancel) {
            (void)pthread_cond_wait(&in->changed, &in->mutex);
        }
    }
    (void)pthread_mutex_unlock(&in->mutex);
}

static int run_layer(struct install *in, struct layer_job *job, char **ret_key, struct err *err)
{
    wait_for_twin(in, job);
    struct layer_result result = {0};
    AUTO(freep) char *key = NULL;
    for (int attempt = 0;; attempt++) {
        bool resumed = false;
        int r = find_layer(in, job, &key, err);
        if (r < 0 && r != -ENOENT) {
            return r;
        }
        bool stored = store_blob_exists(in->store, job->blob->digest, NULL);
        if (key != NULL && stored) {
            tell(in, job, attempt == 0 ? "Already exists" : "Pull complete");
            *ret_key = TAKE_PTR(key);
            return 0;
        }
        if (!stored && in->request->source == NULL) {
            return err_say(err, ENOENT, "blob %s is missing", job->blob->digest);
        }
        r = run_writer(in, job, stored, key == NULL, &result, &resumed, err);
        layer_stack_close(&job->parent);
        if (r == 0) {
            break;
        }
        /* Another process was quicker, or what an earlier try had left was not right. */
        bool again = r == -EALREADY || (r == -EBADMSG && resumed);
        if (!again || attempt >= 2) {
            return r;
        }
        if (err != NULL) {
            *err = ERR_NONE;
        }
    }
    if (key == NULL) {
        (void)pthread_mutex_lock(&in->mutex);
        int r = store_layer_add(in->store, result.key, job->diff_id, result.size, err);
        (void)pthread_mutex_unlock(&in->mutex);
        if (r < 0) {
            return r;
        }
        key = strdup(result.key);
        if (key == NULL) {
            return err_set(err, ENOMEM, "unpack layer");
        }
    }
    tell(in, job, "Pull complete");
    *ret_key = TAKE_PTR(key);
    return 0;
}

static void finish_job(struct install *in, struct layer_job *job, char *key, int r,
                       const struct err *err)
{
    (void)pthread_mutex_lock(&in->mutex);
    job->key = key;
    job->state = LAYER_DONE;
    if (r < 0) {
        /* The first error is the cause; the others were cancelled by it. */
        if (in->result == 0) {
            in->result = r;
            in->err = *err;
            (void)err_wrap(&in->err, -r, "layer %.12s", job->blob->digest + DIGEST_HEX_OFFSET);
        }
        __atomic_store_n(&in->cancel, true, __ATOMIC_RELAXED);
    }
    (void)pthread_cond_broadcast(&in->changed);
    (void)pthread_mutex_unlock(&in->mutex);
}

static void *worker(void *data)
{
    struct install *in = data;
    for (;;) {
        (void)pthread_mutex_lock(&in->mutex);
        bool stop = in->cancel || in->next == in->manifest.layer_count;
        struct layer_job *job = stop ? NULL : &in->jobs[in->next++];
        if (job != NULL) {
            job->state = LAYER_RUNS;
        }
        (void)pthread_mutex_unlock(&in->mutex);
        if (job == NULL) {
            return NULL;
        }
        struct err err = ERR_NONE;
        char *key = NULL;
        int r = run_layer(in, job, &key, &err);
        if (r < 0 && err.code == 0) {
            (void)err_set(&err, -r, "unpack");
        }
        finish_job(in, job, key, r, &err);
    }
}

static int run_workers(struct install *in, struct err *err)
{
    pthread_t threads[WORKERS_MAX];
    size_t count = 0;
    size_t want = MIN((size_t)WORKERS_MAX, in->manifest.layer_count);
    while (count < want && pthread_create(&threads[count], NULL, worker, in) == 0) {
        count++;
    }
    if (count == 0 && want > 0) {
        return err_set(err, EAGAIN, "start a thread");
    }
    for (size_t i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    if (in->result < 0 && err != NULL) {
        *err = in->err;
    }
    return in->result;
}

static int make_jobs(struct install *in, struct err *err)
{
    size_t count = in->manifest.layer_count;
    if (count != in->facts.diff_ids.count) {
        return err_say(err, EINVAL, "the manifest has %zu layers, the configuration %zu", count,
                       in->facts.diff_ids.count);
    }
    in->jobs = calloc(count + 1, sizeof(*in->jobs));
    if (in->jobs == NULL) {
        return err_set(err, ENOMEM, "install image");
    }
    for (size_t i = 0; i < count; i++) {
        struct layer_job *job = &in->jobs[i];
        job->install = in;
        job->index = i;
        job->blob = &in->manifest.layers[i];
        job->diff_id = in->facts.diff_ids.items[i];
        const char *below = i > 0 ? in->jobs[i - 1].chain_id : "";
        if (digest_chain(below, job->diff_id, job->chain_id) < 0 ||
            digest_leaning(below, job->diff_id, job->leaning) < 0) {
            return err_set(err, ENOMEM, "install image");
        }
        tell(in, job, "Waiting");
    }
    return 0;
}

static int register_image(struct install *in, const char *id, const char *digest, struct err *err)
{
    const struct install_request *q = in->request;
    size_t count = in->manifest.layer_count;
    AUTO(freep) struct store_layer *layers = calloc(count + 1, sizeof(*layers));
    if (layers == NULL) {
        return err_set(err, ENOMEM, "install image");
    }
    for (size_t i = 0; i < count; i++) {
        layers[i].diff_id = in->facts.diff_ids.items[i];
        layers[i].key = in->jobs[i].key;
    }
    const struct store_image image = {
        .id = id,
        .digest = digest,
        .media_type = in->manifest.media_type,
        .manifest_size = q->manifest_len,
        .platform = in->facts.platform,
        .created_ns = in->facts.created_ns,
        .layers = layers,
        .layer_count = count,
    };
    int r = store_blob_write(in->store, id, q->config, q->config_len, err);
    r = r < 0 ? r : store_blob_write(in->store, digest, q->manifest, q->manifest_len, err);
    return r < 0 ? r : store_image_add(in->store, &image, q->name, q->name_digest, err);
}

static int install_all(struct install *in, char **ret_id, struct err *err)
{
    const struct install_request *q = in->request;
    char id[DIGEST_TEXT_SIZE];
    char digest[DIGEST_TEXT_SIZE];
    int r = manifest_parse(q->manifest, q->manifest_len, q->content_type, &in->manifest, err);
    r = r < 0 ? r : image_facts_parse(q->config, q->config_len, &in->facts, err);
    if (r < 0) {
        return r;
    }
    if (digest_of(q->config, q->config_len, id) < 0 ||
        digest_of(q->manifest, q->manifest_len, digest) < 0) {
        return err_set(err, ENOMEM, "install image");
    }
    if (!str_eq(id, in->manifest.config.digest)) {
        return err_say(err, EBADMSG, "image configuration: wrong digest %s, the manifest says %s",
                       id, in->manifest.config.digest);
    }
    r = make_jobs(in, err);
    r = r < 0 ? r : run_workers(in, err);
    r = r < 0 ? r : register_image(in, id, digest, err);
    if (r < 0) {
        return r;
    }
    *ret_id = strdup(id);
    return *ret_id != NULL ? 0 : err_set(err, ENOMEM, "install image");
}

int image_install(struct image_store *store, const struct install_request *request, char **ret_id,
                  struct err *err)
{
    store_clean_work(store);
    AUTO(closep) int lock = store_lock_shared(store, err);
    if (lock < 0) {
        return lock;
    }
    struct install in = {.store = store, .request = request, .user_xattrs = !user_is_host_root()};
    (void)pthread_mutex_init(&in.mutex, NULL);
    (void)pthread_cond_init(&in.changed, NULL);
    int r = install_all(&in, ret_id, err);
    for (size_t i = 0; in.jobs != NULL && i < in.manifest.layer_count; i++) {
        free(in.jobs[i].key);
    }
    free(in.jobs);
    manifest_done(&in.manifest);
    image_facts_done(&in.facts);
    (void)pthread_mutex_destroy(&in.mutex);
    (void)pthread_cond_destroy(&in.changed);
    lock = close_fd(lock);
    store_sweep_if_wanted(store);
    return r;
}
