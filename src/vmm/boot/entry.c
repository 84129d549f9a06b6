/*
 * The CPU's state at a kernel's entry (SDM vol. 3, chapters 3 and 4), and the tables in guest
 * memory that it leans on until the kernel has its own.
 */
#include <string.h>

#include "freestanding/byteorder.h"
#include "vmm/boot/loader.h"
#include "vmm/boot/places.h"

#define CR0_PE 0x1u
#define CR0_ET 0x10u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define RFLAGS_FIXED 0x2u

#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TASK 0x20
#define TASK_LIMIT 0x67

/* Descriptors (SDM vol. 3, 3.4.5): base 0, limit 4 GiB, accessed. */
#define DESCRIPTOR_CODE_32 0x00cf9b000000ffffULL
#define DESCRIPTOR_CODE_64 0x00af9b000000ffffULL
#define DESCRIPTOR_DATA 0x00cf93000000ffffULL
#define DESCRIPTOR_TASK 0x00008b0000000067ULL

#define PAGE_PRESENT_WRITE 0x3u
#define PAGE_LARGE 0x80u
#define TABLE_ENTRIES 512u
#define TABLE_BYTES ((size_t)4096)

static int put_gdt(struct loader *loader, uint64_t code, struct err *err)
{
    const uint64_t entries[] = {0, 0, code, DESCRIPTOR_DATA, DESCRIPTOR_TASK, 0};
    uint8_t raw[sizeof(entries)];
    for (size_t i = 0; i < COUNT(entries); i++) {
        store_le64(raw + i * 8, entries[i]);
    }
    return loader_put(loader, PLACE_GDT, raw, sizeof(raw), err);
}

static void set_segments(struct x86_state *state, bool is_64)
{
    const struct x86_segment data = {
        .limit = UINT32_MAX,
        .selector = SELECTOR_DATA,
        .type = 3,
        .s = 1,
        .present = 1,
        .db = 1,
        .g = 1,
    };
    for (size_t i = 0; i < COUNT(state->segment); i++) {
        state->segment[i] = data;
    }
    struct x86_segment *code = &state->segment[X86_CS];
    code->selector = SELECTOR_CODE;
    code->type = 0xb;
    code->l = is_64;
    code->db = !is_64;
    state->segment[X86_TR] = (struct x86_segment){
        .selector = SELECTOR_TASK, .limit = TASK_LIMIT, .type = 0xb, .present = 1};
    state->segment[X86_LDTR] = (struct x86_segment){.type = 2, .unusable = 1};
    state->gdt = (struct x86_table){.base = PLACE_GDT, .limit = 6 * 8 - 1};
    state->idt = (struct x86_table){0};
}

void boot_enter(const struct boot_entry *entry, struct x86_state *state)
{
    memset(state->reg, 0, sizeof(state->reg));
    state->reg[X86_RAX] = entry->rax;
    state->reg[X86_RBX] = entry->rbx;
    state->reg[X86_RSI] = entry->rsi;
    state->rip = entry->ip;
    state->rflags = RFLAGS_FIXED;
    state->cr0 = CR0_PE | CR0_ET | (entry->is_64 ? CR0_PG : 0);
    state->cr2 = 0;
    state->cr3 = entry->is_64 ? PLACE_PAGES : 0;
    state->cr4 = entry->is_64 ? CR4_PAE : 0;
    state->cr8 = 0;
    state->efer = entry->is_64 ? EFER_LME | EFER_LMA : 0;
    state->run_state = X86_RUNNABLE;
    set_segments(state, entry->is_64);
}

int loader_enter_flat(struct loader *loader, uint64_t ip, struct boot_entry *ret, struct err *err)
{
    ret->is_64 = false;
    ret->ip = ip;
    return put_gdt(loader, DESCRIPTOR_CODE_32, err);
}

/* One table of 512 entries: address and flags of the first, the distance of the others. */
static int put_table(struct loader *loader, uint64_t gpa, unsigned count, uint64_t first,
                     uint64_t step, struct err *err)
{
    uint8_t raw[TABLE_BYTES] = {0};
    for (unsigned i = 0; i < count; i++) {
        store_le64(raw + i * 8, first + i * step);
    }
    return loader_put(loader, gpa, raw, sizeof(raw), err);
}

int loader_enter_long(struct loader *loader, uint64_t ip, struct boot_entry *ret, struct err *err)
{
    const uint64_t large = 2ULL << 20;
    int r =
        put_table(loader, PLACE_PAGES, 1, (PLACE_PAGES + TABLE_BYTES) | PAGE_PRESENT_WRITE, 0, err);
    r = r < 0 ? r
              : put_table(loader, PLACE_PAGES + TABLE_BYTES, PLACE_PAGES_GIB,
                          (PLACE_PAGES + 2 * TABLE_BYTES) | PAGE_PRESENT_WRITE, TABLE_BYTES, err);
    for (unsigned i = 0; i < PLACE_PAGES_GIB && r == 0; i++) {
        uint64_t first = i * large * TABLE_ENTRIES;
        r = put_table(loader, PLACE_PAGES + (2 + i) * TABLE_BYTES, TABLE_ENTRIES,
                      first | PAGE_LARGE | PAGE_PRESENT_WRITE, large, err);
    }
    ret->is_64 = true;
    ret->ip = ip;
    return r < 0 ? r : put_gdt(loader, DESCRIPTOR_CODE_64, err);
}
