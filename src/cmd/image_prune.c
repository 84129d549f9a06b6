#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "cmd/image_commands.h"
#include "image/image.h"
#include "image/reference.h"
#include "image/store.h"

struct prune_options {
    bool all;
    bool force;
    uint64_t before;
    struct strv filters;
};

static const struct option_spec prune_specs[] = {
    {"all", 'a', OPTION_FLAG, offsetof(struct prune_options, all), NULL,
     "Also images with a name, if no workload uses them", NULL},
    {"filter", 0, OPTION_LIST, offsetof(struct prune_options, filters), "KEY=VALUE",
     "Only what fits: until=TIME, label=KEY[=VALUE], label!=...", NULL},
    {"force", 'f', OPTION_FLAG, offsetof(struct prune_options, force), NULL, "Do not ask", NULL},
    {"reclaimed", 0, OPTION_SIZE, offsetof(struct prune_options, before), "SIZE",
     "Count SIZE, which something else gave back, in the total", NULL},
    {0},
};

/* 1 fits, 0 does not. */
static int filter_fits(struct image_store *store, const struct image_row *row, const char *filter,
                       struct err *err)
{
    if (str_starts(filter, "until=")) {
        int64_t until;
        if (parse_time(filter + 6, clock_realtime_ns(), &until) < 0) {
            return err_say(err, EINVAL, "--filter: '%s' is no time", filter + 6);
        }
        return row->created_ns < until;
    }
    if (str_starts(filter, "label=") || str_starts(filter, "label!=")) {
        AUTO(image_donep) struct image image = {0};
        const char *want = strchr(filter, '=') + 1;
        bool unwanted = filter[5] == '!';
        int r = image_resolve(store, row->id, NULL, &image, err);
        if (r < 0) {
            return r;
        }
        bool has = strv_has(&image.config.labels, want) ||
                   (strchr(want, '=') == NULL && env_get(&image.config.labels, want) != NULL);
        return has != unwanted;
    }
    return err_say(err, EINVAL,
                   "--filter: '%s' is none of until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]",
                   filter);
}

static bool ask(bool all)
{
    char answer[8] = "";
    (void)printf("This removes all %s. Go on? [y/N] ",
                 all ? "images without a workload" : "images without a name");
    (void)fflush(stdout);
    return fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int prune_all(struct image_store *store, const struct prune_options *o, struct err *err)
{
    AUTO(image_list_donep) struct image_list list = {0};
    struct store_usage before;
    struct store_usage after;
    uint64_t swept;
    int r = image_store_usage(store, &before, err);
    r = r < 0 ? r : image_store_list(store, &list, err);
    const char *last = "";
    for (size_t i = 0; r >= 0 && i < list.count; i++) {
        const struct image_row *row = &list.rows[i];
        int fits = row->users == 0 && (o->all || row->name == NULL) && !str_eq(row->id, last);
        for (size_t k = 0; fits == 1 && k < o->filters.count; k++) {
            fits = filter_fits(store, row, o->filters.items[k], err);
        }
        if (fits <= 0) {
            r = fits;
            continue;
        }
        last = row->id;
        struct err own = ERR_NONE;
        r = image_remove(store, row->id, &own);
        if (r == -EBUSY || r == -ENOENT) {
            r = 0; /* another command was quicker */
        } else if (r < 0) {
            *err = own;
        } else {
            (void)printf("Deleted: %s\n", row->id);
        }
    }
    r = r < 0 ? r : image_store_sweep(store, &swept, err);
    r = r < 0 ? r : image_store_usage(store, &after, err);
    if (r < 0) {
        return r;
    }
    char size[32];
    uint64_t was = before.layers_bytes + before.blobs_bytes + before.erofs_bytes;
    uint64_t is = after.layers_bytes + after.blobs_bytes + after.erofs_bytes;
    format_size((was > is ? was - is : 0) + o->before, size, sizeof(size));
    (void)printf("Total reclaimed space: %s\n", size);
    return 0;
}

static int prune_run(struct command_context *context, void *options, int argc, char **argv,
                     struct err *err)
{
    (void)argc;
    (void)argv;
    const struct prune_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    if (!o->force && !ask(o->all)) {
        return 0;
    }
    int r = image_command_store(context, &store, err);
    return r < 0 ? r : prune_all(store, o, err);
}

const struct command image_prune_command = {
    .options = prune_specs,
    .options_size = sizeof(struct prune_options),
    .run = prune_run,
};
