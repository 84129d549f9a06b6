/*
 * From a spec to a program: libseccomp, and the cache of what it made. Apart from loading, so that
 * the agent of a VM, which gets programs ready made, is linked without libseccomp.
 */
#include "container/seccomp_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "container/bpf_compact.h"
#include "container/names.h"

#define CACHE_MAGIC 0x32504353U /* "SCP2": bpf_compact()'s programs */
#define CACHE_FILE_MAX ((size_t)4 << 20)
#define CACHE_DIR ".seccomp"

struct cache_header {
    uint32_t magic;
    uint32_t count;    /* instructions */
    uint64_t text_len; /* bytes of the section text behind them */
};

static void release_context(scmp_filter_ctx *ctx)
{
    if (*ctx != NULL) {
        seccomp_release(*ctx);
    }
}

static int add_rule(scmp_filter_ctx ctx, const struct spec_seccomp *section, size_t index,
                    const char *name, struct err *err)
{
    const struct spec_seccomp_rule *rule = &section->rules[index];
    /* Names that this libseccomp or every architecture lacks are passed over, as engines expect. */
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR || rule->action == section->default_action) {
        return 0;
    }
    struct scmp_arg_cmp args[6];
    size_t count = 0;
    uint32_t seen = 0;
    bool same_index = false;
    for (size_t i = 0; i < rule->arg_count; i++) {
        same_index |= (seen & (1U << rule->args[i].index)) != 0;
        seen |= 1U << rule->args[i].index;
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < rule->arg_count; i++) {
        const struct spec_seccomp_arg *arg = &rule->args[i];
        struct scmp_arg_cmp cmp = {.arg = arg->index,
                                   .op = (enum scmp_compare)arg->op,
                                   .datum_a = arg->value,
                                   .datum_b = arg->value_two};
        if (same_index) {
            /* Two tests of one argument cannot hold together in libseccomp: any of them counts. */
            r = seccomp_rule_add_array(ctx, rule->action, number, 1, &cmp);
        } else if (count < COUNT(args)) {
            args[count++] = cmp;
        }
    }
    if (!same_index) {
        r = seccomp_rule_add_array(ctx, rule->action, number, (unsigned)count, args);
    }
    if (r < 0 && r != -EEXIST) {
        return err_set(err, -r, "linux.seccomp.syscalls[%zu]: rule for '%s'", index, name);
    }
    return 0;
}

static int build(scmp_filter_ctx ctx, const struct spec_seccomp *section, struct err *err)
{
    for (size_t i = 0; i < section->architecture_count; i++) {
        int r = seccomp_arch_add(ctx, section->architectures[i]);
        if (r < 0 && r != -EEXIST) {
            return err_set(err, -r, "linux.seccomp.architectures[%zu]", i);
        }
    }
    /* No surprise for programs of the same family that libseccomp would kill by default. */
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
    for (size_t i = 0; r == 0 && i < section->rule_count; i++) {
        const struct spec_strings *names = &section->rules[i].names;
        for (size_t j = 0; r == 0 && j < names->count; j++) {
            r = add_rule(ctx, section, i, names->items[j], err);
        }
    }
    return r;
}

static int compile(const struct spec_seccomp *section, struct seccomp_filter *filter,
                   struct err *err)
{
    AUTO(release_context) scmp_filter_ctx ctx = seccomp_init(section->default_action);
    if (ctx == NULL) {
        return err_set(err, ENOMEM, "linux.seccomp.defaultAction");
    }
    int r = build(ctx, section, err);
    if (r < 0) {
        return err_wrap(err, -r, "linux.seccomp");
    }
    AUTO(closep) int fd = memfd_create("bpf", MFD_CLOEXEC);
    struct stat st;
    if (fd < 0) {
        return err_set(err, errno, "linux.seccomp: make a memory file");
    }
    r = seccomp_export_bpf(ctx, fd);
    if (r < 0 || fstat(fd, &st) < 0) {
        return err_set(err, r < 0 ? -r : errno, "linux.seccomp: compile");
    }
    size_t count = (size_t)st.st_size / sizeof(*filter->code);
    if (count == 0 || count > BPF_MAXINSNS) {
        return err_say(err, E2BIG, "linux.seccomp: the filter has %zu instructions, more than %d",
                       count, BPF_MAXINSNS);
    }
    filter->code = calloc(count, sizeof(*filter->code));
    if (filter->code == NULL) {
        return err_set(err, ENOMEM, "linux.seccomp");
    }
    filter->count = (unsigned short)count;
    r = read_full_at(fd, filter->code, count * sizeof(*filter->code), 0);
    if (r < 0) {
        return err_set(err, -r, "linux.seccomp: read the filter");
    }
    struct sock_filter *compact = NULL;
    r = bpf_compact(filter->code, count, &compact, &count);
    if (r > 0) {
        free(filter->code);
        filter->code = compact;
        filter->count = (unsigned short)count;
    }
    return r < 0 ? err_set(err, -r, "linux.seccomp") : 0;
}

static uint64_t hash_text(const char *text, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a; only spreads names, the text itself decides */
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3ULL;
    }
    return hash;
}

/* What decides about the program: the section, the library, our own version and CPU. */
static char *section_text(const struct spec *spec)
{
    const json_t *section = json_object_get(json_object_get(spec->json, "linux"), "seccomp");
    char *dump = json_dumps(section, JSON_COMPACT | JSON_SORT_KEYS);
    const struct scmp_version *version = seccomp_version();
    char *text = dump == NULL
                     ? NULL
                     : str_printf("%u.%u.%u %s %x %s", version->major, version->minor,
                                  version->micro, ISOLA_VERSION, seccomp_arch_native(), dump);
    free(dump);
    return text;
}

/* A file that others could have written is not read at all. */
static bool is_own_file(int fd, off_t *ret_size)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
        (st.st_mode & 0022) != 0) {
        return false;
    }
    *ret_size = st.st_size;
    return true;
}

static bool cache_read(int dir, const char *name, const char *text, struct seccomp_filter *filter)
{
    AUTO(closep) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct cache_header header;
    size_t len = strlen(text);
    off_t size = 0;
    if (fd < 0 || !is_own_file(fd, &size) || read_full(fd, &header, sizeof(header)) < 0 ||
        header.magic != CACHE_MAGIC || header.count == 0 || header.count > BPF_MAXINSNS ||
        header.text_len != len ||
        (uint64_t)size != sizeof(header) + header.count * sizeof(struct sock_filter) + len) {
        return false;
    }
    AUTO(freep) struct sock_filter *code = calloc(header.count, sizeof(*code));
    AUTO(freep) char *stored = malloc(len + 1);
    if (code == NULL || stored == NULL || read_full(fd, code, header.count * sizeof(*code)) < 0 ||
        read_full(fd, stored, len) < 0 || memcmp(stored, text, len) != 0) {
        return false;
    }
    filter->code = TAKE_PTR(code);
    filter->count = (unsigned short)header.count;
    return true;
}

static void cache_write(int dir, const char *name, const char *text,
                        const struct seccomp_filter *filter)
{
    AUTO(buf_donep) struct buf data = {0};
    struct cache_header header = {
        .magic = CACHE_MAGIC, .count = filter->count, .text_len = strlen(text)};
    if (buf_add(&data, &header, sizeof(header)) == 0 &&
        buf_add(&data, filter->code, filter->count * sizeof(*filter->code)) == 0 &&
        buf_add_str(&data, text) == 0 && data.len <= CACHE_FILE_MAX) {
        /* A cache that cannot be written only costs time. */
        (void)replace_file_at(dir, name, data.data, data.len, 0600, false);
    }
}

static int open_cache(int state_dir)
{
    struct stat st;
    if (mkdirat(state_dir, CACHE_DIR, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    int fd = openat(state_dir, CACHE_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 0022) != 0)) {
        fd = close_fd(fd);
    }
    return fd;
}

int seccomp_filter_init(struct seccomp_filter *filter, const struct spec *spec, int cache_dir,
                        struct err *err)
{
    const struct spec_seccomp *section = &spec->seccomp;
    *filter = (struct seccomp_filter){.flags = section->flags, .notify = section->has_notify};
    if (!section->set) {
        return 0;
    }
    AUTO(freep) char *text = cache_dir < 0 ? NULL : section_text(spec);
    AUTO(closep) int dir = text == NULL ? -1 : open_cache(cache_dir);
    char name[32] = "";
    if (dir >= 0) {
        (void)snprintf(name, sizeof(name), "%016llx",
                       (unsigned long long)hash_text(text, strlen(text)));
        if (cache_read(dir, name, text, filter)) {
            return 0;
        }
    }
    int r = compile(section, filter, err);
    if (r < 0) {
        seccomp_filter_done(filter);
        return r;
    }
    if (dir >= 0) {
        cache_write(dir, name, text, filter);
    }
    return 0;
}
