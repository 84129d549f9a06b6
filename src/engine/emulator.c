#include "engine/emulator.h"

#include "base/macros.h"

bool emulator_has(const char *architecture)
{
#if defined(__x86_64__)
    return str_eq(architecture, "arm64");
#else
    (void)architecture;
    return false;
#endif
}

/* As x86_suffices() of the translator, which a program of the host does not link. */
bool emulator_is_fast(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
#else
    return false;
#endif
}

int emulator_wrap(struct strv *words)
{
    /* Programs of this CPU in such an image run as they are. */
    AUTO(strv_donep) struct strv all = {0};
    const char *program = words->count > 0 ? words->items[0] : "";
    const char *const own[] = {EMULATOR_PATH, "--or-native", "--cache", EMULATOR_CACHE_PATH,
                               "--argv0",     program,       "--"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < COUNT(own); i++) {
        r = strv_add(&all, own[i]);
    }
    for (size_t i = 0; r == 0 && i < words->count; i++) {
        r = strv_add(&all, words->items[i]);
    }
    if (r == 0) {
        struct strv before = *words;
        *words = all;
        all = before;
    }
    return r;
}

bool emulator_started(const struct spec_strings *args)
{
    bool init = args->count > 2 && str_eq(args->items[0], "/dev/init");
    size_t first = init ? 2 : 0; /* behind "/dev/init --" */
    return args->count > first && str_eq(args->items[first], EMULATOR_PATH);
}
