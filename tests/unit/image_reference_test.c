#include "image/reference.h"

#include <errno.h>

#include "base/err.h"
#include "base/str.h"
#include "image/platform.h"
#include "unit.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

START_TEST(short_names_become_full)
{
    static const struct {
        const char *text, *full, *familiar;
    } cases[] = {
        {"debian", "docker.io/library/debian:latest", "debian:latest"},
        {"debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm"},
        {"a/b", "docker.io/a/b:latest", "a/b:latest"},
        {"docker.io/debian", "docker.io/library/debian:latest", "debian:latest"},
        {"index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"},
        {"localhost/x", "localhost/x:latest", "localhost/x:latest"},
        {"host:5000/a/b:t@sha256:" HEX, "host:5000/a/b:t@sha256:" HEX,
         "host:5000/a/b:t@sha256:" HEX},
        {"ghcr.example/x@sha256:" HEX, "ghcr.example/x@sha256:" HEX, "ghcr.example/x@sha256:" HEX},
        {"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
        {"a__b/c.d-e", "docker.io/a__b/c.d-e:latest", "a__b/c.d-e:latest"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(reference_donep) struct reference ref = {0};
        struct err err = ERR_NONE;
        ck_assert_msg(reference_parse(cases[i].text, &ref, &err) == 0, "%s", err_text(&err));
        AUTO(freep) char *full = reference_full(&ref);
        AUTO(freep) char *familiar = reference_familiar(full);
        ck_assert_str_eq(full, cases[i].full);
        ck_assert_str_eq(familiar, cases[i].familiar);
    }
}
END_TEST

START_TEST(what_is_no_name_is_refused)
{
    static const char *const cases[] = {
        "",
        ":",
        "/",
        "a:",
        "a:b:c",

        "Debian",
        "a//b",
        "a/",
        "/a",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "a@sha256:123",
        "a@md5:" HEX,
        HEX,
        "sha256:" HEX,
        "a:-x",
        "ho_st:5000/x",
        "host:0/x",
        "host:99999/x",
        "host:/x",
        "a b",
        "a\n",
        "http://x/y",
        "x.y/",
        "a:tag/b:c@",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(reference_donep) struct reference ref = {0};
        ck_assert_msg(reference_parse(cases[i], &ref, NULL) == -EINVAL, "'%s' passed", cases[i]);
    }
}
END_TEST

START_TEST(platforms_are_read_and_matched)
{
    struct platform want;
    struct platform have;
    static const struct {
        const char *want, *have;
        bool fits;
    } cases[] = {
        {"linux/amd64", "amd64", true},          {"x86_64", "linux/amd64", true},
        {"aarch64", "linux/arm64/v8", true},     {"linux/arm/v7", "linux/arm/v6", true},
        {"linux/arm/v6", "linux/arm/v7", false}, {"amd64", "arm64", false},
        {"windows/amd64", "linux/amd64", false}, {"linux/amd64/v2", "linux/amd64", true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        ck_assert_int_eq(platform_parse(cases[i].want, &want, NULL), 0);
        ck_assert_int_eq(platform_parse(cases[i].have, &have, NULL), 0);
        ck_assert_msg((platform_match(&want, &have) > 0) == cases[i].fits, "%s %s", cases[i].want,
                      cases[i].have);
    }
    ck_assert_int_eq(platform_parse("linux", &want, NULL), -EINVAL);
    ck_assert_int_eq(platform_parse("a/b/c/d", &want, NULL), -EINVAL);
    ck_assert_int_eq(platform_parse("", &want, NULL), -EINVAL);
}
END_TEST

int main(void)
{
    return unit_run("image/reference", (const TTest *const[]){
                                           short_names_become_full,
                                           what_is_no_name_is_refused,
                                           platforms_are_read_and_matched,
                                           NULL,
                                       });
}
