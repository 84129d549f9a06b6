# Control groups in the three layouts that hosts have. A view is a private mount namespace.
load oci.bash
setup() { oci_setup; }
teardown() { oci_teardown; }

v1() {
    unshare -m sh -c 'mount --make-rprivate /
        mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; exec "$@"' sh "$@"
}
v2() {
    unshare -m sh -c 'mount --make-rprivate /; umount -l /sys/fs/cgroup
        mount -t cgroup2 none /sys/fs/cgroup; exec "$@"' sh "$@"
}
# systemd's own hierarchy counts only where systemd runs.
own_hierarchies() {
    if [ -d /run/systemd/system ]; then grep -c . /proc/self/cgroup; else grep -vc name=systemd /proc/self/cgroup; fi
}
is_hybrid() { [ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ] || skip "the host has no cgroup v1"; }

@test "hybrid: the workload is in its cgroup in every hierarchy, and sees only that" {
    is_hybrid
    config '.linux.namespaces|=map(select(.type!="cgroup"))'
    in_container 'cat /proc/self/cgroup; ls /sys/fs/cgroup/memory/cgroup.procs'
    assert_status 0
    [ "$(echo "$output" | grep -c ":/isola-oci-$ID\$")" = "$(own_hierarchies)" ]
    assert_has /sys/fs/cgroup/memory/cgroup.procs
    config '.linux.namespaces+=[{type:"cgroup"}]'
    in_container 'cat /proc/self/cgroup'
    refute_has "$ID"
    assert_nothing_left
}

@test "hybrid: limits land in the kernel's files, and a wrong one is named" {
    is_hybrid
    config '.linux.resources.memory={limit:67108864,reservation:33554432,swappiness:10}
        | .linux.resources.cpu={shares:512,quota:50000,period:100000,cpus:"0"} | .linux.resources.pids={limit:33}
        | .linux.resources.blockIO={throttleReadBpsDevice:[{major:254,minor:0,rate:1048576}]} | .linux.cgroupsPath="/isola-t-x/'"$ID"'"'
    start_sleeper
    cg=isola-t-x/$ID
    [ "$(cat /sys/fs/cgroup/memory/$cg/memory.limit_in_bytes)" = 67108864 ]
    [ "$(cat /sys/fs/cgroup/memory/$cg/memory.soft_limit_in_bytes)" = 33554432 ]
    [ "$(cat /sys/fs/cgroup/cpu/$cg/cpu.shares)" = 512 ]
    [ "$(cat /sys/fs/cgroup/cpu/$cg/cpu.cfs_quota_us)" = 50000 ]
    [ "$(cat /sys/fs/cgroup/cpuset/$cg/cpuset.cpus)" = 0 ]
    [ "$(cat /sys/fs/cgroup/pids/$cg/pids.max)" = 33 ]
    grep -q 'c 1:3 rwm' /sys/fs/cgroup/devices/$cg/devices.list
    refute=$(grep -c '^a' /sys/fs/cgroup/devices/$cg/devices.list || true)
    [ "$refute" = 0 ]
    oci delete -f "$ID"
    config '.linux.resources.cpu={cpus:"99"}'
    in_container true
    assert_status 1
    assert_has "linux.resources.cpu.cpus = 99: write 'cpuset.cpus'"
    assert_nothing_left
    for dir in /sys/fs/cgroup/*/isola-t-x; do rmdir "$dir"; done
}

@test "a memory limit kills the workload, not the host" {
    is_hybrid
    config '.linux.resources.memory={limit:8388608,swap:8388608}'
    [ -e /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes ] || config 'del(.linux.resources.memory.swap)'
    args /bin/dd if=/dev/zero of=/dev/null bs=64M count=1
    run oci run -b "$B" "$ID"
    assert_status 137
    assert_nothing_left
}

@test "a fork bomb stops at the limit and is gone with the container" {
    config '.linux.resources.pids={limit:10}'
    [ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ] || skip "the host has no cgroup v1"
    in_container 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 100 & done; echo end'
    assert_has "Resource temporarily unavailable"
    assert_nothing_left
}

@test "processes and cgroups that a workload leaves behind are removed" {
    is_hybrid
    config '.mounts[-1].options=["nosuid"] | .linux.namespaces|=map(select(.type!="pid"))'
    in_container 'mkdir -p /sys/fs/cgroup/freezer/a/b; echo $$ >/sys/fs/cgroup/freezer/a/b/cgroup.procs; sleep 555 >/dev/null 2>&1 & exit 0'
    assert_status 0
    assert_nothing_left
    [ -z "$(pgrep -f 'sleep 555')" ]
}

@test "kill --all reaches every process" {
    args /bin/sh -c 'sleep 556 & sleep 557 & wait'
    oci create -b "$B" "$ID" </dev/null >"$T/out" 2>&1 3>&-
    oci start "$ID"
    for _ in $(seq 50); do [ "$(oci ps --format json "$ID" | jq length)" = 3 ] && break; sleep 0.02; done
    oci kill --all "$ID" KILL
    for _ in $(seq 50); do [ "$(oci ps --format json "$ID" | jq length)" = 0 ] && break; sleep 0.02; done
    [ "$(oci ps --format json "$ID" | jq length)" = 0 ]
}

@test "v1 only: run, exec, pause and delete work" {
    is_hybrid
    args /bin/sleep 100
    v1 "$OCI" --root "$ROOT" create -b "$B" "$ID" </dev/null >"$T/out" 2>&1 3>&-
    v1 "$OCI" --root "$ROOT" start "$ID"
    run v1 "$OCI" --root "$ROOT" exec "$ID" /bin/cat /proc/self/cgroup
    assert_has ":memory:/"
    v1 "$OCI" --root "$ROOT" pause "$ID"
    [ "$(v1 "$OCI" --root "$ROOT" state "$ID" | jq -r .status)" = paused ]
    v1 "$OCI" --root "$ROOT" resume "$ID"
    v1 "$OCI" --root "$ROOT" delete -f "$ID"
    assert_nothing_left
}

@test "v2 only: the workload is born in its cgroup; pause, kill and removal use v2's files" {
    config '.linux.namespaces|=map(select(.type!="cgroup")) | .linux.cgroupsPath="/isola-t-v2/'"$ID"'"'
    args /bin/sh -c 'cat /proc/self/cgroup; ls /sys/fs/cgroup/cgroup.procs; while :; do sleep 1; done'
    v2 "$OCI" --root "$ROOT" create -b "$B" "$ID" </dev/null >"$T/out" 2>&1 3>&-
    v2 "$OCI" --root "$ROOT" start "$ID"
    sleep 0.2
    grep -q "0::/isola-t-v2/$ID" "$T/out"
    grep -q /sys/fs/cgroup/cgroup.procs "$T/out"
    run v2 "$OCI" --root "$ROOT" exec "$ID" /bin/cat /proc/self/cgroup
    assert_has "0::/isola-t-v2/$ID"
    v2 "$OCI" --root "$ROOT" pause "$ID"
    [ "$(v2 "$OCI" --root "$ROOT" state "$ID" | jq -r .status)" = paused ]
    v2 "$OCI" --root "$ROOT" resume "$ID"
    run v2 "$OCI" --root "$ROOT" events --stats "$ID"
    [ "$(echo "$output" | jq .data.cpu.usage.total)" -gt 0 ]
    v2 "$OCI" --root "$ROOT" kill --all "$ID" KILL
    v2 "$OCI" --root "$ROOT" delete -f "$ID"
    v2 sh -c "[ ! -e /sys/fs/cgroup/isola-t-v2/$ID ] && rmdir /sys/fs/cgroup/isola-t-v2"
}

@test "v2 only: device rules hold by eBPF" {
    config '.linux.resources.devices+=[{allow:true,type:"c",major:10,minor:200,access:"r"}]
        | .process.capabilities|=with_entries(.value+=["CAP_MKNOD","CAP_DAC_OVERRIDE","CAP_SYS_RAWIO"])
        | .linux.devices=[{path:"/dev/tun2",type:"c",major:10,minor:200},{path:"/dev/disk",type:"b",major:254,minor:0},{path:"/dev/kmsg2",type:"c",major:1,minor:11}]'
    args /bin/sh -c 'for d in tun2 disk kmsg2 null; do (: </dev/$d) && echo read $d; done; (: >/dev/tun2) && echo write tun2; echo x >/dev/null && echo write null'
    run v2 "$OCI" --root "$ROOT" run -b "$B" "$ID"
    assert_has "read tun2"
    assert_has "read null"
    assert_has "write null"
    refute_has "write tun2"
    refute_has "read disk"
    refute_has "read kmsg2"
}

@test "v2 only: a setting that only v1 has is refused by name" {
    config '.linux.resources.memory={swappiness:5}'
    run v2 "$OCI" --root "$ROOT" run -b "$B" "$ID"
    assert_status 1
    assert_has "linux.resources.memory.swappiness = 5: cgroup v2 does not have it"
    config '.linux.resources.memory={limit:1000000000}'
    run v2 "$OCI" --root "$ROOT" run -b "$B" "$ID"
    [ "$status" -eq 0 ] || assert_has "linux.resources.memory.limit = 1000000000: write 'memory.max'"
    assert_nothing_left
}

@test "a cgroup that is in use is refused, and its processes live on" {
    config '.linux.cgroupsPath="/isola-t-'"$ID"'"'
    start_sleeper
    run oci run -b "$B" "$ID-2"
    assert_status 1
    assert_has "already has processes in it"
    [ "$(oci state "$ID" | jq -r .status)" = running ]
    [ ! -e "$ROOT/$ID-2" ]
}

@test "a creation that is killed at any point is removed by delete --force" {
    args /bin/sleep 1000
    for delay in 0 1 2 3 4 5 6 7 8 10 12; do
        "$OCI" --root "$ROOT" create -b "$B" "$ID" </dev/null >"$T/out" 2>&1 3>&- &
        sleep "$(printf '0.%03d' "$delay")"
        kill -9 $! 2>/dev/null || true
        wait $! || true
        oci delete --force "$ID"
        for _ in $(seq 20); do [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "*$ID*")" ] && break; sleep 0.02; done
        assert_nothing_left
    done
}

@test "without a cgroup of its own a container still runs" {
    config 'del(.linux.resources)'
    args /bin/cat /proc/self/cgroup
    run oci --cgroup-manager disabled run -b "$B" "$ID"
    assert_status 0
    refute_has "$ID"
    config '.linux.resources={pids:{limit:5}}'
    run oci --cgroup-manager disabled run -b "$B" "$ID"
    assert_status 1
    assert_has "limits need a cgroup"
}
