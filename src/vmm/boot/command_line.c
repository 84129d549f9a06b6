#include "vmm/boot/command_line.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/buf.h"

struct word {
    const char *text;
    size_t len;
    size_t key_len;
};

/* The word at or behind *at, which then stands behind it. False: there is none. */
static bool next_word(const char **at, struct word *ret)
{
    const char *p = *at + strspn(*at, " \t\n");
    bool quoted = false;
    *ret = (struct word){.text = p};
    for (; *p != '\0' && (quoted || strchr(" \t\n", *p) == NULL); p++) {
        quoted = quoted != (*p == '"');
        if (*p == '=' && ret->key_len == 0) {
            ret->key_len = (size_t)(p - ret->text);
        }
    }
    ret->len = (size_t)(p - ret->text);
    ret->key_len = ret->key_len == 0 ? ret->len : ret->key_len;
    *at = p;
    return ret->len > 0;
}

static char fold(char c)
{
    return c == '-' ? '_' : c;
}

static bool same_key(const struct word *a, const struct word *b)
{
    if (a->key_len != b->key_len) {
        return false;
    }
    for (size_t i = 0; i < a->key_len; i++) {
        if (fold(a->text[i]) != fold(b->text[i])) {
            return false;
        }
    }
    return true;
}

static bool names_key(const char *line, const struct word *word)
{
    struct word other;
    while (next_word(&line, &other) && !(other.len == 2 && memcmp(other.text, "--", 2) == 0)) {
        if (same_key(word, &other)) {
            return true;
        }
    }
    return false;
}

int command_line_join(const char *board, const char *user, struct buf *ret)
{
    struct word word;
    while (next_word(&board, &word)) {
        if (names_key(user, &word)) {
            continue;
        }
        int r = buf_add(ret, word.text, word.len);
        r = r < 0 ? r : buf_add_char(ret, ' ');
        if (r < 0) {
            return r;
        }
    }
    return buf_add_str(ret, user);
}
