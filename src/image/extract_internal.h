/*
 * extract_internal.h - the inside of the unpacking of an archive, for tar_extract.c and
 * extract_*.c.
 *
 * Functions return 0 or a negative errno; err, where there is one, may be set or not.
 */
#ifndef IMAGE_EXTRACT_INTERNAL_H
#define IMAGE_EXTRACT_INTERNAL_H

#include <search.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "image/extract_dir.h"
#include "image/tar_extract.h"

#define WHITEOUT_PREFIX ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_META ".wh..wh."

/* Times of a directory are set when nothing is put into it any more. */
struct directory_time {
    char *real;
    struct timespec mtime;
};

struct extractor {
    const struct extract_rules *rules;
    struct tar_reader *reader;
    struct extract_result result;
    struct extract_dirs dirs;
    struct directory_time *times;
    size_t time_count, time_size;
    struct buf name; /* of the current entry, cleaned */
    struct buf link;
    mode_t umask;
    uid_t euid;
    gid_t egid;
    bool root_opaque;
    void *copied;                     /* tsearch() tree of struct copied_file */
    struct copied_file *copied_first; /* the same as a list */
};

/* tar_extract.c */
/*
 * Without leading slashes, ".", "..", empty parts and trailing slashes; the root is "".
 * -EINVAL when it leads out of the root.
 */
int extract_clean_name(const char *name, struct buf *out);
int extract_rename_top(const struct extractor *x, struct buf *name);
int extract_remember_time(struct extractor *x, const char *real, struct timespec mtime);
/* Parent directory and last part of a cleaned path. */
int extract_open_parent(struct extractor *x, const struct buf *path, bool make,
                        const struct extract_level **ret_level, const char **ret_name,
                        struct err *err);

/* extract_file.c: what is no link. */
/*
 * Takes away what has the name, so that a new file can be made. In a layer a later entry wins; in
 * `cp` a directory stays.
 */
int extract_make_room(struct extractor *x, int dir_fd, const char *name, bool *ret_was_whiteout);
int extract_set_opaque(const struct extractor *x, int fd);
int extract_file(struct extractor *x, int dir_fd, const char *name, const struct tar_entry *entry,
                 struct err *err);
int extract_directory(struct extractor *x, const struct extract_level *level, const char *name,
                      const struct tar_entry *entry);
int extract_root(struct extractor *x, const struct tar_entry *entry);
int extract_special(struct extractor *x, int dir_fd, const char *name,
                    const struct tar_entry *entry, struct err *err);

/* extract_link.c */
int extract_hardlink(struct extractor *x, const struct tar_entry *entry, struct err *err);
int extract_whiteout(struct extractor *x, const struct extract_level *level, const char *name);
/* What hard links brought into directories that this layer has made opaque, before or after the
 * link, goes. */
void extract_drop_hidden(const struct extractor *x);

#endif
