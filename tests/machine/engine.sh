#!/bin/bash
# isola on Debian's own kernel with cgroup v2 alone: what a user of plain Debian 12 has, which is
# older than the kernel of the other tests. Usage: engine.sh BUILD KERNEL-DIR
set -eu
. "$(dirname "$0")/machine.bash"
machine_need apparmor_parser
machine_begin "$@"
machine_modules overlay veth bridge nf_tables nf_nat nf_conntrack nft_chain_nat nft_masq nft_ct nft_fib_inet \
    nft_reject_inet nft_nat nft_redir nft_hash nft_limit
for program in isola isola-shim isola-init; do
    cp "$build/src/main/$program" "$new/bin/$program"
done
ISOLA_ROOT=$new/var/isola ISOLA_RUN=$work/run "$build/src/main/isola" load -q \
    -i "$build/src/main/isola-busybox.tar" >/dev/null
echo "root:x:0:0:root:/:/bin/sh" >"$new/etc/passwd"
copy /usr/sbin/apparmor_parser /etc/apparmor.d/abi/3.0
machine_cases >"$new/cases" <<'SH'
export ISOLA_ROOT=/var/isola ISOLA_RUN=/run/isola
image=isola/busybox
echo "1..26"
out=$(isola run --rm --network none $image sh -c 'echo hello; exit 7' 2>&1)
is "a workload runs and gives its exit code" "7 hello" "$? $out"
out=$(echo abc | isola run --rm -i --network none --read-only $image cat 2>&1)
is "standard input reaches a read-only workload" abc "$out"
isola run --rm --network none -m 32m $image dd if=/dev/zero of=/dev/null bs=96M count=1 >/tmp/out 2>&1
is "--memory ends a hog" 137 $?
isola run -d --name hog --network none -m 32m $image dd if=/dev/zero of=/dev/null bs=96M count=1 >/tmp/out 2>&1
isola wait hog >/dev/null
is "inspect says that memory was the reason" true "$(isola inspect -f '{{.State.OOMKilled}}' hog)"
out=$(isola run --rm --network none --pids-limit 8 $image sh -c 'i=0; while [ $i -lt 20 ]; do sleep 9 & i=$((i+1)); done' 2>&1)
is "--pids-limit refuses the ninth process" 1 "$(echo "$out" | grep -c "can't fork")"
isola run -d --name web -p 127.0.0.1:8080:80 -m 64m --cpus 0.5 $image sh -c 'echo hi >/index.html; exec httpd -f -p 80 -h /' >/tmp/out 2>&1
is "a web server starts on a published port" 0 $?; sed 's/^/# /' /tmp/out
sleep 1
is "its port answers on localhost" hi "$(wget -q -O - http://127.0.0.1:8080/ 2>&1)"
id=$(isola ps -q --no-trunc)
g=/sys/fs/cgroup/isola/$id
is "its limits are in its group" "67108864 50000 100000" "$(cat $g/memory.max) $(cat $g/cpu.max)"
isola network create back >/tmp/out 2>&1
isola run -d --name db --network back $image sleep 100 >/tmp/out 2>&1
out=$(isola run --rm --network back $image ping -c 1 -W 5 db 2>&1 | grep -c 'bytes from')
is "a name on a network of the user's own is found" 1 "$out"
out=$(isola run --rm --network none --init $image cat /proc/self/mountinfo 2>&1)
is "the workload's files do not tell where ours lie" "4 0" \
    "$(echo "$out" | grep -c tmpfs.files) $(echo "$out" | grep -v ' / / ' | grep -c -e isola -e workloads)"
isola network create more >/tmp/out 2>&1
isola network connect more db
isola cp db:/etc/hosts /tmp/hosts
is "they follow when it joins a network" 2 "$(grep -c "$(isola inspect -f '{{.Config.Hostname}}' db)" /tmp/hosts)"
isola network disconnect more db
is "exec works" "in" "$(isola exec web echo in 2>&1)"

mount -t securityfs securityfs /sys/kernel/security
mv /usr/sbin/apparmor_parser /parser
is "AppArmor without its parser: doctor says what to install" 1 "$(isola doctor | grep -c 'apt-get install apparmor')"
mkdir -p /usr/sbin; mv /parser /usr/sbin/apparmor_parser
look='cat /proc/self/attr/apparmor/current; mount -t tmpfs none /tmp 2>&1 && echo mounted'
profile() { isola run --rm --network none --cap-add SYS_ADMIN "$@" $image sh -c "$look" 2>&1 | tr '\n' ' '; }
held="isola-default (enforce) mount: mounting none on /tmp failed: Permission denied "
is "where AppArmor is, a workload is under isola's profile, which forbids to mount" "$held" "$(profile)"
is "with no-new-privileges, too" "$held" "$(profile --security-opt no-new-privileges)"
out=$(isola run --rm --network none --security-opt systempaths=unconfined $image \
    sh -c 'echo 0 2>&1 >/proc/sys/kernel/panic_on_oops || echo kept' 2>&1 | tail -n 1)
is "and keeps the host's /proc from being written when nothing else does" kept "$out"
is "but not with apparmor=unconfined" "unconfined mounted " "$(profile --security-opt apparmor=unconfined)"
is "nor with --privileged" "unconfined mounted " "$(profile --privileged)"
out=$(isola run --rm --network none --security-opt apparmor=it-misses $image true 2>&1); status=$?
is "a profile that is not there is named" "125 1" "$status $(echo "$out" | grep -c 'it-misses.*is not loaded')"
isola run -d --name held --network none $image sleep 100 >/tmp/out 2>&1
is "inspect shows the profile" isola-default "$(isola inspect -f '{{.AppArmorProfile}}' held)"
is "exec has it" "isola-default (enforce)" "$(isola exec held cat /proc/self/attr/apparmor/current)"
is "stop may still signal" exited "$(isola stop -t 5 held >/dev/null; isola inspect -f '{{.State.Status}}' held)"
isola rm -f held >/dev/null
isola pause web
is "pause freezes it" 1 "$(cat $g/cgroup.freeze)"
isola unpause web
isola stop -t 0 web >/dev/null
is "stop ends it" exited "$(isola inspect -f '{{.State.Status}}' web)"
isola rm -f web db hog >/dev/null
out=$(isola system check)
is "nothing is left to repair" "nothing to repair" "$out"
is "no group and no mount is left" "0 0" "$(ls -d /sys/fs/cgroup/isola/*/ 2>/dev/null | wc -l) $(grep -c /var/isola /proc/self/mountinfo)"
SH
machine_run 768 300
