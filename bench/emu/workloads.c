/*
 * workloads.c - what programs spend their time with, one thing at a time. Usage: workloads NAME
 * TIMES. Prints a number that depends on all that was computed, the same on every CPU.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t seed = 12345;

static uint32_t next(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static uint32_t rotate(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

/* The rounds of SHA-256 on made-up constants: its instructions, not its results. */
static uint64_t sha256(void)
{
    static uint32_t k[64];
    uint32_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint32_t w[64];
    for (int i = 0; i < 64; i++) {
        k[i] = next() * 2654435761u;
    }
    for (int block = 0; block < 4000; block++) {
        for (int i = 0; i < 16; i++) {
            w[i] = (uint32_t)block * 31u + (uint32_t)i;
        }
        for (int i = 16; i < 64; i++) {
            uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
            uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + a + w[i - 7] + b;
        }
        uint32_t v[8];
        memcpy(v, h, sizeof(v));
        for (int i = 0; i < 64; i++) {
            uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
            uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
            uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof(v[0]));
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++) {
            h[i] += v[i];
        }
    }
    return h[0] ^ h[7];
}

static uint64_t crc32(void)
{
    static uint32_t table[256];
    static uint8_t data[65536];
    uint32_t crc = ~0u;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) {
            c = (c & 1) != 0 ? 0xedb88320u ^ c >> 1 : c >> 1;
        }
        table[i] = c;
    }
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)next();
    }
    for (int round = 0; round < 40; round++) {
        for (size_t i = 0; i < sizeof(data); i++) {
            crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
        }
    }
    return crc;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t sort(void)
{
    static uint32_t data[60000];
    for (size_t i = 0; i < 60000; i++) {
        data[i] = next();
    }
    qsort(data, 60000, sizeof(data[0]), compare);
    return data[30000];
}

static uint64_t hash(void)
{
    static uint32_t keys[1 << 16];
    uint64_t found = 0;
    memset(keys, 0, sizeof(keys));
    for (int i = 0; i < 300000; i++) {
        uint32_t key = next() % 40000 + 1;
        uint32_t at = key * 2654435761u >> 16;
        while (keys[at & 65535] != 0 && keys[at & 65535] != key) {
            at++;
        }
        found += keys[at & 65535] == key;
        keys[at & 65535] = key;
    }
    return found;
}

/* Pointers in a random order through 8 MB. */
static uint64_t list(void)
{
    const uint32_t count = 1 << 21;
    static uint32_t *to;
    if (to == NULL) {
        to = malloc(count * sizeof(*to));
        for (uint32_t i = 0; i < count; i++) {
            to[i] = i;
        }
        for (uint32_t i = count - 1; i > 0; i--) {
            uint32_t k = next() % i;
            uint32_t swap = to[i];
            to[i] = to[k];
            to[k] = swap;
        }
    }
    uint32_t at = 0;
    for (int i = 0; i < 300000; i++) {
        at = to[at];
    }
    return at;
}

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t calls(void)
{
    return fib(27 + (next() & 0));
}

static uint64_t op_add(uint64_t a, uint64_t b)
{
    return a + b;
}
static uint64_t op_xor(uint64_t a, uint64_t b)
{
    return a ^ b;
}
static uint64_t op_mix(uint64_t a, uint64_t b)
{
    return a * 31 + b;
}
static uint64_t op_turn(uint64_t a, uint64_t b)
{
    return (a << 7 | a >> 57) - b;
}

static uint64_t indirect(void)
{
    static uint64_t (*const ops[])(uint64_t, uint64_t) = {op_add, op_xor, op_mix, op_turn};
    uint64_t a = 1;
    for (uint32_t i = 0; i < 1500000; i++) {
        a = ops[(a >> 13 ^ i) & 3](a, i);
    }
    return a;
}

/* A machine of a stack, a switch an instruction. */
static uint64_t bytecode(void)
{
    enum { PUSH, ADD, MUL, DUP, SWAP, DROP, LOOP, END };
    static const uint8_t code[] = {PUSH, 3,    DUP,  MUL, PUSH, 7,  ADD,
                                   DUP,  SWAP, DROP, ADD, LOOP, END};
    uint64_t stack[64] = {1};
    int sp = 1;
    int left = 250000;
    for (const uint8_t *pc = code;;) {
        switch (*pc++) {
        case PUSH:
            stack[sp++] = *pc++;
            break;
        case ADD:
            sp--;
            stack[sp - 1] += stack[sp];
            break;
        case MUL:
            sp--;
            stack[sp - 1] = stack[sp - 1] * stack[sp] & 0xffffff;
            break;
        case DUP:
            stack[sp] = stack[sp - 1];
            sp++;
            break;
        case SWAP: {
            uint64_t t = stack[sp - 1];
            stack[sp - 1] = stack[sp - 2];
            stack[sp - 2] = t;
            break;
        }
        case DROP:
            sp--;
            break;
        case LOOP:
            if (--left > 0) {
                pc = code;
            }
            break;
        default:
            return stack[sp - 1];
        }
    }
}

/* The C library's string and memory functions. */
static uint64_t strings(void)
{
    static char a[4096];
    static char b[4096];
    uint64_t sum = 0;
    memset(a, 'x', sizeof(a) - 1);
    for (int i = 0; i < 6000; i++) {
        size_t len = 100 + (size_t)(i * 37 % 3900);
        a[len] = '\0';
        sum += strlen(a);
        memcpy(b, a, len + 1);
        sum += (uint64_t)(strcmp(a, b) == 0) + (uint64_t)(strchr(b, 'y') == NULL);
        sum += (uint64_t)(memcmp(a, b, len) == 0);
        a[len] = 'x';
    }
    return sum;
}

static uint64_t bytes(void)
{
    static uint8_t data[32768];
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)next();
    }
    for (int round = 0; round < 60; round++) {
        for (size_t i = 1; i < sizeof(data); i++) {
            uint8_t c = data[i];
            c = c >= 'a' && c <= 'z' ? (uint8_t)(c - 32) : c;
            data[i] = (uint8_t)(c + data[i - 1]);
            sum += data[i] == 'A';
        }
    }
    return sum;
}

static uint64_t allocate(void)
{
    void *held[512] = {NULL};
    uint64_t sum = 0;
    for (int i = 0; i < 300000; i++) {
        uint32_t at = next() & 511;
        free(held[at]);
        size_t size = 16 + next() % 500;
        held[at] = malloc(size);
        ((uint8_t *)held[at])[size - 1] = (uint8_t)i;
        sum += size;
    }
    for (int i = 0; i < 512; i++) {
        free(held[i]);
    }
    return sum;
}

static uint64_t of_double(double d)
{
    uint64_t v = 0;
    memcpy(&v, &d, sizeof(v));
    return v;
}

static uint64_t matmul_f64(void)
{
    enum { N = 128 };
    static double a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            a[i][j] = i * 0.5 + j;
            b[i][j] = i - j * 0.25;
        }
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < N; k++) {
                sum += a[i][k] * b[k][j];
            }
            c[i][j] = sum;
        }
    }
    return of_double(c[5][7] + c[100][3]);
}

static uint64_t nbody_f64(void)
{
    double x[5][3], v[5][3];
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 3; k++) {
            x[i][k] = i * 1.25 + k * 0.5 + (i ^ k);
            v[i][k] = 0.125 * (i - k);
        }
    }
    for (int step = 0; step < 20000; step++) {
        for (int i = 0; i < 5; i++) {
            for (int j = i + 1; j < 5; j++) {
                double d[3], r = 0.01;
                for (int k = 0; k < 3; k++) {
                    d[k] = x[i][k] - x[j][k];
                    r += d[k] * d[k];
                }
                double m = 0.001 / (r * sqrt(r));
                for (int k = 0; k < 3; k++) {
                    v[i][k] -= d[k] * m;
                    v[j][k] += d[k] * m;
                }
            }
        }
        for (int i = 0; i < 5; i++) {
            for (int k = 0; k < 3; k++) {
                x[i][k] += 0.001 * v[i][k];
            }
        }
    }
    return of_double(x[0][0]);
}

static uint64_t mandel_f32(void)
{
    uint64_t sum = 0;
    for (int py = 0; py < 96; py++) {
        for (int px = 0; px < 96; px++) {
            float cx = (float)px * 0.03f - 2.0f;
            float cy = (float)py * 0.02f - 1.0f;
            float x = 0;
            float y = 0;
            int n = 0;
            while (n < 200 && x * x + y * y < 4.0f) {
                float t = x * x - y * y + cx;
                y = 2 * x * y + cy;
                x = t;
                n++;
            }
            sum += (uint64_t)n;
        }
    }
    return sum;
}

static __attribute__((optimize("O3"))) uint64_t vector_f32(void)
{
    static float a[4096], b[4096], c[4096];
    for (int i = 0; i < 4096; i++) {
        a[i] = (float)i * 0.5f;
        b[i] = (float)(i % 17);
        c[i] = 1;
    }
    for (int round = 0; round < 600; round++) {
        for (int i = 0; i < 4096; i++) {
            c[i] = c[i] * 0.5f + a[i] * b[i] - (float)round;
        }
    }
    return of_double((double)c[77] + (double)c[4000]);
}

static __attribute__((optimize("O3"))) uint64_t vector_i32(void)
{
    static int32_t a[4096], b[4096];
    int32_t sum = 0;
    for (int i = 0; i < 4096; i++) {
        a[i] = (int32_t)next();
        b[i] = (int32_t)next();
    }
    for (int round = 0; round < 800; round++) {
        for (int i = 0; i < 4096; i++) {
            int32_t t = a[i] * 3 + (b[i] ^ round);
            b[i] = t > b[i] ? t >> 1 : b[i] - t;
            sum += b[i];
        }
    }
    return (uint64_t)(uint32_t)sum;
}

/* Calls of the C library's own functions of floats, as in scripts and statistics. */
static uint64_t mathlib_f64(void)
{
    double sum = 0;
    for (int i = 1; i < 60000; i++) {
        sum += floor(sqrt((double)i) * 1000) + (double)(int64_t)(fabs(1e6 / i));
    }
    return of_double(sum);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t (*run)(void);
    } all[] = {
        {"sha256", sha256},
        {"crc32", crc32},
        {"sort", sort},
        {"hash", hash},
        {"list", list},
        {"calls", calls},
        {"indirect", indirect},
        {"bytecode", bytecode},
        {"strings", strings},
        {"bytes", bytes},
        {"allocate", allocate},
        {"matmul-f64", matmul_f64},
        {"nbody-f64", nbody_f64},
        {"mandel-f32", mandel_f32},
        {"vector-f32", vector_f32},
        {"vector-i32", vector_i32},
        {"math-f64", mathlib_f64},
    };
    if (argc != 3) {
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
            puts(all[i].name);
        }
        return 0;
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(argv[1], all[i].name) == 0) {
            uint64_t result = 0;
            for (int n = atoi(argv[2]); n > 0; n--) {
                result = result * 31 + all[i].run();
            }
            printf("%llx\n", (unsigned long long)result);
            return 0;
        }
    }
    return 1;
}
