#include "image/archive_save.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "image/image.h"
#include "image/manifest.h"
#include "image/store_internal.h"
#include "image/tar_writer.h"

struct save {
    struct image_store *store;
    struct tar_writer *writer;
    json_t *index;        /* array of index.json */
    json_t *list;         /* of manifest.json */
    json_t *repositories; /* of the file repositories */
    struct strv blobs;    /* written already */
};

static int write_fd(void *data, const void *bytes, size_t len)
{
    return write_full(*(int *)data, bytes, len);
}

static int write_blob(struct save *s, const char *digest, struct err *err)
{
    char path[BLOB_PATH_SIZE];
    uint64_t size;
    if (strv_has(&s->blobs, digest)) {
        return 0;
    }
    store_blob_path(digest, path);
    AUTO(closep) int fd = openat(s->store->fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !store_blob_exists(s->store, digest, &size)) {
        return err_set(err, fd < 0 ? errno : ENOENT, "read blob '%s/%s'", s->store->path, path);
    }
    int r = tar_writer_fd(s->writer, path, 0644, 0, fd, size);
    r = r < 0 ? r : strv_add(&s->blobs, digest);
    return r < 0 ? err_set(err, -r, "write archive") : 0;
}

/* "debian" and "bookworm" of the names that are to be kept. */
static int add_name(struct save *s, const struct image *image, uint64_t size,
                    const char *media_type, const char *name, json_t *tags)
{
    json_t *entry = descriptor_json(media_type, image->digest, size);
    json_t *platform = json_pack("{s:s, s:s}", "architecture", image->platform.architecture, "os",
                                 image->platform.os);
    if (image->platform.variant[0] != '\0') {
        (void)json_object_set_new(platform, "variant", json_string(image->platform.variant));
    }
    (void)json_object_set_new(entry, "platform", platform);
    if (name != NULL) {
        AUTO(freep) char *repository = NULL;
        AUTO(freep) char *tag = NULL;
        AUTO(freep) char *familiar = reference_familiar(name);
        if (familiar == NULL || reference_split(familiar, &repository, &tag) < 0) {
            json_decref(entry);
            return -ENOMEM;
        }
        (void)json_object_set_new(entry, "annotations",
                                  json_pack("{s:s, s:s}", "io.containerd.image.name", name,
                                            "org.opencontainers.image.ref.name",
                                            tag != NULL ? familiar : name));
        if (tag != NULL) {
            (void)json_array_append_new(tags, json_string(familiar));
            json_t *of = json_object_get(s->repositories, repository);
            if (of == NULL) {
                of = json_object();
                (void)json_object_set_new(s->repositories, repository, of);
            }
            (void)json_object_set_new(of, tag, json_string(image->id + DIGEST_HEX_OFFSET));
        }
    }
    return json_array_append_new(s->index, entry) < 0 ? -ENOMEM : 0;
}

static int save_manifest(struct save *s, const struct image *image, const struct strv *names,
                         struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(manifest_donep) struct manifest manifest = {0};
    int r = store_blob_read(s->store, image->digest, MANIFEST_SIZE_MAX, &text, err);
    r = r < 0 ? r : manifest_parse(text.data, text.len, NULL, &manifest, err);
    r = r < 0 ? r : write_blob(s, image->digest, err);
    r = r < 0 ? r : write_blob(s, manifest.config.digest, err);
    json_t *layers = json_array();
    json_t *tags = json_array();
    AUTO(json_unrefp)
    json_t *item = json_pack("{s:o, s:o}", "RepoTags", tags, "Layers", layers);
    for (size_t i = 0; r == 0 && i < manifest.layer_count; i++) {
        char path[BLOB_PATH_SIZE];
        store_blob_path(manifest.layers[i].digest, path);
        r = write_blob(s, manifest.layers[i].digest, err);
        if (r == 0 && json_array_append_new(layers, json_string(path)) < 0) {
            r = err_set(err, ENOMEM, "write archive");
        }
    }
    if (r < 0) {
        return r;
    }
    char config_path[BLOB_PATH_SIZE];
    store_blob_path(manifest.config.digest, config_path);
    (void)json_object_set_new(item, "Config", json_string(config_path));
    size_t done = 0;
    do {
        r = add_name(s, image, text.len, manifest.media_type,
                     done < names->count ? names->items[done] : NULL, tags);
    } while (r == 0 && ++done < names->count);
    return r < 0 || json_array_append(s->list, item) < 0 ? err_set(err, ENOMEM, "write archive")
                                                         : 0;
}

/* An image given by id keeps all of its names, else the one that was given. */
static int save_one(struct save *s, const char *text, const struct platform *platform,
                    struct err *err)
{
    AUTO(image_donep) struct image image = {0};
    AUTO(reference_donep) struct reference ref = {0};
    AUTO(strv_donep) struct strv names = {0};
    int r = image_resolve(s->store, text, platform, &image, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep)
    char *full = reference_parse(text, &ref, NULL) == 0 ? reference_full(&ref) : NULL;
    if (full != NULL && strv_has(&image.names, full)) {
        r = strv_add(&names, full);
    } else {
        r = strv_copy(&image.names, &names);
    }
    return r < 0 ? err_set(err, -r, "save '%s'", text) : save_manifest(s, &image, &names, err);
}

static int write_json(struct save *s, const char *name, const json_t *json)
{
    AUTO(freep) char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    return text != NULL ? tar_writer_file(s->writer, name, 0644, 0, text, strlen(text)) : -ENOMEM;
}

static int write_directory(struct save *s, const char *name)
{
    const struct tar_entry entry = {.type = TAR_DIRECTORY, .name = name, .link = "", .mode = 0755};
    return tar_writer_entry(s->writer, &entry);
}

int archive_save(struct image_store *store, const struct strv *names,
                 const struct platform *platform, int fd, struct err *err)
{
    static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
    AUTO(tar_writer_freep) struct tar_writer *writer = NULL;
    AUTO(json_unrefp) json_t *index = json_array();
    AUTO(json_unrefp) json_t *list = json_array();
    AUTO(json_unrefp) json_t *repositories = json_object();
    AUTO(closep) int lock = store_lock_shared(store, err);
    if (lock < 0) {
        return lock;
    }
    int r = tar_writer_new(write_fd, &fd, &writer);
    if (r < 0) {
        return err_set(err, -r, "write archive");
    }
    struct save s = {.store = store,
                     .writer = writer,
                     .index = index,
                     .list = list,
                     .repositories = repositories};
    r = tar_writer_file(writer, "oci-layout", 0644, 0, layout, sizeof(layout) - 1);
    r = r < 0 ? r : write_directory(&s, "blobs/");
    r = r < 0 ? r : write_directory(&s, "blobs/sha256/");
    for (size_t i = 0; r == 0 && i < names->count; i++) {
        r = save_one(&s, names->items[i], platform, err);
    }
    strv_done(&s.blobs);
    if (r < 0) {
        return err != NULL && err->code != 0 ? r : err_set(err, -r, "write archive");
    }
    AUTO(json_unrefp)
    json_t *whole = json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType", MEDIA_OCI_INDEX,
                              "manifests", index);
    r = write_json(&s, "index.json", whole);
    r = r < 0 ? r : write_json(&s, "manifest.json", list);
    r = r < 0 || json_object_size(repositories) == 0 ? r
                                                     : write_json(&s, "repositories", repositories);
    r = r < 0 ? r : tar_writer_finish(writer);
    return r < 0 ? err_set(err, -r, "write archive") : 0;
}
