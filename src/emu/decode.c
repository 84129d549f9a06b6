#include "emu/decode.h"

static int32_t extract(uint32_t word, const struct decode_field *field)
{
    uint32_t left = word << (32 - field->at - field->width);
    unsigned by = 32u - field->width;
    return field->sign ? (int32_t)left >> by : (int32_t)(left >> by);
}

static bool obeys(const struct decode_rule *rule, int32_t value)
{
    value &= rule->mask;
    switch ((enum decode_rule_kind)rule->kind) {
    case DECODE_EQ:
        return value == rule->want;
    case DECODE_NE:
        return value != rule->want;
    case DECODE_LT:
        return value < rule->want;
    case DECODE_GE:
    default:
        return value >= rule->want;
    }
}

static bool try_line(const struct decode_table *table, const struct decode_line *line,
                     uint32_t word, int32_t *args)
{
    for (unsigned i = 0; i < line->field_count; i++) {
        const struct decode_field *field = &table->fields[line->field + i];
        args[field->arg] = extract(word, field);
    }
    for (unsigned i = 0; i < line->rule_count; i++) {
        const struct decode_rule *rule = &table->rules[line->rule + i];
        if (!obeys(rule, args[rule->arg])) {
            return false;
        }
    }
    return true;
}

unsigned decode_word(const struct decode_table *table, uint32_t word, int32_t *args)
{
    uint32_t top = word >> 21;
    for (uint32_t i = table->buckets[top]; i < table->buckets[top + 1]; i++) {
        const struct decode_line *line = &table->lines[table->candidates[i]];
        if ((word & line->mask) == line->value && try_line(table, line, word, args)) {
            return table->candidates[i] + 1u;
        }
    }
    return 0;
}
