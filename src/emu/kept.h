/*
 * kept.h - translations that outlive the process: what earlier ones translated of a file, and what
 * this one adds.
 *
 * A record is found by its place in the file, and used only when the guest code that its
 * translation depends on is there, word for word: so nothing hangs on what the file is called, and
 * a file that changed costs time alone. What is believed is that a record was made by this very
 * program: who may write kept data decides what is executed. The checksums are against accidents.
 *
 * All calls with the lock of the emu.
 */
#ifndef EMU_KEPT_H
#define EMU_KEPT_H

#include "emu/cpu.h"

struct block;
struct buf;
struct guest_code;

/* The layout, in the host's byte order; every part is aligned to 8 bytes. */
#define KEPT_MAGIC "isolaemu"
#define KEPT_VERSION 1u
#define KEPT_BUILD_SIZE 20u

struct kept_header {
    char magic[8];
    uint32_t version;               /* and, from bit 16 on, what of the CPU it uses */
    uint32_t checksum;              /* of the rest of the header and the index */
    uint8_t build[KEPT_BUILD_SIZE]; /* of the program that made it: its build id */
    uint32_t count;
    uint64_t size; /* of all */
};

/* Behind the header, by place. */
struct kept_entry {
    uint32_t place; /* of the block in the file, divided by 4 */
    uint32_t at;    /* of its record from the header on, divided by 8 */
};

/*
 * Behind it: code, padded to 8 bytes; block_reloc[relocs], with the distance from the block's pc or
 * from this program's start in the code; block_fault[faults]; kept_run[runs]; int32_t
 * distances[guests]; uint32_t words[words]; padding.
 */
struct kept_record {
    uint32_t checksum; /* of the rest of the record */
    uint32_t size;
    uint32_t code_size, dead_tail;
    int32_t low, high; /* distances from pc */
    uint16_t guests, faults, relocs, runs;
    uint16_t words;
    uint16_t phase; /* of the code's address in its line: what is patched must not cross one */
    uint32_t unused;
};

struct kept_run {
    int32_t distance; /* of its first word from the block's pc */
    uint16_t first, count;
};

/* kept.c: this program's build id, by which its translations are told from another's; false: none.
 */
bool kept_build(uint8_t build[KEPT_BUILD_SIZE]);
uint32_t kept_checksum(const void *from, size_t skip, size_t size);
/* Whether a record lies within the next `room` bytes with all that it says it has. */
bool kept_fits(const struct kept_record *record, size_t room);
/* Its block at pc; NULL when it is damaged, of other code, or there is no room. */
struct block *kept_adopt(struct emu *emu, const struct kept_record *record, uint64_t pc);
/* The caller's to free. NULL: it cannot be kept, or no memory. */
struct kept_record *kept_record_new(const struct block *block, const struct guest_code *code,
                                    const uint8_t *written);

/* kept_file.c: the block at pc from what is kept, or NULL. */
struct block *kept_find(struct emu *emu, uint64_t pc);
/* A block was translated from `code`; its code is at `written`, not linked to others yet. */
void kept_note(struct emu *emu, const struct block *block, const struct guest_code *code,
               const uint8_t *written);
/* Nothing of what was noted so far is this process's: a child of fork(). */
void kept_forget(struct emu *emu);
void kept_free(struct emu *emu);

#endif
