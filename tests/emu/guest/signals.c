/*
 * Signals that come at any moment: none is lost, none comes twice, and what they interrupt goes on.
 * Says the same natively.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 2000
#define QUEUED 500

static volatile sig_atomic_t got, ticks, queued, next, out_of_order;
static volatile int stop;

static void on_usr1(int number)
{
    (void)number;
    got++;
}

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

static void on_queued(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    queued++;
    out_of_order |= info->si_value.sival_int != next++;
}

static void *burn(void *data)
{
    volatile unsigned long x = 1;
    while (!stop) {
        for (int i = 0; i < 1000; i++) {
            x = x * 31 + (unsigned long)i;
        }
    }
    return data;
}

static int by_byte(const void *a, const void *b)
{
    return *(const unsigned char *)a - *(const unsigned char *)b;
}

static void tick_every(int microseconds)
{
    const struct itimerval it = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &it, NULL);
}

/* Each waits for the other's signal: one that is lost stops both. */
static void play_ping_pong(void)
{
    sigset_t block;
    sigset_t before;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, &before);
    signal(SIGUSR1, on_usr1);
    pid_t me = getpid();
    pid_t other = fork();
    for (int i = 0; i < ROUNDS; i++) {
        if (other != 0) {
            kill(other, SIGUSR1);
        }
        while (got <= i) {
            sigsuspend(&before);
        }
        if (other == 0) {
            kill(me, SIGUSR1);
        }
    }
    if (other == 0) {
        _exit(0);
    }
    waitpid(other, NULL, 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    printf("ping-pong %d\n", (int)got);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    play_ping_pong();

    const struct sigaction real_time = {.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN + 3, &real_time, NULL);
    for (int i = 0; i < QUEUED; i++) {
        sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = i});
    }
    printf("queued %d, out of order %d\n", (int)queued, (int)out_of_order);

    const struct sigaction tick = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    pthread_t threads[3];
    sigaction(SIGALRM, &tick, NULL);
    for (int i = 0; i < 3; i++) {
        pthread_create(&threads[i], NULL, burn, NULL);
    }
    tick_every(150);
    unsigned long hash = 5381;
    for (int i = 0; i < 200; i++) {
        char text[128];
        snprintf(text, sizeof(text), "%d words and %f %a", i, i * 1.25, i / 3.0);
        qsort(text, strlen(text), 1, by_byte);
        for (const char *c = text; *c != '\0'; c++) {
            hash = hash * 33 + (unsigned char)*c;
        }
    }
    int ends[2];
    char byte = 0;
    if (pipe(ends) < 0) {
        return 1;
    }
    pid_t writer = fork();
    if (writer == 0) {
        tick_every(0);
        usleep(50000);
        _exit(write(ends[1], "y", 1) != 1);
    }
    ssize_t n = read(ends[0], &byte, 1);
    tick_every(0);
    stop = 1;
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    waitpid(writer, NULL, 0);
    printf("hash %lx, a read that goes on %zd, ticks %d\n", hash, n, ticks > 10);

    const struct itimerval once = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &once, NULL);
    int polled = poll(NULL, 0, 5000);
    printf("poll %d: %s\n", polled, polled < 0 ? strerror(errno) : "");

    /* With all blocked, faults too, a pointer that leads nowhere is an error of the call. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    const void *volatile nowhere = (const void *)8;
    n = write(ends[1], nowhere, 4);
    printf("write %zd: %s\n", n, strerror(errno));
    sigprocmask(SIG_SETMASK, NULL, &all);
    printf("blocked %d %d\n", sigismember(&all, SIGSEGV), sigismember(&all, SIGKILL));
    return 0;
}
