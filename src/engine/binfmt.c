#include "engine/binfmt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"

#define MISC "/proc/sys/fs/binfmt_misc"
#define NAME "isola-aarch64"
#define BOOT_DIR "/etc/binfmt.d"
#define BOOT_FILE BOOT_DIR "/" NAME ".conf"
#define TEXT_MAX 4096u

/*
 * ELF-64, little endian, of version 1; ET_EXEC or ET_DYN; EM_AARCH64. Which system it is for nobody
 * asks.
 */
#define MAGIC                                                                                      \
    "\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00"
#define MASK                                                                                       \
    "\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff"   \
    "\\xff\\xff"

void binfmt_state_done(struct binfmt_state *state)
{
    free(state->interpreter);
    free(state->flags);
    *state = (struct binfmt_state){.mounted = false};
}

static int read_text(const char *path, struct buf *text)
{
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : read_fd(fd, TEXT_MAX, text);
}

static bool is_on(const char *text)
{
    return text != NULL && str_starts(text, "enabled");
}

/* What stands behind a word at the begin of a line; the caller frees it. NULL: no such line. */
static char *value_of(const char *text, const char *word)
{
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (str_starts(line, word)) {
            line += strlen(word);
            line += strspn(line, " ");
            return strndup(line, strcspn(line, "\n"));
        }
        line = strchr(line, '\n');
        line += line != NULL;
    }
    return strdup("");
}

int binfmt_look(struct binfmt_state *ret, struct err *err)
{
    AUTO(buf_donep) struct buf all = {0};
    AUTO(buf_donep) struct buf own = {0};
    *ret = (struct binfmt_state){.at_boot = access(BOOT_FILE, F_OK) == 0};
    ret->mounted = read_text(MISC "/status", &all) == 0;
    int r = ret->mounted ? read_text(MISC "/" NAME, &own) : -ENOENT;
    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0) {
        return err_set(err, -r, "read '%s'", MISC "/" NAME);
    }
    ret->registered = true;
    ret->enabled = is_on(all.data) && is_on(own.data);
    ret->interpreter = value_of(own.data, "interpreter");
    ret->flags = value_of(own.data, "flags:");
    return ret->interpreter == NULL || ret->flags == NULL ? err_set(err, ENOMEM, "read '%s'", MISC)
                                                          : 0;
}

static int mount_misc(struct err *err)
{
    if (access(MISC "/register", F_OK) == 0) {
        return 0;
    }
    if (access(MISC, F_OK) < 0) {
        char *const argv[] = {(char *)(uintptr_t) "modprobe", (char *)(uintptr_t) "binfmt_misc",
                              NULL};
        (void)process_run(argv, NULL, NULL);
    }
    if (mount("binfmt_misc", MISC, "binfmt_misc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0) {
        return 0;
    }
    int why = errno;
    (void)err_set(err, why, "mount binfmt_misc");
    if (why == EPERM) {
        err_hint(err, "it needs root");
    } else {
        err_hint(err, "has this kernel binfmt_misc, and can 'modprobe binfmt_misc' load it?");
    }
    return -why;
}

/* One write is one command. */
static int command(const char *path, const char *text)
{
    AUTO(closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

static int remember(const char *line, struct err *err)
{
    if (mkdir(BOOT_DIR, 0755) < 0 && errno != EEXIST) {
        return err_set(err, errno, "make '%s'", BOOT_DIR);
    }
    int r = write_file(BOOT_FILE, line);
    return r < 0 ? err_set(err, -r, "write '%s'", BOOT_FILE) : 0;
}

int binfmt_register(const char *program, bool credentials, bool at_boot, struct err *err)
{
    if (strchr(program, ':') != NULL || strchr(program, '\n') != NULL) {
        return err_say(err, EINVAL, "'%s': the kernel takes no ':' in it", program);
    }
    if (access(program, X_OK) < 0) {
        return err_set(err, errno, "register '%s'", program);
    }
    /* O: the opened program comes along; P: its own name, too. */
    AUTO(freep)
    char *line =
        str_printf(":%s:M:0:%s:%s:%s:%s", NAME, MAGIC, MASK, program, credentials ? "POCF" : "POF");
    if (line == NULL) {
        return err_set(err, ENOMEM, "register '%s'", program);
    }
    int r = mount_misc(err);
    if (r < 0) {
        return r;
    }
    r = command(MISC "/" NAME, "-1");
    r = r == -ENOENT ? 0 : r;
    r = r < 0 ? r : command(MISC "/register", line);
    if (r < 0) {
        (void)err_set(err, -r, "register '%s' with binfmt_misc", program);
        if (r == -EACCES || r == -EPERM) {
            err_hint(err, "it needs root");
        }
        return r;
    }
    return at_boot ? remember(line, err) : 0;
}

int binfmt_unregister(struct err *err)
{
    int r = command(MISC "/" NAME, "-1");
    if (unlink(BOOT_FILE) < 0 && errno != ENOENT) {
        return err_set(err, errno, "remove '%s'", BOOT_FILE);
    }
    if (r == -ENOENT) {
        return err_say(err, ENOENT, "the emulator is not registered with binfmt_misc");
    }
    return r < 0 ? err_set(err, -r, "take the emulator from binfmt_misc") : 0;
}
