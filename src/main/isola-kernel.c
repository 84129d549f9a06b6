/*
 * isola-kernel - `isola kernel install` and `unpack`: it unpacks kernels, and has the libraries for
 * that.
 */
#include "cmd/kernel_install.h"

int main(int argc, char **argv)
{
    static const struct command *const tables[] = {kernel_install_commands, NULL};
    return command_main("isola", tables, argc, argv);
}
