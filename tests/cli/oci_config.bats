load oci.bash
setup() { oci_setup; }
teardown() { oci_teardown; }

# refuses JQ TEXT...: with this change the container is not made, the error is one line that holds
# every TEXT, and nothing is left behind.
refuses() {
    local program=$1
    shift
    cp "$B/config.json" "$T/good.json"
    config "$program"
    run oci run -b "$B" "$ID"
    mv "$T/good.json" "$B/config.json"
    assert_status 1
    [ "${#lines[@]}" -eq 1 ]
    for text in "$@"; do assert_has "$text"; done
    assert_nothing_left
}

@test "wrong values are named by JSON path and value" {
    refuses '.ociVersion="3.0"' 'ociVersion = "3.0"'
    refuses '.process.cwd="tmp"' 'process.cwd = "tmp": must be an absolute path'
    refuses '.process.args=[]' 'process.args = []: must hold at least the program'
    refuses '.process.args=[1]' 'process.args[0] = 1'
    refuses '.process.env=["A=1","B"]' 'process.env[1] = "B": must be NAME=value'
    refuses '.process.user.uid=-1' 'process.user.uid = -1'
    refuses '.process.user.uid="root"' 'process.user.uid = "root": must be a whole number'
    refuses '.process.rlimits=[{type:"RLIMIT_X",soft:1,hard:1}]' 'process.rlimits[0].type = "RLIMIT_X"'
    refuses '.process.rlimits=[{type:"RLIMIT_CORE",soft:2,hard:1}]' 'soft limit is above the hard'
    refuses '.process.rlimits+=.process.rlimits' 'process.rlimits[1].type' 'given twice'
    refuses '.process.capabilities.bounding=["chown"]' 'process.capabilities.bounding[0] = "chown"'
    refuses '.process.oomScoreAdj=2000' 'process.oomScoreAdj = 2000'
    refuses '.process.ioPriority={class:"BEST"}' 'process.ioPriority.class = "BEST"'
    refuses '.process.scheduler={policy:"SCHED_X"}' 'process.scheduler.policy = "SCHED_X"'
    refuses 'del(.root)' 'root: is missing'
    refuses '.mounts[1].destination=7' 'mounts[1].destination = 7'
    refuses '.mounts[0].type=null' 'mounts[0].type: is missing'
    refuses '.hooks={poststop:[{path:"x"}]}' 'hooks.poststop[0].path = "x"'
}

@test "wrong platform settings are named too" {
    refuses '.linux.namespaces+=[{type:"disk"}]' 'linux.namespaces[6].type = "disk"'
    refuses '.linux.namespaces+=[{type:"pid"}]' 'linux.namespaces[6].type = "pid": is given twice'
    refuses '.linux.namespaces=[{type:"pid"}]|.hostname=""' 'must list a mount namespace'
    refuses '.linux.namespaces|=map(select(.type!="uts"))' 'hostname' 'uts namespace'
    refuses '.linux.uidMappings=[{containerID:0,hostID:0,size:1}]' 'linux.uidMappings' 'user namespace'
    refuses '.linux.namespaces+=[{type:"user"}]' 'linux.uidMappings: must map at least one id'
    refuses '.linux.cgroupsPath="/a/../../b"' 'linux.cgroupsPath = "/a/../../b"'
    refuses '.linux.cgroupsPath="system.slice:isola:x"' 'is a systemd name'
    refuses '.linux.sysctl={"kernel.core_pattern":"x"}' 'linux.sysctl.kernel.core_pattern' 'whole machine'
    refuses '.linux.sysctl={"net.ipv4.ip_forward":"1"}|.linux.namespaces|=map(select(.type!="network"))' \
        'needs a network namespace'
    refuses '.linux.intelRdt={closID:"../x"}' 'linux.intelRdt.closID = "../x"'
    [ -e /sys/fs/resctrl/schemata ] || refuses '.linux.intelRdt={closID:"x"}' 'linux.intelRdt' 'mount -t resctrl'
    refuses '.zos={}' 'zos: this runtime runs Linux containers only'
    refuses '.linux.maskedPaths=["etc"]' 'linux.maskedPaths[0] = "etc"'
    refuses '.linux.personality={domain:"BSD"}' 'linux.personality.domain = "BSD"'
    refuses '.linux.seccomp={defaultAction:"SCMP_ACT_MAYBE"}' 'linux.seccomp.defaultAction = "SCMP_ACT_MAYBE"'
    refuses '.linux.seccomp={defaultAction:"SCMP_ACT_ALLOW",syscalls:[{names:["x"],action:"SCMP_ACT_NOTIFY"}]}' \
        'linux.seccomp.listenerPath: is needed'
    refuses '.linux.resources.devices=[{type:"x"}]' 'linux.resources.devices[0].type = "x"'
    refuses '.linux.resources.hugepageLimits=[{pageSize:"../x",limit:1}]' 'hugepageLimits[0].pageSize'
    local why='this host has no AppArmor'
    [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" != Y ] || why='is not loaded'
    refuses '.process.apparmorProfile="x"' "process.apparmorProfile = \"x\": $why"
    refuses '.linux.timeOffsets={boottime:{secs:1}}' 'linux.timeOffsets: needs a new time namespace'
}

@test "what is missing on the host is named" {
    refuses '.root.path="nowhere"' "root.path: open 'nowhere'"
    refuses '.mounts+=[{destination:"/x",source:"/nowhere",options:["bind"]}]' \
        "mounts[7].source: open '/nowhere'"
    refuses '.linux.namespaces|=map(if .type=="ipc" then .path="/nowhere" else . end)' \
        "open ipc namespace '/nowhere'"
    refuses '.mounts+=[{destination:"/x",type:"nofs",source:"x"}]' "mounts[7] at '/x'" "'nofs'"
    refuses '.mounts[2].options+=["bogus=1"]' "devpts"
    refuses '.process.rlimits=[{type:"RLIMIT_NOFILE",soft:1,hard:4000000000}]' 'RLIMIT_NOFILE'
}

@test "text that is no JSON is refused with its line" {
    echo '{"ociVersion": ' >"$B/config.json"
    run oci run -b "$B" "$ID"
    assert_status 1
    assert_has "config.json: line"
    printf '{"ociVersion":"1.0.0","ociVersion":"1.0.0"}' >"$B/config.json"
    run oci run -b "$B" "$ID"
    assert_status 1
    rm "$B/config.json"
    run oci run -b "$B" "$ID"
    assert_status 1
    assert_has "read 'config.json': No such file"
}

@test "unknown fields, unknown capabilities and Go's largest number are taken as the spec says" {
    config '.future={a:1} | .process.capabilities.bounding+=["CAP_OF_TOMORROW"]'
    args /bin/sh -c 'ulimit -H -c'
    jq -c '.process.rlimits=[{type:"RLIMIT_CORE",soft:0,hard:0}]' "$B/config.json" |
        sed 's/"soft":0,"hard":0/"soft":0,"hard":18446744073709551615/' >"$B/new.json"
    mv "$B/new.json" "$B/config.json"
    run oci run -b "$B" "$ID"
    [ "$output" = unlimited ] || assert_has "RLIMIT_CORE hard = 18446744073709551615"
}
