/*
 * user_namespace.h - an ordinary user's own range of user ids, so that layers keep their owners.
 */
#ifndef IMAGE_USER_NAMESPACE_H
#define IMAGE_USER_NAMESPACE_H

#include <stdbool.h>

struct err;

/* Whether we are the host's root and not that of a user namespace, nor an ordinary user. */
bool user_is_host_root(void);

/*
 * For an ordinary user: enters a new user namespace in which he is root and his ranges of
 * /etc/subuid and /etc/subgid are the ids from 1 on. Without ranges only he himself is mapped. For
 * root (of any namespace) nothing. The process must have one thread.
 */
int user_namespace_enter(struct err *err);

/* The range of one user in the text of /etc/subuid: 0, or -ENOENT. For tests, too. */
int user_namespace_range(const char *text, const char *name, unsigned id, unsigned *ret_start,
                         unsigned *ret_count);

#endif
