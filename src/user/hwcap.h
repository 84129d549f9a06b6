/*
 * hwcap.h - what the CPU that programs see has beyond the base of v8.0: Linux' names and bits
 * (Documentation/arch/arm64/elf_hwcaps.rst), of AT_HWCAP and of "Features" in /proc/cpuinfo.
 */
#ifndef USER_HWCAP_H
#define USER_HWCAP_H

/* X(bit, name) */
#define HWCAP_LIST(X)                                                                              \
    X(0, fp)                                                                                       \
    X(1, asimd)                                                                                    \
    X(3, aes)                                                                                      \
    X(4, pmull)                                                                                    \
    X(5, sha1)                                                                                     \
    X(6, sha2)                                                                                     \
    X(7, crc32)                                                                                    \
    X(8, atomics)                                                                                  \
    X(12, asimdrdm)                                                                                \
    X(13, jscvt)                                                                                   \
    X(14, fcma)                                                                                    \
    X(15, lrcpc)                                                                                   \
    X(20, asimddp)

#define HWCAP_BIT(bit, name) | (1ull << (bit))
#define HWCAP_WORD(bit, name) #name " "

#define HWCAP_VALUE (0ull HWCAP_LIST(HWCAP_BIT))
#define HWCAP_NAMES HWCAP_LIST(HWCAP_WORD)

#endif
