#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "engine/user.h"
#include "scratch.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Who is asked for, an empty line, /etc/passwd, an empty line, /etc/group. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(scratch_donep) struct scratch scratch;
    AUTO(user_donep) struct user user = {0};
    AUTO(freep) char *text = fuzz_text(data, len);
    char *parts[3] = {text, text + len, text + len};
    for (int i = 0; i < 2; i++) {
        char *end = strstr(parts[i], "\n\n");
        if (end == NULL) {
            break;
        }
        *end = '\0';
        parts[i + 1] = end + 2;
    }
    scratch_open(&scratch);
    if (mkdirat(scratch.fd, "etc", 0700) < 0) {
        abort();
    }
    scratch_write(&scratch, "etc/passwd", parts[1], strlen(parts[1]));
    scratch_write(&scratch, "etc/group", parts[2], (size_t)(text + len - parts[2]));
    AUTO(strv_donep) struct strv extra = {0};
    if (strv_add(&extra, "staff") < 0) {
        abort();
    }
    bool more = len % 2 != 0;
    if (user_resolve(scratch.fd, parts[0], more ? &extra : NULL, &user, NULL) == 0 &&
        (user.home == NULL || user.home[0] != '/' || user.uid == UINT32_MAX)) {
        abort();
    }
    return 0;
}
