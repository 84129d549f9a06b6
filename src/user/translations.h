/*
 * translations.h - the directory in which translations of programs and libraries outlive the
 * process.
 *
 * A file of it belongs to one guest file, found by its first page and its size; what is in it is
 * checked against the guest's code where it is used (emu/kept.h). It is executed: so it counts only
 * when it is root's, or of the user that the process has been from its beginning, and nobody else
 * may write it. Nothing here is an error for the guest: what cannot be read or written is
 * translated anew.
 */
#ifndef USER_TRANSLATIONS_H
#define USER_TRANSLATIONS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct emu;

struct translations {
    const char *dir; /* NULL: none */
    uid_t uid;       /* at the beginning */
    dev_t root_device;
    ino_t root_inode;
    pthread_mutex_t lock; /* taken before that of the emu */
    struct translations_file *files;
    size_t count;
};

/* dir: NULL for the default, "none" for none. Lives as long as the process. */
void translations_begin(struct translations *t, const char *dir);
/* Executable memory at [at, at + len) shows the file from offset on. */
void translations_map(struct translations *t, struct emu *emu, int fd, uint64_t at, uint64_t len,
                      uint64_t offset);
/* At the end, or before another program takes the process: what is new goes to the directory. */
void translations_write(struct translations *t, struct emu *emu);

#endif
