#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/err.h"
#include "image/auth_challenge.h"
#include "image/decompress.h"
#include "image/digest.h"
#include "image/docker_config.h"
#include "image/manifest.h"
#include "unit.h"

START_TEST(challenges_are_read)
{
    static const struct {
        const char *text;
        int result;
        bool bearer;
        const char *realm, *service;
    } cases[] = {
        {"Bearer realm=\"https://a/t\",service=\"s\",scope=\"x\"", 0, true, "https://a/t", "s"},
        {"Basic realm=\"R\"", 0, false, "R", NULL},
        {"Basic realm=r, Bearer realm=\"https://a\"", 0, true, "https://a", NULL},
        {"bearer  realm = \"a\\\"b\"", 0, true, "a\"b", NULL},
        {"Negotiate abcdef==", -ENOENT, false, NULL, NULL},
        {"", -ENOENT, false, NULL, NULL},
        {"Bearer realm=\"open", -EINVAL, false, NULL, NULL},
        {"Bearer", -ENOENT, false, NULL, NULL},
        {"=x", -EINVAL, false, NULL, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(auth_challenge_donep) struct auth_challenge c = {0};
        ck_assert_int_eq(auth_challenge_parse(cases[i].text, &c), cases[i].result);
        ck_assert(c.bearer == cases[i].bearer);
        ck_assert_pstr_eq(c.realm, cases[i].realm);
        ck_assert_pstr_eq(c.service, cases[i].service);
    }
}
END_TEST

START_TEST(stored_passwords_are_decoded)
{
    AUTO(credential_donep) struct credential c = {0};
    ck_assert_int_eq(docker_config_decode("dXNlcjpwYTpzcw==", &c), 0);
    ck_assert_str_eq(c.user, "user");
    ck_assert_str_eq(c.password, "pa:ss");
    static const char *const bad[] = {"", "====", "dXNlcg==", "dXNlcjpw!", "AAAA"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct credential none = {0};
        ck_assert_int_eq(docker_config_decode(bad[i], &none), -EINVAL);
    }
}
END_TEST

struct sink {
    char room[7];
    struct buf out;
};

static int room(void *data, void **ret_room, size_t *ret_size)
{
    *ret_room = ((struct sink *)data)->room;
    *ret_size = sizeof(((struct sink *)data)->room);
    return 0;
}

static int wrote(void *data, size_t len)
{
    struct sink *sink = data;
    return buf_add(&sink->out, sink->room, len);
}

/* Pushes in pieces of step bytes; the output replaces sink->out. */
static int decompress_all(struct sink *sink, const struct buf *in, size_t step, uint64_t limit)
{
    AUTO(decompress_freep) struct decompress *d = NULL;
    const struct decompress_sink s = {.room = room, .wrote = wrote, .data = sink};
    buf_clear(&sink->out);
    ck_assert_int_eq(decompress_new(&s, limit, &d), 0);
    for (size_t at = 0; at < in->len; at += step) {
        int r = decompress_push(d, in->data + at, MIN(step, in->len - at), NULL);
        if (r < 0) {
            return r;
        }
    }
    return decompress_finish(d, NULL);
}

static void gzip(const char *text, struct buf *out)
{
    struct isal_zstream z;
    uint8_t packed[1024];
    isal_deflate_stateless_init(&z);
    z.gzip_flag = IGZIP_GZIP;
    z.end_of_stream = 1;
    z.next_in = (uint8_t *)(uintptr_t)text;
    z.avail_in = (uint32_t)strlen(text);
    z.next_out = packed;
    z.avail_out = sizeof(packed);
    ck_assert_int_eq(isal_deflate_stateless(&z), COMP_OK);
    ck_assert_int_eq(buf_add(out, packed, sizeof(packed) - z.avail_out), 0);
}

START_TEST(all_formats_come_out_plain_in_pieces_of_any_size)
{
    struct sink sink = {0};
    AUTO(buf_donep) struct buf gz = {0};
    AUTO(buf_donep) struct buf zst = {0};
    AUTO(buf_donep) struct buf plain = {0};
    char packed[256];
    gzip("hello ", &gz);
    gzip("world", &gz); /* a second member */
    ck_assert_int_eq(buf_add(&gz, "\0\0\0", 3), 0);
    size_t n = ZSTD_compress(packed, sizeof(packed), "hello ", 6, 1);
    ck_assert_int_eq(buf_add(&zst, packed, n), 0);
    n = ZSTD_compress(packed, sizeof(packed), "world", 5, 1);
    ck_assert_int_eq(buf_add(&zst, packed, n), 0);
    ck_assert_int_eq(buf_add_str(&plain, "hello world"), 0);
    const struct buf *const inputs[] = {&gz, &zst, &plain};
    for (size_t i = 0; i < COUNT(inputs); i++) {
        for (size_t step = 1; step < 40; step++) {
            ck_assert_int_eq(decompress_all(&sink, inputs[i], step, 100), 0);
            ck_assert_str_eq(sink.out.data, "hello world");
        }
        ck_assert_int_eq(decompress_all(&sink, inputs[i], 64, 10), -EFBIG);
    }
    gz.len -= 8;
    zst.len -= 2;
    ck_assert_int_eq(decompress_all(&sink, &gz, 64, 100), -EBADMSG);
    ck_assert_int_eq(decompress_all(&sink, &zst, 64, 100), -EBADMSG);
    buf_done(&sink.out);
}
END_TEST

START_TEST(digests_are_those_of_the_standard)
{
    char out[DIGEST_TEXT_SIZE];
    ck_assert_int_eq(digest_of("abc", 3, out), 0);
    ck_assert_str_eq(out,
                     "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    char chain[DIGEST_TEXT_SIZE];
    ck_assert_int_eq(digest_chain("", out, chain), 0);
    ck_assert_str_eq(chain, out);
    ck_assert_int_eq(digest_chain(chain, out, chain), 0);
    ck_assert_str_ne(chain, out);
}
END_TEST

START_TEST(manifests_of_strangers_are_checked)
{
    static const char digest[] =
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"schemaVersion\":1}",
        "{\"schemaVersion\":2}",
        "{\"schemaVersion\":2,\"config\":{}}",
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:../../x\",\"size\":1}}",
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":-1}}",
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":1},\"layers\":{}}",
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":1},\"layers\":[1]}",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        AUTO(buf_donep) struct buf text = {0};
        const char *mark = strstr(bad[i], "%s");
        size_t n = mark != NULL ? (size_t)(mark - bad[i]) : strlen(bad[i]);
        ck_assert_int_eq(buf_printf(&text, "%.*s%s%s", (int)n, bad[i], mark != NULL ? digest : "",
                                    mark != NULL ? mark + 2 : ""),
                         0);
        struct manifest m = {0};
        ck_assert_msg(manifest_parse(text.data, text.len, NULL, &m, NULL) == -EINVAL, "%s",
                      text.data);
    }
}
END_TEST

int main(void)
{
    return unit_run("image/wire", (const TTest *const[]){
                                      challenges_are_read,
                                      stored_passwords_are_decoded,
                                      all_formats_come_out_plain_in_pieces_of_any_size,
                                      digests_are_those_of_the_standard,
                                      manifests_of_strangers_are_checked,
                                      NULL,
                                  });
}
