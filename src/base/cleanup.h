/*
 * cleanup.h - scope-bound ownership.
 *
 * A variable declared with AUTO(f) is given to f when its scope ends, on every exit. TAKE_PTR() and
 * TAKE_FD() hand the value over and leave the variable empty. The functions here keep errno, so
 * that a `return -errno` above them reports the right thing.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define AUTO(f) __attribute__((cleanup(f)))

/* Defines free_functionp(type *) for use in AUTO(). The function itself accepts an empty value. */
#define DEFINE_FREEP(type, function)                                                               \
    static inline void function##p(type *p)                                                        \
    {                                                                                              \
        int saved_errno_ = errno;                                                                  \
        function(*p);                                                                              \
        errno = saved_errno_;                                                                      \
    }

/* The same for objects that live in place: f takes a pointer to the object. */
#define DEFINE_DONEP(type, function)                                                               \
    static inline void function##p(type *p)                                                        \
    {                                                                                              \
        int saved_errno_ = errno;                                                                  \
        function(p);                                                                               \
        errno = saved_errno_;                                                                      \
    }

#define TAKE_PTR(p)                                                                                \
    ({                                                                                             \
        __auto_type taken_ = (p);                                                                  \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })

#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int taken_ = (fd);                                                                         \
        (fd) = -1;                                                                                 \
        taken_;                                                                                    \
    })

/* AUTO(freep) char *s */
static inline void freep(void *p)
{
    int saved_errno = errno;
    free(*(void **)p);
    errno = saved_errno;
}

/* Closes fd unless it is negative; keeps errno; returns -1 for `fd = close_fd(fd)`. */
static inline int close_fd(int fd)
{
    if (fd >= 0) {
        int saved_errno = errno;
        (void)close(fd);
        errno = saved_errno;
    }
    return -1;
}

/* AUTO(closep) int fd */
static inline void closep(int *fd)
{
    (void)close_fd(*fd);
}

static inline void fclosep(FILE **f)
{
    if (*f != NULL) {
        int saved_errno = errno;
        (void)fclose(*f);
        errno = saved_errno;
    }
}

static inline void closedirp(DIR **d)
{
    if (*d != NULL) {
        int saved_errno = errno;
        (void)closedir(*d);
        errno = saved_errno;
    }
}

#endif
