/*
 * check.h - order in the house: what exists against what the database says.
 */
#ifndef ENGINE_CHECK_H
#define ENGINE_CHECK_H

#include <stdbool.h>

#include "engine/engine.h"

struct err;
struct strv;

/*
 * Appends one line a finding: runs that ended unnoticed, restarts that nobody waits for, left-over
 * directories, cgroups, containers, links, leases, pins, volumes, broken images. With repair each
 * is mended.
 */
int check_system(struct engine *engine, bool repair, struct strv *findings, struct err *err);

#endif
