#include "vmm/jail_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/macros.h"

#define RULES_MAX 96
#define RULE_CODE_MAX 6
/* With those before and behind them. */
#define CODE_MAX (RULES_MAX * RULE_CODE_MAX + 8)
#define X32_BIT 0x40000000u

#define LOAD(member)                                                                               \
    (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define RETURN(action) (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, action)
#define JUMP(test, k, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | (test) | BPF_K, k, yes, no)

/* At most RULE_CODE_MAX. */
static size_t add_rule(struct sock_filter *code, const struct jail_rule *rule)
{
    size_t n = 0;
    if (rule->arg == JAIL_SELF) {
        const struct jail_rule self = {rule->number, 0, UINT32_MAX, (uint32_t)getpid()};
        return add_rule(code, &self);
    }
    if (rule->arg < 0) {
        code[n++] = JUMP(BPF_JEQ, (uint32_t)rule->number, 0, 1);
        code[n++] = RETURN(rule->arg == JAIL_ANY ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | ENOSYS);
        return n;
    }
    /* Several rules may name one call: a failed one goes on with the number loaded again. */
    code[n++] = JUMP(BPF_JEQ, (uint32_t)rule->number, 0, 5);
    code[n++] = (struct sock_filter)BPF_STMT(
        BPF_LD | BPF_W | BPF_ABS,
        (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (size_t)rule->arg));
    code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, rule->mask);
    code[n++] = JUMP(BPF_JEQ, rule->value, 0, 1);
    code[n++] = RETURN(SECCOMP_RET_ALLOW);
    code[n++] = LOAD(nr);
    return n;
}

int jail_filter_install(const struct jail_rule *rules, size_t count, int all_threads)
{
    struct sock_filter code[CODE_MAX];
    size_t n = 0;
    if (count > RULES_MAX) {
        return -E2BIG;
    }
    code[n++] = LOAD(arch);
    code[n++] = JUMP(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0);
    code[n++] = RETURN(SECCOMP_RET_KILL_PROCESS);
    code[n++] = LOAD(nr);
    code[n++] = JUMP(BPF_JGE, X32_BIT, 0, 1);
    code[n++] = RETURN(SECCOMP_RET_KILL_PROCESS);
    for (size_t i = 0; i < count; i++) {
        n += add_rule(code + n, &rules[i]);
    }
    code[n++] = RETURN(SECCOMP_RET_KILL_PROCESS);
    const struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    unsigned flags = all_threads ? SECCOMP_FILTER_FLAG_TSYNC : 0;
    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    return r < 0 ? -errno : r > 0 ? -ESRCH : 0;
}
