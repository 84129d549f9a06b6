/*
 * loader.c - ELF programs for AArch64 (ELF-64, and the ABI supplement for Arm), as Linux loads
 * them.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "user/hwcap.h"
#include "user/user.h"

#define PAGE 4096u
#define SEGMENTS_MAX 64u
#define STACK_SIZE ((size_t)8 << 20)
/* Nobody is told of it, and it takes no memory before it is used. */
#define BRK_ROOM ((uint64_t)256 << 20)
#define ADDRESS_END ((uint64_t)1 << 47)

struct image {
    Elf64_Ehdr header;
    Elf64_Phdr segment[SEGMENTS_MAX];
    char interpreter[PATH_MAX]; /* "": none */
    uint64_t low, high;         /* of the addresses in the file */
    uint64_t bias;              /* what was added to them */
};

static int check_header(const Elf64_Ehdr *h, const char *path, struct err *err)
{
    const char *why = NULL;
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0) {
        why = "is no ELF file";
    } else if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB) {
        why = "e_ident: is not of 64 bits, little endian";
    } else if (h->e_machine != EM_AARCH64) {
        why = "e_machine: is not for AArch64";
    } else if (h->e_type != ET_EXEC && h->e_type != ET_DYN) {
        why = "e_type: is no program";
    } else if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 ||
               h->e_phnum > SEGMENTS_MAX) {
        why = "e_phnum: more segments than 64, or none";
    }
    return why == NULL ? 0 : err_say(err, ENOEXEC, "'%s': %s", path, why);
}

static int check_segment(const Elf64_Phdr *p, uint64_t file_size, const char *path, struct err *err)
{
    const char *why = NULL;
    if (p->p_offset > file_size || p->p_filesz > file_size - p->p_offset) {
        why = "p_offset and p_filesz lie behind the end of the file";
    } else if (p->p_filesz > p->p_memsz) {
        why = "p_filesz is larger than p_memsz";
    } else if (p->p_vaddr >= ADDRESS_END || p->p_memsz > ADDRESS_END - p->p_vaddr) {
        why = "p_vaddr is no address";
    } else if ((p->p_vaddr - p->p_offset) % PAGE != 0) {
        why = "p_offset and p_vaddr lie differently in their pages";
    }
    return why == NULL ? 0 : err_say(err, ENOEXEC, "'%s': a segment's %s", path, why);
}

static int read_exactly(int fd, void *to, size_t len, uint64_t offset)
{
    ssize_t n = pread(fd, to, len, (off_t)offset);
    return n < 0 ? -errno : (size_t)n == len ? 0 : -ENOEXEC;
}

static int read_interpreter(int fd, const Elf64_Phdr *p, struct image *image, const char *path,
                            struct err *err)
{
    if (p->p_filesz < 2 || p->p_filesz > sizeof(image->interpreter) ||
        read_exactly(fd, image->interpreter, p->p_filesz, p->p_offset) < 0 ||
        image->interpreter[p->p_filesz - 1] != '\0') {
        return err_say(err, ENOEXEC, "'%s': PT_INTERP is no path", path);
    }
    return 0;
}

static int read_image(int fd, const char *path, struct image *image, struct err *err)
{
    struct stat st;
    *image = (struct image){.low = UINT64_MAX};
    if (fstat(fd, &st) < 0) {
        return err_set(err, errno, "read '%s'", path);
    }
    int r = read_exactly(fd, &image->header, sizeof(image->header), 0);
    if (r < 0) {
        return err_set(err, -r, "read '%s'", path);
    }
    r = check_header(&image->header, path, err);
    if (r < 0) {
        return r;
    }
    r = read_exactly(fd, image->segment, image->header.e_phnum * sizeof(Elf64_Phdr),
                     image->header.e_phoff);
    if (r < 0) {
        return err_say(err, ENOEXEC, "'%s': e_phoff: the segments lie behind the end", path);
    }
    for (unsigned i = 0; i < image->header.e_phnum && r == 0; i++) {
        const Elf64_Phdr *p = &image->segment[i];
        if (p->p_type == PT_INTERP) {
            r = read_interpreter(fd, p, image, path, err);
        } else if (p->p_type == PT_LOAD) {
            r = check_segment(p, (uint64_t)st.st_size, path, err);
            image->low = MIN(image->low, p->p_vaddr & ~(uint64_t)(PAGE - 1));
            image->high = MAX(image->high, p->p_vaddr + p->p_memsz);
        }
    }
    if (r == 0 && image->high <= image->low) {
        return err_say(err, ENOEXEC, "'%s': has nothing to load", path);
    }
    return r;
}

static int protection(const Elf64_Phdr *p)
{
    return ((p->p_flags & PF_R) != 0 ? PROT_READ : 0) |
           ((p->p_flags & PF_W) != 0 ? PROT_WRITE : 0) | ((p->p_flags & PF_X) != 0 ? PROT_EXEC : 0);
}

/* The file's part, the rest of its last page zeroed, whole pages of zeros behind it. */
static int64_t map_segment(struct user *user, int fd, const Elf64_Phdr *p, uint64_t bias)
{
    uint64_t start = (p->p_vaddr & ~(uint64_t)(PAGE - 1)) + bias;
    uint64_t file_end = p->p_vaddr + p->p_filesz + bias;
    uint64_t end = p->p_vaddr + p->p_memsz + bias;
    int prot = protection(p);
    int64_t r = 0;
    if (p->p_filesz > 0) {
        r = memory_mmap(user, start, file_end - start, prot, MAP_PRIVATE | MAP_FIXED, fd,
                        (int64_t)(p->p_offset & ~(uint64_t)(PAGE - 1)));
    }
    uint64_t zeros = p->p_filesz > 0 ? (file_end + PAGE - 1) & ~(uint64_t)(PAGE - 1) : start;
    if (r >= 0 && p->p_filesz > 0 && end > file_end && (prot & PROT_WRITE) != 0) {
        memset(user_pointer(file_end), 0, zeros - file_end); /* ld.so allocates from what is left */
    }
    if (r >= 0 && end > zeros) {
        r = memory_mmap(user, zeros, end - zeros, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                        0);
    }
    return r < 0 ? r : 0;
}

/* room: bytes behind it that nobody else gets, for brk; given up where there are not so many. */
static int map_image(struct user *user, int fd, const char *path, struct image *image,
                     uint64_t room, struct err *err)
{
    bool fixed = image->header.e_type == ET_EXEC;
    size_t size = (size_t)(image->high - image->low + room);
    void *place = mmap(
        fixed ? user_pointer(image->low) : NULL, size, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (fixed ? MAP_FIXED_NOREPLACE : 0), -1, 0);
    if ((place == MAP_FAILED || (fixed && place != user_pointer(image->low))) && room > 0) {
        if (place != MAP_FAILED) {
            (void)munmap(place, size);
        }
        return map_image(user, fd, path, image, 0, err);
    }
    if (place == MAP_FAILED || (fixed && place != user_pointer(image->low))) {
        return err_set(err, place == MAP_FAILED ? errno : EEXIST,
                       "'%s': get the addresses that it wants", path);
    }
    image->bias = (uint64_t)(uintptr_t)place - image->low;
    if (room > 0) {
        user->brk_reserved = ((uint64_t)(uintptr_t)place + size) & ~(uint64_t)(PAGE - 1);
    }
    for (unsigned i = 0; i < image->header.e_phnum; i++) {
        const Elf64_Phdr *p = &image->segment[i];
        int64_t r = p->p_type == PT_LOAD ? map_segment(user, fd, p, image->bias) : 0;
        if (r < 0) {
            return err_set(err, (int)-r, "map '%s'", path);
        }
    }
    return 0;
}

static int open_interpreter(const struct user *user, const char *path)
{
    char prefixed[PATH_MAX];
    if (user->options->prefix != NULL) {
        int n = snprintf(prefixed, sizeof(prefixed), "%s%s", user->options->prefix, path);
        int fd = n < 0 || (size_t)n >= sizeof(prefixed) ? -1 : open(prefixed, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            return fd;
        }
    }
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* The address where the program's own headers are in memory. */
static uint64_t headers_at(const struct image *image)
{
    for (unsigned i = 0; i < image->header.e_phnum; i++) {
        const Elf64_Phdr *p = &image->segment[i];
        if (p->p_type == PT_LOAD && image->header.e_phoff >= p->p_offset &&
            image->header.e_phoff - p->p_offset < p->p_filesz) {
            return image->header.e_phoff - p->p_offset + p->p_vaddr + image->bias;
        }
    }
    return 0;
}

struct stack {
    uint64_t sp, low;
};

static uint64_t push(struct stack *stack, const void *data, size_t len)
{
    if (stack->sp - stack->low < len + 64) {
        return 0;
    }
    stack->sp -= len;
    memcpy(user_pointer(stack->sp), data, len);
    return stack->sp;
}

static size_t count_words(char **words)
{
    size_t n = 0;
    while (words[n] != NULL) {
        n++;
    }
    return n;
}

/* Strings first, then, aligned, argc, the arrays and the auxiliary vector. */
static int make_stack(struct user *user, const struct image *program, uint64_t base,
                      uint64_t *ret_sp)
{
    void *low = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (low == MAP_FAILED) {
        return -errno;
    }
    struct stack stack = {.low = (uint64_t)(uintptr_t)low};
    stack.sp = stack.low + STACK_SIZE;
    size_t argc = count_words(user->options->argv);
    size_t envc = count_words(user->options->envp);
    unsigned char random[16];
    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        return -EIO;
    }
    uint64_t platform = push(&stack, "aarch64", 8);
    uint64_t random_at = push(&stack, random, sizeof(random));
    uint64_t name = push(&stack, user->options->program, strlen(user->options->program) + 1);
    const struct {
        uint64_t key, value;
    } aux[] = {
        {AT_PHDR, headers_at(program)},
        {AT_PHENT, sizeof(Elf64_Phdr)},
        {AT_PHNUM, program->header.e_phnum},
        {AT_PAGESZ, PAGE},
        {AT_BASE, base},
        {AT_FLAGS, 0},
        {AT_ENTRY, program->header.e_entry + program->bias},
        {AT_UID, getuid()},
        {AT_EUID, geteuid()},
        {AT_GID, getgid()},
        {AT_EGID, getegid()},
        {AT_SECURE, getauxval(AT_SECURE)},
        {AT_CLKTCK, 100},
        {AT_HWCAP, hwcap_value()},
        {AT_HWCAP2, 0},
        {AT_PLATFORM, platform},
        {AT_RANDOM, random_at},
        {AT_EXECFN, name},
        {AT_MINSIGSTKSZ, 5120},
        {AT_NULL, 0},
    };
    size_t words = 1 + argc + 1 + envc + 1 + 2 * COUNT(aux);
    size_t room = 0;
    for (size_t i = 0; i < argc + envc; i++) {
        const char *word = i < argc ? user->options->argv[i] : user->options->envp[i - argc];
        room += strlen(word) + 1;
    }
    if (room + words * 8 > stack.sp - stack.low - 65536) {
        return -E2BIG;
    }
    /* Upwards, and without a gap, as /proc shows them. */
    uint64_t strings = user->arguments = user->arguments_end = stack.sp - room;
    uint64_t sp = (strings - words * 8) & ~(uint64_t)15;
    uint64_t *at = user_pointer(sp);
    *at++ = argc;
    for (size_t i = 0; i < argc + envc + 2; i++) {
        char **list = i <= argc ? user->options->argv : user->options->envp;
        const char *word = list[i <= argc ? i : i - argc - 1];
        *at++ = word == NULL ? 0 : strings;
        if (word != NULL) {
            size_t len = strlen(word) + 1;
            memcpy(user_pointer(strings), word, len);
            strings += len;
        }
        if (i == argc) {
            user->arguments_end = strings;
        }
    }
    memcpy(at, aux, sizeof(aux));
    user->environment_end = strings;
    user->auxv = (uint64_t)(uintptr_t)at;
    user->auxv_end = user->auxv + sizeof(aux);
    user->stack_pointer = sp;
    user->stack_top = stack.low + STACK_SIZE;
    *ret_sp = sp;
    return 0;
}

int loader_load(struct user *user, struct arm64_state *state, struct err *err)
{
    struct image program;
    struct image interpreter;
    const char *path = user->options->program;
    int r = read_image(user->program_fd, path, &program, err);
    r = r < 0 ? r : map_image(user, user->program_fd, path, &program, BRK_ROOM, err);
    if (r < 0) {
        return r;
    }
    uint64_t base = 0;
    state->pc = program.header.e_entry + program.bias;
    user->brk_start = user->brk = (program.high + program.bias + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    if (program.interpreter[0] != '\0') {
        AUTO(closep) int fd = open_interpreter(user, program.interpreter);
        if (fd < 0) {
            return err_set(err, errno, "open '%s', the interpreter of '%s'", program.interpreter,
                           path);
        }
        r = read_image(fd, program.interpreter, &interpreter, err);
        r = r < 0 ? r : map_image(user, fd, program.interpreter, &interpreter, 0, err);
        if (r < 0) {
            return r;
        }
        base = interpreter.bias;
        state->pc = interpreter.header.e_entry + interpreter.bias;
    }
    r = make_stack(user, &program, base, &state->sp);
    return r < 0 ? err_set(err, -r, "make the stack of '%s'", path) : 0;
}
