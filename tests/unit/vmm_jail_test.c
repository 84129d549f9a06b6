/*
 * A device that its guest has taken over: a chip of this test runs an attack when the guest writes
 * to its port, on the CPU's thread or on the loop's; or a server of files that was. Each attack is
 * seen to work without the jail, and to fail or to end the process in it, and most of them also
 * where there is no list of system calls, by what the process cannot reach.
 */
#include "vmm/jail.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/macros.h"
#include "unit.h"
#include "vmm/bus.h"
#include "vmm/disk/uring.h"
#include "vmm/fs/fs_jail.h"
#include "vmm/jail_space.h"
#include "vmm_guests.h"

#define PORT 0x700

/* What an attacker finds in the process, or knows. */
struct prey {
    pid_t victim; /* another process of the same user */
    uint16_t tcp_port;
    struct sockaddr_un abstract, named;
    socklen_t abstract_size;
    char file[64]; /* not this machine's */
    char share[64];
    int terminal_fd, namespace_fd;
    void *page;
    int ring_fd; /* of 64 entries */
    struct io_uring_params ring;
};

static int outcome(long r)
{
    if (r < 0) {
        return -errno;
    }
    return 0;
}

static int open_file(const struct prey *prey)
{
    return outcome(open(prey->file, O_RDONLY));
}

static int open_path(const struct prey *prey)
{
    return outcome(openat(AT_FDCWD, prey->file, O_PATH));
}

static int make_file(const struct prey *prey)
{
    (void)prey;
    return outcome(open("/tmp", O_TMPFILE | O_RDWR, 0600));
}

static int open_own_memory(const struct prey *prey)
{
    (void)prey;
    return outcome(open("/proc/self/mem", O_RDWR));
}

static int remove_file(const struct prey *prey)
{
    return outcome(unlink(prey->file));
}

static int connect_tcp(const struct prey *prey)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(prey->tcp_port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return outcome(fd < 0 ? -1 : connect(fd, (struct sockaddr *)&address, sizeof(address)));
}

static int connect_abstract(const struct prey *prey)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return outcome(
        fd < 0 ? -1 : connect(fd, (const struct sockaddr *)&prey->abstract, prey->abstract_size));
}

static int connect_named(const struct prey *prey)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return outcome(
        fd < 0 ? -1 : connect(fd, (const struct sockaddr *)&prey->named, sizeof(prey->named)));
}

static int look_at_processes(const struct prey *prey)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)prey->victim);
    return outcome(open(path, O_RDONLY));
}

static int open_netlink(const struct prey *prey)
{
    (void)prey;
    return outcome(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int trace(const struct prey *prey)
{
    return outcome(ptrace(PTRACE_SEIZE, prey->victim, NULL, NULL));
}

static int read_memory_of(const struct prey *prey)
{
    char byte;
    struct iovec here = {&byte, 1};
    struct iovec there = {prey->page, 1};
    return outcome(process_vm_readv(prey->victim, &here, 1, &there, 1, 0));
}

static int end_child(long pid)
{
    if (pid == 0) {
        _exit(0);
    }
    return outcome(pid);
}

static int old_fork(const struct prey *prey)
{
    (void)prey;
    return end_child(syscall(SYS_fork));
}

static int clone_process(const struct prey *prey)
{
    (void)prey;
    return end_child(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

static int clone3_process(const struct prey *prey)
{
    (void)prey;
    uint64_t arguments[8] = {[4] = SIGCHLD};
    return end_child(syscall(SYS_clone3, arguments, sizeof(arguments)));
}

static int run_program(const struct prey *prey)
{
    (void)prey;
    static char *const words[] = {"true", NULL};
    return outcome(execv("/bin/true", words));
}

static int kill_process(const struct prey *prey)
{
    return outcome(kill(prey->victim, SIGKILL));
}

static int kill_thread(const struct prey *prey)
{
    return outcome(syscall(SYS_tgkill, prey->victim, prey->victim, SIGKILL));
}

/* The owner of a descriptor gets the signal of the owner's choice when there is something to read.
 */
static int own_signal(const struct prey *prey)
{
    return outcome(fcntl(prey->terminal_fd, F_SETOWN, prey->victim));
}

static int map_code(const struct prey *prey)
{
    (void)prey;
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -errno : 0;
}

static int make_code(const struct prey *prey)
{
    return outcome(mprotect(prey->page, 4096, PROT_READ | PROT_EXEC));
}

static int type_for_user(const struct prey *prey)
{
    return outcome(ioctl(prey->terminal_fd, TIOCSTI, "x"));
}

static int mount_files(const struct prey *prey)
{
    (void)prey;
    return outcome(mount("x", "/tmp", "tmpfs", 0, NULL));
}

static int enter_namespace(const struct prey *prey)
{
    return outcome(setns(prey->namespace_fd, 0));
}

static int make_namespace(const struct prey *prey)
{
    (void)prey;
    return outcome(unshare(CLONE_NEWUTS));
}

static int change_owner(const struct prey *prey)
{
    return outcome(chown(prey->file, 1, 1));
}

static int become_dumpable(const struct prey *prey)
{
    (void)prey;
    return outcome(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

/* The loop may be patient or not, and nothing else. */
static int take_the_cpu(const struct prey *prey)
{
    (void)prey;
    const struct sched_param param = {.sched_priority = 1};
    return outcome(sched_setscheduler(0, SCHED_FIFO, &param));
}

static int make_ring(const struct prey *prey)
{
    (void)prey;
    uint32_t params[30] = {0};
    return outcome(syscall(SYS_io_uring_setup, 4, params));
}

static uint32_t *in_ring(void *ring, uint32_t offset)
{
    return (uint32_t *)(void *)((uint8_t *)ring + offset);
}

/* What a ring does is no system call that a filter sees. */
static int make_socket_by_ring(const struct prey *prey)
{
    const struct io_uring_params *p = &prey->ring;
    size_t size = MAX(p->sq_off.array + p->sq_entries * sizeof(uint32_t),
                      p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe));
    void *ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, prey->ring_fd, 0);
    struct io_uring_sqe *sqe = mmap(NULL, p->sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE,
                                    MAP_SHARED, prey->ring_fd, IORING_OFF_SQES);
    if (ring == MAP_FAILED || sqe == MAP_FAILED) {
        return -errno;
    }
    *sqe = (struct io_uring_sqe){
        .opcode = IORING_OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM, .len = 0};
    *in_ring(ring, p->sq_off.array) = 0;
    __atomic_store_n(in_ring(ring, p->sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, prey->ring_fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) {
        return -errno;
    }
    const struct io_uring_cqe *cqe = (void *)in_ring(ring, p->cq_off.cqes);
    return cqe->res < 0 ? cqe->res : 0;
}

#define NEVER                                                                                      \
    1000 /* open to a machine in a container, which has such files only as are its own             \
          */

/* Landlock's version that an attack needs to be refused in a container; 0: the filter suffices. */
static const struct attack {
    const char *name;
    int (*run)(const struct prey *prey);
    int landlock;
    bool may_fail;  /* also without a jail, by the host's settings */
    bool by_filter; /* needs the list of system calls: it is about the process itself */
} attacks[] = {
    {"open a file", open_file, 0, false, false},
    {"open a path", open_path, 0, false, false},
    {"make a file", make_file, 0, false, false},
    {"open its memory", open_own_memory, 0, false, false},
    {"remove a file elsewhere", remove_file, 1, false, false},
    {"change a file's owner", change_owner, 0, false, false},
    {"connect by TCP", connect_tcp, 0, false, false},
    {"connect to an abstract socket", connect_abstract, 6, false, false},
    {"connect to a socket by its name", connect_named, NEVER, false, false},
    {"look at another process", look_at_processes, 0, false, false},
    {"open a netlink socket", open_netlink, 0, false, true},
    {"trace", trace, 0, false, false},
    {"read another's memory", read_memory_of, 0, false, false},
    {"fork", old_fork, 0, false, true},
    {"clone", clone_process, 0, false, true},
    {"clone3", clone3_process, 0, false, true},
    {"run a program", run_program, 0, false, false},
    {"kill", kill_process, 0, false, false},
    {"tgkill", kill_thread, 0, false, false},
    {"own a signal", own_signal, 0, false, true},
    {"map code", map_code, 0, false, true},
    {"make code", make_code, 0, false, true},
    {"type into the terminal", type_for_user, 0, true, true},
    {"mount", mount_files, 0, false, false},
    {"enter a namespace", enter_namespace, 0, false, false},
    {"make a namespace", make_namespace, 0, false, true},
    {"become dumpable", become_dumpable, 0, false, true},
    {"take the CPU for good", take_the_cpu, 0, true, true},
    {"make a ring", make_ring, 0, true, true},
    {"make a socket by a ring", make_socket_by_ring, 0, true, true},
};

enum jail { NO_JAIL, CONTAINED, ALONE };

struct position {
    const struct attack *attack;
    const struct prey *prey;
    int result_fd, bell_fd;
    bool on_loop;
};

static void attack_now(const struct position *p)
{
    int result = p->attack->run(p->prey);
    ssize_t n = write(p->result_fd, &result, sizeof(result));
    _exit(n == (ssize_t)sizeof(result) ? 0 : 1);
}

static void on_port(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct position *p = device;
    (void)offset;
    (void)size;
    (void)value;
    if (!p->on_loop) {
        attack_now(p);
    }
    uint64_t one = 1;
    ck_assert_int_eq(write(p->bell_fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

static uint64_t no_read(void *device, uint64_t offset, unsigned size)
{
    (void)device;
    (void)offset;
    (void)size;
    return 0;
}

static void on_bell(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    attack_now(data);
}

static const struct bus_ops port_ops = {no_read, on_port};

/* The disks' ring, or for the attempt without a jail one like it that may do all. */
static void make_prey_ring(struct prey *prey, struct loop *loop, bool jailed)
{
    struct uring *uring = NULL;
    prey->ring_fd = (int)syscall(SYS_io_uring_setup, 64, &prey->ring);
    if (prey->ring_fd < 0 || !jailed) {
        return; /* some hosts have none */
    }
    (void)close(prey->ring_fd); /* the lowest that is free: the next one has its number */
    ck_assert_int_eq(uring_new(loop, &uring), 0);
    ck_assert(uring_is_native(uring));
}

static void be_taken_over(struct position *p, struct prey *prey, enum jail jail)
{
    struct guest guest;
    struct machine_options options = guest_options();
    struct loop_source *source = NULL;
    options.jail = jail != NO_JAIL;
    guest_open(&guest, &options);
    make_prey_ring(prey, guest.loop, jail != NO_JAIL);
    p->bell_fd = eventfd(0, EFD_CLOEXEC);
    struct bus_range range = {PORT, 1, &port_ops, p, NULL};
    ck_assert_int_eq(bus_add(machine_board(guest.machine)->ports, &range), 0);
    ck_assert_int_eq(loop_add_fd(guest.loop, p->bell_fd, EPOLLIN, on_bell, p, &source), 0);
    guest_load_real(&guest, ring);
    if (jail != NO_JAIL) {
        const struct jail_options options_of[] = {
            [CONTAINED] = {.socket_dir = "/dev"},
            [ALONE] = {.alone = true, .id = jail_space_id(getppid())},
        };
        int r = jail_enter(&options_of[jail], &guest.err);
        ck_assert_msg(r == 0, "%s", err_text(&guest.err));
    }
    guest_start(&guest);
    (void)loop_run(guest.loop);
    _exit(1);
}

static int listen_tcp(uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static int listen_abstract(struct prey *prey)
{
    prey->abstract.sun_family = AF_UNIX;
    int n = snprintf(prey->abstract.sun_path + 1, sizeof(prey->abstract.sun_path) - 1,
                     "isola-jail-test-%d", (int)prey->victim);
    prey->abstract_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&prey->abstract, prey->abstract_size), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    return fd;
}

static int listen_named(struct prey *prey)
{
    prey->named.sun_family = AF_UNIX;
    (void)snprintf(prey->named.sun_path, sizeof(prey->named.sun_path), "/tmp/isola-jail-test-%d",
                   (int)prey->victim);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&prey->named, sizeof(prey->named)), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    return fd;
}

static pid_t start_victim(void)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            (void)pause();
        }
    }
    return pid;
}

#define ENDED (-1000)

/* 0 when the attack succeeded, -errno when it was refused, ENDED when it ended the process.
 * attack_fn makes the attack in a child and writes its result. */
typedef void attack_fn(const struct attack *attack, struct prey *prey, int result_fd, int how);

static int run_attack(const struct attack *attack, attack_fn *fn, int how, bool spaced, bool jailed)
{
    struct prey prey = {0};
    struct err err = ERR_NONE;
    prey.page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    prey.victim = start_victim();
    int tcp = listen_tcp(&prey.tcp_port);
    int abstract = listen_abstract(&prey);
    int named = listen_named(&prey);
    (void)snprintf(prey.file, sizeof(prey.file), "/tmp/isola-jail-test-XXXXXX");
    int file = mkstemp(prey.file);
    ck_assert_int_ge(file, 0);
    (void)snprintf(prey.share, sizeof(prey.share), "/tmp/isola-jail-share-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(prey.share));
    prey.terminal_fd = posix_openpt(O_RDWR | O_NOCTTY);
    prey.namespace_fd = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    int result[2];
    ck_assert_int_eq(pipe2(result, O_CLOEXEC), 0);
    pid_t pid = spaced ? jail_space_fork(&err) : fork();
    ck_assert_msg(pid >= 0, "%s", err_text(&err));
    if (pid == 0) {
        fn(attack, &prey, result[1], how);
        _exit(1);
    }
    (void)close(result[1]);
    int status = 0;
    int got = 0; /* a program that replaced ours says nothing */
    ssize_t n = read(result[0], &got, sizeof(got));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) {
        ck_assert_msg(WTERMSIG(status) == SIGSYS, "%s: signal %d", attack->name, WTERMSIG(status));
        got = ENDED;
    } else {
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                          (n == (ssize_t)sizeof(got) || n == 0),
                      "%s: ended with status 0x%x", attack->name, (unsigned)status);
    }
    if (jailed) {
        ck_assert_msg(waitpid(prey.victim, NULL, WNOHANG) == 0, "%s: the victim is dead",
                      attack->name);
    }
    (void)kill(prey.victim, SIGKILL);
    (void)waitpid(prey.victim, NULL, 0);
    (void)unlink(prey.file);
    (void)unlink(prey.named.sun_path);
    (void)rmdir(prey.share);
    (void)munmap(prey.page, 4096);
    const int fds[] = {tcp, abstract, named, file, prey.terminal_fd, prey.namespace_fd, result[0]};
    for (size_t i = 0; i < COUNT(fds); i++) {
        (void)close(fds[i]);
    }
    return got;
}

#define ON_LOOP 4 /* beside enum jail */

static void attack_from_device(const struct attack *attack, struct prey *prey, int result_fd,
                               int how)
{
    /* What succeeds may change the child's namespaces, never ours. */
    if (geteuid() == 0) {
        ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
        ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    }
    struct position position = {
        .attack = attack, .prey = prey, .result_fd = result_fd, .on_loop = (how & ON_LOOP) != 0};
    be_taken_over(&position, prey, (enum jail)(how & ~ON_LOOP));
}

START_TEST(every_attack_works_where_there_is_no_jail)
{
    for (size_t i = 0; i < COUNT(attacks); i++) {
        int r = run_attack(&attacks[i], attack_from_device, NO_JAIL, false, false);
        (void)fprintf(stderr, "# %s: %d\n", attacks[i].name, r);
        ck_assert_msg(r == 0 || attacks[i].may_fail, "%s: %d", attacks[i].name, r);
    }
}
END_TEST

static void check_refused(enum jail jail, int on_loop)
{
    long abi =
        syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
    for (size_t i = 0; i < COUNT(attacks); i++) {
        if (jail == CONTAINED && attacks[i].landlock > (abi < 0 ? 0 : abi)) {
            continue;
        }
        int r =
            run_attack(&attacks[i], attack_from_device, (int)jail | on_loop, jail == ALONE, true);
        (void)fprintf(stderr, "# jailed: %s: %d\n", attacks[i].name, r);
        ck_assert_msg(r < 0, "%s: succeeds", attacks[i].name);
    }
}

START_TEST(no_attack_works_from_a_cpu_s_thread)
{
    check_refused(CONTAINED, 0);
}
END_TEST

START_TEST(no_attack_works_from_the_loop_s_thread)
{
    check_refused(CONTAINED, ON_LOOP);
}
END_TEST

START_TEST(no_attack_works_from_a_cpu_s_thread_of_a_machine_alone)
{
    check_refused(ALONE, 0);
}
END_TEST

START_TEST(no_attack_works_from_the_loop_s_thread_of_a_machine_alone)
{
    check_refused(ALONE, ON_LOOP);
}
END_TEST

static void tell(int result_fd, int result)
{
    ssize_t n = write(result_fd, &result, sizeof(result));
    _exit(n == (ssize_t)sizeof(result) ? 0 : 1);
}

/* Namespaces, an empty root directory and no capabilities, and nothing else. */
static void attack_from_space(const struct attack *attack, struct prey *prey, int result_fd,
                              int how)
{
    (void)how;
    if (jail_space_enter(jail_space_id(prey->victim), NULL) < 0 || jail_keep_capabilities(0) < 0) {
        _exit(2);
    }
    tell(result_fd, attack->run(prey));
}

START_TEST(what_is_outside_of_the_process_is_out_of_reach_without_a_list_of_system_calls)
{
    for (size_t i = 0; i < COUNT(attacks); i++) {
        if (!attacks[i].by_filter) {
            int r = run_attack(&attacks[i], attack_from_space, 0, true, true);
            (void)fprintf(stderr, "# in space: %s: %d\n", attacks[i].name, r);
            ck_assert_msg(r < 0, "%s: succeeds", attacks[i].name);
        }
    }
}
END_TEST

/* As isola-fs before its first request. how: with a place of its own, or in a container. */
static void attack_from_server(const struct attack *attack, struct prey *prey, int result_fd,
                               int how)
{
    if (how == ALONE && fs_jail_leave_host(NULL) != 1) {
        _exit(2);
    }
    int root = open(prey->share, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || (how == ALONE && fs_jail_set_root(&root, NULL) < 0) ||
        fs_jail_enter(root, NULL) < 0) {
        _exit(3);
    }
    tell(result_fd, attack->run(prey));
}

static void check_server(enum jail jail)
{
    for (size_t i = 0; i < COUNT(attacks); i++) {
        /* Landlock lets a path be held, only not opened; and the container has no foreign ones. */
        if (jail == CONTAINED && attacks[i].run == open_path) {
            continue;
        }
        int r = run_attack(&attacks[i], attack_from_server, (int)jail, jail == ALONE, true);
        (void)fprintf(stderr, "# server: %s: %d\n", attacks[i].name, r);
        ck_assert_msg(r < 0, "%s: succeeds", attacks[i].name);
    }
}

START_TEST(no_attack_works_from_a_server_of_files)
{
    check_server(ALONE);
}
END_TEST

START_TEST(nor_from_one_in_a_container)
{
    check_server(CONTAINED);
}
END_TEST

static void *wait_for_end(void *data)
{
    char byte;
    ssize_t n = read(*(int *)data, &byte, 1);
    (void)n;
    return NULL;
}

START_TEST(a_process_with_threads_is_not_jailed)
{
    int fds[2];
    pthread_t thread;
    struct err err = ERR_NONE;
    const struct jail_options options = {.socket_dir = NULL};
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_end, &fds[0]), 0);
    ck_assert_int_eq(jail_enter(&options, &err), -EINVAL);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* A host whose kernel answers so when it is asked for Landlock. */
static int restrict_files_where_landlock_is(uint32_t answer)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = COUNT(code), .filter = code};
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
            _exit(255);
        }
        _exit(-jail_restrict_files(-1, 0));
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

START_TEST(a_kernel_without_landlock_is_told_from_one_that_refuses_it)
{
    ck_assert_int_eq(restrict_files_where_landlock_is(ENOSYS), 0);
    ck_assert_int_eq(restrict_files_where_landlock_is(EOPNOTSUPP), 0);
    ck_assert_int_eq(restrict_files_where_landlock_is(EPERM), -EPERM);
}
END_TEST

int main(void)
{
    const TTest *const spaces[] = {
        a_kernel_without_landlock_is_told_from_one_that_refuses_it,
        what_is_outside_of_the_process_is_out_of_reach_without_a_list_of_system_calls,
        NULL,
    };
#if defined(__SANITIZE_ADDRESS__)
    /* The sanitizers' runtime leaves no list of system calls. */
    return unit_run("vmm_jail", spaces);
#endif
    /* Not everything works unjailed for an ordinary user. */
    const TTest *const tests[] = {
        spaces[0],
        spaces[1],
        no_attack_works_from_a_server_of_files,
        nor_from_one_in_a_container,
        no_attack_works_from_a_cpu_s_thread,
        no_attack_works_from_the_loop_s_thread,
        no_attack_works_from_a_cpu_s_thread_of_a_machine_alone,
        no_attack_works_from_the_loop_s_thread_of_a_machine_alone,
        a_process_with_threads_is_not_jailed,
        geteuid() == 0 ? every_attack_works_where_there_is_no_jail : NULL,
        NULL,
    };
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        (void)printf("1..0 # SKIP this host has no /dev/kvm\n");
        return 0;
    }
    return unit_run("vmm_jail", tests);
}
