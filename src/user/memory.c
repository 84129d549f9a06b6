/*
 * memory.c - the guest's mappings are the host's, but for the right to execute.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/macros.h"
#include "user/user.h"

#define PAGE 4096u
#define BRK_MAX ((uint64_t)1 << 32)

static uint64_t whole_pages(uint64_t len)
{
    return (len + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

/* The host maps what the guest executes readable: translating reads it. */
static int host_protection(int prot)
{
    return (prot & PROT_EXEC) != 0 ? (prot & ~PROT_EXEC) | PROT_READ : prot;
}

/* After the host did it. */
static int64_t note(struct user *user, uint64_t addr, uint64_t len, int prot)
{
    bool had = false;
    int r = pages_set(&user->pages, addr, len, (prot & PROT_EXEC) != 0, &had);
    if (had) {
        (void)emu_file_unmap(user->emu, addr, whole_pages(len)); /* else it costs time alone */
        emu_invalidate(user->emu, addr, whole_pages(len));
    }
    return r;
}

int64_t memory_changed(struct user *user, uint64_t addr, uint64_t len)
{
    return note(user, addr, len, 0);
}

int64_t memory_mmap(struct user *user, uint64_t addr, uint64_t len, int prot, int flags, int fd,
                    int64_t offset)
{
    long at = syscall(SYS_mmap, addr, len, host_protection(prot), flags, fd, offset);
    if (at == -1) {
        return -errno;
    }
    int64_t r = note(user, (uint64_t)at, len, prot);
    if (r == 0 && fd >= 0 && (prot & (PROT_EXEC | PROT_WRITE)) == PROT_EXEC &&
        (flags & MAP_ANONYMOUS) == 0) {
        translations_map(&user->translations, user->emu, fd, (uint64_t)at, len, (uint64_t)offset);
    }
    return r < 0 ? r : at;
}

int64_t memory_munmap(struct user *user, uint64_t addr, uint64_t len)
{
    if (munmap(user_pointer(addr), len) < 0) {
        return -errno;
    }
    return note(user, addr, len, 0);
}

int64_t memory_mprotect(struct user *user, uint64_t addr, uint64_t len, int prot)
{
    if (mprotect(user_pointer(addr), len, host_protection(prot)) < 0) {
        return -errno;
    }
    return note(user, addr, len, prot);
}

int64_t memory_mremap(struct user *user, uint64_t addr, uint64_t old_len, uint64_t len, int flags,
                      uint64_t target)
{
    bool executable = pages_executable(&user->pages, addr, 1);
    long at = syscall(SYS_mremap, addr, old_len, len, flags, target);
    if (at == -1) {
        return -errno;
    }
    int64_t r = note(user, addr, old_len, 0);
    r = r < 0 ? r : note(user, (uint64_t)at, len, executable ? PROT_EXEC : 0);
    return r < 0 ? r : at;
}

static bool map_zeros(uint64_t from, uint64_t to, int prot, int flags)
{
    if (from == to) {
        return true;
    }
    void *at =
        mmap(user_pointer(from), to - from, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (at != MAP_FAILED && at != user_pointer(from)) {
        (void)munmap(at, to - from);
    }
    return at == user_pointer(from);
}

/* As the kernel: where it cannot be, nothing changes. */
static int64_t set_brk(struct user *user, uint64_t addr)
{
    uint64_t now = whole_pages(user->brk);
    uint64_t wanted = whole_pages(addr);
    if (addr < user->brk_start || addr - user->brk_start > BRK_MAX) {
        return (int64_t)user->brk;
    }
    if (wanted > now) {
        uint64_t reserved = MIN(MAX(user->brk_reserved, now), wanted);
        if (!map_zeros(now, reserved, PROT_READ | PROT_WRITE, MAP_FIXED) ||
            !map_zeros(reserved, wanted, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE)) {
            return (int64_t)user->brk;
        }
    } else if (wanted < now) {
        uint64_t reserved = MIN(MAX(user->brk_reserved, wanted), now);
        (void)map_zeros(wanted, reserved, PROT_NONE, MAP_FIXED | MAP_NORESERVE);
        if (reserved < now) {
            (void)munmap(user_pointer(reserved), now - reserved);
        }
    }
    user->brk = addr;
    return (int64_t)user->brk;
}

int64_t memory_brk(struct user *user, uint64_t addr)
{
    (void)pthread_mutex_lock(&user->brk_lock);
    int64_t r = set_brk(user, addr);
    (void)pthread_mutex_unlock(&user->brk_lock);
    return r;
}
