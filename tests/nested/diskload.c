/*
 * diskload - random reads, writes and flushes of four threads past the caches of a disk, each
 * sector held against what was written last. Usage: diskload DISK OPERATIONS; prints "OPERATIONS
 * done", or what is wrong and where.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SECTOR 512U
#define THREADS 4U
#define SECTORS_MAX 128U /* of one operation: 64 KiB */

/* A part of the disk that nobody else touches. */
struct part {
    pthread_t thread;
    int fd;
    uint64_t first;
    uint32_t sectors;
    unsigned operations;
    uint32_t *written; /* the number of the operation that wrote each sector; 0: none */
    uint32_t seed;
};

static uint32_t next(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void fill(uint8_t *sector, uint64_t number, uint32_t operation)
{
    uint32_t seed = (uint32_t)number * 2654435761u ^ operation * 40503u ^ 1u;
    for (unsigned i = 0; i < SECTOR; i += sizeof(seed)) {
        uint32_t word = next(&seed);
        memcpy(sector + i, &word, sizeof(word));
    }
}

static void fail(const char *what, uint64_t sector)
{
    (void)printf("%s at sector %llu: %s\n", what, (unsigned long long)sector,
                 errno != 0 ? strerror(errno) : "not what was written");
    exit(1);
}

static void check(const struct part *p, uint8_t *data, uint32_t at, uint32_t count)
{
    uint8_t want[SECTOR];
    off_t offset = (off_t)(p->first + at) * SECTOR;
    errno = 0;
    if (pread(p->fd, data, (size_t)count * SECTOR, offset) != (ssize_t)count * SECTOR) {
        fail("read", p->first + at);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (p->written[at + i] != 0) {
            fill(want, p->first + at + i, p->written[at + i]);
            if (memcmp(want, data + (size_t)i * SECTOR, SECTOR) != 0) {
                fail("compare", p->first + at + i);
            }
        }
    }
}

static void change(struct part *p, uint8_t *data, uint32_t at, uint32_t count, uint32_t operation)
{
    for (uint32_t i = 0; i < count; i++) {
        fill(data + (size_t)i * SECTOR, p->first + at + i, operation);
        p->written[at + i] = operation;
    }
    errno = 0;
    if (pwrite(p->fd, data, (size_t)count * SECTOR, (off_t)(p->first + at) * SECTOR) !=
        (ssize_t)count * SECTOR) {
        fail("write", p->first + at);
    }
}

static void *work(void *data)
{
    struct part *p = data;
    void *buffer = NULL;
    if (posix_memalign(&buffer, 4096, (size_t)SECTORS_MAX * SECTOR) != 0) {
        fail("memory", p->first);
    }
    for (uint32_t i = 1; i <= p->operations; i++) {
        uint32_t count = next(&p->seed) % SECTORS_MAX + 1;
        uint32_t at = next(&p->seed) % (p->sectors - count + 1);
        uint32_t what = next(&p->seed) % 16;
        if (what < 8) {
            change(p, buffer, at, count, i);
        } else if (what < 15) {
            check(p, buffer, at, count);
        } else if (fdatasync(p->fd) < 0) {
            fail("flush", p->first);
        }
    }
    for (uint32_t at = 0; at < p->sectors; at += SECTORS_MAX) {
        uint32_t left = p->sectors - at;
        check(p, buffer, at, left < SECTORS_MAX ? left : SECTORS_MAX);
    }
    free(buffer);
    return NULL;
}

int main(int argc, char **argv)
{
    struct part part[THREADS] = {{0}};
    uint64_t bytes = 0;
    int fd = argc == 3 ? open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC) : -1;
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes) < 0) {
        fail("open", 0);
    }
    uint32_t sectors = (uint32_t)(bytes / SECTOR / THREADS);
    unsigned operations = (unsigned)strtoul(argv[2], NULL, 10);
    for (unsigned i = 0; i < THREADS; i++) {
        part[i] = (struct part){
            .fd = fd,
            .first = (uint64_t)i * sectors,
            .sectors = sectors,
            .operations = operations / THREADS,
            .written = calloc(sectors, sizeof(uint32_t)),
            .seed = i + 1,
        };
        if (part[i].written == NULL || pthread_create(&part[i].thread, NULL, work, &part[i]) != 0) {
            fail("start", part[i].first);
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(part[i].thread, NULL);
    }
    (void)printf("%u done\n", operations);
    return 0;
}
