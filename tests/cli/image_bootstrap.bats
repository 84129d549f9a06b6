#!/usr/bin/env bats
# Images from the distribution's own packages, through this host's apt.

load image_helpers

setup() {
    image_setup
    command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed"
}

teardown() {
    image_teardown
}

@test "what cannot be made is refused with the remedy" {
    for name in bookworm ubuntu:noble debian: debian:../x 'debian:a b'; do
        run "$IMAGE" image bootstrap "$name"
        [ "$status" -eq 1 ]
        [[ "$output" == *"is not debian:SUITE, such as debian:bookworm"* ]]
    done
    run "$IMAGE" image bootstrap --arch nonsense debian:bookworm
    [ "$status" -eq 1 ]
    mkdir "$DIR/empty"
    PATH=$DIR/empty run "$IMAGE" image bootstrap debian:bookworm
    [ "$status" -eq 1 ]
    [[ "$output" == *"apt-get install mmdebstrap"* ]]
    # A program in its place that fails as it does.
    mkdir "$DIR/bin"
    printf '#!/bin/sh\necho "I: x" >&2\necho "E: The repository has no Release file." >&2\nexit 25\n' >"$DIR/bin/mmdebstrap"
    chmod +x "$DIR/bin/mmdebstrap"
    PATH=$DIR/bin:$PATH run "$IMAGE" image bootstrap -q debian:nosuch
    echo "$output"
    [ "$status" -eq 1 ]
    [[ "$output" == *"exit code 25: E: The repository has no Release file.; is 'nosuch' a suite"* ]]
    [ -z "$("$IMAGE" images -q)" ]
    [ -z "$(ls "$ISOLA_ROOT/images/layers")" ]
}

@test "a slim Debian with a package more boots a shell" {
    case $ISOLA_BUILD in *-asan) skip "made once, in the release flavour" ;; esac
    [ "$(id -u)" -eq 0 ] || skip "chroot needs root"
    run "$IMAGE" image bootstrap -q --include tini debian:bookworm-slim small:1
    echo "$output"
    case $output in *"Failed to fetch"* | *"resolve"*) skip "apt reaches no mirror" ;; esac
    [ "$status" -eq 0 ]
    layer=$("$IMAGE" image inspect -f '{{index .GraphDriver.Data.LowerDirs 0}}' small:1)
    [ "$(chroot "$layer" /bin/bash -c '. /etc/os-release; echo $VERSION_CODENAME')" = bookworm ]
    chroot "$layer" /usr/bin/tini --version
    [ -z "$(find "$layer/usr/share/doc" -type f ! -name copyright | head -1)" ]
    [ "$("$IMAGE" image inspect -f '{{index .Config.Cmd 0}}' small:1)" = bash ]
}

@test "another architecture that this host cannot execute needs the variant that only unpacks" {
    run "$IMAGE" image bootstrap -q --arch riscv64 debian:bookworm other:1
    [ "$status" -eq 1 ]
    [[ "$output" == *"cannot run riscv64 programs"*"--variant=extract"* ]]
    run "$IMAGE" image bootstrap -q --arch arm64 --variant buildd debian:bookworm other:1
    [ "$status" -eq 1 ]
    [[ "$output" == *"cannot run arm64 programs"*"--variant=extract"* ]]
    [ -z "$("$IMAGE" images -q)" ]
}
