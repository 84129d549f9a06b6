/*
 * What threads of a guest rely on: atomics and locks under contention, storage of their own,
 * signals to one of them, cancellation, a lock whose owner died, forks beside them, and an end in
 * any order. Says the same natively.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define ROUNDS 20000

static atomic_long counted;
static long guarded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;
static __thread int own = 5;
static atomic_int hits;

static void *count(void *data)
{
    for (int i = 0; i < ROUNDS; i++) {
        atomic_fetch_add(&counted, 1);
        pthread_mutex_lock(&lock);
        guarded++;
        pthread_mutex_unlock(&lock);
    }
    return data;
}

static void *add_own(void *data)
{
    own += (int)(long)data;
    return (void *)(long)own;
}

static void *take_turns(void *data)
{
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&lock);
        while (turn % 2 != (int)(long)data) {
            pthread_cond_wait(&changed, &lock);
        }
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void on_hit(int number)
{
    (void)number;
    atomic_fetch_add(&hits, 1);
}

static void *wait_for_ever(void *data)
{
    for (;;) {
        pause();
    }
    return data;
}

static void *die_with(void *data)
{
    pthread_mutex_lock(data);
    return NULL;
}

static long join(pthread_t *threads, int n)
{
    long sum = 0;
    void *result;
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    return sum;
}

static void *end_last(void *data)
{
    usleep(20000);
    puts("the last one ends");
    fflush(stdout);
    return data;
}

int main(void)
{
    pthread_t t[THREADS];
    void *result;
    for (long i = 0; i < THREADS; i++) {
        pthread_create(&t[i], NULL, count, (void *)i);
    }
    long sum = join(t, THREADS);
    printf("counted %ld, guarded %ld, results %ld\n", (long)counted, guarded, sum);
    for (long i = 0; i < THREADS; i++) {
        pthread_create(&t[i], NULL, add_own, (void *)i);
    }
    sum = join(t, THREADS);
    printf("own storage %ld %d\n", sum, own);
    pthread_create(&t[0], NULL, take_turns, (void *)0);
    pthread_create(&t[1], NULL, take_turns, (void *)1);
    join(t, 2);
    printf("turns %d\n", turn);

    signal(SIGUSR1, on_hit);
    pthread_create(&t[0], NULL, wait_for_ever, NULL);
    while (hits < 20) {
        pthread_kill(t[0], SIGUSR1);
        usleep(500);
    }
    pthread_cancel(t[0]);
    pthread_join(t[0], &result);
    printf("cancelled %d\n", result == PTHREAD_CANCELED);

    pthread_mutexattr_t robust;
    pthread_mutex_t left;
    pthread_mutexattr_init(&robust);
    pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&left, &robust);
    pthread_create(&t[0], NULL, die_with, &left);
    join(t, 1);
    printf("a lock of the dead: %s\n", strerror(pthread_mutex_lock(&left)));

    for (int i = 0; i < 200; i++) {
        pthread_create(&t[0], NULL, add_own, (void *)1);
        join(t, 1);
    }
    int bad = 0;
    for (int i = 0; i < 4; i++) {
        pthread_create(&t[i], NULL, count, NULL);
    }
    for (int i = 0; i < 10; i++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) {
            free(malloc(100));
            pthread_create(&t[5], NULL, add_own, (void *)1);
            pthread_join(t[5], &result);
            _exit((int)(long)result);
        }
        waitpid(pid, &status, 0);
        bad += WEXITSTATUS(status) != 6;
    }
    join(t, 4);
    printf("forks beside threads, %d of them bad; setuid of all %d\n", bad, setuid(getuid()));
    fflush(stdout);
    pthread_create(&t[0], NULL, end_last, NULL);
    pthread_exit(NULL);
}
