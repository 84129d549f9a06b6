/*
 * Pairs of registers by CASP, and by LDXP and STXP, from several threads: no step is lost, and none
 * is torn. On another CPU: what comes out of it.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#define THREADS 4
#define ROUNDS 30000

struct pair {
    uint64_t low, high;
};

static _Alignas(16) struct pair compared;
static _Alignas(16) struct pair exclusive;
static uint32_t words[2] = {1, 2};

#if defined(__aarch64__)
static struct pair compare_and_swap(struct pair *at, struct pair expected, struct pair fresh)
{
    register uint64_t x0 __asm__("x0") = expected.low;
    register uint64_t x1 __asm__("x1") = expected.high;
    register uint64_t x2 __asm__("x2") = fresh.low;
    register uint64_t x3 __asm__("x3") = fresh.high;
    __asm__ volatile(".arch armv8.1-a\n caspal x0, x1, x2, x3, [%4]"
                     : "+r"(x0), "+r"(x1)
                     : "r"(x2), "r"(x3), "r"(at)
                     : "memory");
    return (struct pair){x0, x1};
}

static void step_exclusive(struct pair *at)
{
    uint64_t low;
    uint64_t high;
    int failed;
    do {
        __asm__ volatile("ldaxp %0, %1, [%3]\n"
                         "add %0, %0, #1\n"
                         "add %1, %1, #3\n"
                         "stlxp %w2, %0, %1, [%3]"
                         : "=&r"(low), "=&r"(high), "=&r"(failed)
                         : "r"(at)
                         : "memory");
    } while (failed != 0);
}

static void *step(void *data)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct pair seen = compared;
        for (;;) {
            const struct pair fresh = {seen.low + 1, seen.high + 2};
            struct pair was = compare_and_swap(&compared, seen, fresh);
            if (was.low == seen.low && was.high == seen.high) {
                break;
            }
            seen = was;
        }
        step_exclusive(&exclusive);
    }
    return data;
}

static void swap_words(uint64_t *ret_low, uint64_t *ret_high)
{
    register uint64_t x4 __asm__("x4") = 1;
    register uint64_t x5 __asm__("x5") = 2;
    register uint64_t x6 __asm__("x6") = 7;
    register uint64_t x7 __asm__("x7") = 8;
    __asm__ volatile(".arch armv8.1-a\n casp w4, w5, w6, w7, [%4]"
                     : "+r"(x4), "+r"(x5)
                     : "r"(x6), "r"(x7), "r"(words)
                     : "memory");
    *ret_low = x4;
    *ret_high = x5;
}
#else
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *step(void *data)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        compared.low++;
        compared.high += 2;
        exclusive.low++;
        exclusive.high += 3;
        pthread_mutex_unlock(&lock);
    }
    return data;
}

static void swap_words(uint64_t *ret_low, uint64_t *ret_high)
{
    *ret_low = words[0];
    *ret_high = words[1];
    words[0] = 7;
    words[1] = 8;
}
#endif

int main(void)
{
    pthread_t threads[THREADS];
    uint64_t low;
    uint64_t high;
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, step, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    swap_words(&low, &high);
    printf("compared %lu %lu, exclusive %lu %lu\n", compared.low, compared.high, exclusive.low,
           exclusive.high);
    printf("words %u %u, before %lu %lu\n", words[0], words[1], low, high);
    return 0;
}
