/*
 * machine_files.h - files of workloads behind the vm wall, for commands that read or write them.
 *
 * bundle is that of a machine that runs (engine/vm_idle.h). What is read is the guest's: it goes
 * through the rules for archives of strangers before anything is made of it.
 */
#ifndef CMD_MACHINE_FILES_H
#define CMD_MACHINE_FILES_H

#include <stdbool.h>

#include "engine/vm_idle.h"

struct err;
struct extract_rules;
struct strv;
struct user;
struct workload;

/* S_IFDIR..., or a negative errno. */
int machine_files_type(const char *bundle, const char *path, bool follow, struct err *err);

/* Writes to fd, or reads from it, as the caller likes; a negative errno with err ends the copy. */
typedef int machine_files_fn(void *data, int fd, struct err *err);

/*
 * words: of engine/files_serve.h, ending with NULL. fn reads what isola-files sends. 0 when both
 * are content.
 */
int machine_files_read(const char *bundle, const char *const words[], bool freeze,
                       machine_files_fn *fn, void *data, struct err *err);
/* fn writes what isola-files takes. */
int machine_files_write(const char *bundle, const char *const words[], machine_files_fn *fn,
                        void *data, struct err *err);

/*
 * Unpacks what a guest sent in answer to a question for name, in the directory dir_fd: all of it
 * lands as name, or below it where that is a directory, and nothing anywhere else. name "": in
 * dir_fd itself. rules says owners and no more; devices are refused.
 */
int machine_files_unpack(int fd, int dir_fd, const char *name, bool is_dir,
                         const struct extract_rules *rules, struct err *err);

/* user_resolve() with the files in the machine; text may be a name. */
int machine_files_user(const char *bundle, const char *text, const struct strv *extra,
                       struct user *ret, struct err *err);

/* Opens the machine of a workload behind this wall: vm_idle_open() after getting ready for it. */
int machine_files_open(struct engine *engine, const struct workload *workload, struct vm_idle *ret,
                       struct err *err);

#endif
