#include "image/registry_config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/user_namespace.h"
#include "image/reference.h"

#define FILE_MAX ((size_t)1 << 20)
#define STALL_DEFAULT_NS ((uint64_t)30 * 1000000000)
#define RETRIES_DEFAULT 4
/* Proxies before registries often refuse requests of 100 MB. */
#define UPLOAD_CHUNK_DEFAULT ((uint64_t)64 << 20)
#define DOCKER_IO_HOST "registry-1.docker.io"

void registry_config_done(struct registry_config *config)
{
    strv_done(&config->endpoints);
    free(config->ca);
    *config = (struct registry_config){0};
}

static char *config_path(void)
{
    const char *given = getenv("ISOLA_REGISTRIES");
    if (given != NULL && given[0] != '\0') {
        return strdup(given);
    }
    if (!user_is_host_root()) {
        const char *xdg = getenv("XDG_CONFIG_HOME");
        const char *home = getenv("HOME");
        AUTO(freep)
        char *own = xdg != NULL && xdg[0] == '/'
                        ? str_printf("%s/isola/registries.json", xdg)
                        : str_printf("%s/.config/isola/registries.json", home != NULL ? home : "");
        if (own != NULL && access(own, R_OK) == 0) {
            return TAKE_PTR(own);
        }
    }
    return strdup("/etc/isola/registries.json");
}

static bool is_loopback(const char *registry)
{
    return str_starts(registry, "localhost:") || str_eq(registry, "localhost") ||
           str_starts(registry, "127.") || str_starts(registry, "[::1]");
}

static int read_size(const json_t *json, const char *key, bool duration, uint64_t *ret,
                     struct err *err)
{
    const struct json_path path = {.key = key};
    const char *text = NULL;
    int r = json_get_string(json, NULL, key, &text, err);
    if (r <= 0) {
        return r;
    }
    r = duration ? parse_duration(text, ret) : parse_size(text, ret);
    return r < 0 ? json_fail(&path, NULL, err, "'%s' is no %s", text,
                             duration ? "duration such as 30s" : "size such as 64g")
                 : 0;
}

static int read_entry(const json_t *json, const char *registry, bool for_push, bool *ret_plain,
                      struct registry_config *config, struct err *err)
{
    const struct json_path top = {.key = "registries"};
    const struct json_path path = {.parent = &top, .key = registry};
    json_t *all = NULL;
    json_t *entry = NULL;
    const char *ca = NULL;
    int r = json_get_object(json, NULL, "registries", &all, err);
    r = r <= 0 ? r : json_get_object(all, &top, registry, &entry, err);
    if (r <= 0) {
        return r;
    }
    config->may_fall_back = false;
    AUTO(strv_donep) struct strv mirrors = {0};
    r = json_get_strings(entry, &path, "mirrors", &mirrors, err);
    r = r < 0 ? r : json_get_string(entry, &path, "ca", &ca, err);
    r = r < 0 ? r : json_get_bool(entry, &path, "plain-http", ret_plain, err);
    r = r < 0 ? r : json_get_bool(entry, &path, "insecure", &config->insecure, err);
    for (size_t i = 0; r >= 0 && !for_push && i < mirrors.count; i++) {
        char *url = mirrors.items[i];
        if (!str_starts(url, "http://") && !str_starts(url, "https://")) {
            return json_fail(&path, NULL, err, "mirror '%s' must begin with http:// or https://",
                             url);
        }
        while (str_ends(url, "/")) {
            url[strlen(url) - 1] = '\0';
        }
        r = strv_add(&config->endpoints, url);
    }
    if (r >= 0 && ca != NULL) {
        config->ca = strdup(ca);
        r = config->ca != NULL ? 0 : -ENOMEM;
    }
    return MIN(r, 0);
}

int registry_config_load(const char *registry, bool for_push, struct registry_config *ret,
                         struct err *err)
{
    AUTO(registry_config_donep)
    struct registry_config config = {.may_fall_back = is_loopback(registry),
                                     .upload_chunk = UPLOAD_CHUNK_DEFAULT,
                                     .stall_ns = STALL_DEFAULT_NS,
                                     .low_speed = 1,
                                     .retries = RETRIES_DEFAULT};
    AUTO(json_unrefp) json_t *json = NULL;
    AUTO(freep) char *path = config_path();
    bool plain = false;
    int r = path != NULL ? 0 : -ENOMEM;
    bool given = getenv("ISOLA_REGISTRIES") != NULL;
    if (r == 0 && (given || access(path, F_OK) == 0)) {
        r = json_load_at(AT_FDCWD, path, FILE_MAX, &json, err);
        r = r < 0 ? r : read_size(json, "layer-size-max", false, &config.layer_bytes_max, err);
        r = r < 0 ? r : read_size(json, "upload-chunk-size", false, &config.upload_chunk, err);
        r = r < 0 ? r : read_size(json, "stall-timeout", true, &config.stall_ns, err);
        r = r < 0 ? r : read_size(json, "low-speed-limit", false, &config.low_speed, err);
        r = r < 0 ? r : json_get_int(json, NULL, "retries", 0, 100, &config.retries, err);
        r = r < 0 ? r : read_entry(json, registry, for_push, &plain, &config, err);
    }
    if (r >= 0 && config.upload_chunk == 0) {
        r = err_say(err, EINVAL, "upload-chunk-size: must be more than 0");
    }
    const char *host = str_eq(registry, REFERENCE_DEFAULT_REGISTRY) ? DOCKER_IO_HOST : registry;
    r = r < 0 ? r : strv_addf(&config.endpoints, "%s://%s", plain ? "http" : "https", host);
    if (r < 0) {
        return err != NULL && err->code != 0 ? err_wrap(err, -r, "'%s'", path)
                                             : err_set(err, -r, "read '%s'", path);
    }
    *ret = config;
    config = (struct registry_config){0};
    return 0;
}
