/*
 * Device rules of cgroup v2: an eBPF program that the kernel asks about every open and mknod.
 *
 * The context has access_type (device type in the low 16 bits, wanted access in the high ones),
 * major and minor. Rules are tried from the last to the first, and the first that covers the whole
 * request decides; this is what "later rules override earlier ones" means.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "container/cgroup.h"
#include "container/device_bpf.h"

#define INSN(op, dst, src, offset, value)                                                          \
    ((struct bpf_insn){                                                                            \
        .code = (op), .dst_reg = (dst), .src_reg = (src), .off = (offset), .imm = (value)})
#define LOAD_WORD (BPF_LDX | BPF_W | BPF_MEM)
#define MOVE (BPF_ALU | BPF_MOV | BPF_X)
#define MOVE_VALUE (BPF_ALU64 | BPF_MOV | BPF_K)
#define AND_VALUE (BPF_ALU | BPF_AND | BPF_K)
#define SHIFT_RIGHT (BPF_ALU | BPF_RSH | BPF_K)
#define JUMP_NOT_EQUAL (BPF_JMP32 | BPF_JNE | BPF_K)
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

enum { REG_ANSWER, REG_CONTEXT, REG_TYPE, REG_ACCESS, REG_MAJOR, REG_MINOR, REG_TEMP };

#define RULE_INSNS_MAX ((size_t)8)

static size_t emit_head(struct bpf_insn *out)
{
    size_t n = 0;
    out[n++] = INSN(LOAD_WORD, REG_TYPE, REG_CONTEXT, 0, 0);
    out[n++] = INSN(MOVE, REG_ACCESS, REG_TYPE, 0, 0);
    out[n++] = INSN(AND_VALUE, REG_TYPE, 0, 0, 0xffff);
    out[n++] = INSN(SHIFT_RIGHT, REG_ACCESS, 0, 0, 16);
    out[n++] = INSN(LOAD_WORD, REG_MAJOR, REG_CONTEXT, 4, 0);
    out[n++] = INSN(LOAD_WORD, REG_MINOR, REG_CONTEXT, 8, 0);
    return n;
}

/* *ret_always: the rule covers everything, nothing behind it can be reached. */
static size_t emit_rule(const struct spec_device_rule *rule, struct bpf_insn *out, bool *ret_always)
{
    size_t jumps[4];
    size_t jump_count = 0;
    size_t n = 0;
    int32_t access = (rule->mknod ? BPF_DEVCG_ACC_MKNOD : 0) |
                     (rule->read ? BPF_DEVCG_ACC_READ : 0) |
                     (rule->write ? BPF_DEVCG_ACC_WRITE : 0);
    int32_t all = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;
    if (rule->type != 'a') {
        jumps[jump_count++] = n;
        out[n++] = INSN(JUMP_NOT_EQUAL, REG_TYPE, 0, 0,
                        rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    }
    if (access != all) {
        /*
         * An allowance must cover all that is wanted; a denial of anything wanted is enough. The
         * bits that must be absent are kept and compared with none.
         */
        out[n++] = INSN(MOVE, REG_TEMP, REG_ACCESS, 0, 0);
        out[n++] = INSN(AND_VALUE, REG_TEMP, 0, 0, rule->allow ? all & ~access : access);
        jumps[jump_count++] = n;
        out[n++] =
            INSN(rule->allow ? JUMP_NOT_EQUAL : BPF_JMP32 | BPF_JEQ | BPF_K, REG_TEMP, 0, 0, 0);
    }
    if (rule->major >= 0) {
        jumps[jump_count++] = n;
        out[n++] = INSN(JUMP_NOT_EQUAL, REG_MAJOR, 0, 0, (int32_t)rule->major);
    }
    if (rule->minor >= 0) {
        jumps[jump_count++] = n;
        out[n++] = INSN(JUMP_NOT_EQUAL, REG_MINOR, 0, 0, (int32_t)rule->minor);
    }
    out[n++] = INSN(MOVE_VALUE, REG_ANSWER, 0, 0, rule->allow ? 1 : 0);
    out[n++] = EXIT;
    for (size_t i = 0; i < jump_count; i++) {
        out[jumps[i]].off = (int16_t)(n - jumps[i] - 1);
    }
    *ret_always = jump_count == 0;
    return n;
}

int device_bpf_build(const struct spec_device_rule *rules, size_t count, struct bpf_insn **ret_code,
                     size_t *ret_count)
{
    size_t total = count + cgroup_default_device_count;
    struct bpf_insn *code = calloc((total + 2) * RULE_INSNS_MAX, sizeof(*code));
    if (code == NULL) {
        return -ENOMEM;
    }
    size_t n = emit_head(code);
    bool always = false;
    for (size_t i = cgroup_default_device_count; i > 0; i--) {
        n += emit_rule(&cgroup_default_devices[i - 1], code + n, &always);
    }
    for (size_t i = count; i > 0 && !always; i--) {
        n += emit_rule(&rules[i - 1], code + n, &always);
    }
    if (!always) {
        code[n++] = INSN(MOVE_VALUE, REG_ANSWER, 0, 0, 0);
        code[n++] = EXIT;
    }
    *ret_code = code;
    *ret_count = n;
    return 0;
}

int device_bpf_attach(int cgroup_fd, const struct spec_device_rule *rules, size_t count,
                      struct err *err)
{
    struct bpf_insn *code;
    size_t n;
    int r = device_bpf_build(rules, count, &code, &n);
    if (r < 0) {
        return err_set(err, -r, "linux.resources.devices");
    }
    union bpf_attr load;
    memset(&load, 0, sizeof(load));
    load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.insns = (uint64_t)(uintptr_t)code;
    load.insn_cnt = (uint32_t)n;
    load.license = (uint64_t)(uintptr_t) "Apache-2.0";
    AUTO(closep) int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
    int code_errno = errno;
    free(code);
    if (program < 0) {
        return err_set(err, code_errno, "linux.resources.devices: load the eBPF program");
    }
    union bpf_attr attach;
    memset(&attach, 0, sizeof(attach));
    attach.target_fd = (uint32_t)cgroup_fd;
    attach.attach_bpf_fd = (uint32_t)program;
    attach.attach_type = BPF_CGROUP_DEVICE;
    attach.attach_flags = BPF_F_ALLOW_MULTI;
    if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach)) < 0) {
        return err_set(err, errno, "linux.resources.devices: attach the eBPF program");
    }
    return 0;
}
