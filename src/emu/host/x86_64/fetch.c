#include "emu/fetch.h"

/* In assembler, so that the one instruction that may fault has a name. */
__asm__(".text\n"
        ".globl emu_fetch\n"
        ".type emu_fetch, @function\n"
        "emu_fetch:\n"
        "emu_fetch_load:\n"
        "    movl (%rdi), %eax\n"
        "    movl %eax, (%rsi)\n"
        "    movl $1, %eax\n"
        "    ret\n"
        "emu_fetch_fail:\n"
        "    xorl %eax, %eax\n"
        "    ret\n"
        ".size emu_fetch, . - emu_fetch\n");

extern const uint8_t emu_fetch_load[], emu_fetch_fail[];

uint64_t emu_fetch_failed(uint64_t host_pc)
{
    return host_pc == (uint64_t)(uintptr_t)emu_fetch_load ? (uint64_t)(uintptr_t)emu_fetch_fail : 0;
}
