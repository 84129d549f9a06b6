/*
 * lock.h - locks between processes, by flock() on a file.
 *
 * The kernel drops a lock when its holder dies, so no lock outlives kill -9.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <stdbool.h>

enum lock_mode {
    LOCK_SHARED,
    LOCK_EXCLUSIVE,
};

/*
 * Opens (makes) name below dir_fd and locks it. Returns the descriptor, whose close() unlocks, or a
 * negative errno; -EWOULDBLOCK when wait is false and another has it. A lock file may be removed by
 * its exclusive holder: the next locker notices and takes the new file.
 */
int lock_file_at(int dir_fd, const char *name, enum lock_mode mode, bool wait);

#endif
