#include "base/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/path.h"
#include "base/str.h"

static char *default_dir(const char *variable, const char *system, const char *xdg_variable,
                         const char *xdg_fallback)
{
    const char *value = getenv(variable);
    if (value != NULL && value[0] != '\0') {
        return strdup(value);
    }
    if (geteuid() == 0) {
        return strdup(system);
    }
    const char *xdg = getenv(xdg_variable);
    if (xdg != NULL && xdg[0] == '/') {
        return str_printf("%s/isola", xdg);
    }
    const char *home = getenv("HOME");
    if (str_eq(xdg_variable, "XDG_DATA_HOME")) {
        return str_printf("%s/%s/isola", home != NULL ? home : "", xdg_fallback);
    }
    return str_printf("%s/isola-%u", xdg_fallback, (unsigned)geteuid());
}

static int make_dir(const char *given, char *chosen, char **ret, struct err *err)
{
    AUTO(freep) char *path = given != NULL ? strdup(given) : TAKE_PTR(chosen);
    free(chosen);
    if (path == NULL) {
        return err_set(err, ENOMEM, "choose a directory");
    }
    if (path[0] != '/') {
        AUTO(freep) char *cwd = getcwd(NULL, 0);
        char *absolute = cwd != NULL ? str_printf("%s/%s", cwd, path) : NULL;
        if (absolute == NULL) {
            return err_set(err, ENOMEM, "resolve '%s'", path);
        }
        free(path);
        path = absolute;
    }
    int r = mkdir_parents(path, 0711);
    if (r < 0) {
        return err_set(err, -r, "make directory '%s'", path);
    }
    *ret = TAKE_PTR(path);
    return 0;
}

int dirs_init(const char *root, const char *run, struct dirs *ret, struct err *err)
{
    AUTO(dirs_donep) struct dirs dirs = {0};
    char *root_default =
        default_dir("ISOLA_ROOT", "/var/lib/isola", "XDG_DATA_HOME", ".local/share");
    int r = make_dir(root, root_default, &dirs.root, err);
    if (r < 0) {
        return r;
    }
    char *run_default = default_dir("ISOLA_RUN", "/run/isola", "XDG_RUNTIME_DIR", "/tmp");
    r = make_dir(run, run_default, &dirs.run, err);
    if (r < 0) {
        return r;
    }
    *ret = dirs;
    dirs = (struct dirs){0};
    return 0;
}

void dirs_done(struct dirs *dirs)
{
    free(dirs->root);
    free(dirs->run);
    *dirs = (struct dirs){0};
}

char *dirs_helper(const char *program)
{
    AUTO(freep) char *self = NULL;
    if (read_link_at(AT_FDCWD, "/proc/self/exe", &self) == 0) {
        char *slash = strrchr(self, '/');
        if (slash != NULL) {
            *slash = '\0';
            AUTO(freep) char *beside = str_printf("%s/%s", self, program);
            if (beside != NULL && access(beside, X_OK) == 0) {
                return TAKE_PTR(beside);
            }
        }
    }
    AUTO(freep) char *installed = str_printf("%s/%s", ISOLA_LIBEXEC, program);
    if (installed != NULL && access(installed, X_OK) < 0) {
        AUTO(freep) char *command = str_printf("%s/%s", ISOLA_BIN, program);
        if (command != NULL && access(command, X_OK) == 0) {
            return TAKE_PTR(command);
        }
    }
    return TAKE_PTR(installed);
}
