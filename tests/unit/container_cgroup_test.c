#include "container/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/path.h"
#include "base/str.h"
#include "container/device_bpf.h"
#include "container/seccomp_filter.h"
#include "unit.h"

/* What the emitter uses of the instruction set, run here. Returns the answer. */
static int run_program(const struct bpf_insn *code, size_t count, uint32_t type, uint32_t access,
                       uint32_t major, uint32_t minor)
{
    const uint32_t context[3] = {type | access << 16, major, minor};
    uint64_t reg[8] = {0};
    for (size_t pc = 0, steps = 0; pc < count && steps < 100000; pc++, steps++) {
        const struct bpf_insn *i = &code[pc];
        uint32_t dst = (uint32_t)reg[i->dst_reg];
        switch (i->code) {
        case BPF_LDX | BPF_W | BPF_MEM:
            reg[i->dst_reg] = context[i->off / 4];
            break;
        case BPF_ALU | BPF_MOV | BPF_X:
            reg[i->dst_reg] = (uint32_t)reg[i->src_reg];
            break;
        case BPF_ALU64 | BPF_MOV | BPF_K:
            reg[i->dst_reg] = (uint64_t)i->imm;
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            reg[i->dst_reg] = dst & (uint32_t)i->imm;
            break;
        case BPF_ALU | BPF_RSH | BPF_K:
            reg[i->dst_reg] = dst >> i->imm;
            break;
        case BPF_JMP32 | BPF_JNE | BPF_K:
            pc += dst != (uint32_t)i->imm ? (size_t)i->off : 0;
            break;
        case BPF_JMP32 | BPF_JEQ | BPF_K:
            pc += dst == (uint32_t)i->imm ? (size_t)i->off : 0;
            break;
        case BPF_JMP | BPF_EXIT:
            return (int)reg[0];
        default:
            ck_abort_msg("instruction %zu: code %#x", pc, i->code);
        }
    }
    ck_abort_msg("the program does not end");
    return -1;
}

enum { MKNOD = 1, READ = 2, WRITE = 4, BLOCK = 1, CHAR = 2 };

START_TEST(device_programs_decide_as_the_rules_say)
{
    static const struct spec_device_rule rules[] = {
        {false, 'a', -1, -1, true, true, true},
        {true, 'c', 10, 200, true, false, false},
        {true, 'b', 8, -1, true, true, true},
        {false, 'b', 8, 1, false, true, false},
    };
    static const struct {
        uint32_t type, access, major, minor;
        int want;
    } cases[] = {
        {CHAR, READ, 10, 200, 1},      {CHAR, WRITE, 10, 200, 0}, {CHAR, READ | WRITE, 10, 200, 0},
        {CHAR, READ, 10, 201, 0},      {BLOCK, READ, 10, 200, 0}, {BLOCK, READ | WRITE, 8, 0, 1},
        {BLOCK, READ, 8, 1, 1},        {BLOCK, WRITE, 8, 1, 0},   {BLOCK, READ | WRITE, 8, 1, 0},
        {CHAR, READ | WRITE, 1, 3, 1}, {CHAR, READ, 136, 77, 1},  {CHAR, MKNOD, 99, 99, 1},
        {BLOCK, MKNOD, 99, 99, 1},     {BLOCK, READ, 99, 99, 0},  {CHAR, READ, 1, 1, 0},
    };
    struct bpf_insn *code = NULL;
    size_t count = 0;
    ck_assert_int_eq(device_bpf_build(rules, COUNT(rules), &code, &count), 0);
    for (size_t i = 0; i < COUNT(cases); i++) {
        int got = run_program(code, count, cases[i].type, cases[i].access, cases[i].major,
                              cases[i].minor);
        ck_assert_msg(got == cases[i].want, "case %zu: %d", i, got);
    }
    free(code);
}
END_TEST

START_TEST(a_rule_for_everything_ends_the_program)
{
    static const struct spec_device_rule all = {true, 'a', -1, -1, true, true, true};
    struct bpf_insn *code = NULL;
    size_t count = 0;
    ck_assert_int_eq(device_bpf_build(&all, 1, &code, &count), 0);
    ck_assert_int_eq(run_program(code, count, BLOCK, READ | WRITE, 254, 0), 1);
    ck_assert_uint_lt(count, 80);
    free(code);
}
END_TEST

START_TEST(cgroup_paths_are_absolute_and_never_the_root)
{
    static const struct {
        const char *given;
        const char *want; /* NULL: refused */
    } cases[] = {
        {NULL, "/isola-oci-x"}, {"/a/b", "/a/b"}, {"a/b", "/a/b"},
        {"//a/", "/a"},         {"/", NULL},      {"a:b:c", NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct spec spec = {.cgroups_path = cases[i].given};
        char path[64];
        int r = cgroup_path_for(&spec, "x", path, sizeof(path), NULL);
        ck_assert_int_eq(r == 0, cases[i].want != NULL);
        if (r == 0) {
            ck_assert_str_eq(path, cases[i].want);
        }
    }
}
END_TEST

START_TEST(hierarchies_come_back_from_their_names)
{
    struct cgroup cgroup;
    ck_assert_int_eq(cgroup_init_known(&cgroup, "/x", "cpu,cpuacct memory unified", NULL), 0);
    ck_assert_uint_eq(cgroup.count, 3);
    ck_assert_str_eq(cgroup_find(&cgroup, "cpuacct")->name, "cpu,cpuacct");
    ck_assert_str_eq(cgroup_find(&cgroup, "memory")->name, "memory");
    ck_assert(cgroup_find(&cgroup, "pids")->unified); /* v2 has what no v1 hierarchy has */
    AUTO(freep) char *names = cgroup_names(&cgroup);
    ck_assert_str_eq(names, "cpu,cpuacct memory unified");
    ck_assert_int_eq(cgroup_init_known(&cgroup, "/x", ".", NULL), 0);
    ck_assert(!cgroup_has_v1(&cgroup));
    ck_assert_int_lt(cgroup_init_known(&cgroup, "/x", "a/../../b", NULL), 0);
}
END_TEST

START_TEST(filters_are_compiled_once_and_a_foreign_cache_is_not_read)
{
    static const char text[] =
        "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},\"linux\":{\"namespaces\":[{\"type\":"
        "\"mount\"}],\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":["
        "\"read\",\"no_such\"],\"action\":\"SCMP_ACT_ALLOW\"}]}}}";
    char name[] = "/tmp/isola-seccomp-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(name));
    AUTO(closep) int dir = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(spec_freep) struct spec *spec = NULL;
    ck_assert_int_eq(spec_parse(text, strlen(text), "config.json", &spec, NULL), 0);
    struct seccomp_filter first;
    struct seccomp_filter second;
    ck_assert_int_eq(seccomp_filter_init(&first, spec, dir, NULL), 0);
    ck_assert_int_eq(seccomp_filter_init(&second, spec, dir, NULL), 0);
    ck_assert_uint_gt(first.count, 3);
    ck_assert_uint_eq(first.count, second.count);
    ck_assert_mem_eq(first.code, second.code, first.count * sizeof(*first.code));
    seccomp_filter_done(&second);

    /* The directory belongs to somebody who lets others write: compiled again, not taken. */
    ck_assert_int_eq(fchmodat(dir, ".seccomp", 0777, 0), 0);
    ck_assert_int_eq(seccomp_filter_init(&second, spec, dir, NULL), 0);
    ck_assert_mem_eq(first.code, second.code, first.count * sizeof(*first.code));
    seccomp_filter_done(&first);
    seccomp_filter_done(&second);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, name), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        device_programs_decide_as_the_rules_say,
        a_rule_for_everything_ends_the_program,
        cgroup_paths_are_absolute_and_never_the_root,
        hierarchies_come_back_from_their_names,
        filters_are_compiled_once_and_a_foreign_cache_is_not_read,
        NULL,
    };
    return unit_run("container_cgroup", tests);
}
