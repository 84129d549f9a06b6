/*
 * rootless.h - the engine of an ordinary user: the user namespace that all his processes share.
 *
 * RUN/userns/ has an empty file PID-START for each process that may keep the namespace alive:
 * commands while they run, shims as long as their workloads. The next command joins the namespace
 * of any that lives and makes a new one only when none does. See docs/rootless.md.
 */
#ifndef ENGINE_ROOTLESS_H
#define ENGINE_ROOTLESS_H

struct dirs;
struct err;

/*
 * For an ordinary user: makes the caller, who must have one thread, root of his own ids in the
 * user's namespace, in a mount namespace of its own, and sets ISOLA_ROOT and ISOLA_RUN, since the
 * defaults are others for root. For root nothing, but that a command started inside such a
 * namespace (by a shim) is noted.
 */
int rootless_enter(const struct dirs *dirs, struct err *err);

/* Notes the calling process in RUN/userns, if that exists: a shim before it is executed. */
void rootless_note(const char *run);

#endif
