# Helpers of the image tests; each file has a directory of its own and its own servers.
bats_require_minimum_version 1.5.0

image_setup() {
    DIR=$(mktemp -d /tmp/isola-t-image.XXXXXX)
    export ISOLA_ROOT=$DIR/root ISOLA_RUN=$DIR/run DOCKER_CONFIG=$DIR/docker
    export ISOLA_REGISTRIES=$DIR/registries.json
    unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy
    echo '{}' >"$ISOLA_REGISTRIES"
    IMAGE=$ISOLA_BUILD/src/main/isola-image
    SERVERS=
}

image_teardown() {
    for pid in $SERVERS; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$DIR"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_registry NAME: Debian's docker-registry; extra configuration on standard input. Sets PORT.
start_registry() {
    PORT=$(free_port)
    {
        printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\n' "$DIR/$1"
        printf 'http:\n  addr: 127.0.0.1:%s\n' "$PORT"
        cat
    } >"$DIR/$1.yml"
    OTEL_TRACES_EXPORTER=none docker-registry serve "$DIR/$1.yml" >"$DIR/$1.log" 2>&1 3>&- &
    SERVERS="$SERVERS $!"
    wait_for_port "$PORT"
}

wait_for_port() {
    for _ in $(seq 100); do
        (exec 9<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
        sleep 0.05
    done
    return 1
}

# make_layout DIR: an OCI layout with a two-layer image named t:1 in it.
make_layout() {
    mkdir -p "$DIR/files/etc" "$DIR/files/bin"
    head -c 400000 /dev/urandom >"$DIR/files/bin/data"
    echo hello >"$DIR/files/etc/hello"
    chmod 4755 "$DIR/files/bin/data"
    tar -C "$DIR/files" -cf "$DIR/files.tar" .
    ISOLA_ROOT=$DIR/maker "$IMAGE" import -c 'CMD ["/bin/sh"]' -c 'ENV A=b' "$DIR/files.tar" t:1 >/dev/null
    ISOLA_ROOT=$DIR/maker "$IMAGE" save -o "$DIR/t.tar" t:1
    mkdir -p "$1"
    tar -C "$1" -xf "$DIR/t.tar"
}

# wait_for_file FILE: until a server has written its port there.
wait_for_file() {
    for _ in $(seq 200); do
        [ -s "$1" ] && return 0
        sleep 0.05
    done
    return 1
}

# make_certificate: $DIR/key.pem and $DIR/cert.pem for localhost, signed by itself.
make_certificate() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 \
        -keyout "$DIR/key.pem" -out "$DIR/cert.pem" -subj /CN=isola-test \
        -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' 2>/dev/null
}

# start_proxy [CERT KEY CA]: fault_proxy.py before the registry of PORT; sets PROXY to its port.
# The faults are in $DIR/rules, what came is in $DIR/log.
start_proxy() {
    [ -f "$DIR/rules" ] || echo '[]' >"$DIR/rules"
    : >"$DIR/log"
    rm -f "$DIR/proxy.port"
    "$BATS_TEST_DIRNAME/fault_proxy.py" "$PORT" "$DIR/proxy.port" "$DIR/rules" "$DIR/log" "$@" \
        >"$DIR/proxy.log" 2>&1 3>&- &
    SERVERS="$SERVERS $!"
    wait_for_file "$DIR/proxy.port"
    PROXY=$(cat "$DIR/proxy.port")
}
