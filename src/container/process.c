#include "container/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "container/kernel.h"
#include "container/labels.h"

#define PASSWD_SIZE_MAX ((size_t)1 << 20)
#define CAPABILITY_WORD_BITS 32

static int set_rlimit(pid_t pid, size_t index, const struct spec_rlimit *want,
                      const struct rlimit64 *limit, struct err *err)
{
    struct rlimit64 have = {0};
    if (syscall(SYS_prlimit64, pid, want->resource, limit, NULL) == 0) {
        return 0;
    }
    int code = errno;
    (void)syscall(SYS_prlimit64, pid, want->resource, NULL, &have);
    if (code == EPERM) {
        return err_say(err, code,
                       "process.rlimits[%zu]: %s hard = %llu is above the caller's %llu; "
                       "raising it needs CAP_SYS_RESOURCE%s",
                       index, want->name, (unsigned long long)want->hard,
                       (unsigned long long)have.rlim_max,
                       want->resource == RLIMIT_NOFILE ? " and a value up to fs.nr_open" : "");
    }
    return err_set(err, code, "process.rlimits[%zu]: %s = %llu:%llu", index, want->name,
                   (unsigned long long)want->soft, (unsigned long long)want->hard);
}

int process_set_rlimits(pid_t pid, const struct spec_process *process, struct err *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < process->rlimit_count; i++) {
        const struct spec_rlimit *want = &process->rlimits[i];
        const struct rlimit64 limit = {.rlim_cur = want->soft, .rlim_max = want->hard};
        r = set_rlimit(pid, i, want, &limit, err);
    }
    return r;
}

int process_raise_rlimits(pid_t pid, const struct spec_process *process, struct err *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < process->rlimit_count; i++) {
        const struct spec_rlimit *want = &process->rlimits[i];
        struct rlimit64 have;
        if (syscall(SYS_prlimit64, pid, want->resource, NULL, &have) < 0) {
            return err_set(err, errno, "process.rlimits[%zu]: read %s", i, want->name);
        }
        if (want->hard > have.rlim_max) {
            have.rlim_max = want->hard;
            r = set_rlimit(pid, i, want, &have, err);
        }
    }
    return r;
}

int process_set_oom_score(pid_t pid, const struct spec_process *process, struct err *err)
{
    if (!process->oom_score_adj.set) {
        return 0;
    }
    char path[64];
    char text[16];
    int value = (int)process->oom_score_adj.value;
    (void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
    (void)snprintf(text, sizeof(text), "%d", value);
    int r = write_file(path, text);
    if (r < 0) {
        (void)err_set(err, -r, "process.oomScoreAdj = %d", value);
        if (r == -EACCES || r == -EPERM) {
            err_hint(err, "lowering it needs CAP_SYS_RESOURCE");
        }
    }
    return r;
}

int process_set_affinity(pid_t pid, const char *list, const char *field, struct err *err)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    const char *p = list;
    while (*p != '\0') {
        char *end;
        unsigned long first = strtoul(p, &end, 10);
        unsigned long last = first;
        if (end != p && *end == '-') {
            p = end + 1;
            last = strtoul(p, &end, 10);
        }
        if (end == p || (*end != ',' && *end != '\0') || last < first || last >= CPU_SETSIZE) {
            return err_say(err, EINVAL, "%s = \"%s\": must be a list of CPUs such as 0-3,7", field,
                           list);
        }
        for (unsigned long cpu = first; cpu <= last; cpu++) {
            CPU_SET(cpu, &set);
        }
        p = end + (*end == ',');
    }
    return sched_setaffinity(pid, sizeof(set), &set) < 0
               ? err_set(err, errno, "%s = \"%s\"", field, list)
               : 0;
}

struct sched_attributes { /* struct sched_attr of linux/sched/types.h, first version */
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

int process_set_priorities(const struct spec_process *process, struct err *err)
{
    const struct spec_scheduler *s = &process->scheduler;
    if (s->set) {
        struct sched_attributes attr = {
            .size = sizeof(attr),
            .policy = s->policy,
            .flags = s->flags,
            .nice = s->nice,
            .priority = s->priority,
            .runtime = s->runtime,
            .deadline = s->deadline,
            .period = s->period,
        };
        if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0) {
            (void)err_set(err, errno, "process.scheduler");
            if (err != NULL && err->code == EPERM) {
                err_hint(err, "it needs CAP_SYS_NICE, and a real-time budget in the cpu cgroup");
            }
            return err != NULL ? -err->code : -EPERM;
        }
    }
    if (process->io_priority_set &&
        syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, process->io_priority) < 0) {
        return err_set(err, errno, "process.ioPriority");
    }
    return 0;
}

static void set_capability_words(struct __user_cap_data_struct data[2],
                                 const struct spec_capabilities *caps)
{
    for (unsigned i = 0; i < 2; i++) {
        unsigned shift = i * CAPABILITY_WORD_BITS;
        data[i].effective = (uint32_t)(caps->effective >> shift);
        data[i].permitted = (uint32_t)(caps->permitted >> shift);
        data[i].inheritable = (uint32_t)(caps->inheritable >> shift);
    }
}

/* Before the ids change: the bounding set needs CAP_SETPCAP. */
static int drop_bounding(const struct spec_capabilities *caps, struct err *err)
{
    for (unsigned cap = 0; cap < 64; cap++) {
        if ((caps->bounding & ((uint64_t)1 << cap)) != 0) {
            continue;
        }
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            if (errno == EINVAL) {
                break; /* past the last capability of this kernel */
            }
            return err_set(err, errno, "process.capabilities.bounding: drop capability %u", cap);
        }
    }
    return 0;
}

/* What the caller itself does not have cannot be granted and is left out, as the spec says. */
static int set_capabilities(const struct spec_capabilities *want, struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &header, data) < 0) {
        return err_set(err, errno, "process.capabilities: read");
    }
    uint64_t have = data[0].permitted | (uint64_t)data[1].permitted << CAPABILITY_WORD_BITS;
    struct spec_capabilities caps = *want;
    caps.permitted &= have;
    caps.effective &= caps.permitted;
    caps.inheritable &= have;
    caps.ambient &= caps.permitted & caps.inheritable;
    set_capability_words(data, &caps);
    if (syscall(SYS_capset, &header, data) < 0) {
        return err_set(err, errno, "process.capabilities: set");
    }
    for (unsigned cap = 0; cap < 64; cap++) {
        if ((caps.ambient & ((uint64_t)1 << cap)) != 0 &&
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0) {
            return err_set(err, errno, "process.capabilities.ambient: raise capability %u", cap);
        }
    }
    return 0;
}

static int set_ids(const struct spec_process *process, struct err *err)
{
    if (setgroups(process->additional_gid_count, process->additional_gids) < 0 &&
        !(errno == EPERM && process->additional_gid_count == 0)) {
        /* In a user namespace without setgroups() the caller's groups stay: they are only dropped
         * rights there, which is why an empty list is no error. */
        return err_set(err, errno, "process.user.additionalGids");
    }
    if (setresgid(process->gid, process->gid, process->gid) < 0) {
        return err_set(err, errno, "process.user.gid = %u", process->gid);
    }
    if (process->uid != 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) {
        return err_set(err, errno, "keep capabilities");
    }
    if (setresuid(process->uid, process->uid, process->uid) < 0) {
        return err_set(err, errno, "process.user.uid = %u", process->uid);
    }
    return 0;
}

/* Docker's and podman's commands look for these words to choose the exit code 127. */
static int cwd_error(const char *cwd, int code, struct err *err)
{
    return code == ENOENT
               ? err_say(err, code, "process.cwd = \"%s\": no such file or directory", cwd)
               : err_set(err, code, "process.cwd = \"%s\"", cwd);
}

int process_enter_cwd(const struct spec_process *process, bool make, struct err *err)
{
    const char *cwd = process->cwd;
    /* "/" is where mounts_enter() or setns() left us. */
    if (strcmp(cwd, "/") != 0 && chdir(cwd) < 0) {
        int code = errno;
        if (code == ENOENT && make && mkdir_parents(cwd, 0755) == 0 && chdir(cwd) == 0) {
            code = 0;
        }
        if (code != 0) {
            return cwd_error(cwd, code, err);
        }
    }
    /* The raw call tells when the directory is not below our root (runc CVE-2024-21626). */
    char path[PATH_MAX];
    long n = syscall(SYS_getcwd, path, sizeof(path));
    if (n < 0 || path[0] != '/') {
        return err_say(err, EPERM, "process.cwd = \"%s\": lies outside of the container", cwd);
    }
    return 0;
}

static int send_listener(const struct process_plan *plan, int listener, struct err *err)
{
    int r = unix_send_fds(plan->notify_fd, plan->notify_state, strlen(plan->notify_state),
                          &listener, 1);
    (void)close(listener);
    return r < 0 ? err_set(err, -r, "linux.seccomp.listenerPath: send the descriptor") : 0;
}

static int load_filter(const struct process_plan *plan, struct err *err)
{
    int listener;
    int r = seccomp_filter_load(plan->filter, &listener, err);
    return r < 0 || listener < 0 ? r : send_listener(plan, listener, err);
}

int process_become(const struct process_plan *plan, struct err *err)
{
    const struct spec_process *process = plan->process;
    int r = plan->label_fd >= 0 ? labels_set_keys(plan->label_fd, process, err) : 0;
    if (r < 0) {
        return r;
    }
    if (plan->keyring != NULL &&
        syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, plan->keyring) < 0 && errno != ENOSYS &&
        errno != EPERM) {
        return err_set(err, errno, "join session keyring '%s'", plan->keyring);
    }
    if (plan->personality_set && personality(plan->personality) < 0) {
        return err_set(err, errno, "linux.personality");
    }
    r = plan->label_fd >= 0 ? labels_set(plan->label_fd, process, err) : 0;
    if (r == 0 && !process->no_new_privileges) {
        r = load_filter(plan, err); /* needs CAP_SYS_ADMIN, which is about to go */
    }
    r = r < 0 ? r : drop_bounding(&process->capabilities, err);
    r = r < 0 ? r : set_ids(process, err);
    r = r < 0 ? r : set_capabilities(&process->capabilities, err);
    if (r < 0) {
        return r;
    }
    if (plan->parent_death_signal != 0 && prctl(PR_SET_PDEATHSIG, plan->parent_death_signal) < 0) {
        return err_set(err, errno, "set the parent-death signal");
    }
    (void)umask(process->umask_set ? process->umask : 0022);
    if (cloexec_fds_from(3 + (int)plan->preserve_fds) < 0) {
        return err_set(err, errno, "close descriptors");
    }
    if (process->no_new_privileges) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
            return err_set(err, errno, "process.noNewPrivileges");
        }
        r = load_filter(plan, err);
    }
    return r;
}

/* The home directory of the user in the container's /etc/passwd, for a process without HOME. */
static char *find_home(uid_t uid)
{
    AUTO(buf_donep) struct buf text = {0};
    if (read_file("/etc/passwd", PASSWD_SIZE_MAX, &text) < 0 || text.data == NULL) {
        return NULL;
    }
    char *rest = NULL;
    for (char *line = strtok_r(text.data, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *fields[7] = {NULL};
        for (size_t i = 0; i < COUNT(fields); i++) {
            fields[i] = strsep(&line, ":");
        }
        uint64_t number;
        if (fields[5] != NULL && parse_u64(fields[2], 10, &number) == 0 && number == uid) {
            return strdup(fields[5]);
        }
    }
    return NULL;
}

static const char *env_value(const struct spec_strings *env, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = env->count; i > 0; i--) {
        const char *item = env->items[i - 1];
        if (strncmp(item, name, len) == 0 && item[len] == '=') {
            return item + len + 1;
        }
    }
    return NULL;
}

/* The environment of the spec, with HOME. The array lives until exec. */
static char **make_environment(const struct spec_process *process)
{
    char **env = calloc(process->env.count + 2, sizeof(*env));
    if (env == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < process->env.count; i++) {
        env[i] = process->env.items[i];
    }
    if (env_value(&process->env, "HOME") == NULL) {
        AUTO(freep) char *home = find_home(process->uid);
        env[process->env.count] =
            str_printf("HOME=%s", home != NULL && home[0] != '\0' ? home : "/");
    }
    return env;
}

/*
 * Docker's and podman's commands look for these words, in small letters, to choose between the exit
 * codes 127 and 126.
 */
static int exec_error(const char *program, int code, bool in_path, struct err *err)
{
    if (code == ENOENT && in_path) {
        return err_say(err, code, "exec '%s': executable file not found in $PATH", program);
    }
    if (code == ENOENT) {
        (void)err_say(err, code, "exec '%s': no such file or directory", program);
        if (faccessat(AT_FDCWD, program, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            err_hint(err, "it is there, but the interpreter that it names is not");
        }
        return -code;
    }
    if (code == EACCES) {
        return err_say(err, code, "exec '%s': permission denied", program);
    }
    if (code == ENOEXEC) {
        (void)err_say(err, code, "exec '%s': exec format error", program);
        err_hint(err, "it may be built for another CPU");
        return -code;
    }
    return err_set(err, code, "exec '%s'", program);
}

/* Of what the kernel says to an exec, EPERM is the policy of SELinux about the change of labels. */
static int refused(const struct spec_process *process, const char *program, int code,
                   struct err *err)
{
    int r = exec_error(program, code, false, err);
    if (code == EPERM && process->selinux_label != NULL && process->no_new_privileges) {
        err_hint(err,
                 "with process.noNewPrivileges the policy must allow the change to '%s' "
                 "(nnp_transition)",
                 process->selinux_label);
    }
    return r;
}

int process_exec(const struct spec_process *process, struct err *err)
{
    const char *program = process->args.items[0];
    char **env = make_environment(process);
    if (env == NULL) {
        return err_set(err, ENOMEM, "exec '%s'", program);
    }
    if (strchr(program, '/') != NULL) {
        (void)execve(program, process->args.items, env);
        return refused(process, program, errno, err);
    }
    const char *path = env_value(&process->env, "PATH");
    if (path == NULL) {
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    }
    int code = ENOENT;
    for (const char *p = path; program[0] != '\0'; p++) {
        size_t len = strcspn(p, ":");
        char full[PATH_MAX];
        int n =
            snprintf(full, sizeof(full), "%.*s%s%s", (int)len, p, len > 0 ? "/" : "./", program);
        if (n > 0 && (size_t)n < sizeof(full)) {
            (void)execve(full, process->args.items, env);
            if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
                return refused(process, full, errno, err);
            }
            if (errno == EACCES) {
                struct stat st;
                /* A directory of that name on the way is not what was meant. */
                code = stat(full, &st) == 0 && S_ISDIR(st.st_mode) ? code : EACCES;
            } else if (errno == ENOENT && access(full, F_OK) == 0) {
                return exec_error(full, ENOENT, false, err);
            }
        }
        p += len;
        if (*p == '\0') {
            break;
        }
    }
    return exec_error(program, code, true, err);
}

int process_find(const struct spec_process *process, struct err *err)
{
    const char *program = process->args.items[0];
    if (program[0] == '/') {
        struct stat st;
        if (stat(program, &st) < 0) {
            return exec_error(program, errno, false, err);
        }
        /* As an image's file can be seen by root here: nobody at all may execute it. */
        return S_ISREG(st.st_mode) && (st.st_mode & 0111) != 0
                   ? 0
                   : exec_error(program, EACCES, false, err);
    }
    const char *path = env_value(&process->env, "PATH");
    if (strchr(program, '/') != NULL || path == NULL) {
        return 0; /* below the working directory, which is not entered yet */
    }
    for (const char *p = path;; p++) {
        size_t len = strcspn(p, ":");
        char full[PATH_MAX];
        int n = snprintf(full, sizeof(full), "%.*s/%s", (int)len, p, program);
        if (len == 0 || (n > 0 && (size_t)n < sizeof(full) && access(full, F_OK) == 0)) {
            return 0;
        }
        p += len;
        if (*p == '\0') {
            return exec_error(program, ENOENT, true, err);
        }
    }
}
