/*
 * The program is walked with known values of architecture and system call number. A walk ends at a
 * return, or at the first instruction that looks at something else (arguments): a "tail", which is
 * copied with all that it can reach. The outcome changes only at constants the program compares
 * with, so a walk for each range between them covers all of the 2^32 numbers.
 */
#include "container/bpf_compact.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macros.h"

#define NR_OFFSET ((uint32_t)offsetof(struct seccomp_data, nr))
#define ARCH_OFFSET ((uint32_t)offsetof(struct seccomp_data, arch))
#define LOAD (BPF_LD | BPF_W | BPF_ABS)
#define JUMP_MAX 255 /* jt and jf are bytes; JA has 32 bits */
#define ARCHES_MAX 16

struct set {
    uint32_t *values; /* ascending once sorted */
    size_t count;
};

/* What happens to the numbers from `first` up to the next row's. */
struct range {
    uint32_t first;
    size_t end; /* index in the old program: a return, or where a tail begins */
};

struct compact {
    const struct sock_filter *old;
    size_t old_count;
    struct set arches;
    struct set numbers;
    struct sock_filter *code;
    size_t count;
    size_t size;
    size_t *tail_at; /* for each old instruction: its place in the new program, or SIZE_MAX */
    struct fix {
        size_t at;  /* a JA of the new program */
        size_t end; /* where it goes, in the old one */
    } * fixes;
    size_t fix_count;
};

static void compact_done(struct compact *c)
{
    free(c->arches.values);
    free(c->numbers.values);
    free(c->code);
    free(c->tail_at);
    free(c->fixes);
}

static int compare_values(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void set_add(struct set *set, uint32_t value)
{
    set->values[set->count++] = value;
}

static void set_sort(struct set *set)
{
    size_t kept = 0;
    qsort(set->values, set->count, sizeof(*set->values), compare_values);
    for (size_t i = 0; i < set->count; i++) {
        if (kept == 0 || set->values[kept - 1] != set->values[i]) {
            set->values[kept++] = set->values[i];
        }
    }
    set->count = kept;
}

static bool is_compare(const struct sock_filter *f)
{
    return f->code == (BPF_JMP | BPF_JEQ | BPF_K) || f->code == (BPF_JMP | BPF_JGE | BPF_K) ||
           f->code == (BPF_JMP | BPF_JGT | BPF_K);
}

static void pass_on(bool *may_be_arch, size_t to, size_t count)
{
    if (to < count) {
        may_be_arch[to] = true;
    }
}

/*
 * All constants, wherever they are compared: one too many only costs a walk. Those that the
 * architecture may be compared with are found along the jumps, which all go forward.
 */
static int collect(struct compact *c)
{
    AUTO(freep) bool *may_be_arch = calloc(c->old_count + 1, sizeof(*may_be_arch));
    c->arches.values = calloc(c->old_count + 1, sizeof(uint32_t));
    c->numbers.values = calloc(2 * c->old_count + 1, sizeof(uint32_t));
    if (may_be_arch == NULL || c->arches.values == NULL || c->numbers.values == NULL) {
        return -ENOMEM;
    }
    set_add(&c->numbers, 0);
    for (size_t i = 0; i < c->old_count; i++) {
        const struct sock_filter *f = &c->old[i];
        if (BPF_CLASS(f->code) == BPF_LD) {
            may_be_arch[i + 1] |= f->code == LOAD && f->k == ARCH_OFFSET;
        } else if (f->code == (BPF_JMP | BPF_JA) && may_be_arch[i]) {
            pass_on(may_be_arch, i + 1 + f->k, c->old_count);
        } else if (BPF_CLASS(f->code) == BPF_JMP && may_be_arch[i]) {
            pass_on(may_be_arch, i + 1 + f->jt, c->old_count);
            pass_on(may_be_arch, i + 1 + f->jf, c->old_count);
        }
        if (!is_compare(f)) {
            continue;
        }
        if (may_be_arch[i]) {
            set_add(&c->arches, f->k);
        }
        set_add(&c->numbers, f->k);
        if (f->k != UINT32_MAX) {
            set_add(&c->numbers, f->k + 1);
        }
    }
    set_sort(&c->arches);
    set_sort(&c->numbers);
    return 0;
}

static bool jumps(const struct sock_filter *f, uint32_t value)
{
    switch (BPF_OP(f->code)) {
    case BPF_JEQ:
        return value == f->k;
    case BPF_JGE:
        return value >= f->k;
    default:
        return value > f->k;
    }
}

/* Returns where the decision falls, or SIZE_MAX when the program leaves its own bounds. */
static size_t walk(const struct compact *c, uint32_t arch, uint32_t number)
{
    uint32_t value = 0;
    bool known = false;
    size_t at = 0;
    while (at < c->old_count) {
        const struct sock_filter *f = &c->old[at];
        if (f->code == LOAD && (f->k == ARCH_OFFSET || f->k == NR_OFFSET)) {
            value = f->k == ARCH_OFFSET ? arch : number;
            known = true;
            at++;
        } else if (f->code == (BPF_JMP | BPF_JA)) {
            at += 1 + (size_t)f->k;
        } else if (is_compare(f) && known) {
            at += 1 + (size_t)(jumps(f, value) ? f->jt : f->jf);
        } else {
            return at;
        }
    }
    return SIZE_MAX;
}

static bool same_end(const struct compact *c, size_t a, size_t b)
{
    const struct sock_filter *x = &c->old[a];
    const struct sock_filter *y = &c->old[b];
    return a == b || (x->code == (BPF_RET | BPF_K) && y->code == x->code && x->k == y->k);
}

static int find_ranges(const struct compact *c, uint32_t arch, struct range *ranges,
                       size_t *ret_count)
{
    size_t count = 0;
    for (size_t i = 0; i < c->numbers.count; i++) {
        size_t end = walk(c, arch, c->numbers.values[i]);
        if (end == SIZE_MAX) {
            return -EINVAL;
        }
        if (count == 0 || !same_end(c, ranges[count - 1].end, end)) {
            ranges[count++] = (struct range){.first = c->numbers.values[i], .end = end};
        }
    }
    *ret_count = count;
    return 0;
}

static size_t emit(struct compact *c, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
    if (c->count < c->size) {
        c->code[c->count] = (struct sock_filter){.code = code, .jt = jt, .jf = jf, .k = k};
    }
    return c->count++;
}

static void emit_end(struct compact *c, size_t end)
{
    if (c->old[end].code == (BPF_RET | BPF_K)) {
        (void)emit(c, BPF_RET | BPF_K, 0, 0, c->old[end].k);
        return;
    }
    size_t at = emit(c, BPF_JMP | BPF_JA, 0, 0, 0);
    if (at < c->size) {
        c->fixes[c->fix_count++] = (struct fix){.at = at, .end = end};
    }
}

/* The upper half behind a jump over the lower one. Depth is the logarithm of the ranges. */
static void emit_tree(struct compact *c, const struct range *ranges, size_t count)
{
    if (count == 1) {
        emit_end(c, ranges[0].end);
        return;
    }
    size_t half = count / 2;
    size_t test = emit(c, BPF_JMP | BPF_JGE | BPF_K, 0, 0, ranges[half].first);
    size_t start = c->count;
    emit_tree(c, ranges, half);
    size_t distance = c->count - start;
    if (distance > JUMP_MAX && c->count < c->size) {
        /* Once more, one further: `jf` over a long jump to the upper half. */
        memmove(&c->code[start + 1], &c->code[start], distance * sizeof(*c->code));
        for (size_t i = 0; i < c->fix_count; i++) {
            c->fixes[i].at += c->fixes[i].at >= start;
        }
        c->code[start] = (struct sock_filter){.code = BPF_JMP | BPF_JA, .k = (uint32_t)distance};
        c->code[test].jf = 1;
        c->count++;
    } else if (test < c->size) {
        c->code[test].jt = (uint8_t)MIN(distance, (size_t)JUMP_MAX);
    }
    emit_tree(c, &ranges[half], count - half);
}

/* One architecture: behind a test of it, or (the last) for all others. */
static int emit_arch(struct compact *c, const uint32_t *arch, struct range *ranges)
{
    size_t count = 0;
    uint32_t other = 0; /* any that the program does not name */
    while (arch == NULL && bsearch(&other, c->arches.values, c->arches.count, sizeof(other),
                                   compare_values) != NULL) {
        other++;
    }
    int r = find_ranges(c, arch == NULL ? other : *arch, ranges, &count);
    if (r < 0) {
        return r;
    }
    if (arch == NULL) {
        if (count > 1) {
            (void)emit(c, LOAD, 0, 0, NR_OFFSET);
        }
        emit_tree(c, ranges, count);
        return 0;
    }
    (void)emit(c, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, *arch);
    size_t skip = emit(c, BPF_JMP | BPF_JA, 0, 0, 0);
    (void)emit(c, LOAD, 0, 0, NR_OFFSET);
    emit_tree(c, ranges, count);
    if (skip < c->size) {
        c->code[skip].k = (uint32_t)(c->count - skip - 1);
    }
    return 0;
}

static void mark(bool *reached, size_t at, size_t count)
{
    if (at < count) {
        reached[at] = true;
    }
}

/*
 * Copies all that the fixes' tails can reach, in the old order. Jumps go forward, so the reached
 * instructions are found in one pass; a byte that no longer reaches makes the copy fail.
 */
static int emit_tails(struct compact *c)
{
    AUTO(freep) bool *reached = calloc(c->old_count + 1, sizeof(*reached));
    if (reached == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < c->fix_count; i++) {
        reached[c->fixes[i].end] = true;
    }
    size_t start = c->count;
    for (size_t i = 0; i < c->old_count; i++) {
        const struct sock_filter *f = &c->old[i];
        c->tail_at[i] = SIZE_MAX;
        if (!reached[i]) {
            continue;
        }
        c->tail_at[i] = emit(c, f->code, f->jt, f->jf, f->k);
        if (f->code == (BPF_JMP | BPF_JA)) {
            mark(reached, i + 1 + f->k, c->old_count);
        } else if (BPF_CLASS(f->code) == BPF_JMP) {
            mark(reached, i + 1 + f->jt, c->old_count);
            mark(reached, i + 1 + f->jf, c->old_count);
        } else if (BPF_CLASS(f->code) != BPF_RET) {
            mark(reached, i + 1, c->old_count);
        }
    }
    if (c->count > c->size) {
        return 0;
    }
    /* The instructions kept their order and only lost others between them: jumps got shorter. */
    size_t old = 0;
    for (size_t at = start; at < c->count; at++, old++) {
        while (c->tail_at[old] == SIZE_MAX) {
            old++;
        }
        struct sock_filter *f = &c->code[at];
        if (f->code == (BPF_JMP | BPF_JA)) {
            f->k = (uint32_t)(c->tail_at[old + 1 + f->k] - at - 1);
        } else if (BPF_CLASS(f->code) == BPF_JMP) {
            f->jt = (uint8_t)(c->tail_at[old + 1 + f->jt] - at - 1);
            f->jf = (uint8_t)(c->tail_at[old + 1 + f->jf] - at - 1);
        }
    }
    for (size_t i = 0; i < c->fix_count; i++) {
        const struct fix *fix = &c->fixes[i];
        c->code[fix->at].k = (uint32_t)(c->tail_at[fix->end] - fix->at - 1);
    }
    return 0;
}

/* A program whose registers carry something into a tail, or that leaves its bounds, is not ours. */
static bool is_plain(const struct sock_filter *code, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sock_filter *f = &code[i];
        size_t far = f->code == (BPF_JMP | BPF_JA)   ? f->k
                     : BPF_CLASS(f->code) == BPF_JMP ? MAX(f->jt, f->jf)
                                                     : 0;
        if (BPF_CLASS(f->code) != BPF_RET && far >= count - i - 1) {
            return false;
        }
        if (BPF_CLASS(f->code) == BPF_LDX || BPF_CLASS(f->code) == BPF_STX ||
            BPF_CLASS(f->code) == BPF_ST || BPF_CLASS(f->code) == BPF_MISC) {
            return false;
        }
    }
    return count > 0;
}

/* A tail must load what it looks at: it does not find the accumulator as it was. */
static bool tails_load(const struct compact *c)
{
    for (size_t i = 0; i < c->fix_count; i++) {
        if (BPF_CLASS(c->old[c->fixes[i].end].code) != BPF_LD) {
            return false;
        }
    }
    return true;
}

int bpf_compact(const struct sock_filter *code, size_t count, struct sock_filter **ret_code,
                size_t *ret_count)
{
    AUTO(compact_done) struct compact c = {.old = code, .old_count = count, .size = count};
    if (!is_plain(code, count)) {
        return 0;
    }
    int r = collect(&c);
    AUTO(freep) struct range *ranges = calloc(c.numbers.count + 1, sizeof(*ranges));
    c.code = calloc(count + 1, sizeof(*c.code));
    c.tail_at = calloc(count + 1, sizeof(*c.tail_at));
    c.fixes = calloc(count + 1, sizeof(*c.fixes));
    if (r < 0 || ranges == NULL || c.code == NULL || c.tail_at == NULL || c.fixes == NULL) {
        return -ENOMEM;
    }
    if (c.arches.count > ARCHES_MAX) {
        return 0;
    }
    (void)emit(&c, LOAD, 0, 0, ARCH_OFFSET);
    for (size_t i = 0; r == 0 && i < c.arches.count; i++) {
        r = emit_arch(&c, &c.arches.values[i], ranges);
    }
    r = r < 0 ? r : emit_arch(&c, NULL, ranges);
    if (r == 0 && tails_load(&c)) {
        r = emit_tails(&c);
    } else if (r == 0) {
        return 0;
    }
    if (r < 0 || c.count >= count) {
        return r == -EINVAL || r == 0 ? 0 : r;
    }
    *ret_code = TAKE_PTR(c.code);
    *ret_count = c.count;
    return 1;
}
