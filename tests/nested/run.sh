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
vm="--isolation vm --network none"
dmesg -n 1
plan 4
out=$(isola run --rm $vm $image echo hello 2>&1)
is "a workload runs in a machine" hello "$out"
isola run --rm $vm $image sh -c 'exit 7' >/tmp/out 2>&1
is "its exit code is the command's" 7 $?
out=$(isola run --rm $vm $image cat /proc/sys/kernel/random/boot_id 2>&1)
is "its kernel is its own" "36 no" "${#out} $([ "$out" = "$(cat /proc/sys/kernel/random/boot_id)" ] && echo yes || echo no)"
out=$(echo abc | isola run --rm -i $vm $image cat 2>&1)
is "standard input reaches it" abc "$out"
tap_end
SH
chmod +x "$job/job"
nested_run --timeout 200
