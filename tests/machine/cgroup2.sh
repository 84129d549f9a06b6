#!/bin/bash
# isola-oci on a machine with cgroup v2 alone and every controller: Debian's own kernel.
# Usage: cgroup2.sh BUILD KERNEL-DIR
set -eu
. "$(dirname "$0")/machine.bash"
machine_need apparmor_parser
machine_begin "$@"
machine_bundles
bundle plain "$(words 'exit 7')"
bundle memory "$(words 'busybox dd if=/dev/zero of=/dev/null bs=96M count=1') |
    .linux.resources.memory={limit:33554432,swap:33554432}"
bundle pids "$(words 'i=0; while [ $i -lt 20 ]; do busybox sleep 9 & i=$((i+1)); done; echo all') |
    .linux.resources.pids={limit:8}"
bundle idle "$(words 'exec busybox sleep 100') |
    .linux.resources={memory:{limit:67108864},cpu:{quota:50000,period:100000,shares:512,cpus:\"0\"},
        pids:{limit:50},unified:{\"memory.high\":\"60000000\"}}"
bundle devices "$(words 'busybox mknod /dev/k c 1 11; (: </dev/k) && echo OPEN; (: </dev/null) && echo null') |
    .process.capabilities|=with_entries(.value+=[\"CAP_MKNOD\"]) |
    .linux.resources.devices=[{allow:false,access:\"rwm\"},{allow:true,type:\"c\",major:1,minor:11,access:\"m\"}] |
    .root.readonly=false"
bundle resource "$(words 'ulimit -Hn; busybox cat /proc/self/oom_score_adj') |
    .process.rlimits=[{type:\"RLIMIT_NOFILE\",soft:500000,hard:500000}] | .process.oomScoreAdj=-500"
# AppArmor: one profile that hides a file, in the form that the kernel reads.
cat >"$work/profile" <<'PROFILE'
profile it-hides flags=(attach_disconnected,mediate_deleted) {
    file,
    capability,
    network,
    mount,
    umount,
    signal,
    ptrace,
    deny /forbidden rwklx,
}
PROFILE
apparmor_parser -K -S --features-file /etc/apparmor.d/abi/3.0 "$work/profile" >"$new/profile" 2>"$work/parser" ||
    sed 's/^/# /' "$work/parser"
echo secret >"$new/bundle/rootfs/forbidden"
look="busybox cat /proc/self/attr/apparmor/current; busybox cat /forbidden"
bundle hides "$(words "$look") | .process.apparmorProfile=\"it-hides\" | .process.noNewPrivileges=false"
bundle hides_for_good "$(words "$look") | .process.apparmorProfile=\"it-hides\" | .process.noNewPrivileges=true"
bundle hides_idle "$(words 'exec busybox sleep 100') | .process.apparmorProfile=\"it-hides\" |
    .process.noNewPrivileges=false"
bundle hides_users "$(words 'exec busybox sleep 100') | .process.apparmorProfile=\"it-hides\" |
    .linux.namespaces+=[{type:\"user\"}] | .linux.uidMappings=[{containerID:0,hostID:100000,size:65536}] |
    .linux.gidMappings=[{containerID:0,hostID:100000,size:65536}]"
bundle no_profile "$(words 'exit 0') | .process.apparmorProfile=\"it-misses\""
machine_cases >"$new/cases" <<'SH'
oci() { isola-oci --root /run/oci "$@"; }
echo "1..25"
oci run -b /plain one >/tmp/out 2>&1
is "a container runs and gives its exit code" 7 $?
oci run -b /memory two >/tmp/out 2>&1
is "memory.max ends a process that takes too much" 137 $?
out=$(oci run -b /pids three 2>&1)
is "pids.max refuses the ninth process" 1 "$(echo "$out" | grep -c "can't fork")"
oci run -d -b /idle four </dev/null >/tmp/out 2>&1
is "a detached container starts" 0 $?
pid=$(oci state four | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
g=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
is "memory.max is what was asked" 67108864 "$(cat $g/memory.max)"
is "memory.high comes from unified" 59998208 "$(cat $g/memory.high)"
is "cpu.max is what was asked" "50000 100000" "$(cat $g/cpu.max)"
is "cpu.weight follows the shares" 20 "$(cat $g/cpu.weight)"
is "cpuset.cpus is what was asked" 0 "$(cat $g/cpuset.cpus)"
is "pids.max is what was asked" 50 "$(cat $g/pids.max)"
oci update --memory 134217728 --pids-limit 60 four
is "update changes both" "134217728 60" "$(cat $g/memory.max) $(cat $g/pids.max)"
oci pause four
is "pause freezes the group" 1 "$(cat $g/cgroup.freeze)"
oci resume four
is "resume thaws it" 0 "$(cat $g/cgroup.freeze)"
is "statistics come from the group" 1 "$(oci events --stats four | grep -c '"usage"')"
oci delete --force four
is "delete removes the group" 1 "$([ -d $g ]; echo $?)"
out=$(oci run -b /devices five 2>&1 | grep -c -e OPEN -e null)
is "the device program allows null and not what may only be made" 1 "$out"
out=$(oci run -b /resource six 2>&1 | tr '\n' ' ')
is "with CAP_SYS_RESOURCE limits rise and the OOM score falls" "500000 -500 " "$out"

mount -t securityfs securityfs /sys/kernel/security
dd if=/profile of=/sys/kernel/security/apparmor/.replace bs=1M 2>/dev/null
hidden="it-hides (enforce) cat: can't open '/forbidden': Permission denied "
out=$(oci run -b /hides seven 2>&1 | tr '\n' ' ')
is "an AppArmor profile holds the workload, and denies what it says" "$hidden" "$out"
out=$(oci run -b /hides_for_good eight 2>&1 | tr '\n' ' ')
is "so it does with no-new-privileges" "$hidden" "$out"
oci run -d -b /hides_idle nine </dev/null >/tmp/out 2>&1
out=$(oci exec nine /bin/busybox sh -c "busybox cat /proc/self/attr/apparmor/current /forbidden" 2>&1 | tr '\n' ' ')
is "exec has the profile, too" "$hidden" "$out"
out=$(oci exec --apparmor it-misses nine /bin/busybox true 2>&1); status=$?
is "exec with another names it when it is missing" "1 1" "$status $(echo "$out" | grep -c 'it-misses.*is not loaded')"
oci delete --force nine
oci run -d -b /hides_users ten </dev/null >/tmp/out 2>&1
is "a user namespace does not matter" 0 $?
out=$(oci exec ten /bin/busybox cat /proc/self/attr/apparmor/current /forbidden 2>&1 | tr '\n' ' ')
is "nor for exec" "$hidden" "$out"
oci delete --force ten
out=$(oci create -b /no_profile eleven 2>&1 </dev/null); status=$?
is "a profile that is not loaded is named before anything runs" "1 1" \
    "$status $(echo "$out" | grep -c 'apparmorProfile = "it-misses": is not loaded')"
is "and nothing is left of it" "0 0" "$(ls /run/oci | wc -l) $(find /sys/fs/cgroup -name eleven | wc -l)"
SH
machine_run 512 240
