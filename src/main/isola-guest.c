/*
 * isola-guest - process 1 and agent inside a virtual machine. The kernel starts it as /init.
 *
 * --unix DIR: speaks over Unix sockets in DIR instead of vsock, for a "machine" made of namespaces.
 */
#include <stdio.h>
#include <string.h>

#include "guest/agent.h"

int main(int argc, char **argv)
{
    const char *unix_dir = NULL;
    /* The kernel hands over words of its command line that it does not know: not ours to refuse. */
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--unix") == 0) {
            unix_dir = argv[i + 1];
        }
    }
    return agent_main(unix_dir);
}
