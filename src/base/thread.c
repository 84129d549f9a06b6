#include "base/thread.h"

#include <signal.h>
#include <stddef.h>

#define STACK_SIZE ((size_t)256 << 10)

int thread_start(pthread_t *ret, void *(*fn)(void *), void *data, const int *open)
{
    sigset_t blocked;
    sigset_t before;
    pthread_attr_t attr;
    int r = pthread_attr_init(&attr);
    if (r != 0) {
        return -r;
    }
    (void)sigfillset(&blocked);
    (void)sigdelset(&blocked, SIGSYS);
    for (; open != NULL && *open != 0; open++) {
        (void)sigdelset(&blocked, *open);
    }
    (void)pthread_attr_setstacksize(&attr, STACK_SIZE);
    /* A thread begins with the mask of who makes it. */
    (void)pthread_sigmask(SIG_SETMASK, &blocked, &before);
    r = pthread_create(ret, &attr, fn, data);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    return -r;
}
