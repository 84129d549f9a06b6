#!/usr/bin/env bats
# Token authentication: Debian's docker-registry and a token server, both with TLS.

load image_helpers

setup() {
    image_setup
    command -v docker-registry >/dev/null || skip "docker-registry is not installed"
    make_layout "$DIR/layout"
    "$IMAGE" load -q -i "$DIR/t.tar"
    make_certificate
    start_token_registry
}

teardown() {
    image_teardown
}

start_token_registry() {
    "$BATS_TEST_DIRNAME/token_server.py" "$DIR" "$DIR/token.port" >"$DIR/token.log" 2>&1 3>&- &
    SERVERS="$SERVERS $!"
    wait_for_file "$DIR/token.port"
    start_registry token <<EOF2
  tls: {certificate: $DIR/cert.pem, key: $DIR/key.pem}
auth:
  token:
    realm: https://localhost:$(cat "$DIR/token.port")/token
    service: isola-registry
    issuer: isola-test
    rootcertbundle: $DIR/cert.pem
EOF2
    start_proxy "$DIR/cert.pem" "$DIR/key.pem" "$DIR/cert.pem"
    HOST=localhost:$PROXY
    echo "{\"registries\":{\"$HOST\":{\"ca\":\"$DIR/cert.pem\"}}}" >"$ISOLA_REGISTRIES"
}

login() {
    "$IMAGE" login -u user --password-stdin "$HOST" <<<secret
}

# pushed NAME: t:1 under that name in the registry.
pushed() {
    "$IMAGE" tag t:1 "$HOST/$1"
    "$IMAGE" push -q "$HOST/$1"
}

@test "login, push and pull with a token for a password" {
    run "$IMAGE" login -u user --password-stdin "$HOST" <<<wrong
    [ "$status" -eq 1 ]
    [[ "$output" == *"wrong password"* ]]
    [ ! -f "$DOCKER_CONFIG/config.json" ]
    "$IMAGE" tag t:1 "$HOST/a/t:1"
    run "$IMAGE" push "$HOST/a/t:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"isola login $HOST"* ]]
    login
    pushed a/t:1
    ISOLA_ROOT=$DIR/other "$IMAGE" pull -q "$HOST/a/t:1"
    cmp "$DIR/files/bin/data" "$DIR"/other/images/layers/*/bin/data
    # A password that does not hold any more: refused with the remedy, nothing kept.
    echo "{\"auths\":{\"$HOST\":{\"auth\":\"$(printf user:wrong | base64)\"}}}" >"$DOCKER_CONFIG/config.json"
    ISOLA_ROOT=$DIR/third run "$IMAGE" pull "$HOST/a/t:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"wrong password"*"isola login $HOST"* ]]
}

@test "who has no password gets a token for what everybody may read, and no more" {
    login
    pushed public/t:1
    pushed private/t:1
    "$IMAGE" logout "$HOST"
    ISOLA_ROOT=$DIR/other "$IMAGE" pull -q "$HOST/public/t:1"
    ISOLA_ROOT=$DIR/other run "$IMAGE" pull -q "$HOST/private/t:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"access denied"* ]]
    run "$IMAGE" push -q "$HOST/public/t:1"
    [ "$status" -eq 1 ]
}

@test "a token that has expired is replaced, at the start and between two requests" {
    login
    echo expired >"$DIR/mode"
    : >"$DIR/requests"
    # A new token that is too old already (a wrong clock) is a refusal; the retry works.
    "$IMAGE" tag t:1 "$HOST/a/t:1"
    run "$IMAGE" push -q "$HOST/a/t:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"access denied"* ]]
    "$IMAGE" push -q "$HOST/a/t:1"
    # The registry refuses a token that it took before: while a blob is sent, and at the manifest.
    for path in blobs/uploads/. /manifests/; do
        for method in PATCH PUT; do
            : >"$DIR/requests"
            echo "[{\"method\":\"$method\",\"path\":\"$path\",\"do\":\"stale\"}]" >"$DIR/rules"
            head -c 3000000 /dev/urandom >"$DIR/files/bin/data"
            tar -C "$DIR/files" -cf "$DIR/files.tar" .
            "$IMAGE" import "$DIR/files.tar" "$HOST/a/t:2" >/dev/null
            "$IMAGE" push -q "$HOST/a/t:2"
            [ "$path$method" = /manifests/PATCH ] || [ "$(grep -c . "$DIR/requests")" -eq 2 ]
        done
    done
    # And in the middle of a pull.
    : >"$DIR/requests"
    echo '[{"method":"GET","path":"/blobs/","skip":1,"do":"stale"}]' >"$DIR/rules"
    ISOLA_ROOT=$DIR/other "$IMAGE" pull -q "$HOST/a/t:2"
    [ "$(grep -c . "$DIR/requests")" -eq 2 ]
    cmp "$DIR/files/bin/data" "$DIR"/other/images/layers/*/bin/data
}

@test "a mount from another repository asks for the right to read that" {
    login
    pushed a/t:1
    "$IMAGE" tag t:1 "$HOST/b/t:1"
    : >"$DIR/requests"
    run "$IMAGE" push "$HOST/b/t:1"
    [ "$status" -eq 0 ]
    [[ "$output" == *Mounted* ]]
    [[ "$output" != *Pushed* ]]
    grep -q '"repository:b/t:pull,push", "repository:a/t:pull"' "$DIR/requests"
    # A repository that is closed to us costs nothing but the bytes, whatever the server says to it.
    for mode in lenient strict; do
        echo "$mode" >"$DIR/mode"
        "$IMAGE" untag "$HOST/a/t:1" "$HOST/b/t:1" 2>/dev/null || true
        "$IMAGE" tag t:1 "$HOST/closed/t:1"
        "$IMAGE" tag t:1 "$HOST/c/$mode:1"
        run "$IMAGE" push "$HOST/c/$mode:1"
        echo "$output"
        [ "$status" -eq 0 ]
        [[ "$output" == *Pushed* ]]
        "$IMAGE" untag "$HOST/c/$mode:1"
    done
}

@test "an identity token is exchanged by OAuth2, from the file and from a credential helper" {
    login
    pushed a/t:1
    : >"$DIR/requests"
    echo "{\"auths\":{\"$HOST\":{\"auth\":\"$(printf user: | base64)\",\"identitytoken\":\"refresh-me\"}}}" >"$DOCKER_CONFIG/config.json"
    ISOLA_ROOT=$DIR/other "$IMAGE" pull -q "$HOST/a/t:1"
    grep -q '"POST", "user": "user", "scopes": \["repository:a/t:pull"\]' "$DIR/requests"
    run -1 grep -q GET "$DIR/requests"
    mkdir "$DIR/bin"
    cat >"$DIR/bin/docker-credential-test" <<'EOF2'
#!/bin/sh
[ "$1" = get ] && cat >/dev/null && echo '{"Username":"<token>","Secret":"refresh-me"}'
EOF2
    chmod +x "$DIR/bin/docker-credential-test"
    echo "{\"credsStore\":\"test\"}" >"$DOCKER_CONFIG/config.json"
    PATH=$DIR/bin:$PATH ISOLA_ROOT=$DIR/third "$IMAGE" pull -q "$HOST/a/t:1"
    echo "{\"auths\":{\"$HOST\":{\"identitytoken\":\"revoked\"}}}" >"$DOCKER_CONFIG/config.json"
    ISOLA_ROOT=$DIR/fourth run "$IMAGE" pull -q "$HOST/a/t:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"isola login $HOST"* ]]
}

@test "a token server that asks for a token itself is refused, once" {
    echo challenge >"$DIR/mode"
    : >"$DIR/requests"
    run timeout 20 "$IMAGE" pull -q "$HOST/public/t:1"
    [ "$status" -eq 1 ]
    [[ "$output" == *"access denied"* ]]
    [ "$(grep -c . "$DIR/requests")" -eq 1 ]
}
