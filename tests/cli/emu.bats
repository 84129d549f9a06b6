#!/usr/bin/env bats
# The emulator registered with the kernel, in a user namespace's own binfmt_misc (Linux 6.7).
load helper

setup() {
    ISOLA_ARM64=${ISOLA_ARM64:-${ISOLA_BUILD%-asan}/arm64}
    root=$ISOLA_ARM64/root
    [ -e "$root/bin/busybox" ] || skip "$(cat "$ISOLA_ARM64/missing" 2>/dev/null || echo "apt reaches no mirror")"
    own unshare -Urm true || skip "user namespaces have no binfmt_misc of their own here"
}

# In new namespaces, as their root; $bb is a program for arm64.
own() {
    unshare --user --map-root-user --mount --pid --fork --mount-proc sh -ec '
        mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2>/dev/null
        PATH=$ISOLA_BUILD/src/main:$PATH bb=$0/bin/busybox
        export ISOLA_EMU_CACHE=none
        eval "$1"' "$root" "$1"
}

@test "register lets the kernel run arm64 programs, unregister undoes it" {
    run own '
        ! $bb true 2>/dev/null
        isola emu status || echo "exit $?"
        isola emu register
        isola emu status
        $bb echo hello; $bb uname -m
        isola emu unregister
        isola emu status || echo "exit $?"
        ! $bb true 2>/dev/null
        isola emu unregister || echo "exit $?"'
    echo "$output"
    [ "$status" -eq 0 ]
    equals "linux/arm64: not registered
exit 1
linux/arm64: $ISOLA_BUILD/src/main/isola-emu-aarch64, flags POF
hello
aarch64
linux/arm64: not registered
exit 1
isola: the emulator is not registered with binfmt_misc
exit 1" "$output"
}

@test "programs keep the name they are called by" {
    run own '
        isola emu register; isola emu register
        bash -c "exec -a sh $bb -c '"'"'echo \$0 is \$(readlink /proc/self/exe)'"'"'"
        bash -c "exec -a echo $bb one -- two"'
    echo "$output"
    [ "$status" -eq 0 ]
    equals "sh is $root/bin/busybox
one -- two" "$output"
}

@test "they run in another root, which has neither the emulator nor /proc" {
    case $ISOLA_BUILD in *-asan) skip "made once, in the release flavour" ;; esac # the other is not static
    run own '
        isola emu register
        mkdir "$BATS_TEST_TMPDIR/jail"; cp $bb "$BATS_TEST_TMPDIR/jail/busybox"
        chroot "$BATS_TEST_TMPDIR/jail" /busybox sh -c "echo in \$PWD; /busybox echo started"
        cd "$BATS_TEST_TMPDIR/jail"; env -i ./busybox id -u'
    echo "$output"
    [ "$status" -eq 0 ]
    equals "in /
started
0" "$output"
}

@test "what cannot be registered is refused with the remedy" {
    run unshare --user --mount sh -c 'PATH=$ISOLA_BUILD/src/main:$PATH isola emu register'
    [ "$status" -eq 1 ]
    [[ "$output" == *"binfmt_misc"*"needs root"* ]]
}
