#!/bin/bash
# isola-oci on a machine with cgroup v2 alone and every controller: Debian's own kernel.
# Usage: cgroup2.sh BUILD KERNEL-DIR
set -eu
. "$(dirname "$0")/machine.bash"
machine_begin "$@"
mkdir -p "$new/bundle/rootfs/bin"
cp "$new/bin/busybox" "$new/bundle/rootfs/bin/busybox"
cp "$build/src/main/isola-oci" "$new/bin/isola-oci"
"$build/src/main/isola-oci" spec -b "$new/bundle"
# One bundle a case: the guest has no tool for JSON.
bundle() { # name, jq program
    mkdir -p "$new/$1"
    ln -s /bundle/rootfs "$new/$1/rootfs"
    jq ".process.terminal=false | .process.env=[\"PATH=/bin\"] | .linux.resources={} | $2" \
        "$new/bundle/config.json" >"$new/$1/config.json"
}
words() { printf '.process.args=["/bin/busybox","sh","-c","%s"]' "$1"; }
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
machine_cases >"$new/cases" <<'SH'
oci() { isola-oci --root /run/oci "$@"; }
echo "1..17"
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
SH
machine_run 512 240
