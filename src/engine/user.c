#include "engine/user.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"

#define ACCOUNT_FILE_MAX ((size_t)4 << 20)
#define FIELDS_MAX 8

void user_done(struct user *user)
{
    free(user->groups);
    free(user->home);
    *user = (struct user){0};
}

/* The file's text, or "" when there is none. */
static int load(int root_fd, const char *path, struct buf *text, struct err *err)
{
    AUTO(closep) int fd = open_in_root(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    int r = fd;
    if (fd >= 0) {
        r = read_fd(fd, ACCOUNT_FILE_MAX, text);
    }
    if (r < 0 && r != -ENOENT && r != -ENOTDIR && r != -ELOOP) {
        return err_set(err, -r, "read '%s' of the image", path);
    }
    return buf_add_str(text, "");
}

/* Splits the next line of *cursor at ':'; returns the number of fields, 0 at the end. */
static size_t next_line(char **cursor, char *fields[FIELDS_MAX])
{
    while (*cursor != NULL && **cursor != '\0') {
        char *line = strsep(cursor, "\n");
        size_t count = 0;
        for (char *field; count < FIELDS_MAX && (field = strsep(&line, ":")) != NULL;) {
            fields[count++] = field;
        }
        if (count >= 3) {
            return count;
        }
    }
    return 0;
}

static int parse_id(const char *text, uint32_t *ret)
{
    uint64_t value;
    if (parse_u64(text, 10, &value) < 0 || value >= UINT32_MAX) {
        return -EINVAL;
    }
    *ret = (uint32_t)value;
    return 0;
}

static int add_group(struct user *user, gid_t gid)
{
    for (size_t i = 0; i < user->group_count; i++) {
        if (user->groups[i] == gid) {
            return 0;
        }
    }
    /* The kernel takes no more, and a hostile file could keep us comparing for minutes. */
    if (user->group_count >= NGROUPS_MAX) {
        return -E2BIG;
    }
    gid_t *groups = reallocarray(user->groups, user->group_count + 1, sizeof(*groups));
    if (groups == NULL) {
        return -ENOMEM;
    }
    groups[user->group_count++] = gid;
    user->groups = groups;
    return 0;
}

/* True when line's member list (comma separated) has name. */
static bool is_member(char *members, const char *name)
{
    for (char *member; (member = strsep(&members, ",")) != NULL;) {
        if (str_eq(member, name)) {
            return true;
        }
    }
    return false;
}

static int find_group(const struct buf *file, const char *name, gid_t *ret, struct err *err)
{
    AUTO(freep) char *copy = strdup(file->data);
    char *cursor = copy;
    char *fields[FIELDS_MAX];
    while (copy != NULL && next_line(&cursor, fields) > 0) {
        if (str_eq(fields[0], name) && parse_id(fields[2], ret) == 0) {
            return 0;
        }
    }
    if (parse_id(name, ret) == 0) {
        return 0;
    }
    return err_say(err, ENOENT, "group '%s' is not in /etc/group of the image", name);
}

/* The passwd line of user; *ret_name is the login name, for group membership. */
static int find_user(const struct buf *file, const char *text, struct user *user, char **ret_name,
                     struct err *err)
{
    AUTO(freep) char *copy = strdup(file->data);
    char *cursor = copy;
    char *fields[FIELDS_MAX];
    uint32_t wanted = 0;
    bool numeric = parse_id(text, &wanted) == 0;
    size_t count;
    while (copy != NULL && (count = next_line(&cursor, fields)) > 0) {
        uint32_t uid;
        uint32_t gid;
        if (count < 4 || parse_id(fields[2], &uid) < 0 || parse_id(fields[3], &gid) < 0 ||
            !(numeric ? uid == wanted : str_eq(fields[0], text))) {
            continue;
        }
        user->uid = uid;
        user->gid = gid;
        user->home = count > 5 && fields[5][0] == '/' ? strdup(fields[5]) : NULL;
        *ret_name = strdup(fields[0]);
        return *ret_name != NULL ? 0 : err_set(err, ENOMEM, "user '%s'", text);
    }
    if (!numeric) {
        return err_say(err, ENOENT, "user '%s' is not in /etc/passwd of the image", text);
    }
    user->uid = wanted;
    return 0;
}

static int add_memberships(const struct buf *file, const char *name, struct user *user)
{
    AUTO(freep) char *copy = strdup(file->data);
    char *cursor = copy;
    char *fields[FIELDS_MAX];
    size_t count;
    while (copy != NULL && (count = next_line(&cursor, fields)) > 0) {
        uint32_t gid;
        if (count > 3 && parse_id(fields[2], &gid) == 0 && is_member(fields[3], name)) {
            int r = add_group(user, gid);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

int user_resolve(int root_fd, const char *text, const struct strv *extra, struct user *ret,
                 struct err *err)
{
    AUTO(user_donep) struct user user = {0};
    AUTO(buf_donep) struct buf passwd = {0};
    AUTO(buf_donep) struct buf group = {0};
    int r = load(root_fd, "/etc/passwd", &passwd, err);
    if (r == 0) {
        r = load(root_fd, "/etc/group", &group, err);
    }
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *name = strdup(text != NULL && text[0] != '\0' ? text : "0");
    AUTO(freep) char *login = NULL;
    if (name == NULL) {
        return err_set(err, ENOMEM, "user '%s'", text);
    }
    char *group_name = strchr(name, ':');
    if (group_name != NULL) {
        *group_name++ = '\0';
    }
    r = find_user(&passwd, name[0] != '\0' ? name : "0", &user, &login, err);
    if (r == 0 && group_name != NULL && group_name[0] != '\0') {
        /* A group that the user names replaces those of the login. */
        r = find_group(&group, group_name, &user.gid, err);
    } else if (r == 0 && login != NULL) {
        r = add_memberships(&group, login, &user);
    }
    for (size_t i = 0; r == 0 && extra != NULL && i < extra->count; i++) {
        gid_t gid;
        r = find_group(&group, extra->items[i], &gid, err);
        if (r == 0) {
            r = add_group(&user, gid);
        }
    }
    if (r == 0 && user.home == NULL) {
        user.home = strdup("/");
        r = user.home == NULL ? -ENOMEM : 0;
    }
    if (r == -E2BIG) {
        return err_set(err, E2BIG, "user '%s': groups in /etc/group of the image", name);
    }
    if (r < 0) {
        return err_wrap(err, -r, "user '%s'", text);
    }
    *ret = user;
    user = (struct user){0};
    return 0;
}
