#include "image/reference.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"

#define PATH_LENGTH_MAX ((size_t)255)
#define TAG_LENGTH_MAX ((size_t)128)
#define LIBRARY "library/"

/* Characters that the grammar knows; isalnum() would follow the locale. */
static bool is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

bool digest_is_valid(const char *text)
{
    if (text == NULL || strlen(text) != DIGEST_LENGTH || !str_starts(text, "sha256:")) {
        return false;
    }
    for (const char *p = text + DIGEST_HEX_OFFSET; *p != '\0'; p++) {
        if ((*p < '0' || *p > '9') && (*p < 'a' || *p > 'f')) {
            return false;
        }
    }
    return true;
}

/* [a-z0-9]+ ((\.|_|__|-+) [a-z0-9]+)* in each part between slashes. */
static bool path_is_valid(const char *path)
{
    bool after_alnum = false;
    for (const char *p = path; *p != '\0';) {
        if (is_lower_alnum(*p)) {
            after_alnum = true;
            p++;
            continue;
        }
        if (!after_alnum) {
            return false;
        }
        size_t n = 1;
        if (*p == '-') {
            n = strspn(p, "-");
        } else if (*p == '_') {
            n = strspn(p, "_") <= 2 ? strspn(p, "_") : 0;
        } else if (*p != '.' && *p != '/') {
            n = 0;
        }
        if (n == 0) {
            return false;
        }
        p += n;
        after_alnum = false;
    }
    return after_alnum;
}

/* DNS labels or a bracketed IPv6 address, and a port. */
static bool registry_is_valid(const char *host)
{
    const char *p = host;
    if (*p == '[') {
        size_t n = strspn(p + 1, "0123456789abcdefABCDEF:.");
        if (n == 0 || p[n + 1] != ']') {
            return false;
        }
        p += n + 2;
    } else {
        bool after_alnum = false;
        for (; *p != '\0' && *p != ':'; p++) {
            if (!is_alnum(*p) && !((*p == '-' || *p == '.') && after_alnum)) {
                return false;
            }
            after_alnum = is_alnum(*p) || *p == '-';
        }
        if (!after_alnum || p[-1] == '-') {
            return false;
        }
    }
    if (*p == '\0') {
        return true;
    }
    uint64_t port;
    return *p == ':' && strlen(p + 1) <= 5 && parse_u64(p + 1, 10, &port) == 0 && port > 0 &&
           port <= 65535;
}

static bool tag_is_valid(const char *tag)
{
    size_t n = strlen(tag);
    if (n == 0 || n > TAG_LENGTH_MAX || !(is_alnum(tag[0]) || tag[0] == '_')) {
        return false;
    }
    for (const char *p = tag; *p != '\0'; p++) {
        if (!is_alnum(*p) && *p != '_' && *p != '.' && *p != '-') {
            return false;
        }
    }
    return true;
}

void reference_done(struct reference *reference)
{
    free(reference->registry);
    free(reference->repository);
    free(reference->tag);
    free(reference->digest);
    *reference = (struct reference){0};
}

/* The first part is a host when nothing else can look like it. */
static size_t registry_length(const char *text)
{
    size_t n = strcspn(text, "/");
    if (text[n] == '\0') {
        return 0;
    }
    bool is_host = memchr(text, '.', n) != NULL || memchr(text, ':', n) != NULL || text[0] == '[' ||
                   (n == 9 && memcmp(text, "localhost", 9) == 0);
    for (size_t i = 0; i < n; i++) {
        is_host = is_host || (text[i] >= 'A' && text[i] <= 'Z');
    }
    return is_host ? n : 0;
}

static int split_name(char *name, struct reference *ref)
{
    size_t host = registry_length(name);
    const char *path = name;
    if (host > 0) {
        name[host] = '\0';
        path = name + host + 1;
        ref->registry = str_eq(name, "index." REFERENCE_DEFAULT_REGISTRY)
                            ? strdup(REFERENCE_DEFAULT_REGISTRY)
                            : strdup(name);
    } else {
        ref->registry = strdup(REFERENCE_DEFAULT_REGISTRY);
    }
    if (ref->registry == NULL) {
        return -ENOMEM;
    }
    bool short_name =
        str_eq(ref->registry, REFERENCE_DEFAULT_REGISTRY) && strchr(path, '/') == NULL;
    ref->repository = str_printf("%s%s", short_name ? LIBRARY : "", path);
    return ref->repository != NULL ? 0 : -ENOMEM;
}

/* Cuts "@digest" and ":tag" off the copy. */
static int cut_tail(char *name, struct reference *ref, const char *text, struct err *err)
{
    char *at = strchr(name, '@');
    if (at != NULL) {
        *at = '\0';
        if (!digest_is_valid(at + 1)) {
            return err_say(err, EINVAL,
                           "invalid reference '%s': after '@' comes sha256: and 64 lower-case "
                           "hexadecimal digits",
                           text);
        }
        ref->digest = strdup(at + 1);
        if (ref->digest == NULL) {
            return err_set(err, ENOMEM, "read reference");
        }
    }
    char *slash = strrchr(name, '/');
    char *colon = strchr(slash != NULL ? slash : name, ':');
    if (colon != NULL) {
        *colon = '\0';
        if (!tag_is_valid(colon + 1)) {
            return err_say(err, EINVAL, "invalid reference '%s': '%s' is not a tag", text,
                           colon + 1);
        }
        ref->tag = strdup(colon + 1);
    } else if (ref->digest == NULL) {
        ref->tag = strdup(REFERENCE_DEFAULT_TAG);
    }
    return ref->tag != NULL || ref->digest != NULL ? 0 : err_set(err, ENOMEM, "read reference");
}

int reference_parse(const char *text, struct reference *ret, struct err *err)
{
    AUTO(reference_donep) struct reference ref = {0};
    AUTO(freep) char *name = strdup(text);
    if (name == NULL) {
        return err_set(err, ENOMEM, "read reference");
    }
    if (digest_is_valid(text) || (strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64)) {
        return err_say(err, EINVAL, "invalid reference '%s': it is an image id, not a name", text);
    }
    int r = cut_tail(name, &ref, text, err);
    if (r < 0) {
        return r;
    }
    r = split_name(name, &ref);
    if (r < 0) {
        return err_set(err, -r, "read reference");
    }
    if (!registry_is_valid(ref.registry)) {
        return err_say(err, EINVAL, "invalid reference '%s': '%s' is not a registry's name", text,
                       ref.registry);
    }
    if (strlen(ref.repository) > PATH_LENGTH_MAX || !path_is_valid(ref.repository)) {
        bool upper = strpbrk(ref.repository, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != NULL;
        return err_say(err, EINVAL, "invalid reference '%s': %s", text,
                       upper ? "repository names are lower case" : "it is not NAME[:TAG][@DIGEST]");
    }
    *ret = ref;
    ref = (struct reference){0};
    return 0;
}

char *reference_full_repository(const struct reference *reference)
{
    return str_printf("%s/%s", reference->registry, reference->repository);
}

char *reference_full(const struct reference *ref)
{
    return str_printf("%s/%s%s%s%s%s", ref->registry, ref->repository, ref->tag != NULL ? ":" : "",
                      ref->tag != NULL ? ref->tag : "", ref->digest != NULL ? "@" : "",
                      ref->digest != NULL ? ref->digest : "");
}

char *reference_familiar(const char *full_name)
{
    static const char prefix[] = REFERENCE_DEFAULT_REGISTRY "/";
    if (str_starts(full_name, prefix)) {
        full_name += sizeof(prefix) - 1;
        if (str_starts(full_name, LIBRARY)) {
            full_name += sizeof(LIBRARY) - 1;
        }
    }
    return strdup(full_name);
}

int reference_split(const char *full_name, char **ret_repository, char **ret_tag)
{
    size_t end = strcspn(full_name, "@");
    const char *tag = NULL;
    for (size_t i = end; i > 0 && full_name[i - 1] != '/'; i--) {
        if (full_name[i - 1] == ':') {
            tag = full_name + i;
        }
    }
    size_t name_end = tag != NULL ? (size_t)(tag - full_name) - 1 : end;
    AUTO(freep) char *repository = strndup(full_name, name_end);
    AUTO(freep)
    char *tag_copy = tag != NULL ? strndup(tag, end - (size_t)(tag - full_name)) : NULL;
    if (repository == NULL || (tag != NULL && tag_copy == NULL)) {
        return -ENOMEM;
    }
    *ret_repository = TAKE_PTR(repository);
    *ret_tag = TAKE_PTR(tag_copy);
    return 0;
}
