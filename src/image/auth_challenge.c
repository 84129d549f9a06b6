#include "image/auth_challenge.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/str.h"

void auth_challenge_done(struct auth_challenge *c)
{
    free(c->realm);
    free(c->service);
    free(c->scope);
    *c = (struct auth_challenge){0};
}

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static char *read_token(const char **at)
{
    const char *start = *at;
    while (is_token_char(**at)) {
        (*at)++;
    }
    return strndup(start, (size_t)(*at - start));
}

/* A quoted string or a token; token68 of other schemes is taken as a token too. */
static char *read_value(const char **at)
{
    AUTO(buf_donep) struct buf text = {0};
    const char *p = *at;
    if (*p != '"') {
        while (*p != '\0' && *p != ',' && !isspace((unsigned char)*p)) {
            (void)buf_add_char(&text, *p++);
        }
        *at = p;
        return buf_take(&text);
    }
    for (p++; *p != '"'; p++) {
        if (*p == '\\' && p[1] != '\0') {
            p++;
        }
        if (*p == '\0' || buf_add_char(&text, *p) < 0) {
            return NULL;
        }
    }
    *at = p + 1;
    return buf_take(&text);
}

static void skip(const char **at, const char *set)
{
    *at += strspn(*at, set);
}

/* One parameter of the present scheme; false when the next word is a new scheme. */
static int read_parameter(const char **at, struct auth_challenge *c, bool *ret_read)
{
    const char *p = *at;
    AUTO(freep) char *name = read_token(&p);
    skip(&p, " \t");
    *ret_read = false;
    if (name == NULL) {
        return -ENOMEM;
    }
    if (name[0] == '\0' || *p != '=') {
        return 0;
    }
    p++;
    skip(&p, " \t");
    char *value = read_value(&p);
    if (value == NULL) {
        return -EINVAL;
    }
    char **target = strcasecmp(name, "realm") == 0     ? &c->realm
                    : strcasecmp(name, "service") == 0 ? &c->service
                    : strcasecmp(name, "scope") == 0   ? &c->scope
                                                       : NULL;
    if (target == NULL) {
        free(value);
    } else {
        free(*target);
        *target = value;
    }
    *at = p;
    *ret_read = true;
    return 0;
}

int auth_challenge_parse(const char *text, struct auth_challenge *ret)
{
    AUTO(auth_challenge_donep) struct auth_challenge best = {0};
    bool found = false;
    const char *at = text;
    for (;;) {
        skip(&at, " \t,");
        if (*at == '\0') {
            break;
        }
        AUTO(freep) char *scheme = read_token(&at);
        if (scheme == NULL || scheme[0] == '\0') {
            return scheme == NULL ? -ENOMEM : -EINVAL;
        }
        AUTO(auth_challenge_donep)
        struct auth_challenge c = {.bearer = strcasecmp(scheme, "Bearer") == 0};
        bool read = true;
        while (read) {
            skip(&at, " \t,");
            int r = read_parameter(&at, &c, &read);
            if (r < 0) {
                return r;
            }
        }
        bool usable = c.bearer ? c.realm != NULL : strcasecmp(scheme, "Basic") == 0;
        if (usable && (!found || (c.bearer && !best.bearer))) {
            auth_challenge_done(&best);
            best = c;
            c = (struct auth_challenge){0};
            found = true;
        }
    }
    if (!found) {
        return -ENOENT;
    }
    *ret = best;
    best = (struct auth_challenge){0};
    return 0;
}
