#!/usr/bin/env bats
# What a workload may do, and what of ours it must not see.
load helper

caps_of() {
    sed -n "s/^$1:[[:space:]]*//p"
}

@test "a workload has Docker's fourteen capabilities, and no others" {
    irun --rm $IMAGE cat /proc/self/status >status
    equals 00000000a80425fb "$(caps_of CapBnd <status)"
    equals 00000000a80425fb "$(caps_of CapEff <status)"
    equals 0000000000000000 "$(caps_of CapInh <status)"
    equals 0000000000000000 "$(caps_of CapAmb <status)"
}

@test "another user than root has no capabilities in effect" {
    irun --rm -u 1000 $IMAGE cat /proc/self/status >status
    equals 0000000000000000 "$(caps_of CapEff <status)"
    equals 00000000a80425fb "$(caps_of CapBnd <status)"
}

@test "--cap-add and --cap-drop change the set; ALL comes first" {
    irun --rm --cap-drop ALL --cap-add NET_ADMIN $IMAGE cat /proc/self/status >status
    equals 0000000000001000 "$(caps_of CapBnd <status)"
    irun --rm --cap-add ALL --cap-drop cap_chown $IMAGE cat /proc/self/status >status
    [[ $(caps_of CapEff <status) =~ e$ ]]
    run ! irun --rm --cap-drop chown $IMAGE chown 1 /etc/passwd
    irun --rm --cap-drop chown $IMAGE true
    run -125 irun --rm --cap-add FLY $IMAGE true
    contains "$output" FLY
}

@test "--privileged gives all capabilities, the devices and a writable /sys, without seccomp" {
    irun --rm --privileged $IMAGE cat /proc/self/status >status
    equals "$(caps_of CapBnd </proc/self/status)" "$(caps_of CapEff <status)"
    equals 0 "$(caps_of Seccomp <status)"
    irun --rm --privileged $IMAGE sh -c 'mount -t tmpfs t /tmp && touch /tmp/x'
    run -0 irun --rm --privileged $IMAGE ls /dev
    contains "$output" loop
}

@test "--read-only protects the root and leaves tmpfs and volumes writable" {
    run ! irun --rm --read-only $IMAGE touch /x
    contains "$output" "Read-only"
    irun --rm --read-only --tmpfs /tmp -v /data $IMAGE sh -c 'touch /tmp/x /data/x /dev/shm/x'
}

@test "the default seccomp profile stops what a container does not need" {
    for call in 'unshare -m true' 'mount -t tmpfs t /tmp' 'unshare -U true'; do
        run ! irun --rm $IMAGE sh -c "$call"
        contains "${output,,}" "permi"
    done
    equals 2 "$(irun --rm $IMAGE cat /proc/self/status | caps_of Seccomp)"
}

@test "CAP_SYS_ADMIN opens mount in the default profile" {
    irun --rm --cap-add SYS_ADMIN $IMAGE sh -c 'mount -t tmpfs t /tmp'
}

@test "--security-opt seccomp takes unconfined or a profile" {
    equals 0 "$(irun --rm --security-opt seccomp=unconfined $IMAGE cat /proc/self/status | caps_of Seccomp)"
    cat >profile.json <<'JSON'
{"defaultAction": "SCMP_ACT_ALLOW",
 "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}
JSON
    run -1 irun --rm --security-opt seccomp=profile.json $IMAGE mkdir /x
    contains "$output" "No space left"
    echo '{"defaultAction": "SCMP_ACT_DANCE"}' >bad.json
    run -125 irun --rm --security-opt seccomp=bad.json $IMAGE true
    contains "$output" "SCMP_ACT_DANCE"
    run -125 irun --rm --security-opt seccomp=missing.json $IMAGE true
    contains "$output" "missing.json"
    run -125 irun --rm --security-opt magic=1 $IMAGE true
    contains "$output" "magic"
    equals "" "$(isola ps -aq)"
}

@test "no-new-privileges is set when asked for" {
    equals 0 "$(irun --rm $IMAGE cat /proc/self/status | caps_of NoNewPrivs)"
    equals 1 "$(irun --rm --security-opt no-new-privileges $IMAGE cat /proc/self/status | caps_of NoNewPrivs)"
    equals 1 "$(irun --rm --security-opt no-new-privileges:true $IMAGE cat /proc/self/status | caps_of NoNewPrivs)"
}

@test "dangerous paths of /proc and /sys are masked or read-only" {
    run -0 irun --rm $IMAGE sh -c 'cat /proc/keys | wc -c; cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l'
    equals $'0\n0\n0' "$output"
    run ! irun --rm $IMAGE sh -c 'echo 1 >/proc/sys/kernel/panic'
    run ! irun --rm $IMAGE sh -c 'echo b >/proc/sysrq-trigger'
    run ! irun --rm $IMAGE sh -c 'echo 1 >/sys/kernel/mm/transparent_hugepage/enabled'
    run -0 irun --rm --security-opt systempaths=unconfined $IMAGE sh -c 'test -w /proc/sys/kernel/panic && echo open'
    equals open "$output"
}

@test "--device gives a host device with the access asked for" {
    equals crw "$(irun --rm --device /dev/null:/dev/other $IMAGE ls -l /dev/other | cut -c1-3)"
    run ! irun --rm $IMAGE sh -c 'mknod /tmp/k c 1 11 && cat /tmp/k'
    contains "$output" "ermitted"
    run -125 irun --rm --device /dev/no-such $IMAGE true
    contains "$output" "/dev/no-such"
    run -125 irun --rm --device /dev/null:/dev/x:q $IMAGE true
}

@test "--device-cgroup-rule opens a device by number" {
    run ! irun --rm $IMAGE sh -c 'mknod /tmp/k c 1 2 && echo >/tmp/k'
    contains "$output" "ermitted"
    irun --rm --device-cgroup-rule 'c 7:* rwm' $IMAGE true
    run -125 irun --rm --device-cgroup-rule 'x 7:* rwm' $IMAGE true
    contains "$output" "x 7"
}

@test "--sysctl sets what belongs to its namespaces, and nothing of the host" {
    equals 1234 "$(irun --rm --sysctl kernel.shmmni=1234 $IMAGE cat /proc/sys/kernel/shmmni)"
    equals 0 "$(irun --rm --sysctl net.ipv4.ip_unprivileged_port_start=0 $IMAGE cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
    run -125 irun --rm --sysctl kernel.panic=7 $IMAGE true
    contains "$output" "kernel.panic"
    run -125 isola run --rm --network host --sysctl net.ipv4.ip_forward=1 $IMAGE true
    contains "$output" "net.ipv4.ip_forward"
}

@test "no descriptor of ours reaches the workload" {
    exec 9<"$BATS_TEST_FILENAME" 17</dev/null
    equals "0 1 2 3" "$(irun --rm $IMAGE ls /proc/self/fd | tr '\n' ' ' | sed 's/ $//')"
    equals "0 1 2" "$(irun --rm $IMAGE sh -c 'ls /proc/1/fd; :' | tr '\n' ' ' | sed 's/ $//')"
    irun -d --name e $IMAGE sleep 100
    equals "0 1 2 3" "$(isola exec e ls /proc/self/fd | tr '\n' ' ' | sed 's/ $//')"
    equals "0 1 2" "$(isola exec e ls /proc/1/fd | tr '\n' ' ' | sed 's/ $//')"
    exec 9<&- 17<&-
}

@test "no environment variable of ours reaches the workload" {
    export SECRET_OF_HOST=1 ISOLA_DEBUG=
    run -0 irun --rm $IMAGE env
    lacks "$output" SECRET
    lacks "$output" ISOLA
    irun -d --name e $IMAGE sleep 100
    run -0 isola exec e env
    lacks "$output" SECRET
    lacks "$output" ISOLA
    contains "$output" "PATH="
}

@test "no path of ours is in the workload's mount table" {
    for options in "" --init -t --read-only "--init --userns auto" "--user 1000" "--ipc host"; do
        # shellcheck disable=SC2086
        run -0 irun --rm $options $IMAGE cat /proc/self/mountinfo
        contains "$output" " /etc/hosts "
        lacks "$output" "$TEST_DIR"
        lacks "$output" "${TEST_DIR#/var}" # as it is on a file system of its own
        lacks "$output" "$ISOLA_BUILD"
        lacks "$output" isola-init
    done
    # A named volume is a mount of what was asked for; the rest is not.
    run -0 irun --rm -v /data $IMAGE cat /proc/self/mountinfo
    lacks "$(echo "$output" | grep -v ' /data ')" "$TEST_DIR"
    run -0 irun --rm $IMAGE sh -c 'ls /proc/1/cwd/ && readlink /proc/1/exe'
    lacks "$output" "$TEST_DIR"
}

@test "/etc/hosts, hostname and resolv.conf belong to root, can be written, and are made anew by a start" {
    for options in "" "--userns auto"; do
        # shellcheck disable=SC2086
        irun -d --name f --hostname here $options $IMAGE sleep 100
        equals "here" "$(isola exec f cat /etc/hostname)"
        equals "644 0 0 644 0 0 644 0 0" "$(isola exec f stat -c '%a %u %g' /etc/hosts /etc/hostname /etc/resolv.conf | tr '\n' ' ' | sed 's/ $//')"
        isola exec f sh -c 'echo 192.0.2.9 more >>/etc/hosts'
        contains "$(isola exec f cat /etc/hosts)" "192.0.2.9"
        contains "$(isola cp f:/etc/hosts - | tar xO)" "192.0.2.9"
        lacks "$(isola diff f)" "hosts"
        # What it may fill is little, and its own.
        isola exec f dd if=/dev/zero of=/etc/hosts bs=1M count=100 2>/dev/null && return 1
        isola restart -t 0 f
        lacks "$(isola exec f cat /etc/hosts)" "192.0.2.9"
        contains "$(isola exec f cat /etc/hosts)" "here"
        isola rm -f f
    done
}

@test "host processes and names are out of sight" {
    equals 1 "$(irun --rm $IMAGE sh -c 'echo $$')"
    run -0 irun --rm $IMAGE ps
    lacks "$output" isola
    equals "$(readlink /proc/self/ns/pid)" "$(irun --rm --pid host $IMAGE readlink /proc/self/ns/pid)"
    equals "$(hostname)" "$(irun --rm --uts host $IMAGE hostname)"
    equals "$(readlink /proc/self/ns/ipc)" "$(irun --rm --ipc host $IMAGE readlink /proc/self/ns/ipc)"
    run -125 irun --rm --pid nonsense $IMAGE true
    contains "$output" nonsense
}

@test "--pid, --ipc and --network container:NAME join a running workload" {
    irun -d --name first --ipc shareable $IMAGE sleep 100
    for type in pid ipc; do
        equals "$(isola exec first readlink /proc/self/ns/$type)" \
            "$(irun --rm --$type container:first $IMAGE readlink /proc/self/ns/$type)"
    done
    equals "$(isola exec first readlink /proc/self/ns/net)" \
        "$(isola run --rm --network container:first $IMAGE readlink /proc/self/ns/net)"
    isola stop -t 0 first
    run -125 irun --rm --pid container:first $IMAGE true
    contains "$output" "does not run"
}

@test "a workload whose user is namespaced is not root outside" {
    lacks "$(irun --rm --userns auto $IMAGE cat /proc/self/uid_map)" "4294967295"
    irun --rm --userns host $IMAGE true
    run -125 irun --rm --userns nonsense $IMAGE true
    contains "$output" nonsense
}

@test "exec has the workload's rights, and more only with --privileged" {
    irun -d --name e --cap-drop ALL $IMAGE sleep 100
    equals 0000000000000000 "$(isola exec e cat /proc/self/status | caps_of CapEff)"
    equals 2 "$(isola exec e cat /proc/self/status | caps_of Seccomp)"
    equals "$(caps_of CapBnd </proc/self/status)" "$(isola exec --privileged e cat /proc/self/status | caps_of CapEff)"
    equals 1000 "$(isola exec -u 1000 e id -u)"
    equals 0000000000000000 "$(isola exec --privileged -u 1000 e cat /proc/self/status | caps_of CapEff)"
}

@test "the options of the root mount do not tell where ROOT is" {
    irun --rm $IMAGE cat /proc/mounts >"$TEST_DIR/mounts"
    equals 1 "$(grep -c '^isola / overlay .*lowerdir' "$TEST_DIR/mounts")"
    equals 0 "$(grep -c "$ISOLA_ROOT" "$TEST_DIR/mounts")"
}

@test "the root directory has the mode that the image gives it" {
    mkdir -p "$TEST_DIR/tree/bin"
    cp "$(command -v busybox)" "$TEST_DIR/tree/bin/busybox"
    chmod 0711 "$TEST_DIR/tree"
    tar -C "$TEST_DIR/tree" -c . | isola import - isola-t/mode
    equals 711 "$(irun --rm isola-t/mode /bin/busybox stat -c %a /)"
}
