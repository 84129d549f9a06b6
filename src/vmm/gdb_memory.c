/*
 * Guest memory as a debugger sees it, and the breakpoints in it.
 */
#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "vmm/gdb_internal.h"
#include "vmm/machine.h"
#include "vmm/memory.h"

#define INT3 0xcc

enum { KIND_SOFTWARE = 0, KIND_HARDWARE = 1, KIND_WRITE = 2, KIND_ACCESS = 4 };

/* DR7's R/W (SDM vol. 3, 18.2.4) */
enum { ON_EXECUTE = 0, ON_WRITE = 1, ON_ACCESS = 3 };

/* Calls fn for each piece that lies in one page. */
typedef int piece_fn(struct gdb *gdb, uint64_t gpa, uint8_t *data, size_t len);

static int each_page(struct gdb *gdb, uint64_t address, uint8_t *data, size_t len, piece_fn *fn)
{
    struct cpu *cpu = machine_cpu(gdb->machine, gdb->selected);
    int r = 0;
    while (r == 0 && len > 0) {
        size_t piece = MIN(len, (size_t)(MEMORY_PAGE - address % MEMORY_PAGE));
        uint64_t gpa = 0;
        r = cpu->ops->translate(cpu, address, &gpa);
        r = r < 0 ? -EFAULT : fn(gdb, gpa, data, piece);
        address += piece;
        data += piece;
        len -= piece;
    }
    return r;
}

/* Exchanges what breakpoints hide: for reading what was replaced is put into data, for writing it
 * is what data says, and INT3 stays in memory. */
static void hide(struct gdb *gdb, uint64_t gpa, uint8_t *data, size_t len, bool write)
{
    for (size_t i = 0; i < GDB_BREAKPOINTS_MAX; i++) {
        struct gdb_breakpoint *b = &gdb->breakpoint[i];
        if (!b->used || b->gpa < gpa || b->gpa - gpa >= len) {
            continue;
        }
        uint8_t *byte = &data[b->gpa - gpa];
        if (write) {
            b->replaced = *byte;
            *byte = INT3;
        } else {
            *byte = b->replaced;
        }
    }
}

static int read_piece(struct gdb *gdb, uint64_t gpa, uint8_t *data, size_t len)
{
    int r = memory_read(machine_memory(gdb->machine), gpa, data, len);
    if (r == 0) {
        hide(gdb, gpa, data, len, false);
    }
    return r;
}

static int write_piece(struct gdb *gdb, uint64_t gpa, uint8_t *data, size_t len)
{
    struct memory *memory = machine_memory(gdb->machine);
    if (memory_at(memory, gpa, len) == NULL) {
        return -EFAULT;
    }
    hide(gdb, gpa, data, len, true);
    return memory_write(memory, gpa, data, len);
}

int gdb_memory_read(struct gdb *gdb, uint64_t address, uint8_t *data, size_t len)
{
    return each_page(gdb, address, data, len, read_piece);
}

int gdb_memory_write(struct gdb *gdb, uint64_t address, const uint8_t *data, size_t len)
{
    uint8_t copy[GDB_PACKET_MAX];
    if (len > sizeof(copy)) {
        return -EFAULT;
    }
    memcpy(copy, data, len);
    return each_page(gdb, address, copy, len, write_piece);
}

static struct gdb_breakpoint *find(struct gdb *gdb, bool used, uint64_t address)
{
    for (size_t i = 0; i < GDB_BREAKPOINTS_MAX; i++) {
        struct gdb_breakpoint *b = &gdb->breakpoint[i];
        if (b->used == used && (!used || b->address == address)) {
            return b;
        }
    }
    return NULL;
}

bool gdb_breakpoint_at(const struct gdb *gdb, uint64_t address)
{
    return find((struct gdb *)(uintptr_t)gdb, true, address) != NULL;
}

static int put_software(struct gdb *gdb, uint64_t address)
{
    static const uint8_t int3 = INT3;
    struct memory *memory = machine_memory(gdb->machine);
    struct cpu *cpu = machine_cpu(gdb->machine, gdb->selected);
    struct gdb_breakpoint *b = find(gdb, false, 0);
    uint64_t gpa = 0;
    uint8_t replaced = 0;
    if (find(gdb, true, address) != NULL) {
        return 0;
    }
    if (b == NULL) {
        return -ENOSPC;
    }
    int r = cpu->ops->translate(cpu, address, &gpa);
    r = r < 0 ? -EFAULT : memory_read(memory, gpa, &replaced, 1);
    r = r < 0 ? r : memory_write(memory, gpa, &int3, 1);
    if (r == 0) {
        *b = (struct gdb_breakpoint){address, true, gpa, replaced};
    }
    return r;
}

/* What the guest wrote there meanwhile stays. */
static void remove_software(struct gdb *gdb, struct gdb_breakpoint *b)
{
    struct memory *memory = machine_memory(gdb->machine);
    uint8_t now = 0;
    b->used = false;
    if (memory_read(memory, b->gpa, &now, 1) == 0 && now == INT3) {
        (void)memory_write(memory, b->gpa, &b->replaced, 1);
    }
}

static int set_watch(struct gdb *gdb, unsigned kind, uint64_t address, uint64_t len, bool on)
{
    uint8_t what = kind == KIND_HARDWARE ? ON_EXECUTE : kind == KIND_WRITE ? ON_WRITE : ON_ACCESS;
    len = kind == KIND_HARDWARE ? 1 : len;
    if ((len != 1 && len != 2 && len != 4 && len != 8) || address % len != 0) {
        return -EINVAL;
    }
    for (size_t i = 0; i < CPU_WATCH_MAX; i++) {
        bool same = gdb->debug.watch[i].len == len && gdb->debug.watch[i].kind == what &&
                    gdb->debug.watch[i].address == address;
        if (on ? gdb->debug.watch[i].len == 0 || same : same) {
            gdb->debug.watch[i].address = address;
            gdb->debug.watch[i].kind = what;
            gdb->debug.watch[i].len = on ? (uint8_t)len : 0;
            return 0;
        }
    }
    return on ? -ENOSPC : 0;
}

int gdb_breakpoint_set(struct gdb *gdb, unsigned kind, uint64_t address, uint64_t len, bool on)
{
    if (kind != KIND_SOFTWARE) {
        return kind == KIND_HARDWARE || kind == KIND_WRITE || kind == KIND_ACCESS
                   ? set_watch(gdb, kind, address, len, on)
                   : -EOPNOTSUPP;
    }
    if (on) {
        return put_software(gdb, address);
    }
    struct gdb_breakpoint *b = find(gdb, true, address);
    if (b != NULL) {
        remove_software(gdb, b);
    }
    return 0;
}

void gdb_breakpoints_clear(struct gdb *gdb)
{
    for (size_t i = 0; i < GDB_BREAKPOINTS_MAX; i++) {
        if (gdb->breakpoint[i].used) {
            remove_software(gdb, &gdb->breakpoint[i]);
        }
    }
    gdb->debug = (struct cpu_debug){0};
}
