#include "container/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "base/user_namespace.h"

#define FILE_SIZE_MAX ((size_t)1 << 20)

const struct spec_device_rule cgroup_default_devices[] = {
    {true, 'c', -1, -1, false, false, true}, {true, 'b', -1, -1, false, false, true},
    {true, 'c', 1, 3, true, true, true},     {true, 'c', 1, 5, true, true, true},
    {true, 'c', 1, 7, true, true, true},     {true, 'c', 1, 8, true, true, true},
    {true, 'c', 1, 9, true, true, true},     {true, 'c', 5, 0, true, true, true},
    {true, 'c', 5, 2, true, true, true},     {true, 'c', 136, -1, true, true, true},
};
const size_t cgroup_default_device_count = COUNT(cgroup_default_devices);

static bool is_mounted(const char *name, long magic)
{
    char path[PATH_MAX];
    struct statfs fs;
    (void)snprintf(path, sizeof(path), "%s/%s", CGROUP_ROOT, name);
    return statfs(path, &fs) == 0 && (long)fs.f_type == magic;
}

static void add_hierarchy(struct cgroup *cgroup, const char *name, bool unified)
{
    if (cgroup->count == CGROUP_HIERARCHIES_MAX ||
        strlen(name) >= sizeof(cgroup->hierarchies[0].name)) {
        return;
    }
    struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[cgroup->count++];
    *hierarchy = (struct cgroup_hierarchy){.unified = unified, .dir_fd = -1};
    (void)strcpy(hierarchy->name, name);
}

/* /proc/self/cgroup: "4:memory:/path", "1:name=systemd:/path", "0::/path". */
static void find_hierarchies(struct cgroup *cgroup, char *text)
{
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *name = strchr(line, ':');
        char *end = name != NULL ? strchr(name + 1, ':') : NULL;
        if (end == NULL) {
            continue;
        }
        *end = '\0';
        name++;
        if (*name == '\0') {
            if (is_mounted("unified", CGROUP2_SUPER_MAGIC)) {
                add_hierarchy(cgroup, "unified", true);
            }
            continue;
        }
        if (strcmp(name, "name=systemd") == 0 && access("/run/systemd/system", F_OK) < 0) {
            continue; /* it controls nothing and only systemd looks at it: not where that is not */
        }
        name += str_starts(name, "name=") ? strlen("name=") : 0;
        if (is_mounted(name, CGROUP_SUPER_MAGIC)) {
            add_hierarchy(cgroup, name, false);
        }
    }
}

int cgroup_init(struct cgroup *cgroup, const char *path, struct err *err)
{
    cgroup->count = 0;
    cgroup->managed = false;
    cgroup->path[0] = '\0';
    if (path == NULL || path[0] == '\0') {
        return 0;
    }
    if (strlen(path) >= sizeof(cgroup->path)) {
        return err_set(err, ENAMETOOLONG, "cgroup '%s'", path);
    }
    (void)strcpy(cgroup->path, path);
    struct statfs fs;
    if (statfs(CGROUP_ROOT, &fs) < 0) {
        return err_set(err, errno, "find control groups at '%s'", CGROUP_ROOT);
    }
    if (fs.f_type == CGROUP2_SUPER_MAGIC) {
        add_hierarchy(cgroup, "", true);
        return 0;
    }
    char text[4096];
    AUTO(closep) int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1); /* comes whole in one read */
    if (n < 0) {
        return err_set(err, errno, "read '/proc/self/cgroup'");
    }
    text[n] = '\0';
    find_hierarchies(cgroup, text);
    return 0;
}

char *cgroup_names(const struct cgroup *cgroup)
{
    struct buf names = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < cgroup->count; i++) {
        const char *name = cgroup->hierarchies[i].name;
        r = buf_printf(&names, "%s%s", i > 0 ? " " : "", name[0] != '\0' ? name : ".");
    }
    if (r < 0) {
        buf_done(&names);
        return NULL;
    }
    return buf_take(&names);
}

int cgroup_init_known(struct cgroup *cgroup, const char *path, const char *names, struct err *err)
{
    if (names == NULL || names[0] == '\0' || path[0] == '\0') {
        return cgroup_init(cgroup, path, err);
    }
    cgroup->count = 0;
    cgroup->managed = false;
    if (strlen(path) >= sizeof(cgroup->path)) {
        return err_set(err, ENAMETOOLONG, "cgroup '%s'", path);
    }
    (void)strcpy(cgroup->path, path);
    AUTO(strv_donep) struct strv list = {0};
    if (strv_split(&list, names, " ") < 0) {
        return err_set(err, ENOMEM, "read the cgroups of the container");
    }
    for (size_t i = 0; i < list.count; i++) {
        const char *name = list.items[i];
        bool alone = strcmp(name, ".") == 0;
        if (!alone && !path_is_plain_name(name)) {
            return err_say(err, EBADMSG, "the state names a cgroup hierarchy '%s'", name);
        }
        add_hierarchy(cgroup, alone ? "" : name, alone || strcmp(name, "unified") == 0);
    }
    return 0;
}

void cgroup_done(struct cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        cgroup->hierarchies[i].dir_fd = close_fd(cgroup->hierarchies[i].dir_fd);
    }
}

int cgroup_path_for(const struct spec *spec, const char *id, char *out, size_t size,
                    struct err *err)
{
    const char *path = spec->cgroups_path;
    int n = path == NULL ? snprintf(out, size, "/isola-oci-%s", id)
                         : snprintf(out, size, "/%s", path + strspn(path, "/"));
    if (n < 0 || (size_t)n >= size) {
        return err_set(err, ENAMETOOLONG, "linux.cgroupsPath");
    }
    if (path != NULL && strchr(path, ':') != NULL && strchr(path, '/') == NULL) {
        return err_say(err, EINVAL,
                       "linux.cgroupsPath = \"%s\": is a systemd name; use --systemd-cgroup, or a "
                       "path such as /isola/%s",
                       path, id);
    }
    while (n > 1 && out[n - 1] == '/') {
        out[--n] = '\0';
    }
    return n > 1 ? 0 : err_say(err, EINVAL, "linux.cgroupsPath: must not be the root");
}

const struct cgroup_hierarchy *cgroup_find(const struct cgroup *cgroup, const char *controller)
{
    const struct cgroup_hierarchy *unified = NULL;
    size_t len = strlen(controller);
    for (size_t i = 0; i < cgroup->count; i++) {
        const struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];
        if (hierarchy->unified) {
            unified = hierarchy;
            continue;
        }
        /* Co-mounted controllers share a directory: "cpu,cpuacct". */
        for (const char *p = hierarchy->name; p != NULL; p = strchr(p, ',')) {
            p += *p == ',';
            if (strncmp(p, controller, len) == 0 && (p[len] == '\0' || p[len] == ',')) {
                return hierarchy;
            }
        }
    }
    return unified;
}

bool cgroup_has_v1(const struct cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        if (!cgroup->hierarchies[i].unified) {
            return true;
        }
    }
    return false;
}

int cgroup_file(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                const char *file, char out[PATH_MAX])
{
    int n =
        snprintf(out, PATH_MAX, "%s%s%s%s%s%s", CGROUP_ROOT, hierarchy->name[0] != '\0' ? "/" : "",
                 hierarchy->name, cgroup->path, file != NULL ? "/" : "", file != NULL ? file : "");
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int cgroup_write(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                 const char *file, const char *text)
{
    char path[PATH_MAX];
    int r = cgroup_file(cgroup, hierarchy, file, path);
    return r < 0 ? r : write_file(path, text);
}

/* A new v1 cpuset has no CPUs and takes no process: it starts with all that its parent has. */
static int inherit_cpuset(const char *dir)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    for (size_t i = 0; i < COUNT(files); i++) {
        char path[PATH_MAX + 32];
        char text[1024];
        (void)snprintf(path, sizeof(path), "%s/../%s", dir, files[i]);
        AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1); /* comes whole in one read */
        if (n < 0) {
            return -errno;
        }
        text[n] = '\0';
        (void)snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        int r = write_file(path, text);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Lets children of dir have every controller that dir has; what is busy stays as it is. */
static void delegate_controllers(const char *dir)
{
    char path[PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/cgroup.controllers", dir);
    AUTO(buf_donep) struct buf text = {0};
    AUTO(strv_donep) struct strv names = {0};
    if (read_file(path, FILE_SIZE_MAX, &text) < 0 || text.len == 0 ||
        strv_split(&names, text.data, " \n") < 0) {
        return;
    }
    (void)snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
    for (size_t i = 0; i < names.count; i++) {
        char word[64];
        (void)snprintf(word, sizeof(word), "+%.60s", names.items[i]);
        (void)write_file(path, word);
    }
}

static int make_directory(char *path, const struct cgroup_hierarchy *hierarchy, bool *ret_made)
{
    *ret_made = mkdir(path, 0755) == 0;
    if (!*ret_made) {
        return errno == EEXIST ? 0 : -errno;
    }
    bool cpuset = !hierarchy->unified && strstr(hierarchy->name, "cpuset") != NULL;
    return cpuset ? inherit_cpuset(path) : 0;
}

/* Makes the directory with all above it. path is a full path that is changed and restored. */
static int make_path(char *path, const struct cgroup_hierarchy *hierarchy, size_t root_len,
                     bool *ret_made)
{
    if (!hierarchy->unified) {
        int r = make_directory(path, hierarchy, ret_made);
        if (r != -ENOENT) {
            return r;
        }
    }
    for (char *p = path + root_len; p != NULL; p = strchr(p + 1, '/')) {
        bool made;
        char saved = *p;
        *p = '\0';
        int r = p == path + root_len ? 0 : make_directory(path, hierarchy, &made);
        if (r == 0 && hierarchy->unified && hierarchy->name[0] == '\0') {
            delegate_controllers(path);
        }
        *p = saved;
        if (r < 0) {
            return r;
        }
    }
    return make_directory(path, hierarchy, ret_made);
}

static int open_unified(const struct cgroup *cgroup, struct cgroup_hierarchy *hierarchy)
{
    char path[PATH_MAX];
    if (!hierarchy->unified) {
        return 0;
    }
    int r = cgroup_file(cgroup, hierarchy, NULL, path);
    hierarchy->dir_fd = r < 0 ? r : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return hierarchy->dir_fd < 0 ? -errno : 0;
}

static bool is_populated(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy)
{
    char path[PATH_MAX];
    char c;
    AUTO(closep)
    int fd = cgroup_file(cgroup, hierarchy, "cgroup.procs", path) < 0
                 ? -1
                 : open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, &c, 1) == 1;
}

int cgroup_create(struct cgroup *cgroup, bool optional, struct err *err)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];
        char path[PATH_MAX];
        int r = cgroup_file(cgroup, hierarchy, NULL, path);
        size_t root_len = strlen(path) - strlen(cgroup->path);
        /* In v2 what is above a scope of systemd is not ours to touch. */
        if (r == 0 && !(cgroup->managed && hierarchy->unified)) {
            r = make_path(path, hierarchy, root_len, &hierarchy->made);
        }
        if (r == 0 && !hierarchy->made && !cgroup->managed && is_populated(cgroup, hierarchy)) {
            return err_say(err, EBUSY, "cgroup '%s' already has processes in it", path);
        }
        if (r == 0) {
            r = open_unified(cgroup, hierarchy);
        }
        if (r < 0) {
            if (optional && (r == -EACCES || r == -EPERM || r == -EROFS) && !user_is_host_root()) {
                cgroup_undo(cgroup);
                cgroup_done(cgroup);
                cgroup->count = 0;
                cgroup->path[0] = '\0';
                return 0;
            }
            return err_set(err, -r, "make cgroup '%s'", path);
        }
    }
    return 0;
}

int cgroup_open_enter(struct cgroup *cgroup, const char *sub, struct err *err)
{
    if (sub != NULL && sub[strspn(sub, "/")] != '\0') {
        size_t len = strlen(cgroup->path);
        AUTO(strv_donep) struct strv parts = {0};
        if (strv_split(&parts, sub, "/") < 0 || strv_has(&parts, "..") ||
            strlen(sub) + len + 2 > sizeof(cgroup->path)) {
            return err_say(err, EINVAL, "cgroup '%s' is not a path below the container's", sub);
        }
        (void)snprintf(cgroup->path + len, sizeof(cgroup->path) - len, "/%s",
                       sub + strspn(sub, "/"));
        return cgroup_create(cgroup, false, err);
    }
    for (size_t i = 0; i < cgroup->count; i++) {
        int r = open_unified(cgroup, &cgroup->hierarchies[i]);
        if (r < 0 && r != -ENOENT) {
            return err_set(err, -r, "open cgroup '%s' of '%s'", cgroup->path,
                           cgroup->hierarchies[i].name);
        }
    }
    return 0;
}

int cgroup_clone_fd(const struct cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        if (cgroup->hierarchies[i].unified) {
            return cgroup->hierarchies[i].dir_fd;
        }
    }
    return -1;
}

static int enter_hierarchy(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy)
{
    char path[PATH_MAX];
    if (hierarchy->unified) {
        return hierarchy->dir_fd < 0 ? 0 : write_file_at(hierarchy->dir_fd, "cgroup.procs", "0");
    }
    /* "0" in `tasks`: the writer moves itself, alone. The exec that follows closes the file. */
    int r = cgroup_file(cgroup, hierarchy, "tasks", path);
    int fd = r < 0 ? r : open(path, O_WRONLY | O_CLOEXEC);
    return r < 0 ? r : fd < 0 || write(fd, "0", 1) < 0 ? -errno : 0;
}

int cgroup_enter(const struct cgroup *cgroup, bool and_unified, struct err *err)
{
    for (size_t i = 0; i < cgroup->count; i++) {
        const struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];
        if (hierarchy->unified && !and_unified) {
            continue;
        }
        int r = enter_hierarchy(cgroup, hierarchy);
        if (r == -EINVAL && strncmp(hierarchy->name, "cpu", 3) == 0) {
            (void)err_set(err, -r, "enter cgroup '%s' of '%s'", cgroup->path, hierarchy->name);
            err_hint(err, "a real-time process cannot join a cpu group without real-time budget: "
                          "start with SCHED_OTHER");
            return r;
        }
        if (r < 0) {
            return err_set(err, -r, "enter cgroup '%s' of '%s'", cgroup->path, hierarchy->name);
        }
    }
    return 0;
}
