#include "guest/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "container/container.h"

void guest_config_done(struct guest_config *config)
{
    for (size_t i = 0; i < config->interface_count; i++) {
        free(config->interfaces[i].addresses);
    }
    free(config->layers);
    free(config->interfaces);
    free(config->routes);
    free(config->shares);
    free(config->files);
    free(config->sysctls);
    if (config->json != NULL) {
        json_decref(config->json);
    }
    *config = (struct guest_config){0};
}

/* A member that has to be there. */
static int need_string(const json_t *object, const struct json_path *at, const char *key,
                       const char **ret, struct err *err)
{
    int r = json_get_string(object, at, key, ret, err);
    const struct json_path here = {.parent = at, .key = key};
    return r == 0 ? json_fail(&here, NULL, err, "is missing") : MIN(r, 0);
}

static int check_path(const struct json_path *at, const char *key, const char *path,
                      struct err *err)
{
    const struct json_path here = {.parent = at, .key = key};
    return path[0] == '/' ? 0 : json_fail(&here, NULL, err, "must be an absolute path");
}

static int check_serial(const struct json_path *at, const char *serial, struct err *err)
{
    const struct json_path here = {.parent = at, .key = "serial"};
    size_t len = strlen(serial);
    return len > 0 && len < GUEST_SERIAL_SIZE
               ? 0
               : json_fail(&here, NULL, err, "must have 1 to %zu bytes", GUEST_SERIAL_SIZE - 1);
}

typedef int item_fn(struct guest_config *config, const json_t *item, const struct json_path *at,
                    void *place, struct err *err);

/* Reads object[key], a list of objects, into new memory of count elements. */
static int read_list(struct guest_config *config, const json_t *object, const struct json_path *at,
                     const char *key, size_t max, size_t size, item_fn *fn, void **ret_items,
                     size_t *count, struct err *err)
{
    const struct json_path here = {.parent = at, .key = key};
    json_t *list = NULL;
    int r = json_get_array(object, at, key, &list, err);
    if (r <= 0 || json_array_size(list) == 0) {
        return MIN(r, 0);
    }
    if (json_array_size(list) > max) {
        return json_fail(&here, NULL, err, "%zu entries, more than %zu", json_array_size(list),
                         max);
    }
    char *items = calloc(json_array_size(list), size);
    if (items == NULL) {
        return err_set(err, ENOMEM, "read the configuration");
    }
    *ret_items = items;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const struct json_path item_at = {.parent = &here, .index = i};
        const json_t *item = json_array_get(list, i);
        *count = i + 1; /* also the one that is read now: what it holds is freed */
        r = json_is_object(item) ? fn(config, item, &item_at, items + i * size, err)
                                 : json_fail(&item_at, item, err, "must be an object");
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int read_layer(struct guest_config *config, const json_t *item, const struct json_path *at,
                      void *place, struct err *err)
{
    (void)config;
    struct guest_layer *layer = place;
    int serial = json_get_string(item, at, "serial", &layer->serial, err);
    int directory =
        serial < 0 ? serial : json_get_string(item, at, "directory", &layer->directory, err);
    if (directory < 0) {
        return directory;
    }
    if (serial == directory) {
        return json_fail(at, item, err, "needs either serial or directory");
    }
    return serial > 0 ? check_serial(at, layer->serial, err)
                      : check_path(at, "directory", layer->directory, err);
}

static int read_root(struct guest_config *config, const struct json_path *top, struct err *err)
{
    const struct json_path at = {.parent = top, .key = "root"};
    const struct json_path scratch_at = {.parent = &at, .key = "scratch"};
    struct guest_scratch *scratch = &config->scratch;
    json_t *root = NULL;
    json_t *object = NULL;
    void *items = NULL;
    int64_t size = 0;
    int r = json_get_object(config->json, top, "root", &root, err);
    r = r < 0 ? r
              : read_list(config, root, &at, "layers", GUEST_LAYERS_MAX, sizeof(*config->layers),
                          read_layer, &items, &config->layer_count, err);
    config->layers = items;
    if (r == 0 && config->layer_count == 0) {
        r = json_fail(&at, NULL, err, "needs layers");
    }
    r = r < 0 ? r : json_get_bool(root, &at, "user_xattrs", &config->user_xattrs, err);
    r = r < 0 ? r : json_get_object(root, &at, "scratch", &object, err);
    if (r <= 0) {
        return r;
    }
    scratch->fstype = "ext4";
    r = json_get_string(object, &scratch_at, "serial", &scratch->serial, err);
    r = r > 0 ? check_serial(&scratch_at, scratch->serial, err) : r;
    r = r < 0 ? r : json_get_string(object, &scratch_at, "fstype", &scratch->fstype, err);
    r = r < 0 ? r : json_get_int(object, &scratch_at, "tmpfs_size", 0, INT64_MAX, &size, err);
    scratch->tmpfs_size = (uint64_t)size;
    return MIN(r, 0);
}

static int read_addresses(struct guest_interface *interface, const json_t *item,
                          const struct json_path *at, struct err *err)
{
    const struct json_path here = {.parent = at, .key = "addresses"};
    json_t *list = NULL;
    int r = json_get_array(item, at, "addresses", &list, err);
    if (r <= 0 || json_array_size(list) == 0) {
        return MIN(r, 0);
    }
    if (json_array_size(list) > GUEST_LIST_MAX) {
        return json_fail(&here, NULL, err, "too many");
    }
    interface->addresses = calloc(json_array_size(list), sizeof(*interface->addresses));
    if (interface->addresses == NULL) {
        return err_set(err, ENOMEM, "read the configuration");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const struct json_path entry_at = {.parent = &here, .index = i};
        const json_t *entry = json_array_get(list, i);
        const char *text = json_string_value(entry);
        if (text == NULL || ip_prefix_parse(text, &interface->addresses[i]) < 0) {
            return json_fail(&entry_at, entry, err, "must be ADDRESS/LENGTH");
        }
        interface->address_count = i + 1;
    }
    return 0;
}

static int read_interface(struct guest_config *config, const json_t *item,
                          const struct json_path *at, void *place, struct err *err)
{
    (void)config;
    struct guest_interface *interface = place;
    const struct json_path mac_at = {.parent = at, .key = "mac"};
    const struct json_path name_at = {.parent = at, .key = "name"};
    const char *mac = NULL;
    const char *name = NULL;
    int64_t mtu = 0;
    int r = need_string(item, at, "mac", &mac, err);
    r = r < 0 ? r : need_string(item, at, "name", &name, err);
    if (r < 0) {
        return r;
    }
    if (mac_parse(mac, interface->mac) < 0) {
        return json_fail(&mac_at, NULL, err, "'%s' is no MAC address", mac);
    }
    if (name[0] == '\0' || strlen(name) >= sizeof(interface->name) || strpbrk(name, "/ :") ||
        str_eq(name, ".") || str_eq(name, "..")) {
        return json_fail(&name_at, NULL, err, "'%s' is no name for an interface", name);
    }
    (void)strcpy(interface->name, name);
    r = json_get_int(item, at, "mtu", 0, 65535, &mtu, err);
    interface->mtu = (uint32_t)mtu;
    return r < 0 ? r : read_addresses(interface, item, at, err);
}

static int read_route(struct guest_config *config, const json_t *item, const struct json_path *at,
                      void *place, struct err *err)
{
    struct guest_route *route = place;
    const struct json_path via_at = {.parent = at, .key = "via"};
    const struct json_path to_at = {.parent = at, .key = "to"};
    const struct json_path interface_at = {.parent = at, .key = "interface"};
    const char *to = NULL;
    const char *via = NULL;
    const char *name = NULL;
    int r = need_string(item, at, "to", &to, err);
    r = r < 0 ? r : need_string(item, at, "interface", &name, err);
    r = r < 0 ? r : json_get_string(item, at, "via", &via, err);
    if (r < 0) {
        return r;
    }
    if (ip_prefix_parse(to, &route->to) < 0) {
        return json_fail(&to_at, NULL, err, "'%s' is no ADDRESS/LENGTH", to);
    }
    if (via != NULL &&
        (ip_parse(via, &route->via) < 0 || route->via.family != route->to.address.family)) {
        return json_fail(&via_at, NULL, err, "'%s' is no gateway for %s", via, to);
    }
    for (size_t i = 0; i < config->interface_count; i++) {
        if (str_eq(config->interfaces[i].name, name)) {
            route->interface = i;
            return 0;
        }
    }
    return json_fail(&interface_at, NULL, err, "'%s' is not one of the interfaces", name);
}

static int read_network(struct guest_config *config, const struct json_path *top, struct err *err)
{
    const struct json_path at = {.parent = top, .key = "network"};
    json_t *network = NULL;
    int r = json_get_object(config->json, top, "network", &network, err);
    if (r <= 0) {
        return r;
    }
    void *items = NULL;
    r = read_list(config, network, &at, "interfaces", GUEST_LIST_MAX, sizeof(*config->interfaces),
                  read_interface, &items, &config->interface_count, err);
    config->interfaces = items;
    if (r < 0) {
        return r;
    }
    items = NULL;
    r = read_list(config, network, &at, "routes", GUEST_LIST_MAX, sizeof(*config->routes),
                  read_route, &items, &config->route_count, err);
    config->routes = items;
    return r;
}

static int read_share(struct guest_config *config, const json_t *item, const struct json_path *at,
                      void *place, struct err *err)
{
    (void)config;
    struct guest_share *share = place;
    int r = need_string(item, at, "tag", &share->tag, err);
    r = r < 0 ? r : need_string(item, at, "path", &share->path, err);
    r = r < 0 ? r : check_path(at, "path", share->path, err);
    r = r < 0 ? r : json_get_bool(item, at, "read_only", &share->read_only, err);
    return MIN(r, 0);
}

static int read_file_entry(struct guest_config *config, const json_t *item,
                           const struct json_path *at, void *place, struct err *err)
{
    (void)config;
    struct guest_file *file = place;
    int64_t mode = 0644;
    int r = need_string(item, at, "path", &file->path, err);
    r = r < 0 ? r : need_string(item, at, "text", &file->text, err);
    r = r < 0 ? r : check_path(at, "path", file->path, err);
    r = r < 0 ? r : json_get_int(item, at, "mode", 0, 0777, &mode, err);
    file->mode = (unsigned)mode;
    return MIN(r, 0);
}

static int read_sysctl(struct guest_config *config, const json_t *item, const struct json_path *at,
                       void *place, struct err *err)
{
    (void)config;
    struct guest_sysctl *sysctl = place;
    int r = need_string(item, at, "name", &sysctl->name, err);
    return r < 0 ? r : need_string(item, at, "value", &sysctl->value, err);
}

/* Shares, files and parameters, each a list of its own. */
static int read_lists(struct guest_config *c, const struct json_path *top, struct err *err)
{
    void *shares = NULL;
    void *files = NULL;
    void *sysctls = NULL;
    int r = read_list(c, c->json, top, "shares", GUEST_LIST_MAX, sizeof(*c->shares), read_share,
                      &shares, &c->share_count, err);
    c->shares = shares;
    r = r < 0 ? r
              : read_list(c, c->json, top, "files", GUEST_LIST_MAX, sizeof(*c->files),
                          read_file_entry, &files, &c->file_count, err);
    c->files = files;
    r = r < 0 ? r
              : read_list(c, c->json, top, "sysctls", GUEST_LIST_MAX, sizeof(*c->sysctls),
                          read_sysctl, &sysctls, &c->sysctl_count, err);
    c->sysctls = sysctls;
    return r;
}

int guest_config_parse(json_t *message, struct guest_config *ret, struct err *err)
{
    const struct json_path top = {.key = "configure"};
    const struct json_path id_at = {.parent = &top, .key = "id"};
    const struct json_path oci_at = {.parent = &top, .key = "config"};
    AUTO(guest_config_donep) struct guest_config c = {.json = json_incref(message)};
    json_t *oci = NULL;
    int r = need_string(message, &top, "id", &c.id, err);
    if (r == 0 && !container_id_is_valid(c.id)) {
        r = json_fail(&id_at, NULL, err, "'%s' is no id", c.id);
    }
    r = r < 0 ? r : json_get_object(message, &top, "config", &oci, err);
    if (r == 0) {
        r = json_fail(&oci_at, NULL, err, "is missing");
    }
    c.oci = oci;
    r = r < 0 ? r : json_get_string(message, &top, "seccomp", &c.seccomp, err);
    r = r < 0 ? r : json_get_string(message, &top, "hostname", &c.hostname, err);
    r = r < 0 ? r : json_get_bool(message, &top, "stdin", &c.with_stdin, err);
    r = r < 0 ? r : json_get_int(message, &top, "realtime_ns", 0, INT64_MAX, &c.realtime_ns, err);
    r = r < 0 ? r : read_root(&c, &top, err);
    r = r < 0 ? r : read_network(&c, &top, err);
    r = r < 0 ? r : read_lists(&c, &top, err);
    if (r < 0) {
        return r;
    }
    *ret = c;
    c = (struct guest_config){0};
    return 0;
}
