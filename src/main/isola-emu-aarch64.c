/*
 * isola-emu-aarch64 - runs a Linux program for AArch64; see user/program.h.
 */
#include "user/program.h"

int main(int argc, char **argv, char **envp)
{
    return user_main(argc, argv, envp);
}
