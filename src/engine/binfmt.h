/*
 * binfmt.h - the emulator for all programs of the host, by the kernel's binfmt_misc
 * (Documentation/admin-guide/binfmt-misc.rst). Workloads do not need it.
 *
 * Since Linux 6.7 each user namespace has registrations of its own; before, they are the machine's.
 */
#ifndef ENGINE_BINFMT_H
#define ENGINE_BINFMT_H

#include <stdbool.h>

#include "base/str.h"

struct err;

struct binfmt_state {
    bool mounted;      /* binfmt_misc is */
    bool registered;   /* and ours is there */
    bool enabled;      /* neither it nor all of binfmt_misc is switched off */
    char *interpreter; /* NULL when it is not registered */
    char *flags;
    bool at_boot; /* systemd-binfmt(8) will */
};

void binfmt_state_done(struct binfmt_state *state);
DEFINE_DONEP(struct binfmt_state, binfmt_state_done)

/* 0 or a negative errno. */
int binfmt_look(struct binfmt_state *ret, struct err *err);

/*
 * In the place of what is registered under our name. Mounts binfmt_misc where it is not. The
 * program is opened now (flag F): it need not be in the root directory of who executes.
 * credentials: programs have the rights of their files, setuid and so on (flag C), under the
 * emulator. at_boot: also after the next one.
 */
int binfmt_register(const char *program, bool credentials, bool at_boot, struct err *err);

/* -ENOENT: it was not there. */
int binfmt_unregister(struct err *err);

#endif
