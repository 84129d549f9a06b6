/*
 * hooks.h - programs that the spec wants run at points of a container's life.
 */
#ifndef CONTAINER_HOOKS_H
#define CONTAINER_HOOKS_H

#include "container/spec.h"

struct err;

/*
 * Runs all hooks of a kind in order, the state on their standard input. Stops at the first that
 * fails or overruns its timeout (it is killed).
 */
int hooks_run(const struct spec *spec, enum spec_hook_kind kind, const char *state,
              struct err *err);

#endif
