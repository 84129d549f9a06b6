#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "vmm/chip/power.h"
#include "vmm/machine_internal.h"
#include "vmm/memory.h"
#include "vmm/snapshot_internal.h"

static int check_head(void *object, struct err *err)
{
    struct snapshot_head *head = object;
    if (head->cpus == 0 || head->cpus > MACHINE_CPUS_MAX || head->memory < MACHINE_MEMORY_MIN ||
        head->memory > MACHINE_MEMORY_MAX || head->memory % MEMORY_PAGE != 0) {
        return err_say(err, EINVAL, "%u CPUs and %llu bytes of memory are no machine", head->cpus,
                       (unsigned long long)head->memory);
    }
    if (head->engine[sizeof(head->engine) - 1] != '\0') {
        return err_say(err, EINVAL, "the engine has no name");
    }
    return 0;
}

const struct state_table snapshot_head_table = {
    .name = "snapshot",
    .version = 1,
    .oldest = 1,
    .check = check_head,
    .fields =
        (const struct state_field[]){
            STATE_ARRAY(BYTES, struct snapshot_head, id),
            STATE_ARRAY(BYTES, struct snapshot_head, engine),
            STATE(U64, struct snapshot_head, memory),
            STATE(U32, struct snapshot_head, cpus),
            STATE(BOOL, struct snapshot_head, pit),
            STATE(BOOL, struct snapshot_head, rtc),
            STATE(BOOL, struct snapshot_head, i8042),
            STATE(BOOL, struct snapshot_head, pvpanic),
            STATE(BOOL, struct snapshot_head, debug_exit),
            STATE(BOOL, struct snapshot_head, serial),
            STATE(BOOL, struct snapshot_head, pci),
            STATE_BUFFER(struct snapshot_head, description, SNAPSHOT_DESCRIPTION_MAX),
            STATE_DONE,
        },
};

static void describe(const struct machine *machine, struct snapshot_head *head)
{
    const struct machine_options *options = &machine->options;
    head->memory = options->memory;
    head->cpus = options->cpus;
    head->pit = options->pit;
    head->rtc = options->rtc;
    head->i8042 = options->i8042;
    head->pvpanic = options->pvpanic;
    head->debug_exit = options->debug_exit;
    head->serial = options->serial;
    head->pci = options->pci;
    (void)snprintf((char *)head->engine, sizeof(head->engine), "%s",
                   machine->board.engine->ops->name);
}

/* Says what differs: devices are compared section by section. */
static int compare(const struct snapshot_head *saved, const struct snapshot_head *here,
                   struct err *err)
{
    const struct {
        const char *name;
        unsigned long long saved, here;
    } rows[] = {
        {"CPUs", saved->cpus, here->cpus},
        {"bytes of memory", saved->memory, here->memory},
        {"8254 timers", saved->pit, here->pit},
        {"clock chips", saved->rtc, here->rtc},
        {"keyboards", saved->i8042, here->i8042},
        {"panic ports", saved->pvpanic, here->pvpanic},
        {"debug exits", saved->debug_exit, here->debug_exit},
        {"serial ports", saved->serial, here->serial},
        {"PCI buses", saved->pci, here->pci},
    };
    if (memcmp(saved->engine, here->engine, sizeof(saved->engine)) != 0) {
        return err_say(err, EINVAL, "the snapshot is of a machine that '%s' ran, not '%s'",
                       (const char *)saved->engine, (const char *)here->engine);
    }
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (rows[i].saved != rows[i].here) {
            return err_say(err, EINVAL, "the snapshot's machine has %llu %s, this one %llu",
                           rows[i].saved, rows[i].name, rows[i].here);
        }
    }
    return 0;
}

static int save_cpus(struct machine *machine, struct buf *file, struct err *err)
{
    AUTO(freep) struct x86_state *state = malloc(sizeof(*state));
    if (state == NULL) {
        return err_set(err, ENOMEM, "save the CPUs");
    }
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < machine->cpu_count; i++) {
        struct cpu *cpu = machine->cpu[i].cpu;
        char instance[16];
        (void)snprintf(instance, sizeof(instance), "%u", i);
        memset(state, 0, sizeof(*state));
        r = cpu->ops->get_state(cpu, state, err);
        r = r < 0 ? r : state_write(file, &x86_state_table, instance, state, err);
    }
    return r;
}

static int save_board(struct machine *machine, struct buf *file, struct err *err)
{
    struct x86_board_state board = {0};
    struct cpu_engine *engine = machine->board.engine;
    int r = engine->ops->get_board(engine, &board, err);
    return r < 0 ? r : state_write(file, &x86_board_state_table, "board", &board, err);
}

static int save_devices(struct machine *machine, struct buf *file, struct err *err)
{
    int r = 0;
    for (struct device *d = machine->devices; r == 0 && d != NULL; d = d->next) {
        (void)pthread_mutex_lock(&d->lock);
        r = d->state == NULL ? 0 : state_write(file, d->state, d->instance, d, err);
        (void)pthread_mutex_unlock(&d->lock);
    }
    return r;
}

static int save_state(struct machine *machine, struct snapshot_head *head, struct buf *file,
                      struct err *err)
{
    int r = snapshot_envelope_begin(file);
    if (r < 0) {
        return err_set(err, -r, "save the machine");
    }
    r = state_write(file, &snapshot_head_table, "head", head, err);
    r = r < 0 ? r : save_cpus(machine, file, err);
    r = r < 0 ? r : save_board(machine, file, err);
    r = r < 0 ? r : save_devices(machine, file, err);
    if (r == 0) {
        snapshot_envelope_end(file);
    }
    return r;
}

static int check_free(const char *path, struct err *err)
{
    if (access(path, F_OK) == 0) {
        (void)err_say(err, EEXIST, "'%s' exists", path);
        err_hint(err, "snapshots are never overwritten: give a new name, or remove it");
        return -EEXIST;
    }
    return 0;
}

static void remove_file(char **name)
{
    if (*name != NULL) {
        (void)unlink(*name);
        free(*name);
        *name = NULL;
    }
}

void snapshot_files_done(struct snapshot_files *files)
{
    remove_file(&files->state_name);
    remove_file(&files->memory_name);
    files->state_fd = close_fd(files->state_fd);
    files->memory_fd = close_fd(files->memory_fd);
    for (; files->base_count > 0; files->base_count--) {
        (void)close_fd(files->base_fd[files->base_count - 1]);
    }
}

int snapshot_files_make(const struct snapshot_paths *paths, struct snapshot_files *ret,
                        struct err *err)
{
    AUTO(snapshot_files_donep) struct snapshot_files files = {.state_fd = -1, .memory_fd = -1};
    int r = check_free(paths->state, err);
    r = r < 0 ? r : check_free(paths->memory, err);
    if (r < 0) {
        return r;
    }
    files.memory_fd = snapshot_make_file(paths->memory, &files.memory_name, err);
    if (files.memory_fd < 0) {
        return files.memory_fd;
    }
    files.state_fd = snapshot_make_file(paths->state, &files.state_name, err);
    if (files.state_fd < 0) {
        return files.state_fd;
    }
    *ret = files;
    files = (struct snapshot_files){.state_fd = -1, .memory_fd = -1};
    return 0;
}

/* Takes the temporary name's place; what came there meanwhile stays. */
static int name_file(char **temporary, const char *path, struct err *err)
{
    if (renameat2(AT_FDCWD, *temporary, AT_FDCWD, path, RENAME_NOREPLACE) < 0) {
        return err_set(err, errno, "write '%s'", path);
    }
    free(*temporary);
    *temporary = NULL;
    return 0;
}

int snapshot_files_name(struct snapshot_files *files, const struct snapshot_paths *paths,
                        struct err *err)
{
    int r = name_file(&files->memory_name, paths->memory, err);
    if (r < 0) {
        return r;
    }
    r = name_file(&files->state_name, paths->state, err);
    if (r < 0) {
        (void)unlink(paths->memory); /* ours, and of no use alone */
    }
    return r;
}

static int write_memory(struct machine *machine, enum snapshot_kind kind, const uint8_t *id, int fd,
                        struct err *err)
{
    if (kind == SNAPSHOT_DIFF && !machine->options.track_dirty) {
        (void)err_say(err, EOPNOTSUPP, "what the guest writes is not tracked");
        err_hint(err, "set track_dirty_pages in machine-config before the machine starts");
        return -EOPNOTSUPP;
    }
    if (kind == SNAPSHOT_DIFF && !machine->saved.known) {
        return err_say(err, EINVAL, "nothing was saved yet: the first snapshot must be a full one");
    }
    int r = machine->options.track_dirty ? snapshot_collect(machine, err) : 0;
    if (r < 0) {
        return r;
    }
    return kind == SNAPSHOT_DIFF ? snapshot_write_diff(machine, id, fd, err)
                                 : snapshot_write_memory(machine->memory, id, fd, err);
}

void snapshot_written(struct machine *machine)
{
    size_t count = 0;
    const struct memory_region *region = memory_regions(machine->memory, &count);
    for (size_t i = 0; i < count; i++) {
        if (machine->saved.unsaved[i] != NULL) {
            memset(machine->saved.unsaved[i], 0, snapshot_bitmap_bytes(&region[i]));
        }
    }
    memcpy(machine->saved.id, machine->saved.pending, sizeof(machine->saved.id));
    machine->saved.known = true;
}

int snapshot_write(struct machine *machine, enum snapshot_kind kind, const char *description,
                   int state_fd, int memory_fd, struct err *err)
{
    AUTO(buf_donep) struct buf file = {0};
    struct snapshot_head head = {0};
    if (!machine->stands) {
        return err_say(err, EBUSY, "the machine runs: pause it to save it");
    }
    if (machine->options.shared_memory) {
        return err_say(err, EOPNOTSUPP, "a machine whose memory others share cannot be saved");
    }
    describe(machine, &head);
    if (getrandom(head.id, sizeof(head.id), 0) != (ssize_t)sizeof(head.id)) {
        return err_set(err, errno, "save the machine");
    }
    /* Borrowed for the writing; never grown. */
    head.description = (struct buf){
        .data = (char *)(uintptr_t)description,
        .len = strlen(description),
    };
    if (head.description.len > SNAPSHOT_DESCRIPTION_MAX) {
        return err_say(err, EMSGSIZE, "the machine's description is too long");
    }
    int r = save_state(machine, &head, &file, err);
    r = r < 0 ? r : write_memory(machine, kind, head.id, memory_fd, err);
    r = r < 0 ? r : snapshot_write_state(&file, state_fd, err);
    if (r == 0) {
        memcpy(machine->saved.pending, head.id, sizeof(head.id));
    }
    return r;
}

int snapshot_save(struct machine *machine, const char *description,
                  const struct snapshot_paths *paths, struct err *err)
{
    AUTO(snapshot_files_donep) struct snapshot_files files = {.state_fd = -1, .memory_fd = -1};
    int r = snapshot_files_make(paths, &files, err);
    r = r < 0 ? r
              : snapshot_write(machine, SNAPSHOT_FULL, description, files.state_fd, files.memory_fd,
                               err);
    r = r < 0 ? r : snapshot_files_name(&files, paths, err);
    if (r == 0) {
        snapshot_written(machine);
    }
    return r;
}

int snapshot_parse(struct snapshot *snapshot, const char *name, struct err *err)
{
    struct state_reader reader = {(const uint8_t *)snapshot->file.data, snapshot->file.len, 0};
    int r = snapshot_envelope_check(reader.data, reader.len, name, err);
    if (r < 0) {
        return r;
    }
    reader.at = SNAPSHOT_ENVELOPE;
    r = state_read(&reader, &snapshot_head_table, "head", &snapshot->head, err);
    if (r < 0) {
        return err_wrap(err, -r, "snapshot '%s'", name);
    }
    snapshot->body = reader.at;
    return 0;
}

/* A FIFO is not to keep us. */
static int open_to_read(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int snapshot_files_open(const struct snapshot_paths *paths, struct snapshot_files *ret,
                        struct err *err)
{
    int state = open_to_read(paths->state);
    if (state < 0) {
        return err_set(err, -state, "open snapshot '%s'", paths->state);
    }
    *ret = (struct snapshot_files){
        .state_fd = state,
        .memory_fd = open_to_read(paths->memory),
    };
    for (; ret->base_count < paths->base_count; ret->base_count++) {
        ret->base_fd[ret->base_count] = open_to_read(paths->base[ret->base_count]);
    }
    return 0;
}

static int keep(int fd, const char *name, int *ret, struct err *err)
{
    int own = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0) {
        return err_set(err, fd < 0 ? -fd : errno, "open the snapshot's memory '%s'", name);
    }
    *ret = own;
    return 0;
}

/* From the latest, which the state names, back to the full one; kept in the other order. */
static int open_memory(struct snapshot *snapshot, const struct snapshot_files *files,
                       const struct snapshot_paths *paths, struct err *err)
{
    uint8_t id[SNAPSHOT_ID_SIZE];
    const size_t count = files->base_count;
    memcpy(id, snapshot->head.id, sizeof(id));
    for (size_t i = 0; i < count; i++) {
        const char *name = i == 0 ? paths->memory : paths->base[i - 1];
        int *own = &snapshot->diff_fd[count - 1 - i];
        int r = keep(i == 0 ? files->memory_fd : files->base_fd[i - 1], name, own, err);
        r = r < 0 ? r : snapshot_check_diff(*own, name, &snapshot->head, id, id, err);
        if (r < 0) {
            return r;
        }
    }
    const char *name = count == 0 ? paths->memory : paths->base[count - 1];
    if (count == 0 && files->memory_fd >= 0 &&
        snapshot_check_diff(files->memory_fd, name, &snapshot->head, id, id, NULL) == 0) {
        return err_say(err, EINVAL,
                       "'%s' holds what was written since another snapshot: name the memory of "
                       "that one (mem_base_paths)",
                       name);
    }
    int r = keep(count == 0 ? files->memory_fd : files->base_fd[count - 1], name,
                 &snapshot->memory_fd, err);
    return r < 0 ? r : snapshot_check_memory(snapshot->memory_fd, name, &snapshot->head, id, err);
}

int snapshot_open_files(const struct snapshot_files *files, const struct snapshot_paths *paths,
                        struct snapshot **ret, struct err *err)
{
    AUTO(snapshot_freep) struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (snapshot == NULL) {
        return err_set(err, ENOMEM, "open snapshot '%s'", paths->state);
    }
    snapshot->memory_fd = -1;
    snapshot->diff_count = files->base_count;
    for (size_t i = 0; i < SNAPSHOT_BASES_MAX; i++) {
        snapshot->diff_fd[i] = -1;
    }
    int r = lseek(files->state_fd, 0, SEEK_SET) < 0
                ? -errno
                : read_fd(files->state_fd, SNAPSHOT_STATE_MAX, &snapshot->file);
    if (r < 0) {
        return err_set(err, -r, "open snapshot '%s'", paths->state);
    }
    r = snapshot_parse(snapshot, paths->state, err);
    r = r < 0 ? r : open_memory(snapshot, files, paths, err);
    if (r < 0) {
        return r;
    }
    *ret = TAKE_PTR(snapshot);
    return 0;
}

int snapshot_open(const struct snapshot_paths *paths, struct snapshot **ret, struct err *err)
{
    AUTO(snapshot_files_donep) struct snapshot_files files = {.state_fd = -1, .memory_fd = -1};
    int r = snapshot_files_open(paths, &files, err);
    return r < 0 ? r : snapshot_open_files(&files, paths, ret, err);
}

void snapshot_free(struct snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    buf_done(&snapshot->file);
    buf_done(&snapshot->head.description);
    (void)close_fd(snapshot->memory_fd);
    for (size_t i = 0; i < SNAPSHOT_BASES_MAX; i++) {
        (void)close_fd(snapshot->diff_fd[i]);
    }
    free(snapshot);
}

const char *snapshot_description(const struct snapshot *snapshot)
{
    const char *text = snapshot->head.description.data;
    return text == NULL ? "" : text;
}

void snapshot_set_memory(const struct snapshot *snapshot, struct machine_options *options)
{
    options->memory_from_file = true;
    options->memory_fd = snapshot->memory_fd;
}

static int restore_cpus(struct machine *machine, struct state_reader *reader, struct err *err)
{
    AUTO(freep) struct x86_state *state = malloc(sizeof(*state));
    if (state == NULL) {
        return err_set(err, ENOMEM, "restore the CPUs");
    }
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < machine->cpu_count; i++) {
        struct cpu *cpu = machine->cpu[i].cpu;
        char instance[16];
        (void)snprintf(instance, sizeof(instance), "%u", i);
        memset(state, 0, sizeof(*state));
        r = state_read(reader, &x86_state_table, instance, state, err);
        r = r < 0 ? r : cpu->ops->set_state(cpu, state, err);
    }
    return r;
}

/* After the CPUs: an interrupt that waits in the I/O APIC is delivered to a local APIC by this. */
static int restore_board(struct machine *machine, struct state_reader *reader, struct err *err)
{
    struct x86_board_state board = {0};
    struct cpu_engine *engine = machine->board.engine;
    int r = state_read(reader, &x86_board_state_table, "board", &board, err);
    return r < 0 ? r : engine->ops->set_board(engine, &board, err);
}

static int restore_devices(struct machine *machine, struct state_reader *reader, struct err *err)
{
    int r = 0;
    for (struct device *d = machine->devices; d != NULL; d = d->next) {
        (void)pthread_mutex_lock(&d->lock);
        d->ops->reset(d);
        (void)pthread_mutex_unlock(&d->lock);
    }
    for (struct device *d = machine->devices; r == 0 && d != NULL; d = d->next) {
        (void)pthread_mutex_lock(&d->lock);
        r = d->state == NULL ? 0 : state_read(reader, d->state, d->instance, d, err);
        (void)pthread_mutex_unlock(&d->lock);
    }
    return r;
}

int snapshot_restore(const struct snapshot *snapshot, struct machine *machine, struct err *err)
{
    struct state_reader reader = {(const uint8_t *)snapshot->file.data, snapshot->file.len,
                                  snapshot->body};
    struct snapshot_head here = {0};
    describe(machine, &here);
    int r = compare(&snapshot->head, &here, err);
    for (size_t i = 0; r == 0 && i < snapshot->diff_count; i++) {
        r = snapshot_apply_diff(machine->memory, snapshot->diff_fd[i], err);
    }
    r = r < 0 ? r : machine_pause(machine, err);
    r = r < 0 ? r : restore_cpus(machine, &reader, err);
    r = r < 0 ? r : restore_board(machine, &reader, err);
    r = r < 0 ? r : restore_devices(machine, &reader, err);
    if (r == 0 && reader.at != reader.len) {
        r = err_say(err, EINVAL, "the snapshot holds more devices than this machine has");
    }
    r = r < 0 ? r : machine_new_generation(machine, err);
    if (r < 0) {
        return err_wrap(err, -r, "restore the machine");
    }
    memcpy(machine->saved.id, snapshot->head.id, sizeof(machine->saved.id));
    machine->saved.known = true;
    power_event(machine->power, POWER_EVENT_GENERATION);
    return 0;
}
