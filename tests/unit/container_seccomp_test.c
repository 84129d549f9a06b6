#include "container/bpf_compact.h"

#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "unit.h"

/* Classic BPF as seccomp programs use it. Returns the decision. */
static uint32_t decide(const struct sock_filter *code, size_t count,
                       const struct seccomp_data *data)
{
    uint32_t a = 0;
    for (size_t pc = 0; pc < count; pc++) {
        const struct sock_filter *f = &code[pc];
        bool jump = false;
        switch (f->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            memcpy(&a, (const char *)data + f->k, sizeof(a));
            continue;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= f->k;
            continue;
        case BPF_JMP | BPF_JA:
            pc += f->k;
            continue;
        case BPF_JMP | BPF_JEQ | BPF_K:
            jump = a == f->k;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            jump = a >= f->k;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            jump = a > f->k;
            break;
        case BPF_RET | BPF_K:
            return f->k;
        default:
            ck_abort_msg("instruction %zu: code %#x", pc, f->code);
        }
        pc += jump ? f->jt : f->jf;
    }
    ck_abort_msg("the program does not end");
    return 0;
}

static const uint32_t arches[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_AARCH64, 0x1234};

static uint64_t random_argument(void)
{
    static const uint64_t known[] = {0, 1, 2, 40, 0x7e020000, UINT32_MAX, UINT64_MAX, 1ULL << 32};
    return rand() % 3 != 0 ? known[rand() % 8] : (uint64_t)rand() << (rand() % 33);
}

static void check_same(const struct sock_filter *old, size_t old_count,
                       const struct sock_filter *new, size_t new_count)
{
    for (size_t i = 0; i < sizeof(arches) / sizeof(*arches); i++) {
        for (uint32_t n = 0; n < 1400; n++) {
            /* Around 0, the calls of x32, and the very last numbers. */
            uint32_t number = n < 600 ? n : n < 1200 ? 0x40000000 + n - 600 : UINT32_MAX - n + 1200;
            for (int round = 0; round < 12; round++) {
                struct seccomp_data data = {.arch = arches[i], .nr = (int)number};
                for (int j = 0; j < 6; j++) {
                    data.args[j] = random_argument();
                }
                ck_assert_uint_eq(decide(new, new_count, &data), decide(old, old_count, &data));
            }
        }
    }
}

static size_t export_program(scmp_filter_ctx ctx, struct sock_filter *code, size_t size)
{
    AUTO(closep) int fd = memfd_create("bpf", MFD_CLOEXEC);
    ck_assert_int_eq(seccomp_export_bpf(ctx, fd), 0);
    ssize_t len = pread(fd, code, size * sizeof(*code), 0);
    ck_assert_int_gt(len, 0);
    return (size_t)len / sizeof(*code);
}

/* Rules with the shape of an engine's profile: most calls allowed, some by their arguments. */
static scmp_filter_ctx make_profile(unsigned seed)
{
    srand(seed);
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(1));
    ck_assert_int_eq(seccomp_arch_add(ctx, SCMP_ARCH_X86), 0);
    ck_assert_int_eq(seccomp_arch_add(ctx, SCMP_ARCH_X32), 0);
    for (int number = 0; number < 460; number++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, number);
        int call = name != NULL ? seccomp_syscall_resolve_name(name) : __NR_SCMP_ERROR;
        free(name);
        int kind = rand() % 16;
        if (call == __NR_SCMP_ERROR || kind == 0) {
            continue;
        }
        if (kind == 1) {
            (void)seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1,
                                   SCMP_A0(SCMP_CMP_MASKED_EQ, 0x7e020000, 0));
        } else if (kind == 2) {
            (void)seccomp_rule_add(ctx, SCMP_ACT_ERRNO(38), call, 2, SCMP_A1(SCMP_CMP_GT, 40),
                                   SCMP_A0(SCMP_CMP_NE, 2));
        } else {
            (void)seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 0);
        }
    }
    return ctx;
}

START_TEST(a_compact_program_decides_as_the_one_it_was_made_of)
{
    static struct sock_filter code[BPF_MAXINSNS];
    for (unsigned seed = 0; seed < 6; seed++) {
        scmp_filter_ctx ctx = make_profile(seed);
        size_t count = export_program(ctx, code, BPF_MAXINSNS);
        seccomp_release(ctx);
        struct sock_filter *compact = NULL;
        size_t compact_count = 0;
        ck_assert_int_eq(bpf_compact(code, count, &compact, &compact_count), 1);
        ck_assert_uint_lt(compact_count, count);
        check_same(code, count, compact, compact_count);
        free(compact);
    }
}
END_TEST

START_TEST(the_distance_of_a_far_jump_is_kept)
{
    /* Every other number allowed: 1,000 ranges, far more than a byte can jump over. */
    static struct sock_filter code[BPF_MAXINSNS];
    size_t count = 0;
    code[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    for (uint32_t n = 0; n < 500; n++) {
        code[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 2 * n, 0, 1);
        code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        /* Filler that a compact program leaves out. */
        for (int i = 0; i < 3; i++) {
            code[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
        }
    }
    code[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_filter *compact = NULL;
    size_t compact_count = 0;
    ck_assert_int_eq(bpf_compact(code, count, &compact, &compact_count), 1);
    ck_assert_uint_gt(compact_count, 512);
    check_same(code, count, compact, compact_count);
    free(compact);
}
END_TEST

START_TEST(a_program_that_computes_before_its_decision_is_left_as_it_is)
{
    const struct sock_filter computes[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 1),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0), BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_filter leaves[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 9, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_filter *compact = NULL;
    size_t count = 0;
    ck_assert_int_eq(bpf_compact(computes, 5, &compact, &count), 0);
    ck_assert_int_eq(bpf_compact(leaves, 3, &compact, &count), 0);
    ck_assert_int_eq(bpf_compact(leaves, 0, &compact, &count), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_compact_program_decides_as_the_one_it_was_made_of,
        the_distance_of_a_far_jump_is_kept,
        a_program_that_computes_before_its_decision_is_left_as_it_is,
        NULL,
    };
    return unit_run("container_seccomp", tests);
}
