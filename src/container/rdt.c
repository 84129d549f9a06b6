#include "container/rdt.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "container/spec.h"

#define SCHEMATA_MAX ((size_t)1 << 16)

static int path_of(const char *root, const char *group, const char *file, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/%s%s%s", root, group, file[0] != '\0' ? "/" : "", file);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int rdt_find(const char *root, const struct spec_rdt *rdt, const char *id, struct rdt_group *ret,
             struct err *err)
{
    static const char *const reserved[] = {"info", "mon_data", "mon_groups"};
    char path[PATH_MAX];
    const char *name = rdt->clos_id != NULL ? rdt->clos_id : id;
    bool bad = !path_is_plain_name(name) || strlen(name) >= sizeof(ret->name) ||
               strchr(name, '\n') != NULL;
    for (size_t i = 0; i < COUNT(reserved); i++) {
        bad = bad || strcmp(name, reserved[i]) == 0;
    }
    if (bad) {
        return err_say(err, EINVAL, "linux.intelRdt.closID = \"%s\": is not the name of a group",
                       name);
    }
    if (path_of(root, "", "schemata", path) < 0 || access(path, F_OK) < 0) {
        (void)err_say(err, ENODEV, "linux.intelRdt: resctrl is not mounted at '%s'", root);
        err_hint(err, "mount -t resctrl resctrl %s, where CPU and kernel have it", root);
        return -ENODEV;
    }
    *ret = (struct rdt_group){0};
    (void)strcpy(ret->name, name);
    return 0;
}

/* The value of a domain ("0=ff") in the line of one resource; -ENOENT when it says nothing of it.
 */
static int domain_value(const char *line, unsigned long domain, const char **ret, size_t *ret_len)
{
    const char *p = strchr(line, ':');
    while (p != NULL && *p != '\0' && *p != '\n') {
        char *end;
        p += 1 + strspn(p + 1, " ");
        unsigned long number = strtoul(p, &end, 10);
        if (end == p || *end != '=') {
            return -ENOENT;
        }
        const char *value = end + 1 + strspn(end + 1, " ");
        value += strspn(value, "0"); /* the kernel pads masks */
        size_t len = strcspn(value, "; \n");
        if (number == domain) {
            *ret = value;
            *ret_len = len;
            return 0;
        }
        p = value + strcspn(value, ";\n");
    }
    return -ENOENT;
}

/* The line of text that is about the same resource ("L3", "MB") as wanted. */
static const char *find_line(const char *text, const char *wanted)
{
    size_t len = strcspn(wanted, ":");
    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *name = line + strspn(line, " ");
        if (strncmp(name, wanted, len) == 0 && name[len] == ':') {
            return name;
        }
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return NULL;
}

/* Whether each domain that the line names has that value in text. */
static bool line_holds(const char *text, const char *wanted)
{
    const char *line = find_line(text, wanted);
    const char *p = strchr(wanted, ':');
    while (line != NULL && p != NULL && *p != '\0' && *p != '\n') {
        const char *want;
        const char *have;
        size_t want_len;
        size_t have_len;
        char *end;
        unsigned long domain = strtoul(p + 1, &end, 10);
        if (end == p + 1 || domain_value(wanted, domain, &want, &want_len) < 0 ||
            domain_value(line, domain, &have, &have_len) < 0 || want_len != have_len ||
            strncasecmp(want, have, want_len) != 0) {
            return false;
        }
        p = want + want_len + strcspn(want + want_len, ";\n");
    }
    return line != NULL && p != NULL;
}

static int compare(const char *path, const char *schema, const char *field, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(strv_donep) struct strv lines = {0};
    int r = read_file(path, SCHEMATA_MAX, &text);
    r = r < 0 ? r : strv_split(&lines, schema, "\n");
    if (r < 0) {
        return err_set(err, -r, "read '%s'", path);
    }
    for (size_t i = 0; i < lines.count; i++) {
        if (text.data == NULL || !line_holds(text.data, lines.items[i])) {
            return err_say(err, EEXIST,
                           "linux.intelRdt.%s = \"%s\": the group exists and has another share",
                           field, lines.items[i]);
        }
    }
    return 0;
}

/* One write a line: the kernel takes them one by one, and says which it does not like. */
static int put_schema(const char *path, const char *schema, const char *field, struct err *err)
{
    AUTO(strv_donep) struct strv lines = {0};
    int r = strv_split(&lines, schema, "\n");
    for (size_t i = 0; r == 0 && i < lines.count; i++) {
        AUTO(freep) char *line = str_printf("%s\n", lines.items[i]);
        r = line == NULL ? -ENOMEM : write_file(path, line);
        if (r < 0) {
            (void)err_set(err, -r, "linux.intelRdt.%s = \"%s\": write '%s'", field, lines.items[i],
                          path);
            err_hint(err, "see %s/info/last_cmd_status", RDT_ROOT);
        }
    }
    return r;
}

static int share(const char *root, const struct spec_rdt *rdt, const struct rdt_group *group,
                 struct err *err)
{
    const struct {
        const char *schema;
        const char *field;
    } rows[] = {{rdt->l3_cache_schema, "l3CacheSchema"}, {rdt->mem_bw_schema, "memBwSchema"}};
    char path[PATH_MAX];
    int r = path_of(root, group->name, "schemata", path);
    for (size_t i = 0; r == 0 && i < COUNT(rows); i++) {
        if (rows[i].schema != NULL) {
            r = group->made ? put_schema(path, rows[i].schema, rows[i].field, err)
                            : compare(path, rows[i].schema, rows[i].field, err);
        }
    }
    return r;
}

static int move_in(const char *root, const char *group, const char *file, pid_t pid,
                   struct err *err)
{
    char path[PATH_MAX];
    char text[16];
    (void)snprintf(text, sizeof(text), "%d", (int)pid);
    int r = path_of(root, group, file, path);
    r = r < 0 ? r : write_file(path, text);
    return r < 0 ? err_set(err, -r, "linux.intelRdt: write '%s'", path) : 0;
}

static int monitor(const char *root, const char *id, pid_t pid, struct rdt_group *group,
                   struct err *err)
{
    char path[PATH_MAX];
    AUTO(freep) char *name = str_printf("mon_groups/%s", id);
    AUTO(freep) char *tasks = str_printf("mon_groups/%s/tasks", id);
    int r = name == NULL || tasks == NULL ? -ENOMEM : path_of(root, group->name, name, path);
    if (r < 0) {
        return err_set(err, -r, "linux.intelRdt");
    }
    if (mkdir(path, 0755) < 0 && errno != EEXIST) {
        return err_set(err, errno, "linux.intelRdt: make '%s'", path);
    }
    group->monitored = true;
    return move_in(root, group->name, tasks, pid, err);
}

int rdt_enter(const char *root, const struct spec_rdt *rdt, const char *id, pid_t pid,
              struct rdt_group *group, struct err *err)
{
    char path[PATH_MAX];
    int r = path_of(root, group->name, "", path);
    if (r < 0) {
        return err_set(err, -r, "linux.intelRdt");
    }
    group->made = mkdir(path, 0755) == 0;
    if (!group->made && errno != EEXIST) {
        (void)err_set(err, errno, "linux.intelRdt: make '%s'", path);
        if (err != NULL && err->code == ENOSPC) {
            err_hint(err, "the CPU has no further class of service; remove a group");
        }
        return err != NULL ? -err->code : -EIO;
    }
    r = share(root, rdt, group, err);
    r = r < 0 ? r : move_in(root, group->name, "tasks", pid, err);
    if (r == 0 && (rdt->enable_cmt || rdt->enable_mbm)) {
        r = monitor(root, id, pid, group, err);
    }
    if (r < 0) {
        (void)rdt_remove(root, group, id, NULL);
    }
    return r;
}

int rdt_remove(const char *root, const struct rdt_group *group, const char *id, struct err *err)
{
    char path[PATH_MAX];
    AUTO(freep) char *monitored = str_printf("mon_groups/%s", id);
    if (group->monitored && monitored != NULL && path_of(root, group->name, monitored, path) == 0 &&
        rmdir(path) < 0 && errno != ENOENT) {
        return err_set(err, errno, "remove '%s'", path);
    }
    if (group->made && path_of(root, group->name, "", path) == 0 && rmdir(path) < 0 &&
        errno != ENOENT) {
        return err_set(err, errno, "remove '%s'", path);
    }
    return 0;
}
