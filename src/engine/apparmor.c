#include "engine/apparmor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "base/user_namespace.h"
#include "engine/bundle.h"

#define NOTE "apparmor-profile"
#define SECURITY_FS "/sys/kernel/security/apparmor"
#define LIST_MAX ((size_t)1 << 20)

/*
 * Much of it is what capabilities, masks and read-only mounts forbid as well: a second lock for
 * when the first is opened by --cap-add, a mount of the host's /proc or a mistake of ours. Written
 * against the features of AppArmor 3.0, so that newer kernels do not ask about what it cannot say.
 */
static const char profile_text[] =
    "abi <abi/3.0>,\n"
    "profile " APPARMOR_PROFILE " flags=(attach_disconnected,mediate_deleted) {\n"
    "  capability,\n"
    "  network,\n"
    "  unix,\n"
    "  dbus,\n"
    "  file,\n"
    "  umount,\n"
    "  deny mount,\n"
    "  # Anybody may stop a workload; it may signal and look into its own kind.\n"
    "  signal (receive),\n"
    "  signal (send) peer=" APPARMOR_PROFILE ",\n"
    "  ptrace (trace, read, tracedby, readby) peer=" APPARMOR_PROFILE ",\n"
    "  # Of /proc the directories of processes are left.\n"
    "  deny /proc/* w,\n"
    "  deny /proc/[^0-9]*/** w,\n"
    "  deny /proc/{kcore,kmem,mem,sysrq-trigger} rwklx,\n"
    "  # Of /sys, the control groups.\n"
    "  deny /sys/{[^f],f[^s],fs/[^c],fs/c[^g]}** wklx,\n"
    "  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,\n"
    "}\n";

static const char *find_parser(void)
{
    static const char *const paths[] = {"/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"};
    for (size_t i = 0; i < COUNT(paths); i++) {
        if (access(paths[i], X_OK) == 0) {
            return paths[i];
        }
    }
    return NULL;
}

/* A line "NAME (enforce)" of the kernel's list. */
static bool is_loaded(const char *profile)
{
    AUTO(buf_donep) struct buf list = {0};
    AUTO(freep) char *line = str_printf("\n%s (", profile);
    return line != NULL && buf_add_str(&list, "\n") == 0 &&
           read_file(SECURITY_FS "/profiles", LIST_MAX, &list) == 0 && list.data != NULL &&
           strstr(list.data, line) != NULL;
}

static bool starts_with(const char *path, const char *word)
{
    AUTO(buf_donep) struct buf text = {0};
    return read_file(path, 4096, &text) == 0 && text.data != NULL &&
           strncmp(text.data, word, strlen(word)) == 0;
}

enum apparmor_state apparmor_state(void)
{
    if (!starts_with("/sys/module/apparmor/parameters/enabled", "Y") || !user_is_host_root()) {
        return APPARMOR_NONE;
    }
    if (!starts_with("/proc/self/attr/apparmor/current", "unconfined") &&
        !starts_with("/proc/self/attr/current", "unconfined")) {
        return APPARMOR_CONFINED;
    }
    if (is_loaded(APPARMOR_PROFILE)) {
        return APPARMOR_READY;
    }
    /* In the containers of others the one or the other is missing. */
    if (access(SECURITY_FS "/.replace", W_OK) < 0 ||
        prctl(PR_CAPBSET_READ, CAP_MAC_ADMIN, 0, 0, 0) != 1) {
        return APPARMOR_NONE;
    }
    return find_parser() != NULL ? APPARMOR_READY : APPARMOR_NO_PARSER;
}

const char *apparmor_profile(const struct workload_config *config)
{
    const char *asked = bundle_security_option(config, "apparmor");
    if (asked != NULL) {
        return str_eq(asked, "unconfined") ? NULL : asked;
    }
    return !config->privileged && apparmor_state() == APPARMOR_READY ? APPARMOR_PROFILE : NULL;
}

int apparmor_load(const char *profile, const char *run_dir, struct err *err)
{
    if (!str_eq(profile, APPARMOR_PROFILE)) {
        return 0;
    }
    /* One that is loaded may be of an older Isola. */
    AUTO(buf_donep) struct buf note = {0};
    AUTO(freep) char *path = str_printf("%s/" NOTE, run_dir);
    if (path == NULL) {
        return err_set(err, ENOMEM, "load AppArmor profile '" APPARMOR_PROFILE "'");
    }
    const char *parser = find_parser();
    bool loaded = is_loaded(profile);
    if (loaded && (parser == NULL ||
                   (read_file(path, LIST_MAX, &note) == 0 && str_eq(note.data, profile_text)))) {
        return 0;
    }
    char *argv[] = {(char *)(uintptr_t)(parser != NULL ? parser : "apparmor_parser"),
                    (char[]){"--replace"}, (char[]){"--skip-cache"}, NULL};
    int r = process_run(argv, profile_text, err);
    if (r < 0) {
        (void)err_wrap(err, -r, "load AppArmor profile '" APPARMOR_PROFILE "'");
        err_hint(err, "--security-opt apparmor=unconfined does without");
        return r;
    }
    AUTO(closep) int dir = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0) {
        /* Without the note it is loaded once more next time. */
        (void)replace_file_at(dir, NOTE, profile_text, strlen(profile_text), 0600, false);
    }
    return 0;
}
