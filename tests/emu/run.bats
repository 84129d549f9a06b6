# `isola run --platform linux/arm64`: an image of Debian's arm64 programs, with nothing registered on the host.
# shellcheck disable=SC2154

bats_require_minimum_version 1.5.0

setup_file() {
    ISOLA_ARM64=${ISOLA_ARM64:-$ISOLA_BUILD/arm64}
    export ISOLA_ARM64
    [ -e "$ISOLA_ARM64/root/bin/bash" ] || skip "$(cat "$ISOLA_ARM64/missing" 2>/dev/null || echo "apt reaches no mirror")"
    T=$(mktemp -d /var/tmp/isola-emu-run.XXXXXX)
    export T ISOLA_ROOT=$T/root ISOLA_RUN=$T/run
    export isola=$ISOLA_BUILD/src/main/isola
    mkdir -p "$T/more/bin"
    ln -s bash "$T/more/bin/sh"
    tar c -C "$ISOLA_ARM64/root" . -C "$T/more" bin/sh | "$isola" import --platform linux/arm64 -c 'CMD ["bash"]' - arm >/dev/null
}

teardown_file() {
    [ -z "${T:-}" ] || {
        "$isola" rm -f $("$isola" ps -aq) >/dev/null 2>&1 || true
        rm -rf "$T"
    }
}

arm() {
    timeout 60 "$isola" run --rm --platform linux/arm64 --network none "$@"
}

@test "programs of the image run, and what they start does" {
    run arm arm uname -m
    [ "$status" = 0 ]
    [ "$output" = aarch64 ]
    run arm arm bash -c 'for i in 1 2 3; do /bin/busybox echo $((i * i)) | cat; done; uname -m; exit 5'
    [ "$status" = 5 ]
    [ "$output" = "1
4
9
aarch64" ]
    run arm arm python3.11 -c 'import os, subprocess; print(os.uname().machine, subprocess.run(["uname", "-m"], capture_output=True).stdout)'
    [ "$output" = "aarch64 b'aarch64\n'" ]
}

@test "without --platform an image that is there for one platform only is run as that" {
    run timeout 60 "$isola" run --rm --network none arm uname -m
    [ "$status" = 0 ]
    [ "$output" = aarch64 ]
}

@test "a script is the command, of an ordinary user without any right" {
    mkdir -p "$T/bin"
    printf '#!/bin/bash -e\necho "$0 $1 $(id -u)"\n' >"$T/bin/script"
    chmod 755 "$T/bin/script"
    run arm --user 1000:1000 --cap-drop ALL --read-only -v "$T/bin:/own:ro" arm /own/script word
    [ "$status" = 0 ]
    [ "$output" = "/own/script word 1000" ]
}

@test "a program that is not there is 127, one that cannot be run 126" {
    run -127 arm arm nosuch
    [[ "$output" == *nosuch* ]]
    run -126 arm arm /etc
}

@test "exec, --init and a health check run by it as well" {
    "$isola" run -d --name x --platform linux/arm64 --network none --init --health-cmd 'test $(uname -m) = aarch64' --health-interval 1s \
        arm bash -c 'trap "exit 4" TERM; while :; do sleep 0.1; done' >/dev/null
    run timeout 60 "$isola" exec x bash -c 'uname -m; exit 3'
    [ "$status" = 3 ]
    [ "$output" = aarch64 ]
    for _ in $(seq 100); do
        [ "$("$isola" inspect -f '{{.State.Health.Status}}' x)" != healthy ] || break
        sleep 0.1
    done
    [ "$("$isola" inspect -f '{{.State.Health.Status}}' x)" = healthy ]
    timeout 60 "$isola" stop x
    [ "$("$isola" inspect -f '{{.State.ExitCode}}' x)" = 4 ]
    "$isola" rm x
}

@test "a program for this CPU in such an image runs as it is" {
    mkdir -p "$T/native"
    cp "$(command -v busybox)" "$T/native/"
    run arm -v "$T/native:/native:ro" arm /native/busybox uname -m
    [ "$status" = 0 ]
    [ "$output" = "$(uname -m)" ]
}

@test "behind the vm wall it is refused, and says what to leave out" {
    run arm --isolation vm arm uname -m
    [ "$status" = 125 ]
    [[ "$output" == *"leave --isolation vm out"* || "$output" == *KVM* ]]
}

@test "translations are kept for the workload's other processes, in memory of its own" {
    run arm arm bash -c 'for i in 1 2 3; do /bin/busybox true; done; set -- /dev/emulator-cache/*; echo $#; while read -r line; do case $line in *emulator-cache*) echo "$line" ;; esac; done </proc/mounts'
    [ "$status" = 0 ]
    [ "${lines[0]}" -gt 2 ]
    [[ "${lines[1]}" == *"tmpfs "*"nosuid,nodev,noexec"*"size=262144k"* ]]
    run arm --memory 64m arm /bin/busybox grep emulator-cache /proc/mounts
    [[ "$output" == *"size=8192k"* ]]
}

@test "doctor says whether images for the other CPU can run" {
    run "$isola" doctor
    [[ "$output" == *"emulated CPU: programs of linux/arm64 images"*"ok       isola-emu-aarch64"*"linux/arm64 images can run here"* ]]
}
