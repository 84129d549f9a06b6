#!/bin/bash
# `isola run --isolation vm` for real: workloads in machines, with Debian's kernel, in L1.
# Usage: run.sh BUILD
set -u
build=$(cd "$1" && pwd)
. "$(dirname "$0")/nested.bash"
nested_begin
programs=$build/src/main
for need in mkfs.erofs mkfs.ext4; do
    PATH=$PATH:/usr/sbin:/sbin command -v $need >/dev/null || {
        echo "1..0 # SKIP $need is not installed"
        exit 0
    }
done
PATH=$PATH:/usr/sbin:/sbin "$lab" copy "$job" "$(PATH=$PATH:/usr/sbin command -v mkfs.erofs)" \
    "$(PATH=$PATH:/usr/sbin command -v mkfs.ext4)"
for program in isola isola-shim isola-init isola-vmm isola-guest isola-image; do
    cp "$programs/$program" "$job/bin/"
done
strip "$job"/bin/isola* 2>/dev/null
# The kernel is installed here: what unpacks it needs libraries and time.
export ISOLA_ROOT=$work/root ISOLA_RUN=$work/run
"$programs/isola" kernel install --from "$build/kernel/vmlinuz" --modules "$build/kernel/modules" \
    >"$work/said" 2>&1 || {
    echo "1..1"
    sed 's/^/# /' "$work/said"
    echo "not ok 1 - the guest kernel can be installed"
    exit 1
}
"$programs/isola" load -q -i "$programs/isola-busybox.tar" >/dev/null
tar c -C "$work" root >"$job/root.tar"
cat >"$job/job" <<'SH'
#!/bin/sh
. /lab/tap
mkdir -p /var/lib /etc
echo "root:x:0:0:root:/:/bin/sh" >/etc/passwd
tar x -C /var/tmp -f /host/root.tar 2>/dev/null || { mkdir -p /var/tmp; tar x -C /var/tmp -f /host/root.tar; }
export ISOLA_ROOT=/var/tmp/root ISOLA_RUN=/run/isola
image=isola/busybox
vm="--isolation vm"
dmesg -n 1
within() { # SECONDS COMMAND...
    limit=$1
    shift
    for _ in $(seq $((limit * 5))); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    return 1
}
plan 23
out=$(echo abc | isola run --rm -i $vm --network none $image sh -c 'cat; cat /proc/sys/kernel/random/boot_id; echo err >&2; exit 7' 2>/tmp/err)
is "the exit code is the command's" 7 $?
is "standard input and output are joined" abc "$(echo "$out" | head -n 1)"
is "its kernel is its own" "36 no" "$(echo "$out" | sed -n 2p | wc -c | awk '{print $1 - 1}') \
$([ "$(echo "$out" | sed -n 2p)" = "$(cat /proc/sys/kernel/random/boot_id)" ] && echo yes || echo no)"
is "standard error is apart" err "$(cat /tmp/err)"
out=$(isola run --rm $vm --network none $image /no/such/program 2>&1)
is "a missing program is 127, named" "127 1" "$? $(echo "$out" | grep -c /no/such/program)"

isola network create back >/dev/null
isola run -d --name web $vm --network back -p 8080:80 -m 256m -h webhost -e A=b $image \
    sh -c 'echo hi >/index.html; trap "exit 3" TERM; httpd -f -v -p 80 -h / & wait' >/tmp/out 2>&1
is "a web server starts detached" 0 $?; sed 's/^/# /' /tmp/out
claim "its published port answers" within 10 wget -q -O /tmp/page http://127.0.0.1:8080/
is "with its page" hi "$(cat /tmp/page)"
is "a container finds it by name" hi "$(isola run --rm --network back $image wget -q -O - http://web/ 2>&1)"
is "exec works" "in webhost b" "$(isola exec web sh -c 'echo in $(hostname) $A' 2>&1)"
isola exec web sh -c 'exit 9'
is "with exit codes" 9 $?
is "and standard input" xyz "$(echo xyz | isola exec -i web cat 2>&1)"
memory=$(isola exec web sh -c 'sed -n "s/MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo')
is "--memory is the machine's memory" yes "$([ "$memory" -gt 180000 ] && [ "$memory" -lt 262144 ] && echo yes || echo "$memory")"
is "devices are on PCI, which this kernel has a driver for" "6 0" \
    "$(isola exec web sh -c 'echo $(ls /sys/bus/pci/drivers/virtio-pci | grep -c :) $(ls /sys/bus/platform/drivers/virtio-mmio 2>/dev/null | grep -c LNRO)')"
is "ps shows it" "web running" "$(isola ps --format '{{.Names}} {{.State}}')"
claim "logs have what it said" sh -c 'isola logs web 2>&1 | grep -q response:200'
isola cp web:/index.html /tmp/x >/tmp/out 2>&1
is "cp is refused by name" "1 1" "$? $(grep -c 'behind the vm wall' /tmp/out)"
isola stop -t 10 web >/dev/null
is "stop is a signal inside" "exited 3" "$(isola inspect -f '{{.State.Status}} {{.State.ExitCode}}' web)"
isola start web >/dev/null
is "its disk outlives a stop" hi "$(isola exec web cat /index.html 2>&1)"
kill -9 $(pidof isola-vmm)
isola wait web >/tmp/out
is "kill -9 of the monitor is 137" 137 "$(cat /tmp/out)"
isola rm web >/dev/null
isola network rm back >/dev/null
is "nothing is left to repair" "nothing to repair" "$(isola system check)"
is "no process, tap or group is left" "0 0 0" \
    "$(ps | grep -c 'isola-[vs]') $(ip link | grep -c tap) $(ls -d /sys/fs/cgroup/isola/*/ 2>/dev/null | wc -l)"
is "the kernels have nothing to complain about" "" "$(dmesg | grep -e 'BUG: ' -e Oops -e 'general protection')"
tap_end
SH
chmod +x "$job/job"
nested_run --timeout 420
