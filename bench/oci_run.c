/*
 * oci_run - times commands against each other, fairly: one run of each in turn, many rounds.
 * Usage: oci_run ROUNDS NAME COMMAND [NAME COMMAND...]; a COMMAND is split at blanks.
 * Prints one JSON line a name: medians and 10th percentiles of wall and CPU time in microseconds
 * (CPU: the command and all that it left behind, to the end of the last: engines leave monitors and
 * cleaners that work on when the command has returned), and the largest resident set in KiB.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS_MAX 64
#define COMMANDS_MAX 8
#define WARM_UP_ROUNDS 2

struct command {
    const char *name;
    char *argv[WORDS_MAX];
    double *wall_us;
    double *cpu_us;
    long max_rss_kib;
};

static double now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double time_us(struct timeval t)
{
    return (double)t.tv_sec * 1e6 + (double)t.tv_usec;
}

static double cpu_us_of(const struct rusage *usage)
{
    return time_us(usage->ru_utime) + time_us(usage->ru_stime);
}

/* Waits for the orphans of the command; they are ours, for we are their subreaper. */
static double reap_orphans(void)
{
    double cpu_us = 0;
    struct rusage usage;
    while (wait4(-1, NULL, 0, &usage) > 0) {
        cpu_us += cpu_us_of(&usage);
    }
    return cpu_us;
}

static void run_once(struct command *command, long round)
{
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    pid_t pid;
    int status;
    struct rusage usage;
    double start = now_us();
    int r = posix_spawnp(&pid, command->argv[0], &actions, NULL, command->argv, environ);
    if (r != 0 || wait4(pid, &status, 0, &usage) < 0 || status != 0) {
        (void)fprintf(stderr, "oci_run: '%s' failed: %s\n", command->name,
                      r != 0 ? strerror(r) : "it did not exit with 0");
        exit(1);
    }
    double end = now_us();
    double cpu_us = cpu_us_of(&usage) + reap_orphans();
    (void)posix_spawn_file_actions_destroy(&actions);
    if (round < 0) {
        return;
    }
    command->wall_us[round] = end - start;
    command->cpu_us[round] = cpu_us;
    if (usage.ru_maxrss > command->max_rss_kib) {
        command->max_rss_kib = usage.ru_maxrss;
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_command(struct command *command, long rounds)
{
    qsort(command->wall_us, (size_t)rounds, sizeof(double), compare);
    qsort(command->cpu_us, (size_t)rounds, sizeof(double), compare);
    (void)printf("{\"name\":\"%s\",\"runs\":%ld,\"wall_us\":%.0f,\"wall_us_p10\":%.0f,"
                 "\"cpu_us\":%.0f,\"cpu_us_p10\":%.0f,\"max_rss_kib\":%ld}\n",
                 command->name, rounds, command->wall_us[rounds / 2], command->wall_us[rounds / 10],
                 command->cpu_us[rounds / 2], command->cpu_us[rounds / 10], command->max_rss_kib);
}

int main(int argc, char **argv)
{
    static struct command commands[COMMANDS_MAX];
    int count = 0;
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    if (argc < 4 || argc % 2 != 0 || rounds < 1 || (argc - 2) / 2 > COMMANDS_MAX) {
        (void)fprintf(stderr, "usage: oci_run ROUNDS NAME COMMAND [NAME COMMAND...]\n");
        return 2;
    }
    for (int i = 2; i < argc; i += 2, count++) {
        struct command *command = &commands[count];
        int words = 0;
        command->name = argv[i];
        for (char *word = strtok(argv[i + 1], " "); word != NULL && words < WORDS_MAX - 1;
             word = strtok(NULL, " ")) {
            command->argv[words++] = word;
        }
        command->wall_us = calloc((size_t)rounds, sizeof(double));
        command->cpu_us = calloc((size_t)rounds, sizeof(double));
        if (words == 0 || command->wall_us == NULL || command->cpu_us == NULL) {
            return 2;
        }
    }
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (long round = -WARM_UP_ROUNDS; round < rounds; round++) {
        for (int i = 0; i < count; i++) {
            run_once(&commands[i], round);
        }
    }
    for (int i = 0; i < count; i++) {
        print_command(&commands[i], rounds);
        free(commands[i].wall_us);
        free(commands[i].cpu_us);
    }
    return 0;
}
