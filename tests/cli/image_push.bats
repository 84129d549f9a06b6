#!/usr/bin/env bats
# Push: pieces, cuts, blobs that are there, several platforms under one name.

load image_helpers

setup() {
    image_setup
    command -v docker-registry >/dev/null || skip "docker-registry is not installed"
    start_registry plain </dev/null
    start_proxy
    HOST=127.0.0.1:$PROXY
    make_image 3000000
}

teardown() {
    image_teardown
}

# make_image BYTES: p:1 with a layer that does not compress.
make_image() {
    mkdir -p "$DIR/files/bin"
    head -c "$1" /dev/urandom >"$DIR/files/bin/data"
    tar -C "$DIR/files" -cf "$DIR/files.tar" .
    "$IMAGE" import "$DIR/files.tar" p:1 >/dev/null
    "$IMAGE" tag p:1 "$HOST/p:1"
}

chunks() {
    echo "{\"upload-chunk-size\":\"$1\"${2:-},\"registries\":{\"$HOST\":{\"plain-http\":true}}}" >"$ISOLA_REGISTRIES"
}

count() {
    grep -c "\"method\": \"$1\"" "$DIR/log" || true
}

pulls_well() {
    ISOLA_ROOT=$DIR/$1 "$IMAGE" pull -q "$HOST/p:1"
    cmp "$DIR/files/bin/data" "$DIR/$1"/images/layers/*/bin/data
}

@test "a large blob goes in pieces of the wanted size" {
    chunks 512k
    "$IMAGE" push -q "$HOST/p:1"
    [ "$(count PATCH)" -eq 6 ]
    # Each starts where the one before has ended.
    [ "$(sed -n 's/.*"PATCH".*"body": \([0-9]*\).*/\1/p' "$DIR/log" | sort -n | tail -1)" -eq 524288 ]
    pulls_well other
}

@test "a push that was cut in the middle of a blob ends well, whatever the registry kept" {
    chunks 1m
    echo '[{"method":"PATCH","do":"cut-request","after":700000},
           {"method":"PATCH","skip":1,"times":2,"do":"busy"},
           {"method":"PUT","path":"/uploads/","do":"close"},
           {"method":"HEAD","do":"busy"}]' >"$DIR/rules"
    "$IMAGE" push -q "$HOST/p:1"
    pulls_well other
}

@test "after a cut the bytes that the registry has are not sent again" {
    export ISOLA_ROOT=$DIR/root
    ISOLA_ROOT=$DIR/root "$IMAGE" save -o "$DIR/p.tar" p:1
    mkdir "$DIR/layout"
    tar -C "$DIR/layout" -xf "$DIR/p.tar"
    "$BATS_TEST_DIRNAME/bad_registry.py" "$DIR/layout" "$DIR/bad.port" >"$DIR/bad.log" 2>&1 3>&- &
    SERVERS="$SERVERS $!"
    wait_for_file "$DIR/bad.port"
    HOST=127.0.0.1:$(cat "$DIR/bad.port")
    "$IMAGE" tag p:1 "$HOST/take:1"
    chunks 64m
    # It takes a third of the first piece and closes; what it says then is where the next one starts.
    "$IMAGE" push -q "$HOST/take:1"
    size=$(wc -c <"$DIR/files.tar")
    seen=$(python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())' "http://$HOST/uploads")
    echo "$seen"
    [ "$(echo "$seen" | python3 -c 'import json, sys; print(json.load(sys.stdin)["patched"])')" -le $((size + 100000)) ]
    echo "$seen" | grep -q -E '"ranges": \[0, (0, )?[1-9]'
    echo "$seen" | grep -q '"wrong": 0'
}

@test "a registry that never takes a blob is given up with its reason" {
    chunks 64m ',"retries":1'
    echo '[{"method":"PATCH","times":99,"do":"busy"}]' >"$DIR/rules"
    run "$IMAGE" push -q "$HOST/p:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"status 503"* ]]
    echo '[{"method":"PATCH","times":99,"do":"forbid"}]' >"$DIR/rules"
    run "$IMAGE" push -q "$HOST/p:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"access denied"* ]]
    echo '[{"method":"PATCH","times":99,"do":"close"}]' >"$DIR/rules"
    run "$IMAGE" push -q "$HOST/p:1"
    [ "$status" -eq 1 ]
    echo '[]' >"$DIR/rules"
    "$IMAGE" push -q "$HOST/p:1"
}

@test "blobs that the registry has are not sent, those of a base image are mounted" {
    chunks 64m
    "$IMAGE" push -q "$HOST/p:1"
    : >"$DIR/log"
    run "$IMAGE" push "$HOST/p:1"
    [ "$status" -eq 0 ]
    [ "$(count POST)" -eq 0 ]
    [[ "$output" == *"already exists"* ]]
    # Another image on top of it, in another repository: only the new layer travels.
    mkdir "$DIR/e"
    "$IMAGE" image-commit --name "$HOST/q:1" "$("$IMAGE" image inspect -f '{{.Id}}' p:1)" "$DIR/e" >/dev/null
    : >"$DIR/log"
    run "$IMAGE" push "$HOST/q:1"
    [ "$status" -eq 0 ]
    [ "$(echo "$output" | grep -c Mounted)" -eq 1 ]
    [ "$(count PATCH)" -eq 0 ]
}

@test "all platforms of a name go under one index" {
    chunks 64m
    for arch in amd64 arm64/v8 riscv64; do
        echo "$arch" >"$DIR/files/arch"
        tar -C "$DIR/files" -cf "$DIR/files.tar" arch
        "$IMAGE" import --platform "linux/$arch" "$DIR/files.tar" "$HOST/p:1" >/dev/null
    done
    run "$IMAGE" push --all-platforms --platform linux/arm64 "$HOST/p:1"
    [ "$status" -eq 1 ]
    run "$IMAGE" push --all-platforms "$HOST/p:1"
    [ "$status" -eq 0 ]
    digest=$(echo "$output" | sed -n 's/.*digest: //p')
    for arch in amd64 arm64/v8 riscv64; do
        export ISOLA_ROOT=$DIR/other
        run "$IMAGE" pull --platform "linux/$arch" "$HOST/p:1"
        [ "$status" -eq 0 ]
        [[ "$output" == *"Digest: $digest"* ]]
        [ "$("$IMAGE" image inspect --platform "linux/$arch" -f '{{.Os}}/{{.Architecture}}' "$HOST/p:1")" = "linux/${arch%/*}" ]
    done
    run "$IMAGE" pull --platform linux/s390x "$HOST/p:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *riscv64* ]]
}

@test "progress is lines for a file and bars for a terminal" {
    chunks 64m
    "$IMAGE" push "$HOST/p:1" >"$DIR/out"
    grep -q ': Pushing$' "$DIR/out"
    run -1 grep -q $'\033' "$DIR/out"
    "$IMAGE" tag p:1 "$HOST/other:1"
    ISOLA_ROOT=$DIR/other "$IMAGE" pull -q "$HOST/p:1"
    TERM=xterm script -qec "env ISOLA_ROOT=$DIR/third $IMAGE pull $HOST/p:1" /dev/null >"$DIR/out" </dev/null
    grep -q $'\033\\[2K' "$DIR/out"
}
