/* isola-oci: the OCI runtime. Root or an ordinary user; keeps no process of its own. */
#include "oci/program.h"

int main(int argc, char **argv)
{
    return oci_main(argc, argv);
}
