/*
 * Packages of another architecture are unpacked by mmdebstrap and configured by dpkg itself, which
 * isola-emu-aarch64 runs in the new root: nothing is registered with this kernel.
 */
#include "base/cleanup.h"
#include "base/dirs.h"
#include "cmd/image_bootstrap.h"
#include "engine/emulator.h"

/*
 * mmdebstrap(1), --extract-hook: "$1" is the new root, with its packages unpacked and their
 * archives still there, /proc mounted and services kept from starting.
 *
 * First those that others may use in their preinst scripts; dpkg orders the rest itself. What
 * nobody asked for is marked as apt itself does. Translations are of use until the end, and no
 * longer.
 */
static const char configure_script[] =
    "set -e\n"
    "emulator='%s' root=$1 first= rest= automatic=\n"
    "unset APT_CONFIG TMPDIR\n"
    "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n"
    "export ISOLA_EMU_CACHE=/.isola-translations\n"
    "in_root() { \"$emulator\" --root \"$root\" \"$@\" </dev/null; }\n"
    "mkdir -m 700 \"$root$ISOLA_EMU_CACHE\"\n"
    "for deb in \"$root\"/var/cache/apt/archives/*.deb; do\n"
    "    inside=/var/cache/apt/archives/${deb##*/}\n"
    "    name=$(dpkg-deb -f \"$deb\" Package)\n"
    "    case $(dpkg-deb -f \"$deb\" Essential Priority | tr '\\n' ' ') in\n"
    "    *'Essential: yes'* | *'Priority: required'*) first=\"$first $inside\" ;;\n"
    "    *'Priority: optional'* | *'Priority: extra'*)\n"
    "        rest=\"$rest $inside\"\n"
    "        case ,$MMDEBSTRAP_INCLUDE, in *,$name,*) ;; *) automatic=\"$automatic $name\" ;; esac "
    ";;\n"
    "    *) rest=\"$rest $inside\" ;;\n"
    "    esac\n"
    "done\n"
    /* Unquoted: words without blanks, as the archive's names of packages are. */
    "in_root /usr/bin/dpkg --force-depends --install $first\n"
    "[ -z \"$rest\" ] || in_root /usr/bin/dpkg --force-depends --install $rest\n"
    "in_root /usr/bin/dpkg --configure --pending\n"
    "in_root /usr/bin/dpkg --audit\n"
    "if [ -n \"$automatic\" ] && [ -x \"$root/usr/bin/apt-mark\" ]; then\n"
    "    in_root /usr/bin/apt-mark -qq auto $automatic\n"
    "fi\n"
    "rm -rf \"$root$ISOLA_EMU_CACHE\"\n";

/* What mmdebstrap's own variants of these names install. */
static const struct {
    const char *variant, *packages[5];
} variants[] = {
    {"essential", {"?essential"}},
    {"apt", {"?essential", "apt"}},
    {"minbase", {"?essential", "apt", "?priority(required)"}},
    {"standard",
     {"?essential", "apt", "?priority(required)", "?priority(important)", "?priority(standard)"}},
};

bool bootstrap_can_emulate(const char *architecture, const char *variant)
{
    bool known = false;
    for (size_t i = 0; i < COUNT(variants); i++) {
        known = known || str_eq(variants[i].variant, variant);
    }
    return known && emulator_has(architecture);
}

int bootstrap_emulated_arguments(const char *architecture, const char *variant, struct strv *args)
{
    AUTO(freep) char *emulator = dirs_helper(EMULATOR_PROGRAM);
    if (emulator == NULL) {
        return -ENOMEM;
    }
    if (strpbrk(emulator, "'\n") != NULL) {
        return -EINVAL;
    }
    AUTO(freep) char *script = str_printf(configure_script, emulator);
    int r = script == NULL ? -ENOMEM : strv_addf(args, "--extract-hook=%s", script);
    r = r < 0 ? r : strv_add(args, "--variant=extract");
    for (size_t i = 0; r == 0 && i < COUNT(variants); i++) {
        for (size_t k = 0; r == 0 && str_eq(variants[i].variant, variant) &&
                           k < COUNT(variants[i].packages) && variants[i].packages[k] != NULL;
             k++) {
            const char *p = variants[i].packages[k];
            r = p[0] == '?'
                    ? strv_addf(args, "--include=?narrow(?architecture(%s),%s)", architecture, p)
                    : strv_addf(args, "--include=%s", p);
        }
    }
    return r;
}
