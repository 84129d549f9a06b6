/*
 * kvm_probe - is this a KVM that executes? Says so in one line, exit code 0; 1 when it emulates,
 * 2 when there is none.
 */
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "vmm/speed.h"

int main(void)
{
    struct err err = {0};
    int64_t ns = 0;
    int r = speed_check_kvm(-1, &ns, &err);
    if (r == 0) {
        (void)printf("executes: %u instructions in %lld ns\n", SPEED_INSTRUCTIONS, (long long)ns);
        return 0;
    }
    (void)printf("%s\n", err.text);
    return ns > 0 ? 1 : 2;
}
