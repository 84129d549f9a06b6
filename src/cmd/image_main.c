#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dirs.h"
#include "base/err.h"
#include "base/user_namespace.h"
#include "cmd/image_commands.h"
#include "image/reference.h"
#include "image/store.h"

#define ONE(...) +1
#define ROWS_MAX (0 IMAGE_COMMANDS(ONE) + 2)

/* One row of the list with the code of its file. */
#define ROW(group_, name_, symbol, operands_, summary_)                                            \
    rows[count] = image_##symbol##_command;                                                        \
    rows[count].group = group_;                                                                    \
    rows[count].name = name_;                                                                      \
    rows[count].operands = operands_;                                                              \
    rows[count++].summary = summary_;

int image_main(int argc, char **argv)
{
    struct command rows[ROWS_MAX] = {0};
    size_t count = 0;
    IMAGE_COMMANDS(ROW)
    rows[count] = image_commit_command;
    /* Layers have exactly the modes that they say. */
    (void)umask(022);
    const struct command *const tables[] = {rows, NULL};
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *program = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "isola-image";
    return command_main(program, tables, argc, argv);
}

int image_command_store(const struct command_context *context, struct image_store **ret_store,
                        struct err *err)
{
    AUTO(dirs_donep) struct dirs dirs = {0};
    int r = dirs_init(context->global->root, context->global->run_dir, &dirs, err);
    /* From here on an ordinary user is root of his own ids; the directories were chosen before. */
    r = r < 0 ? r : user_namespace_enter(err);
    return r < 0 ? r : image_store_open(dirs.root, STORE_READ_WRITE, ret_store, err);
}

int image_command_name(const char *text, char **ret_full, struct err *err)
{
    AUTO(reference_donep) struct reference ref = {0};
    int r = reference_parse(text, &ref, err);
    if (r < 0) {
        return r;
    }
    *ret_full = reference_full(&ref);
    return *ret_full != NULL ? 0 : err_set(err, ENOMEM, "read reference");
}
