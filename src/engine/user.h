/*
 * user.h - "user[:group]" and group names, looked up in a workload's own /etc/passwd and
 * /etc/group.
 */
#ifndef ENGINE_USER_H
#define ENGINE_USER_H

#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct err;
struct strv;

struct user {
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary, own memory */
    size_t group_count;
    char *home; /* own memory; "/" when unknown */
};

void user_done(struct user *user);
DEFINE_DONEP(struct user, user_done)

/*
 * text is "", "name", "uid", "name:group", "uid:gid"...; extra names or numbers of more groups. The
 * files below root_fd are the image's and hostile: bounded, never followed out of the root.
 */
int user_resolve(int root_fd, const char *text, const struct strv *extra, struct user *ret,
                 struct err *err);

#endif
