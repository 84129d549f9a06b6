/*
 * thread.h - threads with a small stack and a signal mask of their own.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

/*
 * Starts fn(data) with all signals blocked but those in open (0 ends the list; NULL: none) and
 * SIGSYS, by which a filter of system calls speaks. The stack has 256 KiB: for one of the default
 * size the host may take a huge page of 2 MiB, for the few pages that are used. 0 or a negative
 * errno.
 */
int thread_start(pthread_t *ret, void *(*fn)(void *), void *data, const int *open);

#endif
