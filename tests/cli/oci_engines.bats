# Debian's containerd and docker.io with isola-oci as their runtime, unchanged; private daemons
# with sockets, state and mounts of their own, and no network.
load oci.bash

setup() {
    oci_setup
    mkdir -p "$B/rootfs/vol"
    cat >"$T/image.py" <<'PY'
# A docker archive of one layer: rootfs directory, output file.
import hashlib, io, json, sys, tarfile
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    tar.add(sys.argv[1], arcname=".")
data = layer.getvalue()
config = json.dumps({
    "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]},
}).encode()
name = hashlib.sha256(config).hexdigest() + ".json"
manifest = json.dumps([{"Config": name, "RepoTags": ["isola/t:latest"], "Layers": ["l/layer.tar"]}])
with tarfile.open(sys.argv[2], "w") as out:
    for path, content in ((name, config), ("l/layer.tar", data), ("manifest.json", manifest.encode())):
        info = tarfile.TarInfo(path)
        info.size = len(content)
        out.addfile(info, io.BytesIO(content))
PY
    python3 "$T/image.py" "$B/rootfs" "$T/image.tar"
}

teardown() {
    oci_teardown
    for dir in /sys/fs/cgroup/*/docker /sys/fs/cgroup/*/default; do
        [ ! -d "$dir" ] || rmdir "$dir" 2>/dev/null || true
    done
}

# Runs a script in namespaces of its own.
private() {
    printf '%s\n' 'mount --make-rprivate /' 'mount -t tmpfs isola-t /run' 'ip link set lo up' \
        'export HTTP_PROXY=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9' \
        "export T=$T OCI=$OCI" "$(cat)" >"$T/script"
    run timeout 100 unshare -mn sh "$T/script" 3>&-
}

@test "containerd: run, exec, pause, kill and delete" {
    command -v containerd >/dev/null || skip "${ISOLA_NO_PEERS:-containerd is not installed}"
    printf '%s\n' 'version = 2' "root = \"$T/root\"" "state = \"$T/ctd\"" \
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]' '[grpc]' "address = \"$T/c.sock\"" >"$T/c.toml"
    private <<'SH'
containerd -c $T/c.toml >$T/c.log 2>&1 &
daemon=$!
for i in $(seq 100); do [ -S $T/c.sock ] && break; sleep 0.1; done
c="ctr -a $T/c.sock"
$c image import $T/image.tar
image=$($c image ls -q | head -1)
run="run --runc-binary $OCI --snapshotter native"
$c $run --rm $image one /bin/sh -c 'id; exit 5'; echo "run $?"
$c $run -d $image two /bin/sleep 1000; echo "detached $?"
$c task exec --exec-id e1 two /bin/sh -c 'exit 6'; echo "exec $?"
$c task pause two; $c task ls; $c task resume two
$c task kill -s KILL two
for i in $(seq 50); do $c task ls | grep -q STOPPED && break; sleep 0.1; done
$c task rm two; $c container rm two; echo "left $($c container ls -q)."
kill $daemon; wait $daemon
SH
    assert_has "run 5"
    assert_has "detached 0"
    assert_has "exec 6"
    assert_has PAUSED
    assert_has "left ."
}

@test "docker: run with many options, exit codes, exec, pause, update, stats and rm" {
    command -v dockerd >/dev/null || skip "${ISOLA_NO_PEERS:-dockerd is not installed}"
    private <<'SH'
dockerd -H unix://$T/d.sock --data-root $T/root --exec-root $T/exec -p $T/pid --bridge=none \
    --iptables=false --add-runtime isola=$OCI --default-runtime isola >$T/d.log 2>&1 &
daemon=$!
for i in $(seq 200); do [ -S $T/d.sock ] && break; sleep 0.1; done
d="docker -H unix://$T/d.sock"
$d load -i $T/image.tar
run="run --network none --rm"
$d $run isola/t /bin/sh -c 'grep Seccomp: /proc/self/status; exit 5'; echo "run $?"
$d $run isola/t /nope; echo "missing $?"
$d $run isola/t /etc/passwd; echo "no program $?"
$d $run --read-only --tmpfs /tmp -v $T/vol:/vol --memory 64m --cpus 0.5 --pids-limit 30 \
    --ulimit nofile=100:100 --user 5:6 --sysctl net.ipv4.ip_forward=1 \
    --security-opt no-new-privileges isola/t /bin/sh -c 'ulimit -n; id -u; touch /tmp/x; cat /proc/sys/net/ipv4/ip_forward'
echo "options $?"
$d $run --privileged isola/t /bin/sh -c 'mount -t tmpfs x /tmp && echo mounted'
$d $run -t isola/t /bin/tty
$d run -d --network none --name work isola/t /bin/sleep 1000
$d exec -e A=b work /bin/sh -c 'echo in $A; exit 6'; echo "exec $?"
$d pause work; $d ps; $d unpause work
$d update --memory 50m --memory-swap 50m work; $d stats --no-stream work; $d top work
$d rm -f work; echo "left $($d ps -aq)."
kill $daemon; wait $daemon
SH
    assert_has "Seccomp:	2"
    assert_has "run 5"
    assert_has "missing 127"
    assert_has "no program 126"
    assert_has "options 0"
    assert_has mounted
    assert_has /dev/pts/0
    assert_has "in b"
    assert_has "exec 6"
    assert_has "(Paused)"
    assert_has "/ 50MiB"
    assert_has "left ."
}
