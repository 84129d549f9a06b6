/*
 * cpu_feature.h - names of x86 CPU features and where CPUID reports them (Intel SDM vol. 2, CPUID;
 * AMD APM vol. 3, appendix E). The names are those of /proc/cpuinfo.
 */
#ifndef VMM_CPU_FEATURE_H
#define VMM_CPU_FEATURE_H

#include <stdint.h>

enum cpuid_register {
    CPUID_EAX,
    CPUID_EBX,
    CPUID_ECX,
    CPUID_EDX,
};

struct cpu_feature {
    const char *name;
    uint32_t leaf, subleaf;
    uint8_t reg; /* enum cpuid_register */
    uint8_t bit;
};

/* NULL when the name is none. */
const struct cpu_feature *cpu_feature_find(const char *name);

#endif
