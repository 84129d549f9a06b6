#!/usr/bin/env bats
# What a workload gets hold of when `isola exec` is made to execute isola itself, and what other users of
# the host get hold of.

setup() {
    dir=$(mktemp -d)
    export ISOLA_ROOT=$dir/root ISOLA_RUN=$dir/run
    # A copy: when the attack works it must not hit the build.
    cp "$ISOLA_BUILD/src/main/isola" "$ISOLA_BUILD/src/main/isola-shim" \
        "$ISOLA_BUILD/src/main/isola-init" "$dir"
    isola=$dir/isola
    "$ISOLA_BUILD/src/main/isola-image" load -q -i "$ISOLA_BUILD/src/main/isola-busybox.tar"
    "$isola" run -d --network none --name self isola/busybox sleep 60
}

teardown() {
    "$ISOLA_BUILD/src/main/isola" rm -f self
    rm -rf "$dir"
}

@test "a workload cannot overwrite isola by /proc/self/exe of an exec" {
    before=$(sha256sum "$isola")
    "$isola" exec self /proc/self/exe events >/dev/null 2>&1 3>&- &
    run "$ISOLA_BUILD/src/main/isola" exec self sh -c '
        for i in 1 2 3 4 5 6 7 8 9 10; do
            for dir in /proc/[0-9]*; do
                exe=$(readlink "$dir/exe") && [ "$exe" != /bin/busybox ] && pid=${dir#/proc/}
            done
            [ -n "$pid" ] && break
            usleep 200000
        done
        [ -n "$pid" ] || exit 1
        exec 4<"/proc/$pid/exe"
        kill -9 "$pid"
        usleep 300000
        (echo overwritten >/proc/self/fd/4) 2>/dev/null
        exit 0'
    [ "$status" = 0 ] || { echo "$status $output"; false; }
    [ "$(sha256sum "$isola")" = "$before" ]
}

@test "other users of the host reach neither volumes nor blobs" {
    "$isola" run --rm --network none -v planted:/data isola/busybox \
        sh -c 'cp /bin/busybox /data/true && chmod 4755 /data/true'
    planted=$ISOLA_ROOT/volumes/planted/_data/true
    [ -u "$planted" ]
    chmod 755 "$dir"
    # setpriv itself still has the rights to enter; the shell has not.
    ! setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "$planted" || false
    blob=$(find "$ISOLA_ROOT/images/blobs" -type f | head -n 1)
    [ -n "$blob" ]
    run setpriv --reuid 65534 --regid 65534 --clear-groups cat "$blob"
    [ "$status" != 0 ]
}
