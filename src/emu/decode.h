/*
 * decode.h - finds the line of a table that a 32-bit instruction word matches. tools/decode makes
 * the tables from *.decode files.
 */
#ifndef EMU_DECODE_H
#define EMU_DECODE_H

#include <stdbool.h>
#include <stdint.h>

struct decode_line {
    const char *name;
    uint32_t mask, value;
    uint16_t field, field_count; /* in the table's fields */
    uint16_t rule, rule_count;   /* in its rules */
};

struct decode_field {
    uint8_t arg; /* index of the args' member */
    uint8_t at, width;
    bool sign;
};

enum decode_rule_kind { DECODE_EQ, DECODE_NE, DECODE_LT, DECODE_GE };

/* What the member's bits in mask have to be. */
struct decode_rule {
    uint8_t arg;
    uint8_t kind;
    int32_t mask, want;
};

struct decode_table {
    const struct decode_line *lines; /* those that win over others come first */
    const struct decode_field *fields;
    const struct decode_rule *rules;
    const uint16_t *candidates; /* lines, in ranges by the word's upper 11 bits: */
    const uint32_t *buckets;    /* 2,049 of them */
    uint16_t line_count, arg_count;
};

/* The line's number from 1 on, its fields in args (members that it does not have stay); 0: none. */
unsigned decode_word(const struct decode_table *table, uint32_t word, int32_t *args);

#endif
