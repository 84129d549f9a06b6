#include "engine/kernel_fetch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"

/* It depends on the package of the kernel that is current. */
#define META_PACKAGE "linux-image-cloud-amd64"
#define PACKAGE_PREFIX "linux-image-"
#define LISTING_MAX ((size_t)1 << 20)

#define ARG(text) ((char *)(uintptr_t)(text))

static bool is_installed(const char *program)
{
    char *argv[] = {ARG("sh"), ARG("-c"),    ARG("command -v \"$1\" >/dev/null"),
                    ARG("sh"), ARG(program), NULL};
    return process_run(argv, NULL, NULL) == 0;
}

static int need(const char *program, struct err *err)
{
    if (is_installed(program)) {
        return 0;
    }
    (void)err_say(err, ENOENT, "%s is not installed on this host", program);
    err_hint(err, "give a kernel with --from FILE: a bzImage or vmlinux%s",
             str_eq(program, "dpkg-deb") ? "" : ", or a package linux-image-*.deb");
    return -ENOENT;
}

/* The first package linux-image-NUMBER... that META_PACKAGE depends on. -ENOENT: apt knows none. */
static int find_package(char **ret, struct err *err)
{
    AUTO(closep) int out = memfd_create("apt-cache", MFD_CLOEXEC);
    AUTO(buf_donep) struct buf text = {0};
    AUTO(strv_donep) struct strv words = {0};
    if (out < 0) {
        return err_set(err, errno, "run apt-cache");
    }
    char *argv[] = {ARG("sh"), ARG("-c"), ARG("exec apt-cache depends " META_PACKAGE " >&3"), NULL};
    /* It fails for a package that it does not know. */
    if (process_run_with(argv, NULL, &out, 1, NULL) < 0) {
        return -ENOENT;
    }
    int r = lseek(out, 0, SEEK_SET) < 0 ? -errno : read_fd(out, LISTING_MAX, &text);
    r = r < 0 || text.data == NULL ? r : strv_split(&words, text.data, " \n|:<>");
    if (r < 0) {
        return err_set(err, -r, "read what apt-cache says");
    }
    for (size_t i = 0; i < words.count; i++) {
        const char *word = words.items[i];
        size_t prefix = strlen(PACKAGE_PREFIX);
        if (str_starts(word, PACKAGE_PREFIX) && word[prefix] >= '0' && word[prefix] <= '9' &&
            name_is_safe(word)) {
            *ret = strdup(word);
            return *ret != NULL ? 0 : err_set(err, ENOMEM, "read what apt-cache says");
        }
    }
    return -ENOENT;
}

/* The one file *.deb in dir. */
static int find_file(const char *dir, char **ret, struct err *err)
{
    AUTO(closedirp) DIR *list = opendir(dir);
    const struct dirent *entry = NULL;
    while (list != NULL && (entry = readdir(list)) != NULL) {
        if (str_ends(entry->d_name, ".deb")) {
            *ret = str_printf("%s/%s", dir, entry->d_name);
            return *ret != NULL ? 0 : err_set(err, ENOMEM, "read '%s'", dir);
        }
    }
    return err_say(err, ENOENT, "apt-get download left no package in '%s'", dir);
}

int kernel_fetch(const char *dir, char **ret_package_path, struct err *err)
{
    AUTO(freep) char *package = NULL;
    AUTO(freep) char *chdir_to = str_printf("--chdir=%s", dir);
    if (chdir_to == NULL) {
        return err_set(err, ENOMEM, "download a kernel");
    }
    int r = need("apt-get", err);
    if (r < 0) {
        return r;
    }
    r = find_package(&package, err);
    if (r == -ENOENT) {
        /* A fresh machine has no lists; others may not fetch them and need not. */
        char *update[] = {ARG("apt-get"), ARG("-q"), ARG("update"), NULL};
        (void)process_run(update, NULL, NULL);
        r = find_package(&package, err);
    }
    if (r == -ENOENT) {
        (void)err_say(err, ENOENT, "apt knows no package " META_PACKAGE);
        err_hint(err, "does apt-get update work on this host? Else: --from FILE");
    }
    if (r < 0) {
        return r;
    }
    char *download[] = {ARG("env"),      chdir_to,  ARG("apt-get"),
                        ARG("-q"),       ARG("-o"), ARG("APT::Sandbox::User=root"),
                        ARG("download"), package,   NULL};
    r = process_run(download, NULL, err);
    if (r < 0) {
        (void)err_wrap(err, -r, "download package '%s'", package);
        err_hint(err, "does apt-get update work on this host? Else: --from FILE");
        return r;
    }
    return find_file(dir, ret_package_path, err);
}

int kernel_unpack_package(const char *package_path, const char *dir, struct err *err)
{
    char *argv[] = {ARG("dpkg-deb"), ARG("-x"), ARG(package_path), ARG(dir), NULL};
    int r = need("dpkg-deb", err);
    r = r < 0 ? r : process_run(argv, NULL, err);
    return r < 0 ? err_wrap(err, -r, "unpack package '%s'", package_path) : 0;
}
