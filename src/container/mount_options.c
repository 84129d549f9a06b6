#include "container/mount_options.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "base/err.h"
#include "base/str.h"
#include "container/kernel.h"
#include "container/names.h"

struct attr_word {
    const char *name;
    uint64_t set;
    uint64_t clear;
};

/* With the letter "r" before them the same words hold for the whole tree. */
static const struct attr_word attr_words[] = {
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"atime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"norelatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
};

enum special {
    SPECIAL_NOTHING,
    SPECIAL_BIND,
    SPECIAL_RBIND,
    SPECIAL_COPY_UP,
    SPECIAL_COPY,
    SPECIAL_IDMAP,
    SPECIAL_RIDMAP,
};

static const struct {
    const char *name;
    enum special special;
} special_words[] = {
    {"defaults", SPECIAL_NOTHING},  {"bind", SPECIAL_BIND},       {"rbind", SPECIAL_RBIND},
    {"tmpcopyup", SPECIAL_COPY_UP}, {"isola-copy", SPECIAL_COPY}, {"idmap", SPECIAL_IDMAP},
    {"ridmap", SPECIAL_RIDMAP},
};

static void apply_attr(uint64_t *set, uint64_t *clear, const struct attr_word *word)
{
    /* The later word wins. */
    *set = (*set & ~word->clear) | word->set;
    *clear = (*clear & ~word->set) | word->clear;
}

static bool parse_attr(const char *option, struct mount_options *ret)
{
    for (size_t i = 0; i < COUNT(attr_words); i++) {
        if (strcmp(option, attr_words[i].name) == 0) {
            apply_attr(&ret->attr_set, &ret->attr_clear, &attr_words[i]);
            return true;
        }
        if (option[0] == 'r' && strcmp(option + 1, attr_words[i].name) == 0) {
            apply_attr(&ret->recursive_set, &ret->recursive_clear, &attr_words[i]);
            return true;
        }
    }
    return false;
}

static bool parse_special(const char *option, struct mount_options *ret)
{
    for (size_t i = 0; i < COUNT(special_words); i++) {
        if (strcmp(option, special_words[i].name) != 0) {
            continue;
        }
        switch (special_words[i].special) {
        case SPECIAL_NOTHING:
            break;
        case SPECIAL_BIND:
            ret->bind = true;
            break;
        case SPECIAL_RBIND:
            ret->bind = true;
            ret->recursive = true;
            break;
        case SPECIAL_COPY_UP:
            ret->copy_up = true;
            break;
        case SPECIAL_COPY:
            ret->bind = true;
            ret->copy = true;
            break;
        case SPECIAL_RIDMAP:
            ret->idmap_recursive = true;
            ret->idmap = true;
            break;
        case SPECIAL_IDMAP:
            ret->idmap = true;
            break;
        }
        return true;
    }
    return false;
}

static bool parse_propagation(const char *option, struct mount_options *ret)
{
    uint64_t value;
    if (name_lookup(propagation_names, option, &value) < 0) {
        return false;
    }
    ret->propagation = (unsigned long)value & ~(unsigned long)MS_REC;
    ret->propagation_recursive = (value & MS_REC) != 0;
    return true;
}

int mount_options_parse(const struct spec_mount *mount, size_t index, struct mount_options *ret,
                        struct err *err)
{
    *ret = (struct mount_options){.bind = str_eq(mount->type, "bind")};
    for (size_t i = 0; i < mount->options.count; i++) {
        const char *option = mount->options.items[i];
        if (parse_attr(option, ret) || parse_special(option, ret) ||
            parse_propagation(option, ret)) {
            continue;
        }
        if (ret->data_count == COUNT(ret->data)) {
            return err_say(err, E2BIG, "mounts[%zu].options: more than %zu file system options",
                           index, COUNT(ret->data));
        }
        ret->data[ret->data_count++] = option;
    }
    if (ret->bind && ret->data_count > 0) {
        return err_say(err, EINVAL,
                       "mounts[%zu].options = \"%s\": is not an option of a bind mount", index,
                       ret->data[0]);
    }
    if (!ret->bind && mount->type == NULL) {
        return err_say(err, EINVAL, "mounts[%zu].type: is missing", index);
    }
    if (ret->copy_up && !str_eq(mount->type, "tmpfs")) {
        return err_say(err, EINVAL, "mounts[%zu].options = \"tmpcopyup\": goes with tmpfs only",
                       index);
    }
    if (ret->bind && mount->source == NULL) {
        return err_say(err, EINVAL, "mounts[%zu].source: is missing", index);
    }
    if (mount->uid_maps.count > 0 && !ret->idmap) {
        ret->idmap = true;
    }
    return 0;
}

int mount_options_list(struct strv *ret)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < COUNT(attr_words); i++) {
        r = strv_add(ret, attr_words[i].name);
        if (r == 0) {
            r = strv_addf(ret, "r%s", attr_words[i].name);
        }
    }
    for (size_t i = 0; r == 0 && i < COUNT(special_words); i++) {
        r = strv_add(ret, special_words[i].name);
    }
    for (size_t i = 0; r == 0 && propagation_names[i].name != NULL; i++) {
        r = strv_add(ret, propagation_names[i].name);
    }
    return r;
}
