#!/bin/bash
# Programs of our own, compiled for both CPUs: they say the same. Usage: compiled.sh EMULATOR SOURCES
set -u
emulator=$1 sources=$2
. "$(dirname "$0")/../nested/tap.sh"
cross=$(command -v aarch64-linux-gnu-gcc) || {
    echo "1..0 # SKIP aarch64-linux-gnu-gcc is not installed"
    exit 0
}
work=$(mktemp -d /var/tmp/isola-emu-compiled-XXXXXX)
trap 'rm -rf "$work"' EXIT
names=$(cd "$sources" && echo *.c)
set -- $names
plan $((2 * $#))
for name in $names; do
    name=${name%.c}
    "$cross" -O2 -ffp-contract=off -static -pthread -o "$work/$name" "$sources/$name.c" -lm && gcc -O2 -ffp-contract=off -pthread -o "$work/$name.native" "$sources/$name.c" -lm || exit 1
    want=$("$work/$name.native"; echo "ended with $?")
    is "$name: by code for this CPU" "$want" "$(timeout 100 "$emulator" "$work/$name" 2>&1; echo "ended with $?")"
    is "$name: interpreted" "$want" "$(timeout 200 "$emulator" --interpret "$work/$name" 2>&1; echo "ended with $?")"
done
tap_end
