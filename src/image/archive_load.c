#include "image/archive_load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/path.h"
#include "image/digest.h"
#include "image/install.h"
#include "image/plain_stream.h"
#include "image/store_internal.h"
#include "image/tar_reader.h"

#define MEMBERS_MAX 100000
#define MEMBER_NAME_MAX 1024
#define INDEX_DEPTH_MAX 4

/* A file of the archive; its content lies in work/load-.../NUMBER. */
struct member {
    char *name;
    char *link; /* symbolic link's target, cleaned, or NULL */
    char digest[DIGEST_TEXT_SIZE];
    uint64_t size;
};

struct archive {
    struct image_store *store;
    char directory[64]; /* below the store */
    int dir_fd;
    struct member *members;
    size_t count;
    struct strv *loaded;
    int fd;
};

/* Cleaned member name: no leading "./", no "..". NULL when it is not to be used. */
static char *clean(const char *name)
{
    while (str_starts(name, "./")) {
        name += 2;
    }
    if (name[0] == '/' || name[0] == '\0' || strlen(name) > MEMBER_NAME_MAX ||
        strstr(name, "..") != NULL) {
        return NULL;
    }
    return strdup(name);
}

/* A link's target as a member name: "../x/layer.tar" seen from "y/layer.tar". */
static char *link_target(const char *name, const char *target)
{
    const char *slash = strrchr(name, '/');
    size_t dir = slash != NULL ? (size_t)(slash - name) : 0;
    while (str_starts(target, "../")) {
        target += 3;
        while (dir > 0 && name[dir - 1] != '/') {
            dir--;
        }
        dir -= dir > 0 ? 1 : 0;
    }
    AUTO(freep)
    char *joined = str_printf("%.*s%s%s", (int)dir, name, dir > 0 ? "/" : "", target);
    return joined != NULL ? clean(joined) : NULL;
}

static int spool_file(struct archive *a, struct tar_reader *reader, struct member *member,
                      size_t number, struct err *err)
{
    char file[32];
    (void)snprintf(file, sizeof(file), "%zu", number);
    AUTO(digest_freep) struct digest *digest = NULL;
    AUTO(closep) int fd = openat(a->dir_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_set(err, errno, "make a file for '%s'", member->name);
    }
    if (digest_new(&digest) < 0) {
        return err_set(err, ENOMEM, "read archive");
    }
    for (;;) {
        const void *data;
        ssize_t n = tar_reader_data(reader, &data, err);
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            digest_final(digest, member->digest);
            return 0;
        }
        digest_update(digest, data, (size_t)n);
        int r = write_full(fd, data, (size_t)n);
        if (r < 0) {
            return err_set(err, -r, "write '%s/%s'", a->store->path, a->directory);
        }
    }
}

static int spool_entry(struct archive *a, struct tar_reader *reader, const struct tar_entry *entry,
                       struct err *err)
{
    if (entry->type != TAR_FILE && entry->type != TAR_SYMLINK && entry->type != TAR_HARDLINK) {
        return 0;
    }
    AUTO(freep) char *name = clean(entry->name);
    if (name == NULL) {
        return err_say(err, EINVAL, "archive: a member with a name that is not allowed");
    }
    if (a->count == MEMBERS_MAX) {
        return err_say(err, EFBIG, "archive: more than %d files", MEMBERS_MAX);
    }
    struct member *members = reallocarray(a->members, a->count + 1, sizeof(*members));
    if (members == NULL) {
        return err_set(err, ENOMEM, "read archive");
    }
    a->members = members;
    struct member *member = &members[a->count];
    *member = (struct member){.name = TAKE_PTR(name), .size = entry->size};
    a->count++;
    if (entry->type == TAR_FILE) {
        return spool_file(a, reader, member, a->count - 1, err);
    }
    member->link =
        entry->type == TAR_HARDLINK ? clean(entry->link) : link_target(member->name, entry->link);
    return member->link != NULL ? 0 : err_say(err, EINVAL, "archive: a link that leads out");
}

static int spool(struct archive *a, struct err *err)
{
    AUTO(plain_stream_freep) struct plain_stream *stream = NULL;
    AUTO(tar_reader_freep) struct tar_reader *reader = NULL;
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) < 0 ||
        plain_stream_new(a->fd, LAYER_BYTES_MAX_DEFAULT, &stream) < 0 ||
        tar_reader_new(plain_stream_read, stream, NULL, &reader) < 0) {
        return err_set(err, ENOMEM, "read archive");
    }
    (void)snprintf(a->directory, sizeof(a->directory), "work/load-%016llx",
                   (unsigned long long)random);
    if (mkdirat(a->store->fd, a->directory, 0700) < 0) {
        a->directory[0] = '\0';
        return err_set(err, errno, "make a directory in '%s/work'", a->store->path);
    }
    a->dir_fd = openat(a->store->fd, a->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (a->dir_fd < 0) {
        return err_set(err, errno, "open '%s'", a->directory);
    }
    const struct tar_entry *entry;
    int r;
    while ((r = tar_reader_next(reader, &entry, err)) == 1) {
        r = spool_entry(a, reader, entry, err);
        if (r < 0) {
            return r;
        }
    }
    return r < 0 ? r : tar_reader_drain(reader, err);
}

/* The last member of that name; links are followed. */
static struct member *find(struct archive *a, const char *name)
{
    for (int hops = 0; hops < 8; hops++) {
        struct member *found = NULL;
        for (size_t i = 0; i < a->count; i++) {
            if (strcmp(a->members[i].name, name) == 0) {
                found = &a->members[i];
            }
        }
        if (found == NULL || found->link == NULL) {
            return found;
        }
        name = found->link;
    }
    return NULL;
}

static int read_member(struct archive *a, const struct member *member, size_t max, struct buf *ret,
                       struct err *err)
{
    char file[32];
    (void)snprintf(file, sizeof(file), "%zu", (size_t)(member - a->members));
    int r = read_file_at(a->dir_fd, file, max, ret);
    if (r == -ENOENT) {
        /* It has become a blob of the store before. */
        return store_blob_read(a->store, member->digest, max, ret, err);
    }
    if (r == 0 && ret->data == NULL) {
        r = buf_reserve(ret, 1);
    }
    return r < 0 ? err_set(err, -r, "read '%s' of the archive", member->name) : 0;
}

/* Gives a spooled file its place among the blobs. */
static int keep_blob(struct archive *a, const struct member *member, struct err *err)
{
    char file[32];
    char target[BLOB_PATH_SIZE];
    if (store_blob_exists(a->store, member->digest, NULL)) {
        return 0;
    }
    (void)snprintf(file, sizeof(file), "%zu", (size_t)(member - a->members));
    store_blob_path(member->digest, target);
    if (renameat(a->dir_fd, file, a->store->fd, target) < 0) {
        return err_set(err, errno, "make '%s/%s'", a->store->path, target);
    }
    return 0;
}

static struct member *find_blob(struct archive *a, const char *digest)
{
    AUTO(freep) char *name = str_printf("blobs/sha256/%s", digest + DIGEST_HEX_OFFSET);
    struct member *member = name != NULL ? find(a, name) : NULL;
    return member;
}

static int keep_descriptor(struct archive *a, const struct descriptor *d, struct err *err)
{
    struct member *member = find_blob(a, d->digest);
    if (member == NULL) {
        return store_blob_exists(a->store, d->digest, NULL)
                   ? 0
                   : err_say(err, ENOENT, "archive: blob %s is missing", d->digest);
    }
    if (!str_eq(member->digest, d->digest) || member->size != d->size) {
        return err_say(err, EBADMSG, "archive: blob %s has the digest %s", d->digest,
                       member->digest);
    }
    return keep_blob(a, member, err);
}

static int install(struct archive *a, const struct buf *manifest, const struct buf *config,
                   const char *name, struct err *err)
{
    const struct install_request request = {
        .manifest = manifest->data,
        .manifest_len = manifest->len,
        .config = config->data,
        .config_len = config->len,
        .name = name,
    };
    AUTO(freep) char *id = NULL;
    int r = image_install(a->store, &request, &id, err);
    if (r < 0) {
        return r;
    }
    const char *loaded = name != NULL ? name : id;
    return strv_add(a->loaded, loaded) < 0 ? err_set(err, ENOMEM, "load image") : 0;
}

/* The full name of what an archive calls an image; NULL when that is no name. */
static char *full_name(const char *text)
{
    AUTO(reference_donep) struct reference ref = {0};
    if (text == NULL || (strchr(text, ':') == NULL && strchr(text, '/') == NULL) ||
        reference_parse(text, &ref, NULL) < 0) {
        return NULL;
    }
    return reference_full(&ref);
}

static int load_oci_manifest(struct archive *a, const struct buf *text, const char *name,
                             struct err *err)
{
    AUTO(manifest_donep) struct manifest manifest = {0};
    AUTO(buf_donep) struct buf config = {0};
    int r = manifest_parse(text->data, text->len, NULL, &manifest, err);
    if (r < 0) {
        return r;
    }
    r = keep_descriptor(a, &manifest.config, err);
    for (size_t i = 0; r == 0 && i < manifest.layer_count; i++) {
        r = keep_descriptor(a, &manifest.layers[i], err);
    }
    r = r < 0 ? r
              : store_blob_read(a->store, manifest.config.digest, CONFIG_SIZE_MAX, &config, err);
    return r < 0 ? r : install(a, text, &config, name, err);
}

static int load_index(struct archive *a, const struct buf *text, const char *name, int depth,
                      struct err *err);

static int load_entry(struct archive *a, const json_t *entry, const char *outer, int depth,
                      struct err *err)
{
    const char *digest = json_string_value(json_object_get(entry, "digest"));
    const json_t *notes = json_object_get(entry, "annotations");
    const char *said = json_string_value(json_object_get(notes, "io.containerd.image.name"));
    if (said == NULL) {
        said = json_string_value(json_object_get(notes, "org.opencontainers.image.ref.name"));
    }
    AUTO(freep) char *name = full_name(said);
    if (!digest_is_valid(digest)) {
        return err_say(err, EINVAL, "archive: index.json has an entry without a sha256 digest");
    }
    struct member *member = find_blob(a, digest);
    if (member == NULL && depth > 0) {
        return 0; /* an index may name platforms that were not saved */
    }
    if (member == NULL || !str_eq(member->digest, digest)) {
        return err_say(err, EBADMSG, "archive: manifest %s is missing or has another digest",
                       digest);
    }
    AUTO(buf_donep) struct buf text = {0};
    int r = read_member(a, member, MANIFEST_SIZE_MAX, &text, err);
    if (r < 0) {
        return r;
    }
    const char *use = name != NULL ? name : outer;
    if (manifest_is_index(text.data, text.len, NULL)) {
        return load_index(a, &text, use, depth + 1, err);
    }
    const json_t *platform = json_object_get(entry, "platform");
    const char *os = json_string_value(json_object_get(platform, "os"));
    if (str_eq(os, "unknown")) {
        return 0; /* attestations of some builders */
    }
    return load_oci_manifest(a, &text, use, err);
}

static int load_index(struct archive *a, const struct buf *text, const char *name, int depth,
                      struct err *err)
{
    AUTO(json_unrefp) json_t *index = NULL;
    if (depth > INDEX_DEPTH_MAX) {
        return err_say(err, ELOOP, "archive: indexes inside indexes");
    }
    int r = json_parse(text->data, text->len, "index.json", &index, err);
    size_t i;
    json_t *entry;
    json_array_foreach (json_object_get(index, "manifests"), i, entry) {
        r = r < 0 ? r : load_entry(a, entry, name, depth, err);
    }
    return r;
}

/* Docker's own format: a manifest is made from the list of layer files. */
static int make_manifest(struct archive *a, const json_t *item, const struct member *config,
                         struct buf *ret, struct err *err)
{
    json_t *layers = json_array();
    AUTO(json_unrefp)
    json_t *manifest = json_pack(
        "{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", MEDIA_OCI_MANIFEST, "config",
        descriptor_json(MEDIA_OCI_CONFIG, config->digest, config->size), "layers", layers);
    size_t i;
    json_t *path;
    json_array_foreach (json_object_get(item, "Layers"), i, path) {
        const char *name = json_string_value(path);
        struct member *member = name != NULL ? find(a, name) : NULL;
        if (member == NULL) {
            return err_say(err, ENOENT, "archive: layer '%s' is missing",
                           name != NULL ? name : "?");
        }
        unsigned char magic[4] = {0};
        int r = keep_blob(a, member, err);
        if (r < 0) {
            return r;
        }
        char blob[BLOB_PATH_SIZE];
        store_blob_path(member->digest, blob);
        AUTO(closep) int fd = openat(a->store->fd, blob, O_RDONLY | O_CLOEXEC);
        (void)read_upto(fd, magic, sizeof(magic));
        const char *type = magic[0] == 0x1f && magic[1] == 0x8b   ? MEDIA_OCI_LAYER_GZIP
                           : magic[0] == 0x28 && magic[1] == 0xb5 ? MEDIA_OCI_LAYER_ZSTD
                                                                  : MEDIA_OCI_LAYER;
        if (json_array_append_new(layers, descriptor_json(type, member->digest, member->size)) <
            0) {
            return err_set(err, ENOMEM, "load image");
        }
    }
    AUTO(freep) char *text = manifest != NULL ? json_dumps(manifest, JSON_COMPACT) : NULL;
    return text == NULL || buf_add_str(ret, text) < 0 ? err_set(err, ENOMEM, "load image") : 0;
}

static int load_docker_item(struct archive *a, const json_t *item, struct err *err)
{
    const char *config_name = json_string_value(json_object_get(item, "Config"));
    struct member *config_member = config_name != NULL ? find(a, config_name) : NULL;
    AUTO(buf_donep) struct buf config = {0};
    AUTO(buf_donep) struct buf manifest = {0};
    if (config_member == NULL) {
        return err_say(err, ENOENT, "archive: manifest.json names no configuration that is there");
    }
    int r = read_member(a, config_member, CONFIG_SIZE_MAX, &config, err);
    r = r < 0 ? r : make_manifest(a, item, config_member, &manifest, err);
    if (r < 0) {
        return r;
    }
    const json_t *tags = json_object_get(item, "RepoTags");
    if (json_array_size(tags) == 0) {
        return install(a, &manifest, &config, NULL, err);
    }
    size_t i;
    json_t *tag;
    json_array_foreach (tags, i, tag) {
        AUTO(freep) char *name = full_name(json_string_value(tag));
        r = r < 0 ? r : install(a, &manifest, &config, name, err);
    }
    return r;
}

static int load_docker(struct archive *a, const struct member *list, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(json_unrefp) json_t *items = NULL;
    int r = read_member(a, list, MANIFEST_SIZE_MAX, &text, err);
    r = r < 0 ? r : json_parse(text.data, text.len, "manifest.json", &items, err);
    size_t i;
    json_t *item;
    json_array_foreach (items, i, item) {
        r = r < 0 ? r : load_docker_item(a, item, err);
    }
    return r;
}

static int load(struct archive *a, struct err *err)
{
    int r = spool(a, err);
    if (r < 0) {
        return r;
    }
    const struct member *index = find(a, "index.json");
    const struct member *list = find(a, "manifest.json");
    if (index != NULL && find(a, "oci-layout") != NULL) {
        AUTO(buf_donep) struct buf text = {0};
        r = read_member(a, index, MANIFEST_SIZE_MAX, &text, err);
        r = r < 0 ? r : load_index(a, &text, NULL, 0, err);
    } else if (list != NULL) {
        r = load_docker(a, list, err);
    } else {
        return err_say(err, EINVAL,
                       "archive: neither index.json nor manifest.json; a plain root file system is "
                       "for 'isola import'");
    }
    if (r == 0 && a->loaded->count == 0) {
        return err_say(err, ENOENT, "archive: no image in it");
    }
    return r;
}

int archive_load(struct image_store *store, int fd, struct strv *ret_loaded, struct err *err)
{
    struct archive a = {.store = store, .fd = fd, .dir_fd = -1, .loaded = ret_loaded};
    store_clean_work(store);
    AUTO(closep) int lock = store_lock_shared(store, err);
    if (lock < 0) {
        return lock;
    }
    int r = load(&a, err);
    (void)close_fd(a.dir_fd);
    if (a.directory[0] != '\0') {
        (void)remove_tree_at(store->fd, a.directory);
    }
    for (size_t i = 0; i < a.count; i++) {
        free(a.members[i].name);
        free(a.members[i].link);
    }
    free(a.members);
    lock = close_fd(lock);
    store_sweep_if_wanted(store);
    return r;
}
