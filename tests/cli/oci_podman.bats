# Debian's podman with isola-oci as its --runtime, unchanged.
load oci.bash

setup() {
    command -v podman >/dev/null || skip "podman is not installed"
    oci_setup
    # The hook of the engine's monitor must not see the state of the person who tests.
    P="podman --root $T/storage --runroot $T/run --tmpdir $T/tmp --runtime $OCI --cgroup-manager cgroupfs"
    RUN="--network none --ulimit nofile=1000:1000 --ulimit nproc=1000:1000"
    tar -C "$B/rootfs" -c . | $P import - isola-t >/dev/null 2>&1
}

teardown() {
    [ -n "${T:-}" ] || return 0
    $P rm -fa -t 0 >/dev/null 2>&1 || true
    $P umount -a >/dev/null 2>&1 || true
    # podman keeps its storage mounted on itself, and its clean-up of a container may still run.
    for _ in $(seq 50); do
        umount -R "$T/storage/overlay" 2>/dev/null || true
        rm -rf "$T/storage" 2>/dev/null && break
        sleep 0.2
    done
    oci_teardown
}

@test "podman run, with exit codes, environment, volumes, users and limits" {
    run $P run --rm $RUN isola-t /bin/sh -c 'echo hi; exit 9'
    assert_status 9
    assert_has hi
    mkdir "$T/vol"
    run $P run --rm $RUN -e A=b -w /tmp -u 5:6 -v "$T/vol:/vol:ro" --memory 64m --pids-limit 50 --hostname h1 \
        --tmpfs /scratch --cap-drop all --read-only isola-t /bin/sh -c \
        'echo $A; pwd; id; hostname; touch /vol/x; cat /proc/self/limits | head -1; grep CapEff /proc/self/status; touch /x'
    assert_has "uid=5"
    assert_has h1
    assert_has "/vol/x: Read-only"
    assert_has "CapEff:	0000000000000000"
    run $P run --rm $RUN isola-t /nope
    assert_status 127
    run $P run --rm $RUN isola-t /etc/passwd
    assert_status 126
}

@test "podman run -t gives a terminal" {
    run $P run --rm -t $RUN isola-t /bin/sh -c 'tty; test -c /dev/console && echo console'
    assert_status 0
    assert_has /dev/pts/0
    assert_has console
}

@test "podman run -d, exec, top, pause, stats, kill, logs and rm" {
    $P run -d --name w $RUN isola-t /bin/sh -c 'echo logged; sleep 1000' 3>&- >/dev/null
    run $P exec -e X=y w /bin/sh -c 'echo $X; exit 4'
    assert_status 4
    assert_has y
    run $P exec w /nope
    assert_status 127
    run $P top w
    assert_has sleep
    $P pause w
    [ "$($P inspect -f '{{.State.Status}}' w)" = paused ]
    $P unpause w
    run $P logs w
    assert_has logged
    run $P stats --no-stream w
    assert_status 0
    $P kill w
    [ "$($P wait w)" = 137 ]
    $P rm w
    [ -z "$($P ps -aq)" ]
}

@test "podman with a user namespace and a pod-like shared one" {
    run $P run --rm $RUN --uidmap 0:100000:65536 --gidmap 0:100000:65536 isola-t /bin/sh -c 'id -u; cat /proc/self/uid_map'
    assert_status 0
    assert_has 100000
    $P run -d --name first --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 --network none isola-t /bin/sleep 1000 3>&- >/dev/null
    run $P run --rm --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 --network container:first --pid container:first --ipc container:first isola-t /bin/ps
    assert_status 0
    assert_has "sleep 1000"
}
