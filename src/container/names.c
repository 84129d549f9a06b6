#include "container/names.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>

int name_lookup(const struct name_value *table, const char *name, uint64_t *ret_value)
{
    for (; table->name != NULL; table++) {
        if (strcmp(table->name, name) == 0) {
            *ret_value = table->value;
            return 0;
        }
    }
    return -ENOENT;
}

const char *name_of_value(const struct name_value *table, uint64_t value)
{
    for (; table->name != NULL; table++) {
        if (table->value == value) {
            return table->name;
        }
    }
    return NULL;
}

#define ROW(constant)                                                                              \
    {                                                                                              \
#constant, (uint64_t)(constant)                                                            \
    }

const struct name_value capability_names[] = {
    ROW(CAP_CHOWN),
    ROW(CAP_DAC_OVERRIDE),
    ROW(CAP_DAC_READ_SEARCH),
    ROW(CAP_FOWNER),
    ROW(CAP_FSETID),
    ROW(CAP_KILL),
    ROW(CAP_SETGID),
    ROW(CAP_SETUID),
    ROW(CAP_SETPCAP),
    ROW(CAP_LINUX_IMMUTABLE),
    ROW(CAP_NET_BIND_SERVICE),
    ROW(CAP_NET_BROADCAST),
    ROW(CAP_NET_ADMIN),
    ROW(CAP_NET_RAW),
    ROW(CAP_IPC_LOCK),
    ROW(CAP_IPC_OWNER),
    ROW(CAP_SYS_MODULE),
    ROW(CAP_SYS_RAWIO),
    ROW(CAP_SYS_CHROOT),
    ROW(CAP_SYS_PTRACE),
    ROW(CAP_SYS_PACCT),
    ROW(CAP_SYS_ADMIN),
    ROW(CAP_SYS_BOOT),
    ROW(CAP_SYS_NICE),
    ROW(CAP_SYS_RESOURCE),
    ROW(CAP_SYS_TIME),
    ROW(CAP_SYS_TTY_CONFIG),
    ROW(CAP_MKNOD),
    ROW(CAP_LEASE),
    ROW(CAP_AUDIT_WRITE),
    ROW(CAP_AUDIT_CONTROL),
    ROW(CAP_SETFCAP),
    ROW(CAP_MAC_OVERRIDE),
    ROW(CAP_MAC_ADMIN),
    ROW(CAP_SYSLOG),
    ROW(CAP_WAKE_ALARM),
    ROW(CAP_BLOCK_SUSPEND),
    ROW(CAP_AUDIT_READ),
    ROW(CAP_PERFMON),
    ROW(CAP_BPF),
    ROW(CAP_CHECKPOINT_RESTORE),
    {0},
};

const struct name_value rlimit_names[] = {
    ROW(RLIMIT_AS),
    ROW(RLIMIT_CORE),
    ROW(RLIMIT_CPU),
    ROW(RLIMIT_DATA),
    ROW(RLIMIT_FSIZE),
    ROW(RLIMIT_LOCKS),
    ROW(RLIMIT_MEMLOCK),
    ROW(RLIMIT_MSGQUEUE),
    ROW(RLIMIT_NICE),
    ROW(RLIMIT_NOFILE),
    ROW(RLIMIT_NPROC),
    ROW(RLIMIT_RSS),
    ROW(RLIMIT_RTPRIO),
    ROW(RLIMIT_RTTIME),
    ROW(RLIMIT_SIGPENDING),
    ROW(RLIMIT_STACK),
    {0},
};

/* Values of linux/sched.h; glibc has no name for all of them. */
const struct name_value scheduler_policy_names[] = {
    {"SCHED_OTHER", 0}, {"SCHED_FIFO", 1}, {"SCHED_RR", 2},       {"SCHED_BATCH", 3},
    {"SCHED_ISO", 4},   {"SCHED_IDLE", 5}, {"SCHED_DEADLINE", 6}, {0},
};

const struct name_value scheduler_flag_names[] = {
    {"SCHED_FLAG_RESET_ON_FORK", 0x01},  {"SCHED_FLAG_RECLAIM", 0x02},
    {"SCHED_FLAG_DL_OVERRUN", 0x04},     {"SCHED_FLAG_KEEP_POLICY", 0x08},
    {"SCHED_FLAG_KEEP_PARAMS", 0x10},    {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
    {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40}, {0},
};

const struct name_value io_class_names[] = {
    {"IOPRIO_CLASS_RT", 1},
    {"IOPRIO_CLASS_BE", 2},
    {"IOPRIO_CLASS_IDLE", 3},
    {0},
};

const struct name_value seccomp_action_names[] = {
    ROW(SCMP_ACT_KILL),
    ROW(SCMP_ACT_KILL_PROCESS),
    ROW(SCMP_ACT_KILL_THREAD),
    ROW(SCMP_ACT_TRAP),
    {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0U)},
    {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0U)},
    ROW(SCMP_ACT_ALLOW),
    ROW(SCMP_ACT_LOG),
    ROW(SCMP_ACT_NOTIFY),
    {0},
};

const struct name_value seccomp_arch_names[] = {
    ROW(SCMP_ARCH_X86),         ROW(SCMP_ARCH_X86_64),
    ROW(SCMP_ARCH_X32),         ROW(SCMP_ARCH_ARM),
    ROW(SCMP_ARCH_AARCH64),     ROW(SCMP_ARCH_MIPS),
    ROW(SCMP_ARCH_MIPS64),      ROW(SCMP_ARCH_MIPS64N32),
    ROW(SCMP_ARCH_MIPSEL),      ROW(SCMP_ARCH_MIPSEL64),
    ROW(SCMP_ARCH_MIPSEL64N32), ROW(SCMP_ARCH_PPC),
    ROW(SCMP_ARCH_PPC64),       ROW(SCMP_ARCH_PPC64LE),
    ROW(SCMP_ARCH_S390),        ROW(SCMP_ARCH_S390X),
    ROW(SCMP_ARCH_PARISC),      ROW(SCMP_ARCH_PARISC64),
    ROW(SCMP_ARCH_RISCV64),     {0},
};

const struct name_value seccomp_op_names[] = {
    ROW(SCMP_CMP_NE), ROW(SCMP_CMP_LT), ROW(SCMP_CMP_LE),        ROW(SCMP_CMP_EQ),
    ROW(SCMP_CMP_GE), ROW(SCMP_CMP_GT), ROW(SCMP_CMP_MASKED_EQ), {0},
};

const struct name_value seccomp_flag_names[] = {
    ROW(SECCOMP_FILTER_FLAG_TSYNC),
    ROW(SECCOMP_FILTER_FLAG_LOG),
    ROW(SECCOMP_FILTER_FLAG_SPEC_ALLOW),
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 1U << 5},
    {0},
};

const struct name_value personality_names[] = {
    {"LINUX", PER_LINUX},
    {"LINUX32", PER_LINUX32},
    {0},
};

const struct name_value propagation_names[] = {
    {"shared", MS_SHARED},
    {"slave", MS_SLAVE},
    {"private", MS_PRIVATE},
    {"unbindable", MS_UNBINDABLE},
    {"rshared", MS_SHARED | MS_REC},
    {"rslave", MS_SLAVE | MS_REC},
    {"rprivate", MS_PRIVATE | MS_REC},
    {"runbindable", MS_UNBINDABLE | MS_REC},
    {0},
};

const struct namespace_kind namespace_kinds[SPEC_NS_COUNT] = {
    [SPEC_NS_MOUNT] = {"mount", "mnt", CLONE_NEWNS},
    [SPEC_NS_UTS] = {"uts", "uts", CLONE_NEWUTS},
    [SPEC_NS_IPC] = {"ipc", "ipc", CLONE_NEWIPC},
    [SPEC_NS_NETWORK] = {"network", "net", CLONE_NEWNET},
    [SPEC_NS_PID] = {"pid", "pid", CLONE_NEWPID},
    [SPEC_NS_USER] = {"user", "user", CLONE_NEWUSER},
    [SPEC_NS_CGROUP] = {"cgroup", "cgroup", CLONE_NEWCGROUP},
    [SPEC_NS_TIME] = {"time", "time", CLONE_NEWTIME},
};

const char *const hook_kind_names[SPEC_HOOK_KIND_COUNT] = {
    [SPEC_HOOK_PRESTART] = "prestart",
    [SPEC_HOOK_CREATE_RUNTIME] = "createRuntime",
    [SPEC_HOOK_CREATE_CONTAINER] = "createContainer",
    [SPEC_HOOK_START_CONTAINER] = "startContainer",
    [SPEC_HOOK_POSTSTART] = "poststart",
    [SPEC_HOOK_POSTSTOP] = "poststop",
};
