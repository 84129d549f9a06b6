#include "vmm/boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/macros.h"
#include "kernel_file.h"
#include "unit.h"
#include "vmm/boot/command_line.h"
#include "vmm/layout.h"
#include "vmm/memory.h"

#define MEMORY_SIZE ((uint64_t)64 << 20)
#define RSDP LAYOUT_ACPI

static const struct boot_range ranges[] = {
    {0, LAYOUT_EBDA, 1},
    {LAYOUT_ACPI, LAYOUT_KERNEL - LAYOUT_ACPI, 3},
    {LAYOUT_KERNEL, MEMORY_SIZE - LAYOUT_KERNEL, 1},
};

/* One load, and all that came of it. */
struct machine {
    struct memory *memory;
    struct x86_state *state;
    enum boot_protocol used;
    struct err err;
};

static void machine_done(struct machine *m)
{
    memory_free(m->memory);
    free(m->state);
}
DEFINE_DONEP(struct machine, machine_done)

static struct boot_plan plan_for(int kernel_fd)
{
    return (struct boot_plan){
        .protocol = BOOT_AUTO,
        .kernel_fd = kernel_fd,
        .kernel_name = "k",
        .initrd_fd = -1,
        .initrd_name = "rd",
        .command_line = "console=ttyS0 quiet",
        .rsdp = RSDP,
        .ranges = ranges,
        .range_count = COUNT(ranges),
    };
}

static int load(const struct boot_plan *plan, struct machine *m)
{
    const struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    m->state = calloc(1, sizeof(*m->state));
    ck_assert_ptr_nonnull(m->state);
    /* After reset; whatever is not set for the entry shows. */
    memset(m->state->reg, 0x5a, sizeof(m->state->reg));
    m->state->cr0 = 0x60000010;
    m->state->rip = 0xfff0;
    m->state->run_state = X86_UNINITIALIZED;
    ck_assert_int_eq(memory_new(&options, &m->memory), 0);
    ck_assert_int_eq(memory_add(m->memory, 0, MEMORY_SIZE, &m->err), 0);
    struct boot_entry entry;
    int r = boot_load(plan, m->memory, &entry, &m->err);
    if (r == 0) {
        boot_enter(&entry, m->state);
        m->used = entry.protocol;
    }
    return r;
}

static const uint8_t *at(const struct machine *m, uint64_t gpa, uint64_t len)
{
    const uint8_t *p = memory_at(m->memory, gpa, len);
    ck_assert_ptr_nonnull(p);
    return p;
}

static int load_file(const struct kernel_file *k, enum boot_protocol protocol, struct machine *m)
{
    AUTO(closep) int fd = kernel_file_fd(k->data, k->len);
    struct boot_plan plan = plan_for(fd);
    plan.protocol = protocol;
    return load(&plan, m);
}

static void check_elf_segments(const struct machine *m, const struct kernel_file *k)
{
    ck_assert_mem_eq(at(m, ELF_TEXT_GPA, ELF_TEXT_LEN), k->data + ELF_TEXT_AT, ELF_TEXT_LEN);
    const uint8_t *data = at(m, ELF_DATA_GPA, ELF_DATA_MEMORY);
    ck_assert_mem_eq(data, k->data + ELF_DATA_AT, ELF_DATA_LEN);
    for (size_t i = ELF_DATA_LEN; i < ELF_DATA_MEMORY; i++) {
        ck_assert_uint_eq(data[i], 0);
    }
}

static void check_flat(const struct x86_state *s)
{
    ck_assert_uint_eq(s->cr0, 0x11);
    ck_assert_uint_eq(s->cr4, 0);
    ck_assert_uint_eq(s->efer, 0);
    ck_assert_uint_eq(s->rflags, 2);
    ck_assert_uint_eq(s->run_state, X86_RUNNABLE);
    static const enum x86_segment_name flat[] = {X86_CS, X86_DS, X86_ES, X86_SS, X86_FS, X86_GS};
    for (size_t i = 0; i < COUNT(flat); i++) {
        const struct x86_segment *seg = &s->segment[flat[i]];
        ck_assert_uint_eq(seg->base, 0);
        ck_assert_uint_eq(seg->limit, UINT32_MAX);
        ck_assert(seg->present && seg->g && seg->db && seg->s && !seg->l);
    }
    ck_assert_uint_eq(s->segment[X86_CS].type, 0xb);
    ck_assert_uint_eq(s->segment[X86_DS].type, 3);
    ck_assert_uint_eq(s->segment[X86_TR].limit, 0x67);
    ck_assert_uint_eq(s->segment[X86_TR].type, 0xb);
}

START_TEST(pvh_gets_its_start_information)
{
    struct kernel_file k;
    AUTO(machine_donep) struct machine m = {0};
    kernel_file_elf(&k, true);
    AUTO(closep) int fd = kernel_file_fd(k.data, k.len);
    AUTO(closep) int initrd = kernel_file_fd("initial RAM disk", 16);
    struct boot_plan plan = plan_for(fd);
    plan.initrd_fd = initrd;
    ck_assert_msg(load(&plan, &m) == 0, "%s", m.err.text);
    ck_assert_int_eq(m.used, BOOT_PVH);
    check_elf_segments(&m, &k);
    check_flat(m.state);
    ck_assert_uint_eq(m.state->rip, ELF_PVH_ENTRY);

    const uint8_t *start = at(&m, m.state->reg[X86_RBX], 56);
    ck_assert_uint_eq(load_le32(start), 0x336ec578);
    ck_assert_uint_eq(load_le32(start + 4), 1);
    ck_assert_uint_eq(load_le32(start + 12), 1);
    const uint8_t *module = at(&m, load_le64(start + 16), 32);
    ck_assert_uint_eq(load_le64(module) % 4096, 0);
    ck_assert_uint_gt(load_le64(module), ELF_DATA_GPA);
    ck_assert_uint_eq(load_le64(module + 8), 16);
    ck_assert_mem_eq(at(&m, load_le64(module), 16), "initial RAM disk", 16);
    ck_assert_str_eq((const char *)at(&m, load_le64(start + 24), 64), "console=ttyS0 quiet");
    ck_assert_uint_eq(load_le64(start + 32), RSDP);
    ck_assert_uint_eq(load_le32(start + 48), COUNT(ranges));
    const uint8_t *map = at(&m, load_le64(start + 40), 24 * COUNT(ranges));
    for (size_t i = 0; i < COUNT(ranges); i++) {
        ck_assert_uint_eq(load_le64(map + 24 * i), ranges[i].gpa);
        ck_assert_uint_eq(load_le64(map + 24 * i + 8), ranges[i].size);
        ck_assert_uint_eq(load_le32(map + 24 * i + 16), ranges[i].type);
    }
}
END_TEST

/* The four-level walk of SDM vol. 3, 4.5, for 2 MiB pages. */
static uint64_t translate(const struct machine *m, uint64_t linear)
{
    uint64_t table = m->state->cr3;
    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        uint64_t entry = load_le64(at(m, table + ((linear >> shift) & 511) * 8, 8));
        ck_assert_uint_eq(entry & 3, 3);
        if ((entry & 0x80) != 0) {
            return (entry & ~0x1fffffULL) + (linear & 0x1fffff);
        }
        table = entry & ~0xfffULL;
    }
    ck_abort_msg("no page");
    return 0;
}

static void check_long(const struct machine *m)
{
    const struct x86_state *s = m->state;
    ck_assert_uint_eq(s->cr0 & 0x80000001, 0x80000001);
    ck_assert_uint_eq(s->cr4 & 0x20, 0x20);
    ck_assert_uint_eq(s->efer, 0x500);
    ck_assert_uint_eq(s->segment[X86_CS].selector, 0x10);
    ck_assert_uint_eq(s->segment[X86_CS].l, 1);
    ck_assert_uint_eq(s->segment[X86_CS].db, 0);
    ck_assert_uint_eq(s->segment[X86_DS].selector, 0x18);
    ck_assert_uint_eq(s->rflags, 2);
    /* The descriptor that a reload of CS would read: 64-bit code. */
    ck_assert_uint_eq(load_le64(at(m, s->gdt.base + 0x10, 8)), 0x00af9b000000ffff);
    static const uint64_t linear[] = {0, 0x1fffff, 0x200000, 0x12345678, 0xbfffffff, 0xffffffff};
    for (size_t i = 0; i < COUNT(linear); i++) {
        ck_assert_uint_eq(translate(m, linear[i]), linear[i]);
    }
}

static void check_zero_page(const struct machine *m, const uint8_t *page)
{
    ck_assert_uint_eq(load_le64(page + 0x070), RSDP);
    ck_assert_uint_eq(page[0x1ef], 0);
    ck_assert_uint_eq(load_le16(page + 0x1fe), 0xaa55);
    ck_assert_mem_eq(page + 0x202, "HdrS", 4);
    ck_assert_uint_eq(page[0x210], 0xff);
    ck_assert_str_eq((const char *)at(m, load_le32(page + 0x228), 64), "console=ttyS0 quiet");
    ck_assert_uint_eq(page[0x1e8], COUNT(ranges));
    for (size_t i = 0; i < COUNT(ranges); i++) {
        const uint8_t *entry = page + 0x2d0 + 20 * i;
        ck_assert_uint_eq(load_le64(entry), ranges[i].gpa);
        ck_assert_uint_eq(load_le64(entry + 8), ranges[i].size);
        ck_assert_uint_eq(load_le32(entry + 16), ranges[i].type);
    }
}

START_TEST(a_vmlinux_starts_at_its_64_bit_entry)
{
    struct kernel_file k;
    AUTO(machine_donep) struct machine m = {0};
    kernel_file_elf(&k, false);
    ck_assert_msg(load_file(&k, BOOT_AUTO, &m) == 0, "%s", m.err.text);
    ck_assert_int_eq(m.used, BOOT_LINUX64);
    check_elf_segments(&m, &k);
    check_long(&m);
    ck_assert_uint_eq(m.state->rip, ELF_ENTRY);
    const uint8_t *page = at(&m, m.state->reg[X86_RSI], 4096);
    check_zero_page(&m, page);
    ck_assert_uint_eq(load_le32(page + 0x21c), 0);
}
END_TEST

START_TEST(a_bzimage_starts_at_its_64_bit_entry)
{
    struct kernel_file k;
    AUTO(machine_donep) struct machine m = {0};
    kernel_file_bzimage(&k, "payload", 7);
    store_le32(k.data + SH_INITRD_ADDR_MAX, 0x2fff00e);
    AUTO(closep) int fd = kernel_file_fd(k.data, k.len);
    AUTO(closep) int initrd = kernel_file_fd("initial RAM disk", 16);
    struct boot_plan plan = plan_for(fd);
    plan.initrd_fd = initrd;
    ck_assert_msg(load(&plan, &m) == 0, "%s", m.err.text);
    ck_assert_int_eq(m.used, BOOT_LINUX64);
    check_long(&m);
    ck_assert_uint_eq(m.state->rip, 0x100200);
    ck_assert_mem_eq(at(&m, 0x100000, k.len - BZ_KERNEL_AT), k.data + BZ_KERNEL_AT,
                     k.len - BZ_KERNEL_AT);
    const uint8_t *page = at(&m, m.state->reg[X86_RSI], 4096);
    check_zero_page(&m, page);
    /* The header came along, up to where it says that it ends. */
    ck_assert_mem_eq(page + 0x230, k.data + 0x230, 0x26c - 0x230);
    ck_assert_uint_eq(load_le32(page + 0x214), 0x100000);
    /* The RAM disk lies below initrd_addr_max, and behind what the kernel needs to unpack itself.
     */
    uint64_t gpa = load_le32(page + 0x218);
    ck_assert_uint_eq(gpa, 0x2ffe000);
    ck_assert_uint_ge(gpa, 0x1800000);
    ck_assert_uint_eq(load_le32(page + 0x21c), 16);
    ck_assert_mem_eq(at(&m, gpa, 16), "initial RAM disk", 16);
}
END_TEST

static void multiboot_header(struct kernel_file *k, size_t where, uint32_t flags)
{
    store_le32(k->data + where, 0x1badb002);
    store_le32(k->data + where + 4, flags);
    store_le32(k->data + where + 8, 0U - 0x1badb002U - flags);
}

/* A flat kernel with the address fields: loaded from 0x1000 of the file to 3 MiB. */
static void multiboot_flat(struct kernel_file *k, uint32_t flags)
{
    *k = (struct kernel_file){.len = 0x2000};
    kernel_file_fill(k->data + 0x1000, 0x1000, 9);
    multiboot_header(k, 0x1010, 0x10000 | flags);
    store_le32(k->data + 0x101c, 0x300010);
    store_le32(k->data + 0x1020, 0x300000);
    store_le32(k->data + 0x1024, 0x300800);
    store_le32(k->data + 0x1028, 0x304000);
    store_le32(k->data + 0x102c, 0x300100);
}

START_TEST(multiboot_kernels_get_their_information)
{
    struct kernel_file k;
    AUTO(machine_donep) struct machine m = {0};
    multiboot_flat(&k, 3);
    AUTO(closep) int fd = kernel_file_fd(k.data, k.len);
    AUTO(closep) int initrd = kernel_file_fd("module", 6);
    struct boot_plan plan = plan_for(fd);
    plan.initrd_fd = initrd;
    ck_assert_msg(load(&plan, &m) == 0, "%s", m.err.text);
    ck_assert_int_eq(m.used, BOOT_MULTIBOOT);
    check_flat(m.state);
    ck_assert_uint_eq(m.state->rip, 0x300100);
    ck_assert_uint_eq(m.state->reg[X86_RAX], 0x2badb002);
    ck_assert_mem_eq(at(&m, 0x300000, 0x800), k.data + 0x1000, 0x800);
    ck_assert_uint_eq(*at(&m, 0x300800, 1), 0); /* load_end_addr ends it */

    const uint8_t *info = at(&m, m.state->reg[X86_RBX], 120);
    ck_assert_uint_eq(load_le32(info), 0x24d);
    ck_assert_uint_eq(load_le32(info + 4), 639);
    ck_assert_uint_eq(load_le32(info + 8), (MEMORY_SIZE >> 10) - 1024);
    ck_assert_str_eq((const char *)at(&m, load_le32(info + 16), 64), "console=ttyS0 quiet");
    ck_assert_uint_eq(load_le32(info + 20), 1);
    const uint8_t *module = at(&m, load_le32(info + 24), 16);
    ck_assert_uint_eq(load_le32(module) % 4096, 0);
    ck_assert_uint_eq(load_le32(module + 4), load_le32(module) + 6);
    ck_assert_mem_eq(at(&m, load_le32(module), 6), "module", 6);
    ck_assert_uint_eq(load_le32(info + 44), 24 * COUNT(ranges));
    const uint8_t *map = at(&m, load_le32(info + 48), 24 * COUNT(ranges));
    ck_assert_uint_eq(load_le32(map + 24), 20);
    ck_assert_uint_eq(load_le64(map + 24 + 4), ranges[1].gpa);
    ck_assert_uint_eq(load_le64(map + 24 + 12), ranges[1].size);
    ck_assert_uint_eq(load_le32(map + 24 + 20), ranges[1].type);
    ck_assert_str_eq((const char *)at(&m, load_le32(info + 64), 8), "isola");
}
END_TEST

START_TEST(a_multiboot_elf_is_loaded_by_its_segments)
{
    struct kernel_file k;
    AUTO(machine_donep) struct machine m = {0};
    kernel_file_elf(&k, false);
    multiboot_header(&k, 0x300, 0);
    ck_assert_msg(load_file(&k, BOOT_AUTO, &m) == 0, "%s", m.err.text);
    ck_assert_int_eq(m.used, BOOT_MULTIBOOT);
    check_elf_segments(&m, &k);
    ck_assert_uint_eq(m.state->rip, ELF_ENTRY);
}
END_TEST

/* A change to a good kernel, and the words that the error must have. */
struct wrong {
    size_t at;
    unsigned bytes; /* 1, 2, 4 or 8 */
    uint64_t value;
    const char *words;
};

static void check_wrong(const struct kernel_file *good, enum boot_protocol protocol,
                        const struct wrong *wrong)
{
    struct kernel_file k = *good;
    AUTO(machine_donep) struct machine m = {0};
    uint8_t raw[8];
    store_le64(raw, wrong->value);
    memcpy(k.data + wrong->at, raw, wrong->bytes);
    int r = load_file(&k, protocol, &m);
    ck_assert_msg(r == -ENOEXEC, "%s: %d", wrong->words, r);
    ck_assert_msg(strncmp(m.err.text, "kernel 'k': ", 12) == 0, "%s", m.err.text);
    ck_assert_msg(strstr(m.err.text, wrong->words) != NULL, "'%s' lacks '%s'", m.err.text,
                  wrong->words);
}

START_TEST(a_wrong_field_of_an_elf_kernel_is_named)
{
    static const struct wrong wrong[] = {
        {4, 1, 3, "ELF field EI_CLASS 0x3 is neither"},
        {5, 1, 3, "EI_DATA"},
        {6, 1, 0, "EI_VERSION"},
        {EH_MACHINE, 2, 183, "ELF field e_machine 0xb7 is not x86"},
        {EH_PHNUM, 2, 0, "e_phnum"},
        {EH_PHNUM, 2, 129, "ELF field e_phnum 0x81 is more than 128"},
        {EH_PHENTSIZE, 2, 32, "e_phentsize"},
        {EH_PHOFF, 8, 0x2100, "e_phoff 0x2100 lies behind the end of the file"},
        {EH_PHOFF, 8, UINT64_MAX - 8, "e_phoff"},
        {PH(1) + PH_OFFSET, 8, 0x2124, "p_offset 0x2124 lies behind the end"},
        {PH(1) + PH_OFFSET, 8, UINT64_MAX, "p_offset"},
        {PH(1) + PH_FILESZ, 8, 0x124, "p_filesz 0x124 reaches behind the end"},
        {PH(1) + PH_FILESZ, 8, UINT64_MAX, "p_filesz"},
        {PH(1) + PH_MEMSZ, 8, 0x122, "p_filesz 0x123 is more than p_memsz"},
        {PH(1) + PH_MEMSZ, 8, UINT64_MAX, "p_memsz"},
        {PH(1) + PH_MEMSZ, 8, MEMORY_SIZE, "p_paddr 0x400000 with"},
        {PH(1) + PH_PADDR, 8, 0x8000, "p_paddr 0x8000 lies below 1 MiB"},
        {PH(1) + PH_PADDR, 8, MEMORY_SIZE - 0x4fff, "lies behind the end of the memory"},
        {PH(1) + PH_PADDR, 8, UINT64_MAX - 4, "wraps"},
        {PH(2) + PH_FILESZ, 8, 0x7fffff, "p_filesz"},
        {ELF_NOTE_AT + 28, 4, 5, "n_descsz 0x5 is not the size of an address"},
        {ELF_NOTE_AT + 40, 8, 1ULL << 32, "XEN_ELFNOTE_PHYS32_ENTRY 0x100000000 lies outside"},
        {ELF_NOTE_AT + 40, 8, MEMORY_SIZE, "XEN_ELFNOTE_PHYS32_ENTRY"},
        {ELF_NOTE_AT + 36, 1, 'x', "has no ELF note XEN_ELFNOTE_PHYS32_ENTRY"},
        {ELF_NOTE_AT + 32, 4, 17, "has no ELF note XEN_ELFNOTE_PHYS32_ENTRY"},
        {ELF_NOTE_AT + 28, 4, UINT32_MAX, "has no ELF note XEN_ELFNOTE_PHYS32_ENTRY"},
    };
    struct kernel_file good;
    kernel_file_elf(&good, true);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        check_wrong(&good, BOOT_PVH, &wrong[i]);
    }
    static const struct wrong wrong64[] = {
        {EH_ENTRY, 8, ELF_DATA_GPA + ELF_DATA_MEMORY, "e_entry 0x405000 lies outside"},
        {EH_ENTRY, 8, 0, "e_entry"},
        {EH_MACHINE, 2, 3, "e_machine 0x3 is not x86-64"},
    };
    kernel_file_elf(&good, false);
    for (size_t i = 0; i < COUNT(wrong64); i++) {
        check_wrong(&good, BOOT_AUTO, &wrong64[i]);
    }
    /* Nothing to load at all. */
    store_le32(good.data + PH(0), 6);
    check_wrong(&good, BOOT_AUTO, &(struct wrong){PH(1), 4, 6, "has no segment to load"});
}
END_TEST

START_TEST(a_wrong_field_of_a_bzimage_is_named)
{
    static const struct wrong wrong[] = {
        {SH_BOOT_FLAG, 2, 0, "setup header field boot_flag 0x0"},
        {SH_VERSION, 2, 0x20b, "version 0x20b is older than 2.12"},
        {SH_SETUP_SECTS, 1, 64, "setup_sects 0x40 lies behind the end of the file"},
        {SH_SYSSIZE, 4, 0, "syssize 0x0 is nothing"},
        {SH_SYSSIZE, 4, UINT32_MAX, "syssize 0xffffffff reaches behind the end"},
        {SH_SYSSIZE, 4, 0x20, "payload_offset"},
        {SH_JUMP, 1, 0x61, "jump 0x61"},
        {SH_JUMP, 1, 0xff, "jump 0xff"},
        {SH_ALIGNMENT, 4, 0, "kernel_alignment"},
        {SH_ALIGNMENT, 4, 0x300000, "kernel_alignment 0x300000 is no power of two"},
        {SH_LOADFLAGS, 1, 0, "loadflags 0x0 is that of a zImage"},
        {SH_XLOADFLAGS, 2, 2, "xloadflags 0x2 offers no 64-bit entry"},
        {SH_PAYLOAD_OFFSET, 4, UINT32_MAX, "payload_offset 0xffffffff lies behind the end"},
        {SH_PAYLOAD_LENGTH, 4, 0x11, "payload_length 0x11 lies behind the end of the file"},
        {SH_PREF_ADDRESS, 8, UINT64_MAX, "pref_address"},
        {SH_PREF_ADDRESS, 8, MEMORY_SIZE, "pref_address"},
        {SH_INIT_SIZE, 4, (uint32_t)MEMORY_SIZE, "pref_address 0x1000000 with 67108864 bytes"},
        {0x202, 1, 'x', "is neither ELF nor bzImage nor multiboot"},
    };
    struct kernel_file good;
    kernel_file_bzimage(&good, "payload", 7);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        check_wrong(&good, BOOT_AUTO, &wrong[i]);
    }
}
END_TEST

START_TEST(a_wrong_field_of_a_multiboot_header_is_named)
{
    static const struct wrong wrong[] = {
        {0x1018, 4, 1, "is neither ELF nor bzImage nor multiboot"},
        {0x101c, 4, 0x2fffff, "load_addr"},
        {0x1020, 4, 0, "load_addr 0x0 does not fit"},
        {0x1024, 4, 0x302000, "load_end_addr 0x302000 lies behind the end of the file"},
        {0x1024, 4, 0x2fffff, "load_end_addr"},
        {0x1028, 4, 0x3007ff, "bss_end_addr 0x3007ff lies before"},
        {0x1028, 4, 0xf0000000, "load_addr 0x300000 with"},
        {0x102c, 4, 0x304000, "entry_addr 0x304000 lies outside"},
        {0x102c, 4, 0x2fffff, "entry_addr"},
    };
    struct kernel_file good;
    multiboot_flat(&good, 0);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        check_wrong(&good, BOOT_AUTO, &wrong[i]);
    }
    multiboot_flat(&good, 4);
    check_wrong(&good, BOOT_AUTO, &(struct wrong){0, 1, 0, "multiboot header field flags 0x10004"});
}
END_TEST

START_TEST(a_kernel_cut_anywhere_is_refused)
{
    struct kernel_file k;
    for (unsigned kind = 0; kind < 3; kind++) {
        if (kind < 2) {
            kernel_file_elf(&k, kind == 0);
        } else {
            kernel_file_bzimage(&k, "payload", 7);
        }
        const size_t whole = k.len;
        for (k.len = 0; k.len < whole; k.len += k.len < 1100 ? 1 : 97) {
            AUTO(machine_donep) struct machine m = {0};
            int r = load_file(&k, BOOT_AUTO, &m);
            ck_assert_msg(r == -ENOEXEC, "kind %u cut at %zu: %d", kind, k.len, r);
            ck_assert_ptr_nonnull(strstr(m.err.text, "kernel 'k': "));
        }
    }
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    struct kernel_file k;
    kernel_file_elf(&k, true);
    AUTO(closep) int fd = kernel_file_fd(k.data, k.len);
    AUTO(closep) int big = memfd_create("big", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(big, (off_t)(MEMORY_SIZE - 0x405000)), 0);
    struct boot_plan plan = plan_for(fd);
    plan.initrd_fd = big;
    {
        /* To the byte between the kernel's end and the memory's. */
        AUTO(machine_donep) struct machine m = {0};
        ck_assert_msg(load(&plan, &m) == 0, "%s", m.err.text);
    }
    {
        AUTO(machine_donep) struct machine m = {0};
        ck_assert_int_eq(ftruncate(big, (off_t)(MEMORY_SIZE - 0x405000 + 1)), 0);
        ck_assert_int_eq(load(&plan, &m), -ENOMEM);
        ck_assert_ptr_nonnull(strstr(m.err.text, "initial RAM disk 'rd'"));
    }
    {
        AUTO(machine_donep) struct machine m = {0};
        static char line[LAYOUT_COMMAND_LINE_MAX + 1];
        memset(line, 'x', sizeof(line) - 1);
        plan.initrd_fd = -1;
        plan.command_line = line;
        ck_assert_int_eq(load(&plan, &m), -E2BIG);
        ck_assert_ptr_nonnull(strstr(m.err.text, "command line of 65535 bytes, not of 65536"));
    }
}
END_TEST

START_TEST(words_of_the_user_win_over_those_of_the_board)
{
    static const struct {
        const char *board, *user, *want;
    } cases[] = {
        {"a=1 b", "quiet", "a=1 b quiet"},
        {"a=1 b", "", "a=1 b "},
        {"", "quiet", "quiet"},
        {"a=1 b", "quiet a=2", "b quiet a=2"},
        {"a=1 b", "b=no", "a=1 b=no"},
        {"a=1 b", "ab a1=1", "a=1 b ab a1=1"},
        {"m.one-two=1", "m.one_two=2", "m.one_two=2"},
        {"a=1", "x=\"a=2 a=3\" y", "a=1 x=\"a=2 a=3\" y"},
        {"a=1", "\"a=2 3\"", "a=1 \"a=2 3\""},
        {"a=1", "x -- a=2", "a=1 x -- a=2"},
        {"a=1", "a=2 -- x", "a=2 -- x"},
        {"a=1", "\ta=2\n", "\ta=2\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(buf_donep) struct buf line = {0};
        ck_assert_int_eq(command_line_join(cases[i].board, cases[i].user, &line), 0);
        ck_assert_str_eq(line.data, cases[i].want);
    }
}
END_TEST

/* Loads k with words of the board and returns the command line that is in memory. */
static const char *line_of(const struct kernel_file *k, enum boot_protocol protocol,
                           const char *user, struct machine *m)
{
    AUTO(closep) int fd = kernel_file_fd(k->data, k->len);
    struct boot_plan plan = plan_for(fd);
    plan.protocol = protocol;
    plan.command_line = user;
    plan.board_arguments = "pci=off tsc=reliable";
    ck_assert_msg(load(&plan, m) == 0, "%s", m->err.text);
    return (const char *)at(m, LAYOUT_COMMAND_LINE, LAYOUT_COMMAND_LINE_MAX);
}

START_TEST(only_linux_is_told_of_the_board)
{
    static const char both[] = "pci=off tsc=reliable quiet";
    struct kernel_file elf;
    struct kernel_file other;
    kernel_file_elf(&elf, true);
    other = elf;
    store_le32(elf.data + ELF_NOTE_AT + 8, 0x101);
    for (unsigned i = 0; i < 2; i++) {
        enum boot_protocol protocol = i == 0 ? BOOT_PVH : BOOT_LINUX64;
        AUTO(machine_donep) struct machine linux_ = {0};
        AUTO(machine_donep) struct machine foreign = {0};
        ck_assert_str_eq(line_of(&elf, protocol, "quiet", &linux_), both);
        ck_assert_str_eq(line_of(&other, protocol, "quiet", &foreign), "quiet");
    }
    AUTO(machine_donep) struct machine multiboot = {0};
    multiboot_header(&elf, 0x300, 0);
    ck_assert_str_eq(line_of(&elf, BOOT_MULTIBOOT, "quiet", &multiboot), "quiet");
    AUTO(machine_donep) struct machine bzimage = {0};
    kernel_file_bzimage(&other, "payload", 7);
    ck_assert_str_eq(line_of(&other, BOOT_AUTO, "quiet", &bzimage), both);
}
END_TEST

START_TEST(a_long_line_of_the_user_leaves_the_board_out)
{
    char line[2048];
    struct kernel_file k;
    AUTO(machine_donep) struct machine m = {0};
    kernel_file_bzimage(&k, "payload", 7);
    memset(line, 'x', sizeof(line));
    line[2047] = '\0'; /* as long as this kernel takes them */
    ck_assert_str_eq(line_of(&k, BOOT_AUTO, line, &m), line);
}
END_TEST

int main(void)
{
    return unit_run("vmm/boot", (const TTest *const[]){
                                    pvh_gets_its_start_information,
                                    a_vmlinux_starts_at_its_64_bit_entry,
                                    a_bzimage_starts_at_its_64_bit_entry,
                                    multiboot_kernels_get_their_information,
                                    a_multiboot_elf_is_loaded_by_its_segments,
                                    a_wrong_field_of_an_elf_kernel_is_named,
                                    a_wrong_field_of_a_bzimage_is_named,
                                    a_wrong_field_of_a_multiboot_header_is_named,
                                    a_kernel_cut_anywhere_is_refused,
                                    what_does_not_fit_is_refused,
                                    words_of_the_user_win_over_those_of_the_board,
                                    only_linux_is_told_of_the_board,
                                    a_long_line_of_the_user_leaves_the_board_out,
                                    NULL,
                                });
}
