/*
 * isola-files - reads and writes a workload's files inside its machine. Started by isola-guest,
 * with the workload's root as descriptor 3; its words are in engine/files_serve.h.
 *
 * It is root of the machine, which is the wall.
 */
#include <stdio.h>

#include "base/err.h"
#include "engine/files_serve.h"

#define ROOT_FD 3

int main(int argc, char **argv)
{
    struct err err = ERR_NONE;
    int r = files_serve(argc - 1, argv + 1, ROOT_FD, &err);
    if (r < 0) {
        (void)fprintf(stderr, "%d %s\n", -r, err_text(&err));
    }
    return r < 0 ? 1 : 0;
}
