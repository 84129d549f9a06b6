/*
 * floats.c - comparisons of all kinds with all kinds of numbers, as branches, choices and values;
 * conversions; minima; what a signal's handler finds in vector registers.
 */
#include <fenv.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#define NUMBERS 12

static volatile double numbers[NUMBERS];
static volatile int always = 1;

static void set_numbers(void)
{
    const double all[NUMBERS] = {0.0,   -0.0,     1.0,       -1.0, 1.5,    -1e300,
                                 1e300, INFINITY, -INFINITY, NAN,  5e-324, 4503599627370497.5};
    for (int i = 0; i < NUMBERS; i++) {
        numbers[i] = all[i];
    }
}

/* Each operator as a branch, with a call behind it so that it stays one. */
static __attribute__((noinline)) int branches(double a, double b)
{
    int r = 0;
    if (a < b) {
        r |= always;
    }
    if (a <= b) {
        r |= always << 1;
    }
    if (a > b) {
        r |= always << 2;
    }
    if (a >= b) {
        r |= always << 3;
    }
    if (a == b) {
        r |= always << 4;
    }
    if (a != b) {
        r |= always << 5;
    }
    if (!(a < b)) {
        r |= always << 6;
    }
    if (!(a <= b)) {
        r |= always << 7;
    }
    if (!(a > b)) {
        r |= always << 8;
    }
    if (!(a >= b)) {
        r |= always << 9;
    }
    if (isunordered(a, b)) {
        r |= always << 10;
    }
    if (islessgreater(a, b)) {
        r |= always << 11;
    }
    return r;
}

static __attribute__((noinline)) int values(float a, float b)
{
    return (a < b) | (a <= b) << 1 | (a > b) << 2 | (a >= b) << 3 | (a == b) << 4 | (a != b) << 5 |
           isgreater(a, b) << 6 | isless(a, b) << 7 | isunordered(a, b) << 8;
}

/* Flags of floats that an integer comparison and a chain of conditions go on from. */
static __attribute__((noinline)) int chains(double a, double b, double c, int i, int j)
{
    int r = a < b && b < c ? 1 : 0;
    r += a > b || i > j ? 2 : 0;
    r += a == b && i == j ? 4 : 0;
    r += (a <= b && i < j) || (b >= c && i != j) ? 8 : 0;
    r += isunordered(a, b) || i == j ? 16 : 0;
    return r;
}

static __attribute__((noinline)) double choose(double a, double b, double c)
{
    double x = a < b ? a : b;
    double y = a > c ? a : c;
    return x != y ? x : y;
}

static void print(const char *what, double d)
{
    uint64_t v = 0;
    memcpy(&v, &d, sizeof(v));
    if (d != d) {
        printf("%s nan\n", what); /* whose bits are the CPU's own */
    } else {
        printf("%s %016llx\n", what, (unsigned long long)v);
    }
}

static void compare_all(void)
{
    for (int i = 0; i < NUMBERS; i++) {
        for (int j = 0; j < NUMBERS; j++) {
            double a = numbers[i];
            double b = numbers[j];
            printf("%d %d: %x %x", i, j, branches(a, b), values((float)a, (float)b));
            for (int k = 0; k < NUMBERS; k += 3) {
                printf(" %x", chains(a, b, numbers[k], i, j));
            }
            printf("\n");
            if (a == a && b == b) {
                print("min", a == b ? 0 : fmin(a, b));
                print("max", a == b ? 0 : fmax(a, b));
                print("choice", choose(a, b, numbers[(i + j) % 9]));
            }
        }
    }
}

static void convert_all(void)
{
    const double all[] = {0.0, -0.0, 0.49999999999999994, 0.5, -0.5,       1.5,        2.5, -2.5,
                          1e9, -1e9, 2147483647.0,        4e9, 1e15 + 0.5, -123456.789};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        volatile double d = all[i];
        volatile float f = (float)d;
        print("floor", floor(d));
        print("ceil", ceil(d));
        print("trunc", trunc(d));
        print("round", round(d));
        print("rint", rint(d));
        print("sqrt", d >= 0 ? sqrt(d) : 0);
        print("fma", fma(d, 3.25, -d));
        print("single", (double)f);
        print("sqrtf", f >= 0 ? (double)sqrtf(f) : 0);
        printf("%lld %lld\n", (long long)d, (long long)f);
        if (d >= 0) {
            printf("%llu %u\n", (unsigned long long)d, d < 4294967296.0 ? (unsigned)d : 0);
        }
        if (d > -2e9 && d < 2e9) {
            printf("%d %ld\n", (int)d, lrint(d));
        }
    }
    const int64_t integers[] = {0, 1, -1, 1 << 24 | 1, INT64_MAX, INT64_MIN, 1234567890123456789};
    for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++) {
        volatile int64_t v = integers[i];
        print("s64", (double)v);
        print("u64", (double)(uint64_t)v);
        print("s32", (double)(int32_t)v);
        print("u32", (double)(uint32_t)v);
        print("f64", (double)(float)v);
        print("f32", (double)(float)(uint32_t)v);
    }
}

static volatile sig_atomic_t ticks;

static void tick(int number)
{
    volatile double a = number;
    for (int i = 0; i < 10; i++) {
        a = a * 1.25 + 0.5; /* what it was interrupted in has these registers, too */
    }
    ticks = ticks + 1;
}

/* A sum that a timer interrupts at any instruction comes out the same. */
static void interrupted(void)
{
    struct itimerval every = {{0, 700}, {0, 700}};
    double x[8];
    double sum = 0;
    for (int k = 0; k < 8; k++) {
        x[k] = 1.0 + k * 0.125;
    }
    signal(SIGALRM, tick);
    setitimer(ITIMER_REAL, &every, NULL);
    for (int i = 0; ticks < 40 || i < 200000; i++) {
        if (i == 200000) {
            i--;
        } else {
            for (int k = 0; k < 8; k++) {
                x[k] = x[k] * 0.9999 + 0.0001 * (double)(i % 7);
                sum += x[k] > 1.0 ? x[k] : -x[k];
            }
        }
    }
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    print("interrupted", sum);
}

static void disturb(int number)
{
    volatile double zero = 0;
    volatile double one = 1;
    (void)number;
    feclearexcept(FE_ALL_EXCEPT);
    fesetround(FE_UPWARD);
    volatile double infinity = one / zero;
    (void)infinity;
}

/* What the handler does with rounding and flags is its own. */
static void disturbed(void)
{
    static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    volatile double one = 1;
    volatile double three = 3;
    signal(SIGUSR1, disturb);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        fesetround(modes[i]);
        feclearexcept(FE_ALL_EXCEPT);
        volatile double third = one / three;
        raise(SIGUSR1);
        int flags = fetestexcept(FE_INEXACT | FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW);
        (void)printf("flags %s%s, mode %s, %a %a\n", (flags & FE_INEXACT) != 0 ? "inexact" : "",
                     (flags & FE_DIVBYZERO) != 0 ? " and more" : "",
                     fegetround() == modes[i] ? "kept" : "lost", third, one / three);
    }
    fesetround(FE_TONEAREST);
}

int main(void)
{
    set_numbers();
    compare_all();
    convert_all();
    interrupted();
    disturbed();
    return 0;
}
