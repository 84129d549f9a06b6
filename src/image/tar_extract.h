/*
 * tar_extract.h - a tar archive made into files below one directory, whatever its names say.
 *
 * Every parent directory is opened part by part without following links; a link on the way is
 * resolved inside the root. Every last component is made or replaced without following. An archive
 * can harm the directory that it is unpacked into and nothing else.
 */
#ifndef IMAGE_TAR_EXTRACT_H
#define IMAGE_TAR_EXTRACT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "image/layer_stack.h"
#include "image/tar_reader.h"

struct err;

enum tar_whiteouts {
    TAR_WHITEOUTS_PLAIN,   /* ".wh.x" is a file name like any other (cp, import) */
    TAR_WHITEOUTS_OVERLAY, /* ".wh.x" becomes overlayfs' character device 0:0, ".wh..wh..opq" the
                              opaque attribute: image layers */
};

struct extract_rules {
    enum tar_whiteouts whiteouts;
    bool user_xattrs;    /* opaque is user.overlay.opaque (mounts with userxattr) */
    bool ignore_owner;   /* all files belong to owner_uid:owner_gid */
    bool refuse_devices; /* device nodes are an error; else they are made */
    bool skip_devices;   /* device nodes are left out when mknod() is not permitted */
    uid_t owner_uid;
    gid_t owner_gid;
    const char *rename_top; /* NULL, or the new first component of every name (cp) */
    struct tar_limits limits;
    const struct layer_stack *parent; /* NULL, or the layers below: missing parent directories
                                         look like theirs */
    /* NULL, or called once before parent is looked at: waits until those layers are complete. */
    int (*parent_wait)(void *data, struct err *err);
    void *parent_wait_data;
};

struct extract_result {
    uint64_t entries;
    uint64_t bytes;   /* of file contents */
    bool used_parent; /* the result depends on the layers below */
    uint64_t whiteouts;
};

/* Reads the archive of fd up to its end. path is a directory below root_fd ("." or "" for it). */
int tar_extract(int fd, int root_fd, const char *path, const struct extract_rules *rules,
                struct extract_result *ret, struct err *err);

/* The same from any stream. */
int tar_extract_reader(struct tar_reader *reader, int root_fd, const struct extract_rules *rules,
                       struct extract_result *ret, struct err *err);

#endif
