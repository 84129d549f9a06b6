/*
 * gdb_internal.h - shared by gdb*.c only.
 */
#ifndef VMM_GDB_INTERNAL_H
#define VMM_GDB_INTERNAL_H

#include "vmm/cpu.h"
#include "vmm/gdb.h"
#include "vmm/gdb_packet.h"

struct loop_source;

#define GDB_BREAKPOINTS_MAX 256

struct gdb_breakpoint {
    uint64_t address; /* linear; 0 with replaced 0: free */
    bool used;
    uint64_t gpa;     /* where it was put: page tables may change */
    uint8_t replaced; /* what was there */
};

struct gdb {
    struct loop *loop;
    struct machine *machine;
    char *path; /* of a Unix socket */
    int listen_fd;
    struct loop_source *listen_source;
    int fd; /* -1: no debugger */
    struct loop_source *source;
    struct buf in, out;
    size_t sent;
    bool no_ack;
    bool stopped;      /* the debugger was told so, or knows */
    uint32_t selected; /* CPU of 'g', 'm' and others */
    struct cpu_debug debug;
    struct gdb_breakpoint breakpoint[GDB_BREAKPOINTS_MAX];
    struct gdb_packet packet;
};

/* gdb_memory.c: linear addresses of the selected CPU. 0 or -EFAULT; breakpoints are not seen. */
int gdb_memory_read(struct gdb *gdb, uint64_t address, uint8_t *data, size_t len);
int gdb_memory_write(struct gdb *gdb, uint64_t address, const uint8_t *data, size_t len);
/* kind is that of 'Z': 0 software, 1 hardware, 2 write, 4 access. 0 or a negative errno. */
int gdb_breakpoint_set(struct gdb *gdb, unsigned kind, uint64_t address, uint64_t len, bool on);
bool gdb_breakpoint_at(const struct gdb *gdb, uint64_t address);
void gdb_breakpoints_clear(struct gdb *gdb);

#endif
