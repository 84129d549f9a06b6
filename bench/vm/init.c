/*
 * init - process 1 of the guests of `bench/run BUILD RUNS vm`. Says that it is there and how long
 * the kernel took, then, with load=io on the command line, reads a disk and moves bytes over a
 * network card between lines that bench/vm/race.c takes the times of, and ends the machine.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define BLOCK ((size_t)4096)
#define DEPTH_MAX 32

/* One write a line: a console may be slow. */
static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    char line[200];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    (void)!write(STDOUT_FILENO, line, (size_t)length);
}

static _Noreturn void leave(void)
{
    say("sample\n");
    (void)usleep(50000); /* the monitor is looked at before it ends */
    say("done\n");
    (void)reboot(RB_AUTOBOOT);
    for (;;) {
        (void)pause();
    }
}

static void need(bool ok, const char *what)
{
    if (!ok) {
        say("failed: %s: %s\n", what, strerror(errno));
        leave();
    }
}

/* /modules/N.ko in the order of N; what a machine has no device for loads all the same. */
static void load_modules(void)
{
    for (int i = 0; i < 100; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "/modules/%02d.ko", i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return;
        }
        (void)syscall(SYS_finit_module, fd, "", 0);
        (void)close(fd);
    }
}

/* The kernel looks for devices behind the back of finit_module(). */
static int open_soon(const char *path, int flags)
{
    for (int i = 0; i < 200; i++) {
        int fd = open(path, flags | O_CLOEXEC);
        if (fd >= 0 || errno != ENOENT) {
            return fd;
        }
        (void)usleep(10000);
    }
    return -1;
}

struct disk {
    int fd;
    uint64_t blocks;
    uint64_t random; /* xorshift */
    aio_context_t context;
    unsigned char *buffer;
    struct iocb cb[DEPTH_MAX];
};

static void submit(struct disk *disk, unsigned slot)
{
    disk->random ^= disk->random << 13;
    disk->random ^= disk->random >> 7;
    disk->random ^= disk->random << 17;
    disk->cb[slot] = (struct iocb){
        .aio_data = slot,
        .aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_fildes = (uint32_t)disk->fd,
        .aio_buf = (uint64_t)(uintptr_t)(disk->buffer + slot * BLOCK),
        .aio_nbytes = BLOCK,
        .aio_offset = (int64_t)(disk->random % disk->blocks * BLOCK),
    };
    struct iocb *cb = &disk->cb[slot];
    need(syscall(SYS_io_submit, disk->context, 1, &cb) == 1, "io_submit");
}

static void read_blocks(struct disk *disk, unsigned depth, unsigned count)
{
    unsigned sent = 0;
    unsigned ended = 0;
    say("begin blk%u %u\n", depth, count);
    while (sent < depth) {
        submit(disk, sent++);
    }
    while (ended < count) {
        struct io_event event[DEPTH_MAX];
        long got = syscall(SYS_io_getevents, disk->context, 1, DEPTH_MAX, event, NULL);
        need(got > 0, "io_getevents");
        for (long i = 0; i < got; i++) {
            need(event[i].res == (int64_t)BLOCK, "read");
            ended++;
            if (sent < count) {
                submit(disk, (unsigned)event[i].data);
                sent++;
            }
        }
    }
    say("end\n");
}

static void bench_disk(void)
{
    struct disk disk = {.random = 0x9e3779b97f4a7c15ULL};
    uint64_t bytes = 0;
    disk.fd = open_soon("/dev/vda", O_RDONLY | O_DIRECT);
    need(disk.fd >= 0, "/dev/vda");
    need(ioctl(disk.fd, BLKGETSIZE64, &bytes) == 0, "size of /dev/vda");
    disk.blocks = bytes / BLOCK;
    disk.buffer = aligned_alloc(BLOCK, DEPTH_MAX * BLOCK);
    need(disk.buffer != NULL && disk.blocks > 0, "buffer");
    need(syscall(SYS_io_setup, DEPTH_MAX, &disk.context) == 0, "io_setup");
    read_blocks(&disk, DEPTH_MAX, 200); /* the caches of guest and monitor */
    read_blocks(&disk, 1, 1000);
    read_blocks(&disk, DEPTH_MAX, 3000);
}

static void set_address(void)
{
    struct ifreq request = {.ifr_name = "eth0"};
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < 200 && ioctl(fd, SIOCGIFINDEX, &request) < 0; i++) {
        (void)usleep(10000);
    }
    address.sin_addr.s_addr = inet_addr(LOAD_GUEST);
    memcpy(&request.ifr_addr, &address, sizeof(address));
    need(ioctl(fd, SIOCSIFADDR, &request) == 0, "address of eth0");
    address.sin_addr.s_addr = inet_addr("255.255.255.0");
    memcpy(&request.ifr_netmask, &address, sizeof(address));
    need(ioctl(fd, SIOCSIFNETMASK, &request) == 0, "netmask of eth0");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    need(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "start eth0");
    (void)close(fd);
}

static int connect_host(char what)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(LOAD_PORT)};
    address.sin_addr.s_addr = inet_addr(LOAD_HOST);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect");
    need(write(fd, &what, 1) == 1, "write");
    return fd;
}

static void bench_network(void)
{
    set_address();
    for (unsigned pass = 0; pass < 2; pass++) { /* the first one warms */
        size_t bytes = pass == 0 ? LOAD_BYTES / 16 : LOAD_BYTES;
        char what = pass == 0 ? LOAD_SEND_LITTLE : LOAD_SEND;
        int fd = connect_host('r');
        say("begin net-send %zu\n", bytes);
        need(load_send(fd, bytes) == 0 && load_receive(fd) == 1, "send");
        say("end\n");
        (void)close(fd);
        fd = connect_host(what);
        say("begin net-receive %zu\n", bytes);
        need(load_receive(fd) == bytes, "receive");
        say("end\n");
        (void)close(fd);
    }
}

int main(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    (void)mkdir("/dev", 0755);
    (void)mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    int console = open("/dev/console", O_RDWR | O_NOCTTY);
    if (console >= 0) {
        (void)dup2(console, STDIN_FILENO);
        (void)dup2(console, STDOUT_FILENO);
        (void)dup2(console, STDERR_FILENO);
    }
    say("init %lld\n", (long long)now.tv_sec * 1000000000LL + now.tv_nsec);
    /* Words of the command line that the kernel does not know are process 1's environment. */
    if (getenv("load") != NULL) {
        load_modules();
        bench_disk();
        bench_network();
    }
    leave();
}
