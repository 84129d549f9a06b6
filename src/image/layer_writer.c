#include "image/layer_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "image/byte_queue.h"
#include "image/decompress.h"
#include "image/store_internal.h"
#include "image/tar_extract.h"

#define NAME_SIZE 128
#define FEED_SIZE ((size_t)256 * 1024)
#define LOCK_QUIET_MS 10000
#define LOCK_POLL_MS 20
/* The disk begins with so many bytes of a blob while more arrive. */
#define WRITEBACK_SIZE ((uint64_t)8 << 20)

struct layer_writer {
    struct image_store *store;
    struct layer_spec spec;
    char partial[NAME_SIZE]; /* in work/ */
    char directory[NAME_SIZE];
    int blob_fd;
    int root_fd;
    uint64_t received;
    uint64_t flushing; /* bytes that are on their way to the disk */
    bool private;      /* the file has no name that a later try could know */
    bool broken;       /* what was received is of no use */
    struct digest *blob_digest;
    struct digest *diff_digest;
    struct decompress *decompress;
    struct byte_queue queue;
    pthread_t thread;
    bool thread_runs;
    struct extract_result extracted;
    int thread_result;
    struct err thread_err;
};

static ssize_t next_piece(void *data, const void **ret_data, struct err *err)
{
    struct layer_writer *w = data;
    ssize_t n = byte_queue_read(&w->queue, ret_data);
    if (n < 0) {
        return err_set(err, (int)-n, "read layer");
    }
    /* Plain layers have one digest for both. */
    if (n > 0 && !decompress_is_plain(w->decompress)) {
        digest_update(w->diff_digest, *ret_data, (size_t)n);
    }
    return n;
}

static uint64_t layer_limit(const struct layer_writer *w)
{
    return w->spec.bytes_max != 0 ? w->spec.bytes_max : LAYER_BYTES_MAX_DEFAULT;
}

static int unpack(struct layer_writer *w, struct err *err)
{
    AUTO(tar_reader_freep) struct tar_reader *reader = NULL;
    const struct extract_rules rules = {
        .whiteouts = TAR_WHITEOUTS_OVERLAY,
        .user_xattrs = w->spec.user_xattrs,
        .skip_devices = w->spec.user_xattrs,
        .limits = {.bytes = layer_limit(w)},
        .parent = w->spec.parent,
        .parent_wait = w->spec.parent_wait,
        .parent_wait_data = w->spec.parent_wait_data,
    };
    int r = tar_reader_new(next_piece, w, &rules.limits, &reader);
    if (r < 0) {
        return err_set(err, -r, "unpack layer");
    }
    if (w->root_fd >= 0) {
        return tar_extract_reader(reader, w->root_fd, &rules, &w->extracted, err);
    }
    return tar_reader_drain(reader, err); /* only the digest is wanted */
}

static void *unpack_thread(void *data)
{
    struct layer_writer *w = data;
    w->thread_result = unpack(w, &w->thread_err);
    if (w->thread_result < 0) {
        byte_queue_fail(&w->queue, w->thread_result);
    }
    return NULL;
}

static int queue_room(void *data, void **ret_room, size_t *ret_size)
{
    return byte_queue_room(&((struct layer_writer *)data)->queue, ret_room, ret_size);
}

static int queue_wrote(void *data, size_t len)
{
    return byte_queue_wrote(&((struct layer_writer *)data)->queue, len);
}

/* A file of our own, that no other process looks at. */
static int open_private(struct layer_writer *w, struct err *err)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) < 0) {
        return err_set(err, errno, "get random bytes");
    }
    (void)snprintf(w->partial, sizeof(w->partial), "work/blob-%d-%016llx.new", (int)getpid(),
                   (unsigned long long)random);
    w->blob_fd = openat(w->store->fd, w->partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    w->private = true;
    return w->blob_fd < 0 ? err_set(err, errno, "make '%s'", w->partial) : 0;
}

/*
 * Locks the partial file; waits for another process as long as its file grows. One that stands
 * still may wait for a layer that we hold: -EWOULDBLOCK.
 */
static int lock_partial(const struct layer_writer *w)
{
    off_t size = -1;
    for (int quiet_ms = 0; quiet_ms < LOCK_QUIET_MS; quiet_ms += LOCK_POLL_MS) {
        struct stat st;
        const struct timespec pause = {.tv_nsec = LOCK_POLL_MS * 1000000L};
        int fd = lock_file_at(w->store->fd, w->partial, LOCK_EXCLUSIVE, false);
        if (fd != -EWOULDBLOCK) {
            return fd;
        }
        if (fstatat(w->store->fd, w->partial, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_size != size) {
            size = st.st_size;
            quiet_ms = 0;
        }
        (void)nanosleep(&pause, NULL);
    }
    return -EWOULDBLOCK;
}

/* Opens (and locks, when its digest is known) the file of the compressed bytes. */
static int open_partial(struct layer_writer *w, struct err *err)
{
    if (w->spec.blob_digest == NULL) {
        return open_private(w, err);
    }
    (void)snprintf(w->partial, sizeof(w->partial), "work/%s.partial",
                   w->spec.blob_digest + DIGEST_HEX_OFFSET);
    int fd = lock_partial(w);
    if (fd == -EWOULDBLOCK) {
        return open_private(w, err);
    }
    if (fd < 0) {
        w->partial[0] = '\0';
        return err_set(err, -fd, "make '%s/%s'", w->store->path, w->partial);
    }
    w->blob_fd = fd;
    if (store_blob_exists(w->store, w->spec.blob_digest, NULL)) {
        (void)unlinkat(w->store->fd, w->partial, 0);
        return -EALREADY;
    }
    return 0;
}

static int open_directory(struct layer_writer *w, struct err *err)
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) < 0) {
        return err_set(err, errno, "get random bytes");
    }
    (void)snprintf(w->directory, sizeof(w->directory), "work/layer-%d-%016llx", (int)getpid(),
                   (unsigned long long)random);
    if (mkdirat(w->store->fd, w->directory, 0755) < 0) {
        w->directory[0] = '\0';
        return err_set(err, errno, "make a layer directory");
    }
    w->root_fd = openat(w->store->fd, w->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->root_fd < 0 || fchmod(w->root_fd, 0755) < 0) {
        return err_set(err, errno, "open '%s'", w->directory);
    }
    return 0;
}

static int join(struct layer_writer *w, struct err *err)
{
    if (!w->thread_runs) {
        return 0;
    }
    (void)pthread_join(w->thread, NULL);
    w->thread_runs = false;
    if (w->thread_result < 0) {
        w->broken = w->broken || w->thread_result != -ECANCELED;
        if (err != NULL) {
            *err = w->thread_err;
        }
    }
    return w->thread_result;
}

/* Hash and decompress; the bytes are in the file already, or need not be. */
static int process(struct layer_writer *w, const void *data, size_t len, struct err *err)
{
    if (w->spec.blob_size != LAYER_SIZE_UNKNOWN &&
        (len > w->spec.blob_size || w->received > w->spec.blob_size - len)) {
        w->broken = true;
        return err_say(err, EBADMSG, "more bytes than the %llu of its descriptor",
                       (unsigned long long)w->spec.blob_size);
    }
    digest_update(w->blob_digest, data, len);
    w->received += len;
    struct err own = ERR_NONE;
    int r = decompress_push(w->decompress, data, len, &own);
    if (r < 0) {
        w->broken = true;
        if (own.code == 0 && join(w, &own) == 0) {
            return err_set(err, -r, "unpack");
        }
        if (err != NULL) {
            *err = own;
        }
        return -own.code;
    }
    return 0;
}

/* What an interrupted try has left goes through the same way. */
static int feed_partial(struct layer_writer *w, struct err *err)
{
    struct stat st;
    if (fstat(w->blob_fd, &st) < 0) {
        return err_set(err, errno, "stat '%s'", w->partial);
    }
    if (st.st_size == 0) {
        return 0;
    }
    if (w->spec.blob_size != LAYER_SIZE_UNKNOWN && (uint64_t)st.st_size > w->spec.blob_size) {
        return ftruncate(w->blob_fd, 0) < 0 ? err_set(err, errno, "truncate '%s'", w->partial) : 0;
    }
    AUTO(freep) char *buffer = malloc(FEED_SIZE);
    if (buffer == NULL) {
        return err_set(err, ENOMEM, "read layer");
    }
    for (;;) {
        ssize_t n = read_upto(w->blob_fd, buffer, FEED_SIZE);
        if (n <= 0) {
            return n < 0 ? err_set(err, (int)-n, "read '%s'", w->partial) : 0;
        }
        int r = process(w, buffer, (size_t)n, err);
        if (r < 0) {
            return r;
        }
    }
}

static int start(struct layer_writer *w, struct err *err)
{
    const struct decompress_sink sink = {.room = queue_room, .wrote = queue_wrote, .data = w};
    if (digest_new(&w->blob_digest) < 0 || digest_new(&w->diff_digest) < 0 ||
        decompress_new(&sink, layer_limit(w), &w->decompress) < 0 ||
        byte_queue_init(&w->queue) < 0) {
        return err_set(err, ENOMEM, "unpack layer");
    }
    int r = w->spec.keep_blob ? open_partial(w, err) : 0;
    if (r == 0 && w->spec.unpack) {
        r = open_directory(w, err);
    }
    if (r < 0) {
        return r;
    }
    r = pthread_create(&w->thread, NULL, unpack_thread, w);
    if (r != 0) {
        return err_set(err, r, "start a thread");
    }
    w->thread_runs = true;
    return w->spec.keep_blob ? feed_partial(w, err) : 0;
}

int layer_writer_new(struct image_store *store, const struct layer_spec *spec,
                     struct layer_writer **ret_writer, struct err *err)
{
    AUTO(layer_writer_freep) struct layer_writer *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return err_set(err, ENOMEM, "unpack layer");
    }
    w->store = store;
    w->spec = *spec;
    w->blob_fd = -1;
    w->root_fd = -1;
    int r = start(w, err);
    if (r < 0) {
        return r;
    }
    *ret_writer = TAKE_PTR(w);
    return 0;
}

uint64_t layer_writer_offset(const struct layer_writer *writer)
{
    return writer->received;
}

int layer_writer_push(struct layer_writer *w, const void *data, size_t len, struct err *err)
{
    int r = w->blob_fd >= 0 ? write_full(w->blob_fd, data, len) : 0;
    if (r < 0) {
        return err_set(err, -r, "write '%s/%s'", w->store->path, w->partial);
    }
    r = process(w, data, len, err);
    if (r == 0 && w->blob_fd >= 0 && w->received - w->flushing >= WRITEBACK_SIZE) {
        (void)sync_file_range(w->blob_fd, (off_t)w->flushing, (off_t)(w->received - w->flushing),
                              SYNC_FILE_RANGE_WRITE);
        w->flushing = w->received;
    }
    return r;
}

/* A digest that does not fit explains every other error, so this comes first. */
static int check_blob(struct layer_writer *w, struct layer_result *ret, struct err *err)
{
    digest_final(w->blob_digest, ret->blob_digest);
    ret->blob_size = w->received;
    if (w->spec.blob_size != LAYER_SIZE_UNKNOWN && w->received != w->spec.blob_size) {
        return err_say(err, EBADMSG, "%llu bytes instead of the %llu of its descriptor",
                       (unsigned long long)w->received, (unsigned long long)w->spec.blob_size);
    }
    if (w->spec.blob_digest != NULL && !str_eq(ret->blob_digest, w->spec.blob_digest)) {
        w->broken = true;
        return err_say(err, EBADMSG, "wrong digest: it is %s", ret->blob_digest);
    }
    return 0;
}

static int check_content(struct layer_writer *w, struct layer_result *ret, struct err *err)
{
    if (decompress_is_plain(w->decompress)) {
        memcpy(ret->diff_id, ret->blob_digest, DIGEST_TEXT_SIZE);
    } else {
        digest_final(w->diff_digest, ret->diff_id);
    }
    if (w->spec.diff_id != NULL && !str_eq(ret->diff_id, w->spec.diff_id)) {
        w->broken = true;
        return err_say(err, EBADMSG, "its content is %s, the image's configuration says %s",
                       ret->diff_id, w->spec.diff_id);
    }
    return 0;
}

/* What has a name is on the disk: neither a crash nor a power failure leaves half of it. */
static int flush(const struct layer_writer *w, struct err *err)
{
    /* One syncfs() is a tenth of the price of 8,000 fsync(). */
    int r = w->root_fd >= 0 ? syncfs(w->root_fd) : w->blob_fd >= 0 ? fdatasync(w->blob_fd) : 0;
    return r < 0 ? err_set(err, errno, "flush '%s'", w->store->path) : 0;
}

static int flush_directory(const struct layer_writer *w, const char *name, struct err *err)
{
    AUTO(closep) int fd = openat(w->store->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? err_set(err, errno, "flush '%s/%s'", w->store->path, name) : 0;
}

/* Both renames are single steps; a name that is there already means the same content. */
static int commit(struct layer_writer *w, struct layer_result *ret, struct err *err)
{
    int r = flush(w, err);
    if (r < 0) {
        return r;
    }
    if (w->root_fd >= 0) {
        char chain[DIGEST_TEXT_SIZE];
        r = digest_leaning(w->spec.parent_chain, ret->diff_id, chain);
        if (r < 0) {
            return err_set(err, -r, "unpack layer");
        }
        const char *name = w->extracted.used_parent ? chain : ret->diff_id;
        (void)snprintf(ret->key, sizeof(ret->key), "%s", name + DIGEST_HEX_OFFSET);
        ret->size = w->extracted.bytes;
        AUTO(freep) char *target = str_printf("layers/%s", ret->key);
        if (target == NULL) {
            return err_set(err, ENOMEM, "unpack layer");
        }
        if (renameat(w->store->fd, w->directory, w->store->fd, target) == 0) {
            w->directory[0] = '\0';
        } else if (errno != EEXIST && errno != ENOTEMPTY) {
            return err_set(err, errno, "make '%s/%s'", w->store->path, target);
        }
    }
    if (w->blob_fd >= 0) {
        char target[BLOB_PATH_SIZE];
        store_blob_path(ret->blob_digest, target);
        if (fchmod(w->blob_fd, 0644) < 0 ||
            renameat(w->store->fd, w->partial, w->store->fd, target) < 0) {
            return err_set(err, errno, "make '%s/%s'", w->store->path, target);
        }
        w->partial[0] = '\0';
        r = flush_directory(w, "blobs/sha256", err);
    }
    return r < 0 || w->root_fd < 0 ? r : flush_directory(w, "layers", err);
}

int layer_writer_finish(struct layer_writer *w, struct layer_result *ret, struct err *err)
{
    struct layer_result result = {0};
    struct err own = ERR_NONE;
    struct err thread_err = ERR_NONE;
    int r = check_blob(w, &result, &own);
    if (r == 0) {
        r = decompress_finish(w->decompress, &own);
        w->broken = w->broken || r < 0;
    }
    if (r == 0) {
        r = byte_queue_end(&w->queue);
    } else {
        byte_queue_fail(&w->queue, -ECANCELED);
    }
    int joined = join(w, &thread_err);
    if (joined < 0 && own.code == 0) {
        own = thread_err;
        r = joined;
    }
    if (r == 0) {
        r = check_content(w, &result, &own);
    }
    if (r == 0) {
        r = commit(w, &result, &own);
    }
    if (r < 0) {
        if (err != NULL) {
            *err = own;
        }
        return r;
    }
    (void)snprintf(result.format, sizeof(result.format), "%s", decompress_format(w->decompress));
    *ret = result;
    return 0;
}

void layer_writer_free(struct layer_writer *w)
{
    if (w == NULL) {
        return;
    }
    if (w->thread_runs) {
        byte_queue_fail(&w->queue, -ECANCELED);
        (void)join(w, NULL);
    }
    (void)close_fd(w->root_fd);
    if (w->directory[0] != '\0') {
        (void)remove_tree_at(w->store->fd, w->directory);
    }
    bool keep = !w->private && !w->broken && w->received > 0;
    if (w->partial[0] != '\0' && !keep) {
        (void)unlinkat(w->store->fd, w->partial, 0);
    }
    (void)close_fd(w->blob_fd); /* and with it the lock */
    byte_queue_done(&w->queue);
    decompress_free(w->decompress);
    digest_free(w->blob_digest);
    digest_free(w->diff_digest);
    free(w);
}
