/*
 * isola-vmm - one virtual machine; see vmm/program.h.
 */
#include "vmm/program.h"

int main(int argc, char **argv)
{
    return vmm_main(argc, argv);
}
