load oci.bash
setup() { oci_setup; }
teardown() { oci_teardown; }

@test "the default bundle shows the workload its own machine" {
    in_container 'hostname; echo $$; ls /proc | grep -c "^[0-9]"; id -u; pwd; env'
    assert_status 0
    [ "${lines[0]}" = isola ]
    [ "${lines[1]}" = 1 ]
    assert_has "HOME=/root-home"
    refute_has ISOLA
    in_container 'cat /proc/net/dev | wc -l; touch /x; touch /proc/sys/kernel/hostname'
    [ "${lines[0]}" = 3 ]
    assert_has "Read-only file system"
}

@test "no descriptor of ours reaches the workload" {
    in_container 'ls /proc/self/fd | wc -l'
    [ "$output" = 4 ] # 0, 1, 2 and that of ls itself
    exec 7</etc/passwd
    in_container 'ls /proc/self/fd | wc -l'
    exec 7<&-
    [ "$output" = 4 ]
    start_sleeper
    exec 7</etc/passwd
    run oci exec "$ID" /bin/sh -c 'ls /proc/self/fd | wc -l; ls /proc/1/fd | wc -l'
    exec 7<&-
    [ "${lines[0]}" = 4 ]
    [ "${lines[1]}" = 3 ]
}

@test "preserved descriptors reach the workload and no others" {
    args /bin/sh -c 'cat <&3; ls /proc/self/fd | wc -l'
    echo hello >"$T/file"
    run sh -c '"$1" --root "$2" run --preserve-fds 1 -b "$3" "$4" 3<"$5" 4</etc/passwd' sh \
        "$OCI" "$ROOT" "$B" "$ID" "$T/file"
    assert_status 0
    [ "${lines[0]}" = hello ]
    [ "${lines[1]}" = 5 ]
}

@test "devices are there with their numbers and modes, and only those may be used" {
    config '.linux.devices=[{path:"/dev/mine",type:"c",major:1,minor:5,fileMode:432,uid:3,gid:4},
        {path:"/dev/deep/pipe",type:"p"}] | .process.capabilities.bounding+=["CAP_MKNOD"]
        | .process.capabilities.effective+=["CAP_MKNOD"] | .process.capabilities.permitted+=["CAP_MKNOD"]'
    in_container 'stat -c "%n %t:%T %a %u:%g" /dev/mine /dev/null /dev/tty; stat -c %F /dev/deep/pipe
        head -c 3 /dev/zero | wc -c; readlink /dev/ptmx; readlink /dev/fd'
    assert_has "/dev/mine 1:5 660 3:4"
    assert_has "/dev/null 1:3 666 0:0"
    assert_has "/dev/tty 5:0 666 0:0"
    assert_has fifo
    assert_has pts/ptmx
    # The disk: the node may be made (mknod is allowed as everywhere), but not opened.
    config '.linux.devices=[{path:"/dev/disk",type:"b",major:254,minor:0}]'
    in_container 'head -c 1 /dev/disk'
    assert_has "Operation not permitted"
}

@test "bind mounts take their options: read-only, recursive read-only, files" {
    mkdir -p "$T/a/sub"
    MOUNTED=$T/a/sub
    mount -t tmpfs isola-t "$T/a/sub"
    echo text >"$T/file"
    config --arg a "$T/a" --arg f "$T/file" '.mounts+=[
        {destination:"/ro",source:$a,options:["rbind","ro"]},
        {destination:"/rro",source:$a,options:["rbind","rro","rnosuid"]},
        {destination:"/deep/er/file",source:$f,options:["bind","nosuid","nodev","noexec","noatime"]}]
        | .root.readonly=false'
    in_container 'touch /ro/x; touch /ro/sub/fine; touch /rro/sub/y; cat /deep/er/file; grep -E "(deep|rro)" /proc/self/mountinfo'
    assert_has "/ro/x: Read-only"
    assert_has "/rro/sub/y: Read-only"
    assert_has text
    [ -e "$T/a/sub/fine" ]
    assert_has "/rro/sub ro,nosuid"
    assert_has "nosuid,nodev,noexec,noatime"
}

@test "mounts of the container do not reach the host, and shared ones do" {
    mkdir "$T/vol"
    MOUNTED=$T/vol
    mount -t tmpfs isola-t "$T/vol"
    mount --make-shared "$T/vol"
    mkdir "$T/vol/in"
    caps='.process.capabilities|=with_entries(.value+=["CAP_SYS_ADMIN"])'
    config --arg v "$T/vol" "$caps"'|.mounts+=[{destination:"/vol",source:$v,options:["rbind","rprivate"]}]'
    in_container 'mount -t tmpfs x /vol/in && touch /vol/in/private'
    assert_status 0
    [ ! -e "$T/vol/in/private" ]
    config '.mounts[-1].options=["rbind","rshared"] | .linux.rootfsPropagation="shared"'
    in_container 'mount -t tmpfs x /vol/in && touch /vol/in/shared'
    assert_status 0
    [ -e "$T/vol/in/shared" ]
    umount "$T/vol/in"
}

@test "tmpcopyup starts a tmpfs with what the image has there" {
    mkdir -p "$B/rootfs/data/d"
    echo one >"$B/rootfs/data/d/f"
    chown 5:6 "$B/rootfs/data/d/f"
    chmod 4755 "$B/rootfs/data/d/f"
    ln -s d/f "$B/rootfs/data/link"
    config '.mounts+=[{destination:"/data",type:"tmpfs",source:"tmpfs",options:["tmpcopyup","mode=755"]}]'
    in_container 'cat /data/link; stat -c "%u:%g %a" /data/d/f; touch /data/new'
    assert_status 0
    [ "$output" = "one
5:6 4755" ]
    [ ! -e "$B/rootfs/data/new" ]
}

@test "isola-copy gives a file's copy, and does not tell where the file is" {
    mkdir -p "$T/a" "$T/b"
    echo one >"$T/a/x"
    printf '#!/bin/sh\necho two\n' >"$T/b/x"
    chmod 755 "$T/b/x"
    config ".mounts+=[{destination:\"/a/x\",source:\"$T/a/x\",options:[\"isola-copy\"]},
        {destination:\"/b/x\",source:\"$T/b/x\",options:[\"isola-copy\",\"ro\"]}]"
    in_container 'cat /a/x; /b/x; echo three >/a/x && cat /a/x; echo no >/b/x; grep " /[ab]/x " /proc/self/mountinfo'
    assert_status 0
    [[ "$output" = one$'\n'two$'\n'three* ]]
    [[ "$output" = *"Read-only file system"* ]]
    [[ "$output" != *"$T"* ]]
    [ "$(cat "$T/a/x")" = one ]
    run -1 grep -q "$T" /proc/self/mountinfo
    config '.mounts[-1].source="/"'
    in_container 'true'
    [ "$status" -ne 0 ]
    [[ "$output" = *"copy '/'"* ]]
}

@test "id-mapped mounts show other owners and leave the files alone" {
    mkdir "$T/vol"
    touch "$T/vol/f"
    config --arg v "$T/vol" '.mounts+=[{destination:"/vol",source:$v,options:["bind","idmap"],
        uidMappings:[{containerID:0,hostID:1000,size:1000}],gidMappings:[{containerID:0,hostID:2000,size:1000}]}]'
    in_container 'stat -c "%u:%g" /vol/f'
    [ "$output" = 1000:2000 ] || assert_has "id-mapped mounts"
    [ "$(stat -c %u "$T/vol/f")" = 0 ]
}

@test "a user namespace maps ids and gives no right over the host" {
    chown -R 100000:100000 "$B/rootfs"
    mkdir "$T/secret"
    touch "$T/secret/f"
    config --arg s "$T/secret" '.linux.namespaces+=[{type:"user"}] | .linux.uidMappings=[{containerID:0,hostID:100000,size:65536}]
        | .linux.gidMappings=[{containerID:0,hostID:100000,size:65536}] | .root.readonly=false
        | .mounts+=[{destination:"/s",source:$s,options:["bind"]}]'
    in_container 'id -u; cat /proc/self/uid_map; touch /tmp/mine; touch /s/f; stat -c %t:%T /dev/null; echo x >/dev/null && cat /proc/self/setgroups'
    [ "${lines[0]}" = 0 ]
    assert_has "100000      65536"
    assert_has "/s/f: Permission denied"
    assert_has "1:3"
    assert_has allow
    [ "$(stat -c %u "$B/rootfs/tmp/mine")" = 100000 ]
    start_sleeper
    run oci exec "$ID" /bin/sh -c 'id -u; cat /proc/self/uid_map'
    [ "${lines[0]}" = 0 ]
    assert_has 100000
    # Another container in the same namespaces: user, pid, ipc joined by path, the rest new.
    pid=$(oci state "$ID" | jq .pid)
    config --arg p "/proc/$pid/ns/" '.linux.namespaces|=map(if .type=="user" or .type=="ipc" or .type=="network"
        then .path=($p+({user:"user",ipc:"ipc",network:"net"}[.type])) else . end) | del(.linux.uidMappings,.linux.gidMappings)'
    args /bin/sh -c 'id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/ipc; echo $$'
    run oci run -b "$B" "$ID-b"
    assert_status 0
    assert_has "$(readlink "/proc/$pid/ns/user")"
    assert_has "$(readlink "/proc/$pid/ns/ipc")"
    [ "${lines[3]}" = 1 ]
}

@test "namespaces are joined by path" {
    start_sleeper
    pid=$(oci state "$ID" | jq .pid)
    config --arg p "/proc/$pid/ns/" '.linux.namespaces|=map(if .type=="mount" or .type=="cgroup" then . else .path=($p+(if .type=="network" then "net" else .type end)) end) | .hostname=""'
    args /bin/sh -c 'hostname; ps | grep -c "sleep 1000"; for n in pid net ipc uts; do readlink /proc/self/ns/$n; done'
    run oci run -b "$B" "$ID-b"
    assert_status 0
    [ "${lines[0]}" = isola ]
    for n in pid net ipc uts; do assert_has "$(readlink "/proc/$pid/ns/$n")"; done
}

@test "a container in the mount namespace of another sees its tree" {
    start_sleeper
    pid=$(oci state "$ID" | jq .pid)
    echo here >"$B/rootfs/etc/mark"
    config --arg p "/proc/$pid/ns/" '.linux.namespaces|=map(if .type=="mount" then .path=($p+"mnt") elif .type=="pid" then .path=($p+"pid") else . end)'
    args /bin/sh -c 'cat /etc/mark; readlink /proc/self/ns/mnt'
    run oci run -b "$B" "$ID-b"
    assert_status 0
    [ "${lines[0]}" = here ]
    [ "${lines[1]}" = "$(readlink "/proc/$pid/ns/mnt")" ]
}

@test "a time namespace has its offsets" {
    config '.linux.namespaces+=[{type:"time"}] | .linux.timeOffsets={boottime:{secs:100000000},monotonic:{secs:5,nanosecs:7}}'
    in_container 'cut() { IFS=. read -r a b; echo $a; }; cut </proc/uptime; cat /proc/self/timens_offsets'
    assert_status 0
    [ "${lines[0]}" -gt 100000000 ]
    assert_has "5         7"
}

@test "limits, groups, umask, personality and oom score are set" {
    config '.process.rlimits=[{type:"RLIMIT_NOFILE",soft:99,hard:100},{type:"RLIMIT_CORE",soft:0,hard:0}]
        | .process.user={uid:7,gid:8,additionalGids:[9,10],umask:63} | .process.oomScoreAdj=500
        | .linux.personality={domain:"LINUX32"}'
    in_container 'ulimit -S -n; ulimit -H -n; id; umask; cat /proc/self/oom_score_adj; cat /proc/self/personality'
    [ "${lines[0]}" = 99 ]
    [ "${lines[1]}" = 100 ]
    assert_has "uid=7 gid=8 groups=9,10"
    assert_has 0077
    assert_has 500
    assert_has 00000008
}

@test "a tiny limit on open files does not hinder the building of the tree" {
    config '.process.rlimits=[{type:"RLIMIT_NOFILE",soft:6,hard:6}]'
    in_container 'echo fine'
    [ "$output" = fine ]
}

@test "a limit that cannot be had is refused by name and capability" {
    grep -q 'CapEff:.*1fffeffffff' /proc/self/status || skip "this host has CAP_SYS_RESOURCE"
    config '.process.rlimits=[{type:"RLIMIT_NOFILE",soft:5,hard:9999999}]'
    in_container true
    assert_status 1
    assert_has "RLIMIT_NOFILE hard = 9999999"
    assert_has CAP_SYS_RESOURCE
    assert_nothing_left
}

@test "the five capability sets are what the spec says" {
    config '.process.capabilities={bounding:["CAP_CHOWN","CAP_KILL","CAP_SETUID"],permitted:["CAP_CHOWN","CAP_KILL"],
        effective:["CAP_CHOWN"],inheritable:["CAP_KILL"],ambient:["CAP_KILL"]} | .process.user.uid=5'
    in_container 'grep Cap /proc/self/status'
    assert_has "CapInh:	0000000000000020"
    assert_has "CapBnd:	00000000000000a1"
    assert_has "CapAmb:	0000000000000020"
    assert_has "CapPrm:	0000000000000020"
    config 'del(.process.capabilities)'
    in_container 'grep Cap /proc/self/status'
    assert_has "CapEff:	0000000000000000"
    assert_has "CapBnd:	0000000000000000"
}

@test "sysctls of the container's namespaces are set" {
    config '.linux.sysctl={"net.ipv4.ip_forward":"1","kernel.msgmax":"4242","net/ipv4/conf/lo/forwarding":"0"}'
    in_container 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax'
    [ "$output" = "1
4242" ]
    config '.linux.sysctl={"net.ipv4.no_such":"1"}'
    in_container true
    assert_status 1
    assert_has "linux.sysctl.net.ipv4.no_such"
}

@test "seccomp rules hold, are cached, and the cache is not trusted blindly" {
    config '.linux.seccomp={defaultAction:"SCMP_ACT_ALLOW",architectures:["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
        syscalls:[{names:["mkdir","mkdirat","no_such_call"],action:"SCMP_ACT_ERRNO",errnoRet:77},
            {names:["kill"],action:"SCMP_ACT_ERRNO",args:[{index:1,value:10,op:"SCMP_CMP_EQ"}]}]}'
    in_container 'mkdir /tmp/x; kill -10 $$; kill -0 $$ && echo alive; grep Seccomp: /proc/self/status'
    assert_has "File descriptor in bad state"
    assert_has "alive"
    assert_has "Seccomp:	2"
    [ "$(ls "$ROOT/.seccomp" | wc -l)" = 1 ]
    file=$ROOT/.seccomp/$(ls "$ROOT/.seccomp")
    in_container 'mkdir /tmp/x'
    assert_has "File descriptor in bad state"
    printf 'garbage' | dd of="$file" conv=notrunc bs=1 seek=20 2>/dev/null
    chmod 666 "$file"
    in_container 'mkdir /tmp/x'
    assert_has "File descriptor in bad state"
}

@test "seccomp kill and notify reach their ends" {
    config '.linux.seccomp={defaultAction:"SCMP_ACT_ALLOW",syscalls:[{names:["mkdir"],action:"SCMP_ACT_KILL_PROCESS"}]}'
    args /bin/mkdir /tmp/x
    run oci run -b "$B" "$ID"
    assert_status 159
    config --arg l "$T/listener" '.linux.seccomp={defaultAction:"SCMP_ACT_ALLOW",listenerPath:$l,listenerMetadata:"meta",
        syscalls:[{names:["mkdir"],action:"SCMP_ACT_NOTIFY"}]}'
    python3 - "$T/listener" "$T/message" 3>&- <<'PY' &
import array, fcntl, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(1)
c, _ = s.accept()
data, anc, _, _ = c.recvmsg(65536, socket.CMSG_SPACE(4))
fd = array.array("i", anc[0][2])[0]
open(sys.argv[2], "wb").write(data)
req = bytearray(80)
fcntl.ioctl(fd, 0xC0502100, req)
ident = struct.unpack_from("Q", req)[0]
fcntl.ioctl(fd, 0xC0182101, bytearray(struct.pack("QqiI", ident, 0, -17, 0)))
PY
    for _ in $(seq 100); do [ -S "$T/listener" ] && break; sleep 0.02; done
    run oci run -b "$B" "$ID"
    assert_status 1
    assert_has "File exists"
    wait
    [ "$(jq -r .metadata "$T/message")" = meta ]
    [ "$(jq -r '.fds[0]' "$T/message")" = seccompFd ]
    [ "$(jq -r .state.id "$T/message")" = "$ID" ]
    [ "$(jq -r .pid "$T/message")" -gt 1 ]
}

@test "exec gives its filter to the listener too" {
    config --arg l "$T/listener" '.linux.seccomp={defaultAction:"SCMP_ACT_ALLOW",listenerPath:$l,
        syscalls:[{names:["mkdir"],action:"SCMP_ACT_NOTIFY"}]}'
    args /bin/sleep 100
    python3 - "$T/listener" "$T/message" 3>&- <<'PY' &
import array, fcntl, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(2)
keep = []
for turn in range(2):
    c, _ = s.accept()
    data, anc, _, _ = c.recvmsg(65536, socket.CMSG_SPACE(4))
    fd = array.array("i", anc[0][2])[0]
    keep.append(fd)
open(sys.argv[2], "wb").write(data)
req = bytearray(80)
fcntl.ioctl(fd, 0xC0502100, req)
ident = struct.unpack_from("Q", req)[0]
fcntl.ioctl(fd, 0xC0182101, bytearray(struct.pack("QqiI", ident, 0, -17, 0)))
PY
    agent=$!
    for _ in $(seq 100); do [ -S "$T/listener" ] && break; sleep 0.02; done
    oci run -d -b "$B" "$ID" </dev/null >/dev/null 2>&1
    run oci exec "$ID" /bin/mkdir /tmp/x
    assert_status 1
    assert_has "File exists"
    wait "$agent"
    [ "$(jq -r .state.id "$T/message")" = "$ID" ]
    [ "$(jq -r .state.status "$T/message")" = running ]
    [ "$(jq -r .pid "$T/message")" != "$(jq -r .state.pid "$T/message")" ]
    run oci exec "$ID" /bin/true
    assert_status 1
    assert_has "linux.seccomp.listenerPath"
    oci delete --force "$ID"
}

@test "scheduler, I/O priority and a missing working directory are seen to" {
    config '.process.scheduler={policy:"SCHED_BATCH",nice:5} | .process.ioPriority={class:"IOPRIO_CLASS_IDLE",priority:0}
        | .process.cwd="/made/here" | .root.readonly=false'
    in_container 'pwd; cat /proc/self/stat'
    assert_status 0
    [ "${lines[0]}" = /made/here ]
    set -- ${lines[1]}
    [ "${19}" = 5 ]
    [ "${41}" = 3 ]
}

@test "without pivot_root the root is the same" {
    in_container 'ls /; cat /proc/self/mountinfo | wc -l'
    want=$output
    args /bin/sh -c 'ls /; cat /proc/self/mountinfo | wc -l'
    run oci run --no-pivot -b "$B" "$ID"
    assert_status 0
    [ "${lines[0]}" = bin ]
}
