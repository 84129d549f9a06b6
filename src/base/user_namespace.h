/*
 * user_namespace.h - an ordinary user as root of his own range of ids.
 */
#ifndef BASE_USER_NAMESPACE_H
#define BASE_USER_NAMESPACE_H

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

/*
 * In a user namespace that was just made: its root is who made it, by his ids outside, and there is
 * nobody else. 0 or a negative errno.
 */
int user_namespace_map_self(unsigned uid, unsigned gid);

/*
 * Whether our user namespace owns the network namespace that we are in: then, and only then, root
 * may make bridges in it. false for who is not root.
 */
bool user_owns_network(void);

/*
 * The last of the ids that our user namespace maps without a gap from 0 on. file is "uid_map" or
 * "gid_map". On the host itself UINT32_MAX - 1.
 */
unsigned user_namespace_last_id(const char *file);

/* The range of one user in the text of /etc/subuid: 0, or -ENOENT. For tests, too. */
int user_namespace_range(const char *text, const char *name, unsigned id, unsigned *ret_start,
                         unsigned *ret_count);

/* The own range of the caller, who is not root; file is /etc/subuid or /etc/subgid. */
int user_namespace_own_range(const char *file, unsigned *ret_start, unsigned *ret_count);

#endif
