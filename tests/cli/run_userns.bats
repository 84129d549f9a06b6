# --userns: root of a workload is not root of the host, and its files keep their owners on disk.
load helper

map_of() {
    awk '{ print $2, $3 }' "/proc/$(isola inspect --format '{{.State.Pid}}' "$1")/uid_map"
}

needs_root() {
    [ "$(id -u)" = 0 ] || skip "user namespaces with id-mapped layers need root"
}

@test "root in a workload with --userns auto is an ordinary id outside" {
    needs_root
    irun -d --name a --userns auto $IMAGE sleep 100
    equals 0 "$(isola exec a id -u)"
    read -r start size < <(map_of a)
    [ "$start" -gt 65535 ]
    equals 65536 "$size"
    equals "$start" "$(stat -c %u "/proc/$(isola inspect --format '{{.State.Pid}}' a)")"
    equals 0 "$(isola exec a stat -c %u /bin/busybox)"
}

@test "two workloads have ranges that do not overlap, and give them back" {
    needs_root
    irun -d --name a --userns auto:size=5000 $IMAGE sleep 100
    irun -d --name b --userns auto:size=3000 $IMAGE sleep 100
    read -r start_a size_a < <(map_of a)
    read -r start_b size_b < <(map_of b)
    equals "5000 3000" "$size_a $size_b"
    [ $((start_a + size_a)) -le "$start_b" ] || [ $((start_b + size_b)) -le "$start_a" ]
    isola rm -f a
    irun -d --name c --userns auto:size=5000 $IMAGE sleep 100
    equals "$start_a 5000" "$(map_of c)"
}

@test "what it writes belongs on disk to the ids that it sees" {
    needs_root
    irun -d --name a --userns auto -v data:/data $IMAGE sh -c \
        'echo x >/data/f; echo x >/f; chown 7:8 /data/f /f; rm /bin/vi; sleep 100'
    wait_until 'isola exec a test ! -e /bin/vi'
    equals "7:8" "$(stat -c %u:%g "$ISOLA_ROOT/volumes/data/_data/f")"
    equals "x" "$(irun --rm --userns auto -v data:/data $IMAGE cat /data/f)"
    equals "7:8" "$(irun --rm -v data:/data $IMAGE stat -c %u:%g /data/f)"
    isola diff a >diff
    grep -qx 'D /bin/vi' diff
    grep -qx 'A /f' diff
    isola export a | tar -tv --numeric-owner >running
    isola commit a kept >/dev/null
    equals "7:8" "$(irun --rm kept stat -c %u:%g /f)"
    run -1 irun --rm kept test -e /bin/vi
    isola stop -t 0 a
    isola export a | tar -tv --numeric-owner >stopped
    grep -q ' 7/8 .* f$' running
    grep -q ' 7/8 .* f$' stopped
    isola rmi kept
}

@test "cp keeps owners in both directions" {
    needs_root
    echo text >in
    chown 5:6 in
    irun -d --name a --userns auto $IMAGE sleep 100
    isola cp -a in a:/five
    isola cp in a:/root
    equals "5:6 0:0" "$(isola exec a stat -c %u:%g /five /root/in | tr '\n' ' ' | sed 's/ $//')"
    isola cp -a a:/five out
    equals "5:6 text" "$(stat -c %u:%g out) $(cat out)"
}

@test "a directory of the host stays closed to its root" {
    needs_root
    mkdir -m 755 host
    run irun --rm --userns auto -v "$PWD/host:/host" $IMAGE touch /host/f
    [ "$status" -ne 0 ]
    contains "$output" "Permission denied"
    chmod 777 host
    irun --rm --userns auto -v "$PWD/host:/host" $IMAGE touch /host/f
    [ "$(stat -c %u host/f)" -gt 65535 ]
}

@test "a restarted workload finds its files again" {
    needs_root
    irun -d --name a --userns auto $IMAGE sh -c 'echo x >>/f; sleep 100'
    wait_until 'isola exec a test -s /f'
    isola restart -t 0 a
    wait_until 'test "$(isola exec a grep -c x /f)" = 2'
    equals 0 "$(isola exec a stat -c %u /f)"
}

@test "another workload's ids are joined with its namespaces" {
    needs_root
    irun -d --name a --userns auto $IMAGE sleep 100
    run isola run --rm --userns container:a --pid container:a --network container:a $IMAGE ps
    contains "$output" "sleep 100"
    equals "$(isola exec a readlink /proc/self/ns/user)" \
        "$(irun --rm --userns container:a $IMAGE readlink /proc/self/ns/user)"
}

@test "limits, a read-only root, init and another user go with it" {
    needs_root
    run irun --rm --userns auto --memory 64m --pids-limit 50 --read-only --tmpfs /t --init \
        --user 1000:1000 $IMAGE sh -c 'id -u; touch /x || touch /t/x || echo closed'
    contains "$output" 1000
    contains "$output" "Read-only file system"
}

@test "what cannot go with a user namespace is refused by name" {
    needs_root
    for words in "--privileged" "--pid host" "--ipc host" "--network host"; do
        # shellcheck disable=SC2086 # two words
        run -125 isola run --rm --userns auto $words $IMAGE true
        contains "$output" "cannot go with --userns auto"
    done
    run -125 irun --rm --userns auto --user 70000 $IMAGE true
    contains "$output" "70000"
    run -125 irun --rm --userns auto:size=9 $IMAGE true
    contains "$output" "size=N"
    run -125 irun --rm --userns keep-id $IMAGE true
    contains "$output" "keep-id"
}

@test "--userns private is the range of user isola in /etc/subuid" {
    needs_root
    grep -qE '^(isola|dockremap):' /etc/subuid && skip "this host has such a user"
    run -125 irun --rm --userns private $IMAGE true
    contains "$output" "usermod --add-subuids"
    echo isola:1500000:70000 >subid
    out=$(unshare -m --propagation private sh -c 'mount --bind subid /etc/subuid
        mount --bind subid /etc/subgid
        exec "$0/src/main/isola" run --rm --network none --userns remap "$1" cat /proc/self/uid_map' \
        "$ISOLA_BUILD" $IMAGE)
    equals "0 1500000 70000" "$(echo $out)"
}
