# Translations that outlive the process: isola-emu-aarch64 --cache.
# shellcheck disable=SC2154

setup() {
    emu=$ISOLA_BUILD/src/main/isola-emu-aarch64
    ISOLA_ARM64=${ISOLA_ARM64:-$ISOLA_BUILD/arm64}
    root=$ISOLA_ARM64/root
    [ -e "$root/bin/bash" ] || skip "$(cat "$ISOLA_ARM64/missing" 2>/dev/null || echo "apt reaches no mirror")"
    bb=$root/bin/busybox
    T=$(mktemp -d /var/tmp/isola-emu.XXXXXX)
    chmod 755 "$T"
    cache=$T/cache
}

teardown() {
    umount "$T/small" 2>/dev/null || true
    rm -rf "${T:-/nonexistent}"
}

# How many blocks a run translated ("translated") or took from the cache ("kept"): count WHICH WORDS...
count() {
    which=$1
    shift
    timeout 60 "$emu" --counters --cache "$cache" -L "$root" "$@" 2>&1 >/dev/null |
        sed -nE "s/^isola-emu-aarch64: ([0-9]+) blocks, .* translated, ([0-9]+) blocks kept.*/\\$([ "$which" = kept ] && echo 2 || echo 1)/p"
}

# The file of the cache that has most in it.
largest() {
    ls -S "$cache"/*.[0-9]* | head -n 1
}

@test "the second run of a program translates nothing" {
    [ "$(count kept "$bb" true)" = 0 ]
    [ "$(count translated "$bb" true)" = 0 ]
    [ "$(count kept "$bb" true)" -gt 300 ]
    # Of another library and program: each has its own file.
    [ "$(count translated "$root/bin/bash" -c :)" -gt 1000 ]
    [ "$(count translated "$root/bin/bash" -c :)" = 0 ]
    # Without a place for it everything is as it was.
    cache=none
    [ "$(count kept "$bb" true)" = 0 ]
    [ ! -e none ]
}

@test "what was kept says the same: a shell, perl and python at other addresses each time" {
    for round in 1 2 3; do
        run timeout 60 "$emu" --cache "$cache" -L "$root" "$root/usr/bin/perl" -e 'my %h; $h{$_ % 97} += $_ ** 1.5 for 1 .. 20000; print join " ", map { sprintf "%.3f", $h{$_} } (1, 50, 96)'
        first=${first:-$output}
        [ "$status" = 0 ]
        [ "$output" = "$first" ]
        run timeout 60 "$emu" --cache "$cache" -L "$root" "$root/usr/bin/python3.11" -c 'import json, hashlib, re; print(hashlib.sha256(json.dumps([re.sub("a", "b", str(i)) for i in range(3000)]).encode()).hexdigest())'
        [ "$output" = "$(python3 -c 'import json, hashlib, re; print(hashlib.sha256(json.dumps([re.sub("a", "b", str(i)) for i in range(3000)]).encode()).hexdigest())')" ]
        run timeout 60 "$emu" --cache "$cache" -L "$root" "$root/bin/bash" -c 'for i in 1 2 3; do (trap "echo got $i" USR1; kill -USR1 $BASHPID; '"$bb"' seq $i | '"$bb"' md5sum); done; echo $((12345 * 6789))'
        second=${second:-$output}
        [ "$status" = 0 ]
        [ "$output" = "$second" ]
    done
    [ "$(echo "$output" | head -n 1)" = "got 1" ]
}

@test "what a program starts has it from the same place, and forks do not write what is their parent's" {
    # Without an environment: where strings lie decides which blocks of strlen() are needed.
    count kept "$root/bin/bash" -c "(exec -c $bb true); exec -c $bb true" >/dev/null
    run env -i "$emu" --counters --cache "$cache" -L "$root" "$bb" true
    [[ "$output" == *": 0 blocks, 0 instructions translated, "* ]]
    ISOLA_EMU_CACHE=$T/other timeout 20 "$emu" "$bb" true
    [ -n "$(ls "$T/other")" ]
}

@test "damaged files are translated anew: bits flipped, bytes cut off, nothing in it" {
    count kept "$bb" sh -c 'echo $((1+2))' >/dev/null
    file=$(largest)
    cp "$file" "$T/good"
    size=$(stat -c %s "$T/good")
    for i in $(seq 40); do
        at=$(((i * 7919 * 31 + i) % size))
        [ "$i" -gt 8 ] || at=$((i * 8))
        python3 - "$T/good" "$file" "$at" "$i" <<'PY'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
at, bit = int(sys.argv[3]), int(sys.argv[4]) % 8
# Every third time one in each record, more or less.
index = 48 + 8 * int.from_bytes(data[36:40], "little")
for i in range(index + bit, len(data), 499) if int(sys.argv[4]) % 3 == 0 else [at]:
    data[i] ^= 1 << bit
open(sys.argv[2], "wb").write(data)
PY
        run timeout 20 "$emu" --cache "$cache" "$bb" sh -c 'echo $((1+2))'
        [ "$status" = 0 ]
        [ "$output" = 3 ]
    done
    for cut in 0 1 8 47 48 1000 $((size - 1)); do
        head -c "$cut" "$T/good" >"$file"
        run timeout 20 "$emu" --cache "$cache" "$bb" sh -c 'echo $((1+2))'
        [ "$status" = 0 ]
        [ "$output" = 3 ]
    done
    # A damaged one was replaced by a whole one.
    [ "$(count translated "$bb" sh -c 'echo $((1+2))')" = 0 ]
}

@test "files that others could have written do not count" {
    count kept "$bb" true >/dev/null
    file=$(largest)
    [ "$(count kept "$bb" true)" -gt 0 ]
    chmod g+w "$file"
    [ "$(count kept "$bb" true)" = 0 ]
    [ "$(count kept "$bb" true)" -gt 0 ] # it was replaced
    chown 4321 "$file"
    [ "$(count kept "$bb" true)" = 0 ]
    mv "$file" "$T/elsewhere"
    ln -s "$T/elsewhere" "$file"
    chown root "$T/elsewhere"
    [ "$(count kept "$bb" true)" = 0 ]
    count kept "$bb" true >/dev/null
    chmod 777 "$cache"
    [ "$(count kept "$bb" true)" = 0 ]
    chmod 1777 "$cache"
    [ "$(count kept "$bb" true)" -gt 0 ]
}

@test "another user takes root's, and keeps his own beside them" {
    mkdir -m 1777 "$cache"
    cp "$bb" "$emu" "$T"
    chmod 755 "$T/busybox" "$T/isola-emu-aarch64"
    emu=$T/isola-emu-aarch64
    count kept "$T/busybox" true >/dev/null
    run setpriv --reuid 4321 --regid 4321 --clear-groups "$emu" --counters --cache "$cache" "$T/busybox" true
    [[ "$output" =~ ", "([0-9]+)" blocks kept" ]]
    [ "${BASH_REMATCH[1]}" -gt 300 ]
    run setpriv --reuid 4321 --regid 4321 --clear-groups "$emu" --counters --cache "$cache" "$T/busybox" sha256sum /dev/null
    [ -n "$(ls "$cache"/*.4321)" ]
    # What he wrote is not root's to take, nor of a process that can become root again.
    rm -f "$cache"/*.0
    run setpriv --euid 4321 "$emu" --counters --cache "$cache" "$T/busybox" sha256sum /dev/null
    [[ "$output" == *", 0 blocks kept"* ]]
    run setpriv --reuid 4321 --regid 4321 --clear-groups "$emu" --counters --cache "$cache" "$T/busybox" sha256sum /dev/null
    [[ "$output" != *", 0 blocks kept"* ]]
    rm -f "$cache"/*.0
    [ "$(count kept "$T/busybox" true)" = 0 ]
}

@test "code that changed behind the same first page is translated anew" {
    python3 - "$T/one" "$T/two" <<'PY'
import struct, sys
def program(code):
    words = [0x94000001] * 40 + [0xd2800000 | code << 5, 0xd2800ba8, 0xd4000001]
    text = struct.pack(f"<{len(words)}I", *words)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, 0x400000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 5, 0x1000, 0x400000, 0x400000, len(text), len(text), 0x1000)
    return head.ljust(0x1000, b"\0") + text
for name, code in ((sys.argv[1], 11), (sys.argv[2], 22)):
    open(name, "wb").write(program(code))
PY
    chmod 755 "$T/one" "$T/two"
    [ "$(count translated "$T/one")" -gt 8 ]
    [ "$(count translated "$T/one")" = 0 ]
    run "$emu" --cache "$cache" "$T/two"
    [ "$status" = 22 ]
    run "$emu" --cache "$cache" "$T/one"
    [ "$status" = 11 ]
    [ "$(ls "$cache"/*.0 | wc -l)" = 2 ] # the lock, and one file for both
}

@test "many at once, with nothing there yet, all go well and leave a whole file" {
    for i in $(seq 16); do
        timeout 100 "$emu" --cache "$cache" -L "$root" "$root/bin/bash" -c "echo \$(($i * $i))" >"$T/out.$i" &
    done
    wait
    for i in $(seq 16); do
        [ "$(cat "$T/out.$i")" = $((i * i)) ]
    done
    [ "$(count kept "$root/bin/bash" -c :)" -gt 1000 ]
    [ -z "$(find "$cache" -name '*.tmp')" ]
}

@test "a small file system is not filled: half of it at most, and a full one is no error" {
    mkdir "$T/small"
    mount -t tmpfs -o size=2m tmpfs "$T/small" || skip "no tmpfs can be mounted"
    cache=$T/small
    for program in "$root/bin/bash" "$root/usr/bin/perl" "$root/usr/bin/xz" "$root/usr/bin/sqlite3"; do
        run timeout 60 "$emu" --cache "$cache" -L "$root" "$program" --version
        [ "$status" = 0 ]
    done
    [ "$(du -sk "$cache" | cut -f 1)" -le 1100 ]
    head -c 3m /dev/zero >"$cache/full" 2>/dev/null || true
    run timeout 60 "$emu" --cache "$cache" -L "$root" "$root/bin/bash" -c 'echo well'
    [ "$status" = 0 ]
    [ "$output" = well ]
}

@test "a limit of file sizes ends nothing, and another root directory gets nothing" {
    run bash -c "ulimit -f 1; exec timeout 60 $emu --cache $cache $bb echo well"
    [ "$status" = 0 ]
    [ "$output" = well ]
    [ -z "$(find "$cache" -size +1k)" ]
    mkdir "$T/jail"
    run timeout 60 "$emu" --cache "$T/late" "$bb" chroot "$T/jail" /nothing
    [ "$status" = 127 ]
    [ -z "$(ls -A "$T/jail")" ]
}

@test "memory that showed a file and shows something else is not taken for the file" {
    cat >"$T/over.c" <<'C'
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <fcntl.h>
int main(int argc, char **argv)
{
    static const unsigned code[] = {0x52800540, 0xd65f03c0}; /* mov w0, 42; ret */
    int fd = open(argv[1], O_RDONLY);
    char *at = mmap(NULL, 65536, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    mmap(at + 4096, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int i = 0; i < 100; i++) {
        memcpy(at + 4096 + i * 64, code, sizeof(code));
    }
    mprotect(at + 4096, 8192, PROT_READ | PROT_EXEC);
    int sum = 0;
    for (int i = 0; i < 100; i++) {
        sum += ((int (*)(void))(at + 4096 + i * 64))();
    }
    printf("%d\n", sum + argc - argc);
    return 0;
}
C
    aarch64-linux-gnu-gcc -O1 -static -o "$T/over" "$T/over.c" || skip "aarch64-linux-gnu-gcc is not installed"
    run "$emu" --cache "$cache" "$T/over" "$root/usr/bin/sqlite3"
    [ "$output" = 4200 ]
    [ "$(ls "$cache"/*.0 | wc -l)" = 2 ] # the lock, and the program's own: nothing as sqlite3's
}
