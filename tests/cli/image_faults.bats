#!/usr/bin/env bats
# A registry that cuts, stalls and lies.

load image_helpers

setup() {
    image_setup
    make_layout "$DIR/layout"
    "$BATS_TEST_DIRNAME/bad_registry.py" "$DIR/layout" "$DIR/port" >"$DIR/server.log" 2>&1 3>&- &
    SERVERS=$!
    for _ in $(seq 100); do
        [ -f "$DIR/port" ] && break
        sleep 0.05
    done
    PORT=$(cat "$DIR/port")
    HOST=127.0.0.1:$PORT
    config ''
}

teardown() {
    image_teardown
}

config() {
    echo "{\"retries\":${RETRIES:-3},\"stall-timeout\":\"1s\"$1,\"registries\":{\"$HOST\":{\"plain-http\":true}}}" >"$ISOLA_REGISTRIES"
}

nothing_left() {
    [ "$("$IMAGE" images -q | wc -l)" -eq 0 ]
    [ -z "$(ls "$ISOLA_ROOT/images/layers")" ]
    [ -z "$(find "$ISOLA_ROOT/images/work" -mindepth 1 ! -name '*.partial')" ]
}

@test "cut blobs are resumed, with ranges and without" {
    "$IMAGE" pull -q "$HOST/cut:1"
    cmp "$DIR/files/bin/data" "$ISOLA_ROOT"/images/layers/*/bin/data
    ISOLA_ROOT=$DIR/second "$IMAGE" pull -q "$HOST/norange:1"
    cmp "$DIR/files/bin/data" "$DIR"/second/images/layers/*/bin/data
}

@test "answers of 503 are retried" {
    "$IMAGE" pull -q "$HOST/flaky:1"
}

@test "a stalled transfer ends with a clear error and the retry goes on from there" {
    RETRIES=0 config ''
    run timeout 25 "$IMAGE" pull -q "$HOST/stall:1"
    echo "$output"
    [ "$status" -eq 1 ]
    [[ "$output" == *"too slow"* || "$output" == *"timed out"* ]]
    nothing_left
    [ "$(cat "$ISOLA_ROOT"/images/work/*.partial | wc -c)" -ge 1000 ]
    "$IMAGE" pull -q "$HOST/good:1"
    cmp "$DIR/files/bin/data" "$ISOLA_ROOT"/images/layers/*/bin/data
}

@test "bytes that are not those of the digest are never kept" {
    run "$IMAGE" pull -q "$HOST/digest:1"
    echo "$output"
    [ "$status" -eq 1 ]
    [[ "$output" == *"wrong digest"* || "$output" == *"damaged"* || "$output" == *"checksum"* ]]
    nothing_left
    "$IMAGE" pull -q "$HOST/good:1"
}

@test "a blob that is shorter than its descriptor says is refused" {
    run "$IMAGE" pull -q "$HOST/short:1"
    [ "$status" -eq 1 ]
    nothing_left
}

@test "an endless manifest is refused" {
    run "$IMAGE" pull -q "$HOST/huge:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"too large"* ]]
    nothing_left
}

@test "a redirect to another host carries no password" {
    mkdir -p "$DOCKER_CONFIG"
    echo "{\"auths\":{\"$HOST\":{\"auth\":\"dTpw\"}}}" >"$DOCKER_CONFIG/config.json"
    "$IMAGE" pull -q "$HOST/redirect:1"
    [ "$(python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())' "http://$HOST/leaks")" = '[]' ]
}

@test "a refusal is shown without the server's control characters" {
    run "$IMAGE" pull -q "$HOST/deny:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"access denied"* ]]
    [[ "$output" != *$'\033'* ]]
}

@test "a decompression bomb ends at the limit" {
    config ',"layer-size-max":"100k"'
    run "$IMAGE" pull -q "$HOST/good:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *limit* ]]
    nothing_left
}

@test "a full disk leaves the store intact and the retry works" {
    [ "$(id -u)" -eq 0 ] || skip "mounting a small tmpfs needs root"
    mkdir "$DIR/small"
    # The mount is seen by this one command only.
    run unshare -m sh -ec "
        mount --make-rprivate /
        mount -t tmpfs -o size=600k tmpfs '$DIR/small'
        export ISOLA_ROOT='$DIR/small'
        if '$IMAGE' pull -q '$HOST/good:1'; then exit 9; fi
        [ -z \"\$(ls '$DIR/small/images/layers')\" ]
        mount -o remount,size=8m '$DIR/small'
        '$IMAGE' pull -q '$HOST/good:1'
        cmp '$DIR/files/bin/data' '$DIR'/small/images/layers/*/bin/data"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"No space left"* || "$output" == *full* ]]
}

@test "a connection that dies in any phase of a pull is repeated" {
    start_proxy
    HOST=127.0.0.1:$PROXY
    config ''
    n=0
    for where in /manifests/ /blobs/; do
        for what in close half-header busy cut-response; do
            n=$((n + 1))
            echo "[{\"path\":\"$where\",\"times\":2,\"do\":\"$what\",\"after\":100,\"n\":$n}]" >"$DIR/rules"
            ISOLA_ROOT=$DIR/store.$n "$IMAGE" pull -q "$HOST/good:1"
            cmp "$DIR/files/bin/data" "$DIR/store.$n"/images/layers/*/bin/data
        done
    done
}

@test "a connection that dies for good is told, with the registry's name, and nothing is kept" {
    start_proxy
    HOST=127.0.0.1:$PROXY
    RETRIES=1 config ''
    n=0
    for where in /manifests/ /blobs/; do
        for what in close half-header stall cut-response; do
            n=$((n + 1))
            echo "[{\"path\":\"$where\",\"times\":99,\"do\":\"$what\",\"after\":100,\"n\":$n}]" >"$DIR/rules"
            run timeout 25 "$IMAGE" pull -q "$HOST/good:1"
            echo "$output"
            [ "$status" -eq 1 ]
            [[ "$output" == *"registry $HOST"* ]]
            [ "${#lines[@]}" -eq 1 ]
            nothing_left
        done
    done
    echo '[]' >"$DIR/rules"
    "$IMAGE" pull -q "$HOST/good:1"
}

@test "a registry that trickles is given up at the configured speed" {
    start_proxy
    HOST=127.0.0.1:$PROXY
    RETRIES=0 config ',"low-speed-limit":"1m"'
    echo '[{"path":"/blobs/","times":99,"do":"trickle"}]' >"$DIR/rules"
    run timeout 25 "$IMAGE" pull -q "$HOST/good:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"timed out: less than 1048576 bytes a second"* ]]
    RETRIES=0 config ',"low-speed-limit":"fast"'
    run "$IMAGE" pull -q "$HOST/good:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"low-speed-limit: 'fast' is no size"* ]]
}
