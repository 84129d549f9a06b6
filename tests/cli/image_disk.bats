#!/usr/bin/env bats
# A full disk at every stage, processes that die, and pulls that share layers.

load image_helpers

setup() {
    image_setup
    make_layout "$DIR/layout"
}

teardown() {
    image_teardown
}

# full_disk COMMAND: runs it (words, no quotes) with stores of growing size, until it succeeds. Each
# failure must say that the disk is full, and the retry with room must work on what was left.
full_disk() {
    cat >"$DIR/full.sh" <<'EOF2'
set -e
command=$1
mount --make-rprivate /
mkdir -p "$DIR/small"
failed=0
for size in 40 70 100 130 160 200 300 400 500 600 800 1000 1300 1600 4000; do
    mount -t tmpfs -o size=${size}k tmpfs "$DIR/small"
    if $command >"$DIR/out" 2>&1; then
        umount "$DIR/small"
        break
    fi
    failed=$((failed + 1))
    # The last line is for people.
    tail -1 "$DIR/out" | grep -q -e 'No space left' -e 'is full' -e 'disk I/O error' || {
        echo "size $size:"
        cat "$DIR/out"
        exit 1
    }
    mount -o remount,size=16m "$DIR/small"
    "$IMAGE" images -q >/dev/null
    $command >"$DIR/out" 2>&1 || { echo "retry after $size:"; cat "$DIR/out"; exit 1; }
    "$IMAGE" image check >"$DIR/out" || { echo "check after $size:"; cat "$DIR/out"; exit 1; }
    [ "$("$IMAGE" images -q | wc -l)" -eq "$2" ] || exit 1
    umount "$DIR/small"
done
[ "$failed" -ge 3 ]
EOF2
    [ "$(id -u)" -eq 0 ] || skip "mounting a small tmpfs needs root"
    export DIR IMAGE
    ISOLA_ROOT=$DIR/small run unshare -m sh "$DIR/full.sh" "$@"
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "a full disk under load: a clear error, and the retry works" {
    full_disk "$IMAGE load -q -i $DIR/t.tar" 1
}

@test "a full disk under import: a clear error, and the retry works" {
    full_disk "$IMAGE import $DIR/files.tar i:1" 1
}

@test "a full disk under pull: a clear error, and the retry works" {
    command -v docker-registry >/dev/null || skip "docker-registry is not installed"
    start_registry plain </dev/null
    "$IMAGE" load -q -i "$DIR/t.tar"
    "$IMAGE" tag t:1 "127.0.0.1:$PORT/t:1"
    "$IMAGE" push -q "127.0.0.1:$PORT/t:1"
    full_disk "$IMAGE pull -q 127.0.0.1:$PORT/t:1" 1
}

@test "a full disk under commit: a clear error, and the retry works" {
    mkdir "$DIR/upper"
    head -c 300000 /dev/urandom >"$DIR/upper/new"
    cat >"$DIR/commit.sh" <<EOF
#!/bin/sh
set -e
[ -n "\$("$IMAGE" images -q t:1)" ] || "$IMAGE" load -q -i "$DIR/t.tar"
"$IMAGE" image-commit --name c:1 "\$("$IMAGE" image inspect -f '{{.Id}}' t:1)" "$DIR/upper"
EOF
    chmod +x "$DIR/commit.sh"
    full_disk "$DIR/commit.sh" 2
}

@test "a pull that is killed at any point leaves nothing that check --repair does not remove" {
    command -v docker-registry >/dev/null || skip "docker-registry is not installed"
    start_registry plain </dev/null
    name=127.0.0.1:$PORT/t:1
    "$IMAGE" load -q -i "$DIR/t.tar"
    "$IMAGE" tag t:1 "$name"
    "$IMAGE" push -q "$name"
    export ISOLA_ROOT=$DIR/other
    for i in $(seq 30); do
        "$IMAGE" pull -q "$name" >/dev/null 2>&1 3>&- &
        pid=$!
        sleep "0.0$(printf %02d $((RANDOM % 90)))"
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" || true
        if [ $((i % 3)) -eq 0 ]; then
            "$IMAGE" image check --repair >/dev/null
            [ -z "$(ls "$ISOLA_ROOT/images/work")" ]
            # Either the image is there, whole, or nothing of it is.
            if [ -z "$("$IMAGE" images -q)" ]; then
                [ -z "$(ls "$ISOLA_ROOT/images/layers")" ]
                [ -z "$(ls -A "$ISOLA_ROOT/images/blobs/sha256")" ]
            fi
            "$IMAGE" image check
            "$IMAGE" rmi "$name" >/dev/null 2>&1 || true
        fi
    done
    "$IMAGE" pull -q "$name"
    "$IMAGE" image check
    cmp "$DIR/files/bin/data" "$ISOLA_ROOT"/images/layers/*/bin/data
}

@test "images with layers in common are pulled at once, and share them" {
    command -v docker-registry >/dev/null || skip "docker-registry is not installed"
    start_registry plain </dev/null
    "$IMAGE" load -q -i "$DIR/t.tar"
    base=$("$IMAGE" image inspect -f '{{.Id}}' t:1)
    for i in 1 2 3; do
        mkdir "$DIR/u$i"
        echo "$i" >"$DIR/u$i/own"
        "$IMAGE" image-commit --name "127.0.0.1:$PORT/o$i:1" "$base" "$DIR/u$i" >/dev/null
        "$IMAGE" push -q "127.0.0.1:$PORT/o$i:1"
    done
    export ISOLA_ROOT=$DIR/other
    pids=
    for i in 1 2 3 1 2 3; do
        "$IMAGE" pull -q "127.0.0.1:$PORT/o$i:1" >>"$DIR/out.$i" 2>&1 3>&- &
        pids="$pids $!"
    done
    for pid in $pids; do wait "$pid" || { cat "$DIR"/out.*; false; }; done
    [ "$(ls "$ISOLA_ROOT/images/layers" | wc -l)" -eq 4 ]
    [ -z "$(ls "$ISOLA_ROOT/images/work")" ]
    "$IMAGE" image check
}
