#include "vmm/cpu_feature.h"

#include <stddef.h>
#include <string.h>

#include "base/macros.h"

#define F1C(n, b)                                                                                  \
    {                                                                                              \
        n, 1, 0, CPUID_ECX, b                                                                      \
    }
#define F1D(n, b)                                                                                  \
    {                                                                                              \
        n, 1, 0, CPUID_EDX, b                                                                      \
    }
#define F7B(n, b)                                                                                  \
    {                                                                                              \
        n, 7, 0, CPUID_EBX, b                                                                      \
    }
#define F7C(n, b)                                                                                  \
    {                                                                                              \
        n, 7, 0, CPUID_ECX, b                                                                      \
    }
#define F7D(n, b)                                                                                  \
    {                                                                                              \
        n, 7, 0, CPUID_EDX, b                                                                      \
    }
#define F71A(n, b)                                                                                 \
    {                                                                                              \
        n, 7, 1, CPUID_EAX, b                                                                      \
    }
#define FE1C(n, b)                                                                                 \
    {                                                                                              \
        n, 0x80000001, 0, CPUID_ECX, b                                                             \
    }
#define FE1D(n, b)                                                                                 \
    {                                                                                              \
        n, 0x80000001, 0, CPUID_EDX, b                                                             \
    }

/* What a user may want to hide: for a migration between hosts, or a guest with a bug. */
static const struct cpu_feature features[] = {
    F1C("pni", 0),
    F1C("pclmulqdq", 1),
    F1C("ssse3", 9),
    F1C("fma", 12),
    F1C("cx16", 13),
    F1C("pcid", 17),
    F1C("sse4_1", 19),
    F1C("sse4_2", 20),
    F1C("x2apic", 21),
    F1C("movbe", 22),
    F1C("popcnt", 23),
    F1C("tsc_deadline_timer", 24),
    F1C("aes", 25),
    F1C("xsave", 26),
    F1C("avx", 28),
    F1C("f16c", 29),
    F1C("rdrand", 30),
    F1D("vme", 1),
    F1D("pse", 3),
    F1D("tsc", 4),
    F1D("mtrr", 12),
    F1D("pge", 13),
    F1D("pat", 16),
    F1D("clflush", 19),
    F1D("mmx", 23),
    F1D("fxsr", 24),
    F1D("sse", 25),
    F1D("sse2", 26),
    F1D("ht", 28),
    F7B("fsgsbase", 0),
    F7B("tsc_adjust", 1),
    F7B("bmi1", 3),
    F7B("hle", 4),
    F7B("avx2", 5),
    F7B("smep", 7),
    F7B("bmi2", 8),
    F7B("erms", 9),
    F7B("invpcid", 10),
    F7B("rtm", 11),
    F7B("mpx", 14),
    F7B("avx512f", 16),
    F7B("avx512dq", 17),
    F7B("rdseed", 18),
    F7B("adx", 19),
    F7B("smap", 20),
    F7B("avx512ifma", 21),
    F7B("clflushopt", 23),
    F7B("clwb", 24),
    F7B("avx512cd", 28),
    F7B("sha_ni", 29),
    F7B("avx512bw", 30),
    F7B("avx512vl", 31),
    F7C("avx512vbmi", 1),
    F7C("umip", 2),
    F7C("pku", 3),
    F7C("avx512_vbmi2", 6),
    F7C("gfni", 8),
    F7C("vaes", 9),
    F7C("vpclmulqdq", 10),
    F7C("avx512_vnni", 11),
    F7C("avx512_bitalg", 12),
    F7C("avx512_vpopcntdq", 14),
    F7C("la57", 16),
    F7C("rdpid", 22),
    F7D("fsrm", 4),
    F7D("amx_bf16", 22),
    F7D("avx512_fp16", 23),
    F7D("amx_tile", 24),
    F7D("amx_int8", 25),
    F7D("arch_capabilities", 29),
    F71A("avx_vnni", 4),
    F71A("avx512_bf16", 5),
    FE1C("lahf_lm", 0),
    FE1C("svm", 2),
    FE1C("abm", 5),
    FE1C("sse4a", 6),
    FE1C("xop", 11),
    FE1C("fma4", 16),
    FE1C("tbm", 21),
    FE1D("syscall", 11),
    FE1D("nx", 20),
    FE1D("pdpe1gb", 26),
    FE1D("rdtscp", 27),
    {"vmx", 1, 0, CPUID_ECX, 5},
};

const struct cpu_feature *cpu_feature_find(const char *name)
{
    for (size_t i = 0; i < COUNT(features); i++) {
        if (strcmp(features[i].name, name) == 0) {
            return &features[i];
        }
    }
    return NULL;
}
