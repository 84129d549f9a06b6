/*
 * dbus.h - a connection to systemd: over the message bus, or straight to its own socket.
 */
#ifndef CONTAINER_DBUS_H
#define CONTAINER_DBUS_H

#include <stdbool.h>

#include "container/dbus_message.h"

struct dbus;
struct err;

/*
 * Connects to the system's manager, or with user to that of the calling user. -ENOTCONN when there
 * is none. On success *ret is the caller's, to give to dbus_close().
 */
int dbus_open(bool user, struct dbus **ret, struct err *err);
/* True when the user's manager has a socket where dbus_open() looks; it may not answer there. */
bool dbus_has_user(void);
void dbus_close(struct dbus *bus);
DEFINE_FREEP(struct dbus *, dbus_close)

/*
 * Calls a method of the manager ("" as interface: org.freedesktop.systemd1.Manager) and waits for
 * the answer. *ret points into the connection and holds until the next call. An error answer is
 * -EPROTO with its text, -ENOENT when it says that there is no such unit.
 */
int dbus_call(struct dbus *bus, const char *interface, const char *member, const char *signature,
              const struct dbus_writer *body, struct dbus_message *ret, struct err *err);

/* Waits until the manager is through with the job, whose result ("done") goes to result. */
int dbus_wait_job(struct dbus *bus, const char *job, char *result, size_t size, struct err *err);

/* The next address of a list such as "unix:path=/run/x,guid=1;unix:abstract=y" as a socket's path,
 * an abstract one with a leading '@'. *list moves on. False at the end; others than unix are passed
 * by. For tests, too. */
bool dbus_next_address(const char **list, char *path, size_t size);

#endif
