/*
 * entry.c - the first instructions of isola-oci, before those of the C library.
 *
 * A command that a container could see executes itself once more, from a mount that nobody can
 * write to (container/self.h). The C library's start-up costs more than that whole step: dozens of
 * page faults, and CPUID instructions that a hypervisor traps. So the step is taken here, by bare
 * system calls, before there is a C library. Whatever goes wrong is left to self_protect(), which
 * looks again in any case and can report.
 *
 * Nothing here may need relocation, thread-local storage or a function of libc: no pointers in
 * tables, no stack protector, no strcmp().
 */
#include <fcntl.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

void oci_entry_protect(long *stack);

#if defined(__x86_64__)
__asm__(".pushsection .text.oci_entry,\"ax\",@progbits\n"
        ".globl oci_entry\n"
        ".hidden oci_entry\n"
        ".type oci_entry, @function\n"
        "oci_entry:\n"
        "  xorl %ebp, %ebp\n"
        "  movq %rsp, %rdi\n"
        "  call oci_entry_protect\n"
        "  xorl %edx, %edx\n" /* no function of a dynamic loader to call at exit */
        "  jmp _start\n"
        ".size oci_entry, . - oci_entry\n"
        ".popsection\n");

static long raw_call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
__asm__(".pushsection .text.oci_entry,\"ax\",@progbits\n"
        ".globl oci_entry\n"
        ".hidden oci_entry\n"
        ".type oci_entry, %function\n"
        "oci_entry:\n"
        "  mov x29, #0\n"
        "  mov x30, #0\n"
        "  mov x0, sp\n"
        "  bl oci_entry_protect\n"
        "  mov x0, #0\n" /* no function of a dynamic loader to call at exit */
        "  mov x30, #0\n"
        "  b _start\n"
        ".size oci_entry, . - oci_entry\n"
        ".popsection\n");

static long raw_call(long number, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#else
#error "meson.build takes this file for x86_64 and aarch64 only"
#endif

static bool is_word(const char *text, const char *word)
{
    size_t i = 0;
    while (text[i] != '\0' && text[i] == word[i]) {
        i++;
    }
    return text[i] == word[i];
}

/* Commands whose process the container sees; a word too many costs an exec and nothing else. */
static bool needs_protection(long argc, char *const *argv)
{
    for (long i = 1; i < argc; i++) {
        if (is_word(argv[i], "run") || is_word(argv[i], "create") || is_word(argv[i], "exec")) {
            return true;
        }
    }
    return false;
}

void oci_entry_protect(long *stack)
{
    const char *const self = "/proc/self/exe";
    long argc = stack[0];
    char *const *argv = (char *const *)(stack + 1);
    char *const *envp = argv + argc + 1;
    struct statfs fs;
    if (argc < 2 || !needs_protection(argc, argv) ||
        raw_call(SYS_statfs, (long)self, (long)&fs, 0, 0, 0) < 0 || (fs.f_flags & ST_RDONLY) != 0) {
        return;
    }
    long fd = raw_call(SYS_open_tree, AT_FDCWD, (long)self, OPEN_TREE_CLONE | O_CLOEXEC, 0, 0);
    if (fd < 0) {
        return;
    }
    struct mount_attr attr;
    attr.attr_set = MOUNT_ATTR_RDONLY;
    attr.attr_clr = 0;
    attr.propagation = 0;
    attr.userns_fd = 0;
    if (raw_call(SYS_mount_setattr, fd, (long)"", AT_EMPTY_PATH, (long)&attr, sizeof(attr)) == 0) {
        (void)raw_call(SYS_execveat, fd, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH);
    }
    (void)raw_call(SYS_close, fd, 0, 0, 0, 0);
}
