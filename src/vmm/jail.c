#include "vmm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/macros.h"
#include "vmm/jail_filter.h"
#include "vmm/jail_space.h"

/* Newer than Debian 12's header: of ABI 4 and 6. */
#define LANDLOCK_NET_TCP 3ULL /* bind and connect */
#define LANDLOCK_SCOPES 3ULL  /* abstract Unix sockets and signals */

#define LAST_THREAD_NS (200 * NS_PER_MS)
#define LAST_THREAD_TRIES 2000

/* The sanitizers' runtime makes calls of its own at any time: there is no list for that. */
#if defined(__SANITIZE_ADDRESS__)
#define CAN_FILTER 0
#else
#define CAN_FILTER 1
#endif

struct landlock_attributes {
    uint64_t files, net, scoped;
};

/* No mapping of ours is ever to be executed: guests' code runs from guest memory, by KVM. */
#define NO_EXEC(name)                                                                              \
    {                                                                                              \
        SYS_##name, 2, PROT_EXEC, 0                                                                \
    }
#define IOCTL(request)                                                                             \
    {                                                                                              \
        SYS_ioctl, 1, 0xffffffffu, (uint32_t)(request)                                             \
    }

#define FCNTL(command)                                                                             \
    {                                                                                              \
        SYS_fcntl, 1, 0xffffffffu, command                                                         \
    }

#define POLICY(policy)                                                                             \
    {                                                                                              \
        SYS_sched_setscheduler, 1, 0xffffffffu, policy                                             \
    }

/* Running a guest, its registers, and locks; what the C library needs for memory and an end. */
#define CPU_RULES                                                                                  \
    IOCTL(KVM_RUN), IOCTL(KVM_GET_REGS), JAIL_ALLOW(read), JAIL_ALLOW(write), JAIL_ALLOW(futex),   \
        JAIL_ALLOW(rt_sigreturn), JAIL_ALLOW(rt_sigprocmask), {SYS_tgkill, JAIL_SELF, 0, 0},       \
        JAIL_ALLOW(gettid), JAIL_ALLOW(getpid), JAIL_ALLOW(clock_gettime), JAIL_ALLOW(exit),       \
        JAIL_ALLOW(exit_group), NO_EXEC(mmap), NO_EXEC(mprotect), JAIL_ALLOW(munmap),              \
        JAIL_ALLOW(mremap), JAIL_ALLOW(madvise), JAIL_ALLOW(brk), JAIL_ALLOW(sched_yield),         \
        JAIL_ALLOW(restart_syscall), JAIL_ALLOW(rseq), JAIL_ALLOW(timerfd_settime),                \
        JAIL_ALLOW(getrandom), IOCTL(KVM_IRQFD), IOCTL(KVM_SET_GSI_ROUTING), IOCTL(KVM_IOEVENTFD), \
        JAIL_ALLOW(epoll_ctl), JAIL_ALLOW(close), JAIL_ALLOW(eventfd2),                            \
        JAIL_ALLOW(sched_getaffinity), /* malloc() */ /* A driver's features go to its tap, its    \
                                                         reset flushes and closes connections. */  \
        IOCTL(TUNSETOFFLOAD), IOCTL(TUNSETQUEUE), JAIL_ALLOW(readv), JAIL_ALLOW(writev),           \
        JAIL_ALLOW(sendto), JAIL_ALLOW(sendmsg), JAIL_ALLOW(recvfrom), JAIL_ALLOW(shutdown)

static const struct jail_rule cpu_rules[] = {CPU_RULES};

/* The loop, the threads of disks, and what starts the CPUs. */
static const struct jail_rule process_rules[] = {
    CPU_RULES,
    /* threads of CPUs, not processes: all of CLONE_VM, CLONE_THREAD, CLONE_SIGHAND */
    {SYS_clone, 0, 0x00010900u, 0x00010900u},
    {SYS_clone3, JAIL_UNKNOWN, 0, 0}, /* its flags are in memory, where no filter looks */
    JAIL_ALLOW(set_robust_list),
    JAIL_ALLOW(rt_sigaction),
    JAIL_ALLOW(sigaltstack),
    JAIL_ALLOW(epoll_wait),
    JAIL_ALLOW(epoll_pwait),
    POLICY(SCHED_OTHER),
    POLICY(SCHED_BATCH),
    JAIL_ALLOW(poll),
    JAIL_ALLOW(ppoll),
    JAIL_ALLOW(pread64),
    JAIL_ALLOW(pwrite64),
    JAIL_ALLOW(preadv),
    JAIL_ALLOW(pwritev),
    JAIL_ALLOW(preadv2),
    JAIL_ALLOW(pwritev2),
    JAIL_ALLOW(lseek),
    JAIL_ALLOW(fsync),
    JAIL_ALLOW(fdatasync),
    JAIL_ALLOW(fallocate),
    JAIL_ALLOW(ftruncate),
    JAIL_ALLOW(fstat),
    JAIL_ALLOW(newfstatat),
    /* Not F_SETOWN: with it and F_SETSIG signals go to other processes. */
    FCNTL(F_GETFL),
    FCNTL(F_SETFL),
    FCNTL(F_GETFD),
    FCNTL(F_SETFD),
    FCNTL(F_DUPFD_CLOEXEC),
    FCNTL(F_OFD_SETLK),
    FCNTL(F_OFD_GETLK),
    JAIL_ALLOW(io_uring_enter),
    JAIL_ALLOW(recvmsg),
    JAIL_ALLOW(accept4),
    JAIL_ALLOW(getsockopt),
    JAIL_ALLOW(setsockopt),
    {SYS_ioctl, 1, 0xff00u, 0xae00u}, /* all of KVM's, on descriptors of this machine */
    IOCTL(TCGETS),
    IOCTL(TCSETS),
    IOCTL(TCSETSW),
    IOCTL(TIOCGWINSZ),
    IOCTL(FIONREAD),
    JAIL_ALLOW(seccomp), /* threads of CPUs narrow theirs */
    JAIL_ALLOW(sysinfo), /* qsort() of much */
    JAIL_ALLOW(clock_nanosleep),
    JAIL_ALLOW(nanosleep),
};

/* A process that is in a container alone with its machine connects for itself. */
static const struct jail_rule socket_rules[] = {
    JAIL_ALLOW(connect),
    {SYS_socket, 0, 0xffffffffu, AF_UNIX},
    /* Removing the socket at the end; Landlock says where. */
    JAIL_ALLOW(unlink),
    JAIL_ALLOW(unlinkat),
};

int jail_restrict_files(int dir_fd, uint64_t allowed)
{
    long abi =
        syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 0) {
        /* Not in this kernel, or not switched on at its boot. Any other answer is no answer. */
        return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
    }
    struct landlock_attributes attributes = {
        /* All rights of this ABI: 13 since 1, REFER since 2, TRUNCATE since 3, IOCTL_DEV since 5.
         */
        .files = abi >= 5   ? 0xffff
                 : abi >= 3 ? 0x7fff
                 : abi >= 2 ? 0x3fff
                            : 0x1fff,
        .net = abi >= 4 ? LANDLOCK_NET_TCP : 0,
        .scoped = abi >= 6 ? LANDLOCK_SCOPES : 0,
    };
    size_t size = abi >= 6   ? sizeof(attributes)
                  : abi >= 4 ? offsetof(struct landlock_attributes, scoped)
                             : offsetof(struct landlock_attributes, net);
    AUTO(closep) int rules = (int)syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    if (rules < 0) {
        return -errno;
    }
    if (dir_fd >= 0) {
        struct landlock_path_beneath_attr beneath = {
            .allowed_access = allowed & attributes.files,
            .parent_fd = dir_fd,
        };
        if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0) {
            return -errno;
        }
    }
    return syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}

int jail_keep_capabilities(uint64_t kept)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capget, &header, data) < 0) {
        return -errno;
    }
    for (size_t i = 0; i < COUNT(data); i++) {
        data[i].permitted &= (uint32_t)(kept >> (32 * i));
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int jail_restrict_calls(const struct jail_rule *rules, size_t count)
{
    return CAN_FILTER ? jail_filter_install(rules, count, 1) : 0;
}

static int restrict_process(bool sockets)
{
    struct jail_rule rules[COUNT(process_rules) + COUNT(socket_rules)];
    memcpy(rules, process_rules, sizeof(process_rules));
    memcpy(rules + COUNT(process_rules), socket_rules, sizeof(socket_rules));
    return jail_restrict_calls(rules, sockets ? COUNT(rules) : COUNT(process_rules));
}

/*
 * Landlock and capabilities are a thread's own: another one would keep them. One that was joined is
 * gone a moment later, when the kernel has taken it apart.
 */
static int check_alone(void)
{
    const struct timespec wait = {.tv_nsec = LAST_THREAD_NS / LAST_THREAD_TRIES};
    for (int i = 0; unshare(CLONE_THREAD) < 0; i++) {
        if (errno != EINVAL || i == LAST_THREAD_TRIES) {
            return -errno;
        }
        (void)nanosleep(&wait, NULL);
    }
    return 0;
}

int jail_enter(const struct jail_options *options, struct err *err)
{
    const uint64_t sockets = LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                             LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;
    const struct rlimit none = {0, 0};
    int r = check_alone();
    if (r < 0) {
        return err_set(err, -r, "jail a process of more than one thread");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
        setrlimit(RLIMIT_CORE, &none) < 0) {
        return err_set(err, errno, "give up rights");
    }
    AUTO(closep) int dir = -1;
    if (options->socket_dir != NULL) {
        dir = open(options->socket_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0) {
            return err_set(err, errno, "open '%s'", options->socket_dir);
        }
    }
    r = options->alone ? jail_space_enter(options->id, err) : 0;
    if (r < 0) {
        return r;
    }
    /* A new identity forgets both. */
    if (options->alone &&
        (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)) {
        return err_set(err, errno, "give up rights");
    }
    r = jail_restrict_files(dir, sockets);
    if (r < 0) {
        return err_set(err, -r, "restrict files (Landlock)");
    }
    r = jail_keep_capabilities(0);
    r = r < 0 ? r : restrict_process(!options->alone);
    return r < 0 ? err_set(err, -r, "restrict system calls") : 0;
}

int jail_enter_cpu(void)
{
    return CAN_FILTER ? jail_filter_install(cpu_rules, COUNT(cpu_rules), 0) : 0;
}

static size_t count_calls(const struct jail_rule *rules, size_t count)
{
    size_t calls = 0;
    for (size_t i = 0; i < count; i++) {
        bool known = rules[i].arg == JAIL_UNKNOWN;
        for (size_t k = 0; k < i && !known; k++) {
            known = rules[k].number == rules[i].number;
        }
        calls += !known;
    }
    return calls;
}

size_t jail_process_calls(void)
{
    return count_calls(process_rules, COUNT(process_rules)) +
           count_calls(socket_rules, COUNT(socket_rules));
}

size_t jail_cpu_calls(void)
{
    return count_calls(cpu_rules, COUNT(cpu_rules));
}
