/*
 * host_call.h - system calls that may wait, and that no signal slips by.
 *
 * A handler of ours only notes the guest's signal. One that comes after the last look for such
 * notes and before the kernel has begun the call would otherwise wait for the call's end: so the
 * handler looks whether the thread stands there, and lets it not begin.
 */
#ifndef USER_HOST_CALL_H
#define USER_HOST_CALL_H

#include <stdatomic.h>
#include <stdint.h>

/* Not begun: there are signals to deliver first. The kernel's own number for it. */
#define HOST_CALL_AGAIN (-512)

/* What the kernel returns, or HOST_CALL_AGAIN when *pending is or becomes other than 0. */
int64_t host_call(long number, const uint64_t args[6], const _Atomic uint64_t *pending);

/* For the handler, with the context that the kernel gave it: changed where the call was not begun.
 */
void host_call_interrupt(void *ucontext);

#endif
