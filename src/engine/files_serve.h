/*
 * files_serve.h - what isola-files does inside a machine, for commands of the host that read or
 * write a workload's files there (wall/vm.h starts it). The same code works on a container from
 * outside.
 *
 *   type PATH FOLLOW               st_mode of PATH, in octal; FOLLOW is 0 or 1
 *   read PATH FOLLOW [AS]          PATH as a tar archive, its top named AS ("": only what is in it)
 *   export                         the root without what is mounted in it, as a tar archive
 *   write DIR KEEP                 unpacks the archive on standard input in DIR; KEEP 1: with
 * owners diff                           "K/path" and a NUL for each change; K as in layer_stack.h
 *   layer                          the changes as an image layer
 *   user USER[:GROUP] [GROUP...]   "UID GID HOME" and a line for each supplementary group
 *
 * Paths are looked up below the workload's root. An error is one line, "ERRNO text".
 */
#ifndef ENGINE_FILES_SERVE_H
#define ENGINE_FILES_SERVE_H

struct err;

/* Where the agent has mounted the layers, named 0 (the topmost) and up, and what lies over them. */
#define FILES_LAYERS "/run/isola/l"
#define FILES_UPPER "/run/isola/scratch/upper"

/* 0 or a negative errno. root_fd is the workload's root. */
int files_serve(int argc, char **argv, int root_fd, struct err *err);

#endif
