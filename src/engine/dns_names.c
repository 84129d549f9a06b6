#include "engine/dns_names.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/str.h"

#define NAMES_MAX ((size_t)16 << 20)

/* A word of the text, not ended by NUL. */
struct word {
    const char *start;
    size_t len;
};

/* Takes the next word before end; false when there is none. */
static bool next_word(const char **at, const char *end, struct word *ret)
{
    const char *p = *at;
    while (p < end && *p == ' ') {
        p++;
    }
    ret->start = p;
    while (p < end && *p != ' ') {
        p++;
    }
    ret->len = (size_t)(p - ret->start);
    *at = p;
    return ret->len > 0;
}

static bool word_is(const struct word *word, const char *text, size_t len)
{
    return word->len == len && strncasecmp(word->start, text, len) == 0;
}

static void read_address(const struct word *word, struct ip_address *ret)
{
    char text[IP_TEXT_SIZE];
    *ret = (struct ip_address){0};
    if (word->len < sizeof(text)) {
        memcpy(text, word->start, word->len);
        text[word->len] = '\0';
        if (ip_parse(text, ret) < 0) {
            *ret = (struct ip_address){0};
        }
    }
}

/* "web" and, since that is how Docker's users write it too, "web.NETWORK". */
static bool name_matches(const struct word *word, const char *name, const struct word *network)
{
    size_t len = strlen(name);
    if (word_is(word, name, len)) {
        return true;
    }
    return len == word->len + 1 + network->len && strncasecmp(name, word->start, word->len) == 0 &&
           name[word->len] == '.' &&
           strncasecmp(name + word->len + 1, network->start, network->len) == 0;
}

static void add_address(struct dns_found *found, const struct ip_address *ip)
{
    if (ip->family != 0 && found->count < DNS_FOUND_MAX) {
        found->addresses[found->count++] = *ip;
    }
}

static void add_other(struct dns_found *found, const struct word *word)
{
    if (found->other_count < DNS_OTHERS_MAX && word->len < sizeof(found->others[0]) &&
        memchr(word->start, '/', word->len) == NULL) {
        memcpy(found->others[found->other_count], word->start, word->len);
        found->others[found->other_count++][word->len] = '\0';
    }
}

static void set_name(struct dns_found *found, const struct word *name, const struct word *network)
{
    if (name->len + network->len + 2 <= sizeof(found->name)) {
        (void)snprintf(found->name, sizeof(found->name), "%.*s.%.*s", (int)name->len, name->start,
                       (int)network->len, network->start);
        found->known = true;
    }
}

/* IPV4 IPV6 NAME... +NETWORK... */
static void scan_line(const char *at, const char *end, const struct word *network,
                      const struct dns_wanted *wanted, struct dns_found *found)
{
    struct word word;
    struct ip_address ip[2] = {0};
    for (size_t f = 0; f < 2; f++) {
        if (!next_word(&at, end, &word)) {
            return;
        }
        read_address(&word, &ip[f]);
    }
    bool asks = wanted->asker->family != 0 &&
                (ip_eq(&ip[0], wanted->asker) || ip_eq(&ip[1], wanted->asker));
    bool is_wanted_address =
        wanted->name == NULL && (ip_eq(&ip[0], wanted->address) || ip_eq(&ip[1], wanted->address));
    bool matched = false;
    for (size_t i = 0; next_word(&at, end, &word); i++) {
        if (word.start[0] == '+') {
            struct word id = {word.start + 1, word.len - 1};
            if (asks) {
                add_other(found, &id);
            }
        } else if (i == 0 && is_wanted_address) {
            set_name(found, &word, network);
        } else if (wanted->name != NULL && !matched && name_matches(&word, wanted->name, network)) {
            matched = true;
            found->known = true;
            add_address(found, &ip[0]);
            add_address(found, &ip[1]);
        }
    }
}

void dns_names_scan(const char *text, size_t len, const struct dns_wanted *wanted,
                    struct dns_found *found)
{
    struct word network = {"", 0};
    const char *end = text + len;
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline != NULL ? newline : end;
        if (*text == '@') { /* "@ NAME": the network's own name */
            const char *at = text + 1;
            (void)next_word(&at, line_end, &network);
        } else {
            scan_line(text, line_end, &network, wanted, found);
        }
        if (newline == NULL) {
            break;
        }
        text = newline + 1;
    }
}

void dns_names_find(const char *dir, const char *network, const struct dns_wanted *wanted,
                    struct dns_found *found)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/%s/names", dir, network);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return;
    }
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || (size_t)st.st_size > NAMES_MAX) {
        return;
    }
    /* Mapped, not read: the pages are shared by all responders. The file is replaced, never cut. */
    void *text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (text != MAP_FAILED) {
        dns_names_scan(text, (size_t)st.st_size, wanted, found);
        (void)munmap(text, (size_t)st.st_size);
    }
}
