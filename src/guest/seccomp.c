/* seccomp_filter_init() of the agent: the program came with the configuration. See filter.h. */
#include <errno.h>

#include "base/err.h"
#include "base/str.h"
#include "container/guest_filter.h"
#include "container/seccomp_filter.h"

int seccomp_filter_init(struct seccomp_filter *filter, const struct spec *spec, int cache_dir,
                        struct err *err)
{
    (void)cache_dir;
    *filter = (struct seccomp_filter){0};
    for (size_t i = 0; i < spec->annotations.count; i++) {
        const struct spec_pair *pair = &spec->annotations.items[i];
        if (str_eq(pair->name, GUEST_FILTER_ANNOTATION)) {
            int r = guest_filter_decode(pair->value, filter);
            return r < 0 ? err_set(err, -r, "seccomp: read the host's program") : 0;
        }
    }
    /* A profile without its program must not pass for none. */
    return spec->seccomp.set
               ? err_say(err, EINVAL, "linux.seccomp: the host sent no compiled program")
               : 0;
}
