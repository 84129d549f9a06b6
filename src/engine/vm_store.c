#include "engine/vm_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dirs.h"
#include "base/err.h"
#include "base/str.h"
#include "engine/kernel.h"

#define FNV_START 0xcbf29ce484222325ull
#define FNV_PRIME 0x100000001b3ull

static uint64_t mix(uint64_t hash, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        hash = (hash ^ (value >> (8 * i) & 0xff)) * FNV_PRIME;
    }
    return hash;
}

/* Changes with each build of what goes into an initial file system. */
static int hash_programs(uint64_t *ret, struct err *err)
{
    static const char *const programs[] = {"isola-guest", "isola-init", "isola-files"};
    uint64_t hash = FNV_START;
    for (size_t i = 0; i < COUNT(programs); i++) {
        struct stat st;
        AUTO(freep) char *path = dirs_helper(programs[i]);
        if (path == NULL || stat(path, &st) < 0) {
            return err_set(err, path == NULL ? ENOMEM : errno, "open '%s'",
                           path == NULL ? programs[i] : path);
        }
        hash = mix(mix(mix(hash, (uint64_t)st.st_size), (uint64_t)st.st_mtim.tv_sec),
                   (uint64_t)st.st_mtim.tv_nsec);
    }
    *ret = hash;
    return 0;
}

static char *initrd_name(ino_t kernel, uint64_t hash)
{
    return str_printf("initrd-%llx-%llx.cpio", (unsigned long long)kernel,
                      (unsigned long long)hash);
}

int vm_store_initrd(const char *root, ino_t kernel, char **ret, struct err *err)
{
    uint64_t hash;
    int r = hash_programs(&hash, err);
    AUTO(freep) char *name = r < 0 ? NULL : initrd_name(kernel, hash);
    char *path = name == NULL ? NULL : str_printf("%s/machines/%s", root, name);
    if (path == NULL) {
        return r < 0 ? r : err_set(err, ENOMEM, "find the initial file system");
    }
    *ret = path;
    return 0;
}

char *vm_store_unfinished(const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    return str_printf("%.*s.%s.%d", (int)(name - path), path, name, (int)getpid());
}

static bool is_being_made(const char *name)
{
    const char *dot = strrchr(name, '.');
    uint64_t pid;
    return name[0] == '.' && dot != name && parse_u64(dot + 1, 10, &pid) == 0 && pid > 0 &&
           pid < INT32_MAX && (kill((pid_t)pid, 0) == 0 || errno != ESRCH);
}

static int list_wanted(const char *root, struct strv *wanted, struct err *err)
{
    uint64_t hash;
    AUTO(kernel_list_donep) struct kernel_list kernels = {0};
    AUTO(freep) char *plain = NULL;
    int r = hash_programs(&hash, err);
    r = r < 0 ? r : kernel_list(root, &kernels, err);
    if (r < 0) {
        return r;
    }
    plain = initrd_name(0, hash);
    r = plain == NULL ? -ENOMEM : strv_add(wanted, plain);
    r = r < 0 ? r : strv_add(wanted, VM_STORE_TEMPLATE);
    for (size_t i = 0; r == 0 && i < kernels.count; i++) {
        struct stat st;
        AUTO(freep) char *path = str_printf("%s/kernels/%s", root, kernels.items[i].version);
        if (path != NULL && stat(path, &st) == 0) {
            AUTO(freep) char *name = initrd_name(st.st_ino, hash);
            r = name == NULL ? -ENOMEM : strv_add(wanted, name);
        }
    }
    return r < 0 ? err_set(err, -r, "check '%s/machines'", root) : 0;
}

int vm_store_check(const char *root, bool repair, struct strv *findings, struct err *err)
{
    AUTO(strv_donep) struct strv wanted = {0};
    AUTO(freep) char *path = str_printf("%s/machines", root);
    AUTO(closedirp) DIR *dir = path == NULL ? NULL : opendir(path);
    if (dir == NULL) {
        return path != NULL && errno == ENOENT ? 0
                                               : err_set(err, errno, "check '%s/machines'", root);
    }
    int r = list_wanted(root, &wanted, err);
    struct dirent *entry;
    while (r == 0 && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        if (str_eq(name, ".") || str_eq(name, "..") || strv_has(&wanted, name) ||
            is_being_made(name)) {
            continue;
        }
        r = strv_addf(findings, "left over: %s/%s", path, name);
        if (r == 0 && repair && unlinkat(dirfd(dir), name, 0) < 0 && errno != ENOENT) {
            r = -errno;
        }
        if (r < 0) {
            return err_set(err, -r, "check '%s/%s'", path, name);
        }
    }
    return r;
}
