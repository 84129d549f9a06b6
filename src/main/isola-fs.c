#include "vmm/fs/fs_process.h"

int main(int argc, char **argv)
{
    return fs_main(argc, argv);
}
