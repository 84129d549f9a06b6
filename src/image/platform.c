#include "image/platform.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/err.h"
#include "base/str.h"

/* What people and kernels call it, Go's name and variant. */
static const struct {
    const char *alias;
    const char *architecture;
    const char *variant;
} aliases[] = {
    {"x86_64", "amd64", ""},    {"x86-64", "amd64", ""},      {"aarch64", "arm64", ""},
    {"i386", "386", ""},        {"i486", "386", ""},          {"i586", "386", ""},
    {"i686", "386", ""},        {"armhf", "arm", "v7"},       {"armel", "arm", "v6"},
    {"armv7l", "arm", "v7"},    {"armv6l", "arm", "v6"},      {"armv8l", "arm", "v7"},
    {"ppc64el", "ppc64le", ""}, {"mips64el", "mips64le", ""}, {"mipsel", "mipsle", ""},
};

static int set_part(char part[PLATFORM_PART_SIZE], const char *text)
{
    size_t n = strlen(text);
    if (n >= PLATFORM_PART_SIZE) {
        return -EINVAL;
    }
    for (size_t i = 0; i <= n; i++) {
        if (text[i] != '\0' && !isalnum((unsigned char)text[i]) && strchr("._-", text[i]) == NULL) {
            return -EINVAL;
        }
        part[i] = (char)tolower((unsigned char)text[i]);
    }
    return 0;
}

int platform_set(struct platform *platform, const char *os, const char *architecture,
                 const char *variant)
{
    struct platform p;
    if (set_part(p.os, os) < 0 || set_part(p.architecture, architecture) < 0 ||
        set_part(p.variant, variant) < 0) {
        return -EINVAL;
    }
    for (size_t i = 0; i < COUNT(aliases); i++) {
        if (strcmp(p.architecture, aliases[i].alias) == 0) {
            (void)set_part(p.architecture, aliases[i].architecture);
            if (p.variant[0] == '\0') {
                (void)set_part(p.variant, aliases[i].variant);
            }
        }
    }
    if ((str_eq(p.architecture, "arm64") && str_eq(p.variant, "v8")) ||
        (str_eq(p.architecture, "amd64") && str_eq(p.variant, "v1"))) {
        p.variant[0] = '\0';
    }
    *platform = p;
    return 0;
}

int platform_parse(const char *text, struct platform *ret, struct err *err)
{
    AUTO(strv_donep) struct strv parts = {0};
    int r = strv_split(&parts, text, "/");
    if (r < 0) {
        return err_set(err, -r, "read platform");
    }
    size_t n = parts.count;
    bool os_first = n > 1 || (n == 1 && str_eq(parts.items[0], "linux"));
    if (n == 0 || n > 3 || (n == 1 && os_first)) {
        return err_say(err, EINVAL, "'%s' is not a platform such as linux/arm64 or linux/arm/v7",
                       text);
    }
    const char *architecture = parts.items[n > 1 ? 1 : 0];
    r = platform_set(ret, n > 1 ? parts.items[0] : "linux", architecture,
                     n > 2 ? parts.items[2] : "");
    if (r < 0) {
        return err_say(err, EINVAL, "'%s' is not a platform such as linux/arm64 or linux/arm/v7",
                       text);
    }
    return 0;
}

void platform_host(struct platform *ret)
{
    struct utsname name;
    *ret = (struct platform){.os = "linux"};
    if (uname(&name) < 0 || platform_set(ret, "linux", name.machine, "") < 0) {
        (void)set_part(ret->architecture, "unknown");
    }
}

void platform_format(const struct platform *p, char out[PLATFORM_TEXT_SIZE])
{
    (void)snprintf(out, PLATFORM_TEXT_SIZE, "%s/%s%s%s", p->os, p->architecture,
                   p->variant[0] != '\0' ? "/" : "", p->variant);
}

/* "v7" -> 7; 0 when it is not so. */
static int variant_number(const char *variant)
{
    return variant[0] == 'v' && variant[1] >= '1' && variant[1] <= '9' && variant[2] == '\0'
               ? variant[1] - '0'
               : 0;
}

int platform_match(const struct platform *want, const struct platform *have)
{
    if (strcmp(want->os, have->os) != 0 || strcmp(want->architecture, have->architecture) != 0) {
        return 0;
    }
    if (strcmp(want->variant, have->variant) == 0) {
        return 100;
    }
    if (want->variant[0] == '\0') {
        /* Without a wish the plain one first, then the least demanding of amd64, the newest arm. */
        int n = variant_number(have->variant);
        return str_eq(have->architecture, "amd64") ? 50 - n : 40 + n;
    }
    int want_number = variant_number(want->variant);
    int have_number = variant_number(have->variant);
    if (str_eq(want->architecture, "arm") || str_eq(want->architecture, "amd64")) {
        return have_number < want_number ? 1 + have_number : 0;
    }
    return have->variant[0] == '\0' ? 1 : 0;
}
