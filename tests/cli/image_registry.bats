#!/usr/bin/env bats
# Registries: Debian's docker-registry with and without TLS and passwords.

load image_helpers

setup() {
    image_setup
    command -v docker-registry >/dev/null || skip "docker-registry is not installed"
    make_layout "$DIR/layout"
    "$IMAGE" load -q -i "$DIR/t.tar"
}

teardown() {
    image_teardown
}

@test "what is pushed can be pulled, by tag and by digest, over plain HTTP on loopback" {
    start_registry plain </dev/null
    "$IMAGE" tag t:1 "127.0.0.1:$PORT/a/t:1"
    run "$IMAGE" push "127.0.0.1:$PORT/a/t:1"
    [ "$status" -eq 0 ]
    digest=$(echo "$output" | sed -n 's/.*digest: //p')
    # The same blobs under another repository are mounted, not sent.
    "$IMAGE" tag t:1 "127.0.0.1:$PORT/b/t:2"
    run "$IMAGE" push "127.0.0.1:$PORT/b/t:2"
    [ "$status" -eq 0 ]
    [[ "$output" == *Mounted* ]]
    export ISOLA_ROOT=$DIR/other
    run "$IMAGE" pull "127.0.0.1:$PORT/a/t:1"
    [ "$status" -eq 0 ]
    [[ "$output" == *"Digest: $digest"* ]]
    run "$IMAGE" pull -q "127.0.0.1:$PORT/b/t@$digest"
    [ "$status" -eq 0 ]
    [ "$("$IMAGE" images -q | wc -l)" -eq 1 ]
    layer=$(ls "$ISOLA_ROOT/images/layers")
    [ "$(stat -c %a "$ISOLA_ROOT/images/layers/$layer/bin/data")" = 4755 ]
    cmp "$DIR/files/bin/data" "$ISOLA_ROOT/images/layers/$layer/bin/data"
    run "$IMAGE" pull "127.0.0.1:$PORT/a/t:1"
    [[ "$output" == *"up to date"* ]]
}

@test "TLS with a private authority and a password" {
    command -v htpasswd >/dev/null || skip "htpasswd is not installed"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -keyout "$DIR/key.pem" -out "$DIR/cert.pem" -subj /CN=isola-test \
        -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' 2>/dev/null
    htpasswd -Bbn user secret >"$DIR/htpasswd"
    start_registry tls <<EOF
  tls: {certificate: $DIR/cert.pem, key: $DIR/key.pem}
auth: {htpasswd: {realm: test, path: $DIR/htpasswd}}
EOF
    name=localhost:$PORT/t:1
    "$IMAGE" tag t:1 "$name"
    run "$IMAGE" push "$name"
    [ "$status" -eq 1 ]
    [[ "$output" == *certificate* ]]
    echo "{\"registries\":{\"localhost:$PORT\":{\"ca\":\"$DIR/cert.pem\"}}}" >"$ISOLA_REGISTRIES"
    run "$IMAGE" push "$name"
    [ "$status" -eq 1 ]
    [[ "$output" == *"isola login localhost:$PORT"* ]]
    run "$IMAGE" login -u user --password-stdin "localhost:$PORT" <<<wrong
    [ "$status" -eq 1 ]
    run "$IMAGE" login -u user --password-stdin "localhost:$PORT" <<<secret
    [ "$status" -eq 0 ]
    [ "$(stat -c %a "$DOCKER_CONFIG/config.json")" = 600 ]
    "$IMAGE" push -q "$name"
    ISOLA_ROOT=$DIR/other "$IMAGE" pull -q "$name"
    "$IMAGE" logout "localhost:$PORT"
    run "$IMAGE" pull "localhost:$PORT/t:1"
    [ "$status" -eq 1 ]
    # A credential helper is asked instead of the file.
    mkdir "$DIR/bin"
    cat >"$DIR/bin/docker-credential-test" <<'EOF'
#!/bin/sh
[ "$1" = get ] && cat >/dev/null && echo '{"Username":"user","Secret":"secret"}'
EOF
    chmod +x "$DIR/bin/docker-credential-test"
    echo "{\"credHelpers\":{\"localhost:$PORT\":\"test\"}}" >"$DOCKER_CONFIG/config.json"
    PATH=$DIR/bin:$PATH ISOLA_ROOT=$DIR/third run "$IMAGE" pull -q "$name"
    [ "$status" -eq 0 ]
}

@test "a mirror answers for the default registry, a dead mirror is passed over" {
    start_registry plain </dev/null
    dead=$(free_port)
    "$IMAGE" tag t:1 "127.0.0.1:$PORT/library/debian:t"
    "$IMAGE" push -q "127.0.0.1:$PORT/library/debian:t"
    export ISOLA_ROOT=$DIR/other
    echo "{\"retries\":0,\"registries\":{\"docker.io\":{\"mirrors\":[\"http://127.0.0.1:$dead\",\"http://127.0.0.1:$PORT\"]}}}" >"$ISOLA_REGISTRIES"
    run "$IMAGE" pull debian:t
    [ "$status" -eq 0 ]
    [[ "$output" == *"docker.io/library/debian:t"* ]]
    "$IMAGE" image inspect debian:t >/dev/null
}

@test "two pulls of one image at once both succeed and keep one copy" {
    start_registry plain </dev/null
    name=127.0.0.1:$PORT/t:1
    "$IMAGE" tag t:1 "$name"
    "$IMAGE" push -q "$name"
    export ISOLA_ROOT=$DIR/other
    pids=
    for i in 1 2 3 4; do
        "$IMAGE" pull -q "$name" >"$DIR/out.$i" 2>&1 3>&- &
        pids="$pids $!"
    done
    for pid in $pids; do wait "$pid"; done
    [ "$(ls "$ISOLA_ROOT/images/layers" | wc -l)" -eq 1 ]
    [ -z "$(ls "$ISOLA_ROOT/images/work")" ]
}

@test "kill -9 during a pull leaves a store in which the retry works" {
    start_registry plain </dev/null
    name=127.0.0.1:$PORT/t:1
    "$IMAGE" tag t:1 "$name"
    "$IMAGE" push -q "$name"
    export ISOLA_ROOT=$DIR/other
    for i in $(seq 0 3 60); do
        "$IMAGE" pull -q "$name" >/dev/null 2>&1 3>&- &
        pid=$!
        sleep "0.0$(printf %02d "$i")"
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" || true
    done
    "$IMAGE" pull -q "$name"
    "$IMAGE" rmi "$name" >/dev/null
    "$IMAGE" pull -q "$name"
    [ "$(ls "$ISOLA_ROOT/images/layers" | wc -l)" -eq 1 ]
    [ -z "$(ls "$ISOLA_ROOT/images/work")" ]
    cmp "$DIR/files/bin/data" "$ISOLA_ROOT"/images/layers/*/bin/data
}

@test "an image that has one blob in several places does not wait for itself" {
    start_registry plain </dev/null
    mkdir "$DIR/twin"
    echo x >"$DIR/twin/file"
    # Without an entry for etc/, so that the layer leans on those below.
    tar -C "$DIR/twin" --transform 's,^,etc/,' -cf "$DIR/layer.tar" file
    cat >"$DIR/twin.py" <<'EOF'
import hashlib, json, os, sys
layout, layer = sys.argv[1:]
os.makedirs(f"{layout}/blobs/sha256")
def put(data, **more):
    name = hashlib.sha256(data).hexdigest()
    open(f"{layout}/blobs/sha256/{name}", "wb").write(data)
    return dict(digest="sha256:" + name, size=len(data), **more)
blob = put(open(layer, "rb").read(), mediaType="application/vnd.oci.image.layer.v1.tar")
config = put(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers",
    "diff_ids": [blob["digest"]] * 6}}).encode(), mediaType="application/vnd.oci.image.config.v1+json")
manifest = put(json.dumps({"schemaVersion": 2, "config": config, "layers": [blob] * 6}).encode(),
    mediaType="application/vnd.oci.image.manifest.v1+json",
    annotations={"org.opencontainers.image.ref.name": "twin:1"})
json.dump({"schemaVersion": 2, "manifests": [manifest]}, open(f"{layout}/index.json", "w"))
open(f"{layout}/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
EOF
    python3 "$DIR/twin.py" "$DIR/twins" "$DIR/layer.tar"
    tar -C "$DIR/twins" -cf "$DIR/twins.tar" .
    "$IMAGE" load -q -i "$DIR/twins.tar"
    "$IMAGE" tag twin:1 "127.0.0.1:$PORT/twin:1"
    "$IMAGE" push -q "127.0.0.1:$PORT/twin:1"
    export ISOLA_ROOT=$DIR/other
    timeout 9 "$IMAGE" pull -q "127.0.0.1:$PORT/twin:1"
    # Each of them has its own look at the layers below.
    lower=$("$IMAGE" image inspect -f '{{join .GraphDriver.Data.LowerDirs ":"}}' "127.0.0.1:$PORT/twin:1")
    [ "$(echo "$lower" | tr : '\n' | sort -u | wc -l)" -eq 6 ]
}

@test "a layer that is there twice is given to overlayfs once" {
    "$IMAGE" image-commit --name e:1 "$("$IMAGE" images -q --no-trunc t:1)" "$(mkdir "$DIR/e" && echo "$DIR/e")" >/dev/null
    "$IMAGE" image-commit --name e:2 "$("$IMAGE" images -q --no-trunc e:1)" "$DIR/e" >/dev/null
    [ "$("$IMAGE" image inspect -f '{{len .RootFS.Layers}}' e:2)" -eq 3 ]
    lower=$("$IMAGE" image inspect -f '{{join .GraphDriver.Data.LowerDirs ":"}}' e:2)
    [ "$(echo "$lower" | tr : '\n' | wc -l)" -eq 2 ]
    mkdir "$DIR/m"
    unshare -m mount -t overlay -o "lowerdir=$lower" none "$DIR/m"
}
