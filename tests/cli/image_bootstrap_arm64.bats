#!/usr/bin/env bats
# Images for another CPU from the distribution's own packages, whose scripts the emulator runs.

load image_helpers

setup() {
    image_setup
    command -v mmdebstrap >/dev/null || skip "mmdebstrap is not installed"
}

teardown() {
    image_teardown
}

@test "packages for arm64 are configured by the emulator, with nothing registered" {
    case $ISOLA_BUILD in *-asan) skip "made once, in the release flavour" ;; esac
    [ "$(id -u)" -eq 0 ] || skip "chroot needs root"
    run "$IMAGE" image bootstrap -q --arch arm64 --variant essential --include tini,libpng16-16 debian:bookworm-slim arm:1
    echo "$output"
    case $output in *"Failed to fetch"* | *"resolve"*) skip "apt reaches no mirror" ;; esac
    [ "$status" -eq 0 ]
    [ "$("$IMAGE" image inspect -f '{{.Architecture}}' arm:1)" = arm64 ]
    layer=$("$IMAGE" image inspect -f '{{index .GraphDriver.Data.LowerDirs 0}}' arm:1)
    # Every package is installed, by its own scripts: base-passwd's makes the users.
    run grep -c "^Status: install ok installed" "$layer/var/lib/dpkg/status"
    [ "$output" -gt 60 ]
    run grep "^Status:" "$layer/var/lib/dpkg/status"
    [[ "$output" != *unpacked* && "$output" != *half* && "$output" != *config-files* ]]
    grep -q "^www-data:" "$layer/etc/passwd"
    [ -f "$layer/etc/ld.so.cache" ]
    # Nothing of ours is left, nor the archives.
    run find "$layer" -name "*isola*"
    [ -z "$output" ]
    run find "$layer/var/cache/apt" -name "*.deb"
    [ -z "$output" ]
    run "$ISOLA_BUILD/src/main/isola-emu-aarch64" --cache none --root "$layer" /usr/bin/tini --version
    [[ "$output" == *"no /proc is mounted in"*"tini version"* ]]
}
