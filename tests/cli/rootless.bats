# The workload commands as an ordinary user, with subordinate ids of his own.
load helper

setup_file() {
    [ "$(id -u)" = 0 ] || skip "making a user needs root"
    command -v newuidmap >/dev/null || skip "newuidmap (package uidmap) is not installed"
    unshare -U true 2>/dev/null || skip "user namespaces are not allowed"
    # LeakSanitizer reads its own memory through ptrace, which a changed user does not allow.
    export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
    T=$(mktemp -d /var/tmp/isola-t-rootless-XXXXXX)
    # Names of users are short and in small letters.
    NAME=isola-t-$$
    export T NAME
    useradd -M -d "$T/home" -s /bin/sh "$NAME"
    # useradd gives ranges where /etc/login.defs says so; else the test does.
    grep -q "^$NAME:" /etc/subuid || usermod --add-subuids 700000000-700065535 "$NAME"
    grep -q "^$NAME:" /etc/subgid || usermod --add-subgids 700000000-700065535 "$NAME"
    BASE=$(awk -F: -v n="$NAME" '$1 == n { print $2; exit }' /etc/subuid)
    OWN=$(id -u "$NAME")
    export BASE OWN
    mkdir -p "$T/home" "$T/run" "$T/bin"
    cp "$ISOLA_BUILD"/src/main/isola "$ISOLA_BUILD"/src/main/isola-shim "$ISOLA_BUILD"/src/main/isola-init \
        "$ISOLA_BUILD"/src/main/isola-image "$ISOLA_BUILD"/src/main/isola-busybox.tar "$T/bin"
    chmod 711 "$T"
    chmod -R a+rX "$T/bin"
    chmod 700 "$T/run"
    chown "$NAME:" "$T/home" "$T/run"
    isola load -q -i "$T/bin/isola-busybox.tar" >/dev/null
}

teardown_file() {
    [ -n "${T:-}" ] || return 0
    userdel "$NAME"
    rm -rf "$T"
}

setup() {
    cd "$T/home" || return 1
}

processes_of_user() {
    pgrep -u "$NAME"
    return 0
}

teardown() {
    clean_up "$T" processes_of_user
}

# as_user CMD...: the test's user, with nothing of root's environment
as_user() {
    setpriv --reuid "$OWN" --regid "$(id -g "$NAME")" --clear-groups env -i HOME="$T/home" XDG_RUNTIME_DIR="$T/run" \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin ASAN_OPTIONS="$ASAN_OPTIONS" UBSAN_OPTIONS="${UBSAN_OPTIONS:-}" "$@"
}

isola() {
    as_user "$T/bin/isola" "$@"
}

userns_of() {
    readlink "/proc/$(isola inspect --format '{{.State.Pid}}' "$1")/ns/user"
}

@test "an ordinary user runs a workload: output, input, exit code, ids" {
    run irun --rm "$IMAGE" sh -c 'echo hello; id -u; exit 7'
    equals 7 "$status"
    equals "hello
0" "$output"
    equals "piped" "$(echo piped | irun --rm -i "$IMAGE" cat)"
    equals "1000:100" "$(irun --rm -u 1000:100 "$IMAGE" sh -c 'echo $(id -u):$(id -g)')"
    # Root inside is the user himself outside, the others are of his range.
    contains "$(irun --rm "$IMAGE" sh -c 'tr -s " " </proc/self/uid_map')" " 0 $OWN 1"
    contains "$(irun --rm "$IMAGE" sh -c 'tr -s " " </proc/self/uid_map')" " 1 $BASE 65536"
}

@test "an ordinary user's workload in the background: ps, logs, exec, cp, stop, start, rm" {
    irun -d --name web "$IMAGE" sh -c 'echo begun; exec sleep 1000' >/dev/null
    contains "$(isola ps)" web
    wait_until '[ "$(isola logs web)" = begun ]'
    equals 0 "$(isola exec web id -u)"
    equals 33 "$(isola exec -u 33 web id -u)"
    echo data >"$T/home/in"
    isola cp "$T/home/in" web:/tmp/there
    equals data "$(isola exec web cat /tmp/there)"
    isola cp web:/tmp/there "$T/home/out"
    equals "$OWN" "$(stat -c %u "$T/home/out")"
    contains "$(isola top web)" "sleep 1000"
    isola kill -s USR1 web >/dev/null
    isola stop -t 1 web >/dev/null
    contains "$(isola ps -a)" Exited
    isola start web >/dev/null
    equals data "$(isola exec web cat /tmp/there)"
    isola rm -f web >/dev/null
    equals "" "$(isola ps -aq)"
}

@test "files in a volume have on the host the owner of the user's own range" {
    mkdir "$T/home/dir"
    chown "$NAME:" "$T/home/dir"
    irun --rm -v data:/v -v "$T/home/dir:/d" "$IMAGE" sh -c 'touch /v/a /d/b; chown 1000:1000 /v/a; chmod 4755 /v/a'
    local volume=$T/home/.local/share/isola/volumes/data/_data
    equals "$((BASE + 999)) 4755" "$(stat -c '%u %a' "$volume/a")"
    equals "$OWN" "$(stat -c %u "$T/home/dir/b")"
    equals 1000 "$(irun --rm -v data:/v "$IMAGE" stat -c %u /v/a)"
}

@test "an ordinary user makes an image of a workload, deletions and replaced directories included" {
    irun --name made "$IMAGE" sh -c 'rm -r /etc/group /home; mkdir /home; echo x >/home/new; chown -R 5:6 /home'
    isola commit made own:1 >/dev/null
    run irun --rm own:1 sh -c 'ls /etc/group; ls /home; stat -c %u:%g /home/new'
    contains "$output" "/etc/group: No such file"
    contains "$output" "new
5:6"
    isola rm made >/dev/null
    isola rmi own:1 >/dev/null
}

@test "all commands of a user share one user namespace, also two first ones at once" {
    irun -d --name one "$IMAGE" sleep 1000 >/dev/null 3>&- &
    irun -d --name two "$IMAGE" sleep 1000 >/dev/null 3>&- &
    wait
    equals "$(userns_of one)" "$(userns_of two)"
    equals 0 "$(isola exec one id -u)"
    equals 0 "$(isola exec two id -u)"
    # The one that made it may end.
    isola rm -f one >/dev/null
    irun -d --name three "$IMAGE" sleep 1000 >/dev/null
    equals "$(userns_of two)" "$(userns_of three)"
    isola stop -t 0 two three >/dev/null
}

@test "after kill -9 of the shim the workload is gone and check --repair cleans up" {
    irun -d --name web "$IMAGE" sleep 1000 >/dev/null
    local id shim
    id=$(isola ps -q --no-trunc)
    shim=$(jq .shim_pid "$T/run/isola/workloads/$id/status.json")
    kill -9 "$shim"
    wait_until '[ -z "$(pgrep -u "$NAME")" ]'
    run isola system check --repair
    contains "$(isola ps -a)" "Exited (137)"
    isola start web >/dev/null
    equals 0 "$(isola exec web id -u)"
}

@test "a workload that an ordinary user's shim restarts stays in reach" {
    irun -d --name web --restart always "$IMAGE" sh -c 'sleep 0.3; exit 1' >/dev/null
    wait_until '[ "$(isola inspect --format "{{.RestartCount}}" web)" -ge 2 ]'
    isola stop -t 0 web >/dev/null
    wait_until '[ "$(isola inspect --format "{{.State.Status}}" web)" = exited ]'
}

@test "what an ordinary user cannot have is refused with what is missing" {
    run irun --rm --memory 50m "$IMAGE" true
    equals 125 "$status"
    contains "$output" "delegated"
    run irun --rm -u 70000 "$IMAGE" true
    equals 125 "$status"
    contains "$output" "not among your own ids"
    run irun --rm --device-cgroup-rule 'c 1:3 r' "$IMAGE" true
    contains "$output" "need root"
    run isola network create n
    [ "$status" != 0 ]
    contains "$output" "need root"
    # A directory of another user in place of RUN is not believed.
    mkdir "$T/alien"
    chmod 777 "$T/alien"
    run isola --run-dir "$T/alien" ps
    contains "$output" "belongs to another user"
}

@test "an ordinary user without subordinate ids runs workloads as himself alone" {
    local other=$NAME-x
    useradd -M -d "$T/home2" -s /bin/sh "$other"
    sed -i "/^$other:/d" /etc/subuid /etc/subgid
    mkdir -p "$T/home2/run"
    chown -R "$other:" "$T/home2"
    his() {
        setpriv --reuid "$other" --regid "$(id -g "$other")" --clear-groups env -i HOME="$T/home2" \
            XDG_RUNTIME_DIR="$T/home2/run" PATH=/usr/bin:/bin ASAN_OPTIONS="$ASAN_OPTIONS" "$T/bin/isola" "$@"
    }
    his load -q -i "$T/bin/isola-busybox.tar" >/dev/null
    run his run --rm --network none "$IMAGE" sh -c 'id -u; tail -n +1 /proc/self/uid_map | wc -l'
    local first="$status $output"
    run his run --rm --network none -u 1 "$IMAGE" true
    wait_until '[ -z "$(pgrep -u "$other")" ]'
    userdel "$other"
    equals "0 0
1" "$first"
    contains "$output" "not among your own ids"
}

@test "doctor tells an ordinary user what works and what mends the rest" {
    run isola doctor
    equals 0 "$status"
    contains "$output" "65536 user ids of your own"
    contains "$output" "no limits"
    lines=$(printf '%s' "$output" | grep -c 'running as root' || true)
    equals 0 "$lines"
}

@test "in a delegated cgroup of v2 an ordinary user's workload has a cgroup: pause, removal" {
    cat >"$T/v2.sh" <<'SH'
mount --make-rprivate /
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
D=/sys/fs/cgroup/$NAME
mkdir -p "$D/me"
chown -R "$NAME" "$D"
echo $$ >"$D/me/cgroup.procs"
user() {
    setpriv --reuid "$OWN" --regid "$OWN_GROUP" --clear-groups env -i HOME="$T/home" XDG_RUNTIME_DIR="$T/run" \
        PATH=/usr/bin:/bin ASAN_OPTIONS="$ASAN_OPTIONS" "$T/bin/isola" "$@"
}
user doctor | grep -o "cgroup '.*' is yours"
user run -d --name c --network none --cgroup-parent "/$NAME/w" isola/busybox sleep 1000 >/dev/null
user pause c
user ps --format '{{.Status}}' | grep -o Paused
user unpause c
user rm -f c
ls -d "$D"/w/*/ 2>/dev/null
echo $$ >/sys/fs/cgroup/cgroup.procs
for _ in $(seq 50); do find "$D" -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.1; done
[ ! -e "$D" ] || echo "left: $D"
SH
    OWN_GROUP=$(id -g "$NAME") run unshare -m bash "$T/v2.sh" 3>&-
    equals "cgroup '/$NAME/me' is yours
c
Paused
c
c" "$output"
}

@test "namespaces and the network of the host can be shared by an ordinary user's workload" {
    irun -d --name a "$IMAGE" sleep 1000 >/dev/null
    contains "$(isola run --rm --network container:a --pid container:a "$IMAGE" ps)" "sleep 1000"
    contains "$(irun --rm --pid host "$IMAGE" ps)" "sleep 1000"
    equals "$(readlink /proc/self/ns/ipc) $(hostname)" \
        "$(isola run --rm --network host --ipc host --uts host "$IMAGE" sh -c 'echo $(readlink /proc/self/ns/ipc) $(hostname)')"
}

@test "an ordinary user's workload reaches the outside and publishes a port by pasta" {
    command -v pasta >/dev/null || skip "pasta (package passt) is not installed"
    command -v socat >/dev/null || skip "socat is not installed"
    cat >"$T/net.sh" <<'SH'
set -eu
mount --make-rprivate /
mknod -m 666 "$T/tun" c 10 200
[ -e /dev/net/tun ] || { mkdir -p /dev/net; : >/dev/net/tun; }
mount --bind "$T/tun" /dev/net/tun
ip link set lo up
ip link add up0 type veth peer name up1
ip addr add 203.0.113.1/24 dev up0
ip link set up0 up
ip link set up1 up
ip route add default via 203.0.113.2
user() {
    setpriv --reuid "$OWN" --regid "$OWN_GROUP" --clear-groups env -i HOME="$T/home" XDG_RUNTIME_DIR="$T/run" \
        PATH=/usr/bin:/bin ASAN_OPTIONS="$ASAN_OPTIONS" "$T/bin/isola" "$@"
}
user run -d --name web -p 127.0.0.1:8080:80 isola/busybox sh -c 'while :; do echo web | nc -l -p 80; done' >/dev/null
for _ in $(seq 50); do
    answer=$(timeout 3 socat -T1 - TCP:127.0.0.1:8080 </dev/null 2>/dev/null || true)
    [ "$answer" = web ] && break
    sleep 0.1
done
echo "answer=$answer"
user exec web ip -4 addr show eth0 | grep -o 203.0.113.1
user rm -f web >/dev/null
user system check
rm "$T/tun"
SH
    OWN_GROUP=$(id -g "$NAME") run unshare -mn bash "$T/net.sh" 3>&-
    equals "answer=web
203.0.113.1
nothing to repair" "$output"
}

@test "compare measures; memory is that of the largest process, and nothing stays" {
    isola compare --bare --runs 2 --format json $IMAGE echo x >all
    jq -se '.[0].Wall == "bare" and .[1].Wall == "container" and .[1].Available' all
    jq -se 'map(select(.Available).MemorySource) | unique == ["largest process"]' all
    jq -se '.[1] | .StartNs.Min > 0 and .CPUNs.Min > 0 and .MemoryBytes.Min > 65536 and .ExitCode == 0' all
    equals "" "$(isola ps -aq)"
}

@test "the vm wall is refused by name, before anything is made" {
    run -125 isola run --isolation vm --name machine --network none "$IMAGE" true
    contains "$output" "--isolation vm needs root"
    run -0 isola ps -aq --filter name=machine
    [ "$output" = "" ]
}
