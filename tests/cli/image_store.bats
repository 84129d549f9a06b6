#!/usr/bin/env bats
# The store and archives: names, removal, save and load against other tools.

load image_helpers

setup() {
    image_setup
    make_layout "$DIR/layout"
    "$IMAGE" load -q -i "$DIR/t.tar"
}

teardown() {
    image_teardown
}

@test "the embedded image needs no registry" {
    run "$IMAGE" pull isola/busybox
    [ "$status" -eq 0 ]
    [ "$("$IMAGE" image inspect --format '{{.Architecture}}' isola/busybox)" = amd64 ]
    # What clients of Docker look for is there, also when the image says nothing about it.
    "$IMAGE" image inspect isola/busybox | jq -e '.[0] | [.Id, .Created, .Os, .Digest, .RepoTags[0],
        .RepoDigests[0], .RootFS.Type, .RootFS.Layers[0], .Config.Cmd[0]] | all(length > 0)'
    "$IMAGE" image inspect isola/busybox | jq -e '.[0] | (.Size > 0) and
        (["Parent", "Comment", "Author", "DockerVersion", "Variant", "GraphDriver"] - keys == []) and
        (["User", "Env", "Cmd", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels"] - (.Config | keys) == [])'
    layer=$("$IMAGE" image inspect --format '{{index .GraphDriver.Data.LowerDirs 0}}' isola/busybox)
    [ "$("$layer/bin/busybox" echo works)" = works ]
    grep -q ^root: "$layer/etc/passwd"
}

@test "images are named, listed, filtered and removed" {
    "$IMAGE" tag t:1 other/name:2
    run "$IMAGE" images --format '{{.Repository}} {{.Tag}}'
    [ "$output" = "$(printf 't 1\nother/name 2')" ]
    [ "$("$IMAGE" images -q | wc -l)" -eq 1 ]
    [ "$("$IMAGE" images -q t | wc -l)" -eq 1 ]
    [ "$("$IMAGE" images -q other/name:2 | wc -l)" -eq 1 ]
    [ "$("$IMAGE" images --filter reference='other/*' --format '{{.Tag}}')" = 2 ]
    [ "$("$IMAGE" images -q --filter dangling=true | wc -l)" -eq 0 ]
    id=$("$IMAGE" images -q t)
    run "$IMAGE" rmi "$id"
    [ "$status" -eq 1 ]
    [[ "$output" == *--force* ]]
    run "$IMAGE" rmi t:1
    [ "$output" = "Untagged: t:1" ]
    "$IMAGE" untag other/name:2
    [ "$("$IMAGE" images -q --filter dangling=true)" = "$id" ]
    "$IMAGE" image prune -f
    [ "$("$IMAGE" images -q | wc -l)" -eq 0 ]
    [ -z "$(ls "$ISOLA_ROOT/images/layers" "$ISOLA_ROOT/images/blobs/sha256")" ] ||
        [ "$(find "$ISOLA_ROOT/images/layers" "$ISOLA_ROOT/images/blobs/sha256" -mindepth 1 | wc -l)" -eq 0 ]
    run "$IMAGE" rmi nothing:here
    [ "$status" -eq 1 ]
}

@test "what we save skopeo reads, what skopeo makes we load" {
    command -v skopeo >/dev/null || skip "skopeo is not installed"
    "$IMAGE" save -o "$DIR/saved.tar" t:1
    skopeo copy -q --insecure-policy "oci-archive:$DIR/saved.tar:t:1" "docker-archive:$DIR/docker.tar:again:3"
    skopeo copy -q --insecure-policy "docker-archive:$DIR/saved.tar" "oci-archive:$DIR/oci.tar:more:4"
    skopeo inspect "oci:$ISOLA_ROOT/images:docker.io/library/t:1" >/dev/null
    run "$IMAGE" load -i "$DIR/docker.tar"
    [ "$output" = "Loaded image: again:3" ]
    run "$IMAGE" load <"$DIR/oci.tar"
    [ "$output" = "Loaded image: more:4" ]
    gzip -k "$DIR/docker.tar"
    zstd -q "$DIR/docker.tar"
    "$IMAGE" load -q -i "$DIR/docker.tar.gz"
    "$IMAGE" load -q -i "$DIR/docker.tar.zst"
    [ "$("$IMAGE" image inspect -f '{{json .Config.Cmd}}' again:3)" = '["/bin/sh"]' ]
    # All of them have the same files.
    [ "$(ls "$ISOLA_ROOT/images/layers" | wc -l)" -eq 1 ]
}

@test "an archive with a wrong digest is refused" {
    mkdir "$DIR/x"
    tar -C "$DIR/x" -xf "$DIR/t.tar"
    big=$(ls -S "$DIR/x/blobs/sha256/"* | head -1)
    printf x >>"$big"
    tar -C "$DIR/x" -cf "$DIR/bad.tar" .
    export ISOLA_ROOT=$DIR/other
    run "$IMAGE" load -i "$DIR/bad.tar"
    [ "$status" -eq 1 ]
    [[ "$output" == *digest* ]]
    [ -z "$(ls "$ISOLA_ROOT/images/layers" "$ISOLA_ROOT/images/work" | grep -v :)" ]
    run "$IMAGE" load </dev/null
    [ "$status" -eq 1 ]
    head -c 3000 "$DIR/t.tar" >"$DIR/cut.tar"
    run "$IMAGE" load -i "$DIR/cut.tar"
    [ "$status" -eq 1 ]
}

@test "a commit keeps changes and deletions as a layer of its own" {
    mkdir -p "$DIR/upper/etc"
    echo new >"$DIR/upper/etc/new"
    mknod "$DIR/upper/etc/hello" c 0 0
    id=$("$IMAGE" image-commit --name c:1 -m why -c 'CMD ["x"]' "$("$IMAGE" images -q --no-trunc t:1)" "$DIR/upper")
    [ "$("$IMAGE" image inspect -f '{{len .RootFS.Layers}} {{json .Config.Cmd}} {{.Comment}}' c:1)" = '2 ["x"] why' ]
    "$IMAGE" save -o "$DIR/c.tar" c:1
    ISOLA_ROOT=$DIR/other "$IMAGE" load -q -i "$DIR/c.tar"
    top=$(ISOLA_ROOT=$DIR/other "$IMAGE" image inspect -f '{{index .GraphDriver.Data.LowerDirs 0}}' c:1)
    [ "$(cat "$top/etc/new")" = new ]
    [ "$(stat -c '%F %t:%T' "$top/etc/hello")" = 'character special file 0:0' ]
    [ "$("$IMAGE" history -q --no-trunc c:1 | head -1)" = "$id" ]
}

@test "hostile layers from a tar program are refused or contained" {
    mkdir -p "$DIR/h"
    echo x >"$DIR/h/f"
    tar -C "$DIR/h" -P --transform 's,f,../../escape,' -cf "$DIR/out.tar" f
    run "$IMAGE" import "$DIR/out.tar" h:1
    [ "$status" -eq 1 ]
    [[ "$output" == *"leads out of the root"* ]]
    # A file that says it is larger than a layer may be.
    truncate -s 200G "$DIR/h/sparse"
    tar -C "$DIR/h" -S -cf "$DIR/sparse.tar" sparse
    run "$IMAGE" import "$DIR/sparse.tar" h:2
    [ "$status" -eq 1 ]
    [[ "$output" == *"more than the limit"* ]]
    head -c 100000 /dev/urandom >"$DIR/noise"
    run "$IMAGE" import "$DIR/noise" h:3
    [ "$status" -eq 1 ]
    [ "$("$IMAGE" images -q h | wc -l)" -eq 0 ]
    # A million entries: taken, in one piece, or refused by the limit; here a hundred thousand.
    python3 - "$DIR/many.tar" <<'EOF'
import sys, tarfile
with tarfile.open(sys.argv[1], "w") as t:
    for i in range(20000):
        e = tarfile.TarInfo(f"d{i % 100}/f{i}")
        t.addfile(e)
EOF
    "$IMAGE" import "$DIR/many.tar" many:1 >/dev/null
    "$IMAGE" rmi many:1 >/dev/null
}

@test "an ordinary user has a store of his own, as root of his own ids" {
    [ "$(id -u)" -eq 0 ] || skip "changing the user needs root"
    unshare -U true 2>/dev/null || skip "user namespaces are not allowed"
    mkdir "$DIR/own"
    cp "$IMAGE" "$ISOLA_BUILD/src/main/isola-busybox.tar" "$DIR/own"
    chmod 755 "$DIR" "$DIR/own" "$DIR/own/isola-image"
    chmod 644 "$DIR/own/isola-busybox.tar"
    mkdir "$DIR/his"
    chown 65534:65534 "$DIR/his"
    run setpriv --reuid 65534 --regid 65534 --clear-groups env ISOLA_ROOT="$DIR/his/root" \
        ISOLA_RUN="$DIR/his/run" HOME="$DIR/his" "$DIR/own/isola-image" pull -q isola/busybox
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(stat -c %u "$DIR"/his/root/images/layers/*/bin/busybox | sort -u)" = 65534 ]
}

@test "sparse files of every kind of archive come out as they were, holes included" {
    mkdir -p "$DIR/sparse"
    # Data at the start, in the middle and at the end; none at all; a hole at the end; many pieces.
    for at in 0 1000000 2999000; do
        head -c 1000 /dev/urandom | dd of="$DIR/sparse/three" bs=1000 seek=$((at / 1000)) conv=notrunc status=none
    done
    truncate -s 5000000 "$DIR/sparse/nothing"
    echo start >"$DIR/sparse/tail"
    truncate -s 4000001 "$DIR/sparse/tail"
    for at in $(seq 0 60); do
        echo "$at" | dd of="$DIR/sparse/many" bs=1 seek=$((at * 131072)) conv=notrunc status=none
    done
    n=0
    for format in --format=gnu --sparse-version=0.0 --sparse-version=0.1 --sparse-version=1.0; do
        n=$((n + 1))
        case $format in --sparse*) more=--format=posix ;; *) more= ;; esac
        tar -C "$DIR/sparse" --sparse $format $more -cf "$DIR/sparse.tar" .
        [ "$(wc -c <"$DIR/sparse.tar")" -lt 1000000 ]
        "$IMAGE" import "$DIR/sparse.tar" "sparse:$n" >/dev/null
        layer=$("$IMAGE" image inspect --format '{{index .GraphDriver.Data.LowerDirs 0}}' "sparse:$n")
        [ "$(ls "$layer" | wc -l)" -eq 4 ]
        for file in three nothing tail many; do
            cmp "$DIR/sparse/$file" "$layer/$file"
            [ "$(stat -c %b "$layer/$file")" -le 1200 ]
        done
        # An archive in an archive is read through its holes, too.
        truncate -s +8M "$DIR/sparse.tar"
    done
    "$IMAGE" save -o "$DIR/whole.tar" t:1
    "$IMAGE" rmi t:1 >/dev/null
    mkdir "$DIR/parts"
    tar -C "$DIR/parts" -xf "$DIR/whole.tar"
    tar -C "$DIR/parts" --sparse --format=posix -cf "$DIR/sparse.tar" .
    "$IMAGE" load -i "$DIR/sparse.tar"
}

@test "image check finds what is damaged and missing, says what mends it, and a pull does" {
    command -v docker-registry >/dev/null || skip "docker-registry is not installed"
    start_registry plain </dev/null
    name=127.0.0.1:$PORT/t:1
    "$IMAGE" tag t:1 "$name"
    "$IMAGE" push -q "$name"
    export ISOLA_ROOT=$DIR/other
    "$IMAGE" pull -q "$name"
    [ "$("$IMAGE" image check)" = "all images are whole" ]
    blobs=$ISOLA_ROOT/images/blobs/sha256
    layer=$blobs/$(ls -S "$blobs" | head -1)
    printf x | dd of="$layer" bs=1 seek=1000 conv=notrunc status=none
    run "$IMAGE" image check
    [ "$status" -eq 1 ]
    [[ "$output" == *"is damaged"*"isola pull $name"* ]]
    run "$IMAGE" image check --repair
    [ "$status" -eq 0 ]
    run "$IMAGE" image check
    [ "$status" -eq 1 ]
    [[ "$output" == *"is missing"*"isola pull $name"* ]]
    "$IMAGE" pull -q "$name"
    "$IMAGE" image check
    # A configuration that is not its own: the image is of no use, and goes.
    config=$blobs/$("$IMAGE" image inspect -f '{{.Id}}' "$name" | cut -d: -f2)
    truncate -s 10 "$config"
    run "$IMAGE" image check
    [ "$status" -eq 1 ]
    "$IMAGE" image check --repair
    [ -z "$("$IMAGE" images -q)" ]
    "$IMAGE" pull -q "$name"
    "$IMAGE" image check
    cmp "$DIR/files/bin/data" "$ISOLA_ROOT"/images/layers/*/bin/data
}

@test "history shows what each layer takes, for people and for programs" {
    mkdir "$DIR/u"
    head -c 12345 /dev/urandom >"$DIR/u/new"
    "$IMAGE" image-commit --name c:1 "$("$IMAGE" image inspect -f '{{.Id}}' t:1)" "$DIR/u" >/dev/null
    [ "$("$IMAGE" history --format '{{.Size}}' c:1)" = "$(printf '12.3kB\n400kB')" ]
    [ "$("$IMAGE" history --human=false --format '{{.Size}}' c:1)" = "$(printf '12345\n400006')" ]
    run "$IMAGE" history c:1
    [[ "${lines[0]}" =~ ^IMAGE\ +CREATED\ +CREATED\ BY\ +SIZE\ +COMMENT ]]
    [[ "${lines[2]}" == "<missing>"* ]]
    [ "$("$IMAGE" images -q -f until=1h | wc -l)" -eq 0 ]
    run "$IMAGE" images -f dangling=perhaps
    [ "$status" -eq 1 ]
    "$IMAGE" image prune -a -f --filter 'label=none' >/dev/null
    [ "$("$IMAGE" images -q | wc -l)" -eq 2 ]
    "$IMAGE" image prune -a -f --filter 'label!=none' >/dev/null
    [ "$("$IMAGE" images -q | wc -l)" -eq 0 ]
}
