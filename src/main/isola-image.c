/*
 * isola-image - the image commands: everything that parses bytes of strangers.
 */
#include "cmd/image_commands.h"

int main(int argc, char **argv)
{
    return image_main(argc, argv);
}
