#include "user/host_call.h"

#include <ucontext.h>

/* From `begin` to the instruction before `end` the call has not begun. */
__asm__(".pushsection .text\n"
        ".globl host_call, host_call_begin, host_call_end, host_call_again\n"
        ".hidden host_call, host_call_begin, host_call_end, host_call_again\n"
        ".type host_call, @function\n"
        "host_call:\n"
        "    endbr64\n"
        "    mov %rdi, %rax\n"
        "    mov %rsi, %rcx\n"
        "    mov %rdx, %r11\n"
        "    mov (%rcx), %rdi\n"
        "    mov 8(%rcx), %rsi\n"
        "    mov 16(%rcx), %rdx\n"
        "    mov 24(%rcx), %r10\n"
        "    mov 32(%rcx), %r8\n"
        "    mov 40(%rcx), %r9\n"
        "host_call_begin:\n"
        "    cmpq $0, (%r11)\n"
        "    jne host_call_again\n"
        "    syscall\n"
        "host_call_end:\n"
        "    ret\n"
        "host_call_again:\n"
        "    mov $-512, %rax\n"
        "    ret\n"
        ".size host_call, . - host_call\n"
        ".popsection\n");

extern const char host_call_begin[], host_call_end[], host_call_again[];

void host_call_interrupt(void *ucontext)
{
    greg_t *rip = &((ucontext_t *)ucontext)->uc_mcontext.gregs[REG_RIP];
    if (*rip >= (greg_t)(uintptr_t)host_call_begin && *rip < (greg_t)(uintptr_t)host_call_end) {
        *rip = (greg_t)(uintptr_t)host_call_again;
    }
}
