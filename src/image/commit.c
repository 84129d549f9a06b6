#include "image/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/user_namespace.h"
#include "image/image.h"
#include "image/install.h"
#include "image/plain_stream.h"
#include "image/store_internal.h"
#include "image/tar_writer.h"

#define OUT_SIZE ((size_t)256 * 1024)
#define GZIP_LEVEL 1

/* A layer is compressed on its way into a layer_writer, which hashes and unpacks it again. */
struct packer {
    struct layer_writer *writer;
    struct isal_zstream zip;
    uint8_t *level_buffer;
    uint8_t *out;
    struct err *err;
};

static int packer_init(struct packer *p, struct layer_writer *writer, struct err *err)
{
    *p = (struct packer){.writer = writer, .err = err};
    p->level_buffer = malloc(ISAL_DEF_LVL1_DEFAULT);
    p->out = malloc(OUT_SIZE);
    if (p->level_buffer == NULL || p->out == NULL) {
        return -ENOMEM;
    }
    isal_deflate_init(&p->zip);
    p->zip.gzip_flag = IGZIP_GZIP;
    p->zip.level = GZIP_LEVEL;
    p->zip.level_buf = p->level_buffer;
    p->zip.level_buf_size = ISAL_DEF_LVL1_DEFAULT;
    return 0;
}

static void packer_done(struct packer *p)
{
    free(p->level_buffer);
    free(p->out);
}

/* tar_output_fn; with last also the gzip trailer. */
static int pack(struct packer *p, const void *bytes, size_t len, bool last)
{
    p->zip.next_in = (uint8_t *)(uintptr_t)bytes;
    p->zip.avail_in = (uint32_t)len;
    p->zip.end_of_stream = last ? 1 : 0;
    do {
        p->zip.next_out = p->out;
        p->zip.avail_out = (uint32_t)OUT_SIZE;
        if (isal_deflate(&p->zip) != COMP_OK) {
            return -EIO;
        }
        size_t n = OUT_SIZE - p->zip.avail_out;
        int r = n > 0 ? layer_writer_push(p->writer, p->out, n, p->err) : 0;
        if (r < 0) {
            return r;
        }
    } while (p->zip.avail_out == 0);
    return 0;
}

static int pack_output(void *data, const void *bytes, size_t len)
{
    return pack(data, bytes, len, false);
}

static int write_upper(struct packer *p, int upper_fd, struct err *err)
{
    static const struct tar_tree_rules rules = {.whiteouts = true};
    AUTO(tar_writer_freep) struct tar_writer *tar = NULL;
    int r = tar_writer_new(pack_output, p, &tar);
    r = r < 0 ? r : tar_writer_tree(tar, upper_fd, ".", &rules, err);
    return r < 0 ? r : tar_writer_finish(tar);
}

static int write_tar(struct packer *p, int tar_fd, struct err *err)
{
    AUTO(plain_stream_freep) struct plain_stream *stream = NULL;
    int r = plain_stream_new(tar_fd, LAYER_BYTES_MAX_DEFAULT, &stream);
    while (r == 0) {
        const void *data;
        ssize_t n = plain_stream_read(stream, &data, err);
        if (n <= 0) {
            return (int)n;
        }
        r = pack(p, data, (size_t)n, false);
    }
    return r;
}

struct parent_layers {
    const struct image *image;
    struct layer_stack stack;
};

static int open_parent(void *data, struct err *err)
{
    struct parent_layers *parent = data;
    return layer_stack_open(&parent->image->layers, &parent->stack, err);
}

static int parent_chain(const struct image *image, char out[DIGEST_TEXT_SIZE])
{
    out[0] = '\0';
    for (size_t i = 0; image != NULL && i < image->diff_ids.count; i++) {
        int r = digest_chain(out, image->diff_ids.items[i], out);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int add_layer(struct image_store *store, const struct image_parts *parts,
                     struct layer_result *ret, struct err *err)
{
    char chain[DIGEST_TEXT_SIZE];
    struct parent_layers parent = {.image = parts->parent};
    bool based = parts->parent != NULL && parts->parent->layers.count > 0;
    AUTO(layer_writer_freep) struct layer_writer *writer = NULL;
    if (parent_chain(parts->parent, chain) < 0) {
        return err_set(err, ENOMEM, "make layer");
    }
    const struct layer_spec spec = {
        .blob_size = LAYER_SIZE_UNKNOWN,
        .parent_chain = chain,
        .keep_blob = true,
        .unpack = true,
        .user_xattrs = !user_is_host_root(),
        .parent = based ? &parent.stack : NULL,
        .parent_wait = open_parent,
        .parent_wait_data = &parent,
    };
    struct packer packer;
    int r = layer_writer_new(store, &spec, &writer, err);
    if (r < 0) {
        return r;
    }
    r = packer_init(&packer, writer, err);
    if (r == 0) {
        r = parts->upper_fd >= 0 ? write_upper(&packer, parts->upper_fd, err)
                                 : write_tar(&packer, parts->tar_fd, err);
    }
    r = r < 0 ? r : pack(&packer, NULL, 0, true);
    packer_done(&packer);
    if (r == 0) {
        r = layer_writer_finish(writer, ret, err);
    } else if (err == NULL || err->code == 0) {
        (void)err_set(err, -r, "make layer");
    }
    layer_stack_close(&parent.stack);
    return r < 0 ? r : store_layer_add(store, ret->key, ret->diff_id, ret->size, err);
}

static void set_text(json_t *object, const char *key, const char *value)
{
    if (value != NULL) {
        (void)json_object_set_new(object, key, json_string(value));
    }
}

static json_t *make_config(const struct image_parts *parts, const char *diff_id)
{
    char created[TIME_TEXT_SIZE];
    struct platform platform;
    platform_host(&platform);
    if (parts->parent != NULL) {
        platform = parts->parent->platform;
    }
    if (parts->architecture != NULL &&
        platform_set(&platform, "linux", parts->architecture,
                     parts->variant != NULL ? parts->variant : "") < 0) {
        return NULL;
    }
    format_time(parts->created_ns != 0 ? parts->created_ns : clock_realtime_ns(), created);
    AUTO(json_unrefp)
    json_t *config = parts->parent != NULL ? json_deep_copy(parts->parent->json) : json_object();
    if (config == NULL) {
        return NULL;
    }
    json_t *history = json_object_get(config, "history");
    if (!json_is_array(history)) {
        history = json_array();
        (void)json_object_set_new(config, "history", history);
    }
    json_t *diff_ids =
        parts->parent != NULL ? json_from_strv(&parts->parent->diff_ids) : json_array();
    json_t *step = json_pack("{s:s}", "created", created);
    set_text(step, "created_by", parts->created_by);
    set_text(step, "comment", parts->comment);
    set_text(step, "author", parts->author);
    if (diff_id != NULL) {
        (void)json_array_append_new(diff_ids, json_string(diff_id));
    } else {
        (void)json_object_set_new(step, "empty_layer", json_true());
    }
    (void)json_array_append_new(history, step);
    set_text(config, "created", created);
    set_text(config, "architecture", platform.architecture);
    set_text(config, "os", platform.os);
    set_text(config, "variant", platform.variant[0] != '\0' ? platform.variant : NULL);
    set_text(config, "author", parts->author);
    set_text(config, "comment", parts->comment);
    if (parts->config != NULL) {
        (void)json_object_set(config, "config", (json_t *)(uintptr_t)parts->config);
    } else if (json_object_get(config, "config") == NULL) {
        (void)json_object_set_new(config, "config", json_object());
    }
    int r = json_object_set_new(config, "rootfs",
                                json_pack("{s:s, s:o}", "type", "layers", "diff_ids", diff_ids));
    return r == 0 ? TAKE_PTR(config) : NULL;
}

/* The parent's layer descriptors and the new one. */
static json_t *make_manifest(struct image_store *store, const struct image_parts *parts,
                             const struct layer_result *layer, const char *config_digest,
                             size_t config_len, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(json_unrefp) json_t *parent = NULL;
    AUTO(json_unrefp) json_t *layers = json_array();
    if (parts->parent != NULL) {
        if (store_blob_read(store, parts->parent->digest, MANIFEST_SIZE_MAX, &text, err) < 0 ||
            json_parse(text.data, text.len, "manifest", &parent, err) < 0) {
            return NULL;
        }
        json_decref(layers);
        layers = json_deep_copy(json_object_get(parent, "layers"));
    }
    size_t i;
    json_t *item;
    json_array_foreach (layers, i, item) {
        /* An OCI manifest names OCI's types; Docker's gzip layers are the same bytes. */
        const char *type = json_string_value(json_object_get(item, "mediaType"));
        if (type != NULL && strstr(type, "vnd.docker") != NULL) {
            set_text(item, "mediaType",
                     str_ends(type, "gzip") ? MEDIA_OCI_LAYER_GZIP : MEDIA_OCI_LAYER);
        }
    }
    if (layer != NULL) {
        (void)json_array_append_new(
            layers, descriptor_json(MEDIA_OCI_LAYER_GZIP, layer->blob_digest, layer->blob_size));
    }
    json_t *manifest = json_pack(
        "{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType", MEDIA_OCI_MANIFEST, "config",
        descriptor_json(MEDIA_OCI_CONFIG, config_digest, config_len), "layers", layers);
    if (manifest == NULL) {
        (void)err_set(err, ENOMEM, "make manifest");
    }
    return manifest;
}

int image_commit(struct image_store *store, const struct image_parts *parts, char **ret_id,
                 struct err *err)
{
    struct layer_result layer = {0};
    char digest[DIGEST_TEXT_SIZE];
    bool has_layer = parts->upper_fd >= 0 || parts->tar_fd >= 0;
    store_clean_work(store);
    AUTO(closep) int lock = store_lock_shared(store, err);
    if (lock < 0) {
        return lock;
    }
    int r = has_layer ? add_layer(store, parts, &layer, err) : 0;
    if (r < 0) {
        return r;
    }
    AUTO(json_unrefp) json_t *config = make_config(parts, has_layer ? layer.diff_id : NULL);
    AUTO(freep) char *config_text = config != NULL ? json_dumps(config, JSON_COMPACT) : NULL;
    if (config_text == NULL || digest_of(config_text, strlen(config_text), digest) < 0) {
        return err_set(err, EINVAL, "make image configuration");
    }
    AUTO(json_unrefp)
    json_t *manifest =
        make_manifest(store, parts, has_layer ? &layer : NULL, digest, strlen(config_text), err);
    AUTO(freep) char *text = manifest != NULL ? json_dumps(manifest, JSON_COMPACT) : NULL;
    if (text == NULL) {
        return err != NULL && err->code != 0 ? -err->code : err_set(err, ENOMEM, "make manifest");
    }
    const struct install_request request = {
        .manifest = text,
        .manifest_len = strlen(text),
        .config = config_text,
        .config_len = strlen(config_text),
        .name = parts->name,
    };
    return image_install(store, &request, ret_id, err);
}
