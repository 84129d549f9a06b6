#!/bin/sh
# isola-oci against crun and the bare floor: one default bundle with a static program, its own
# network namespace and cgroup, in a view with cgroup v1 only (crun 1.8 refuses the hybrid layout).
# Usage: bench/oci_run.sh BUILD [ROUNDS]; prints JSON lines, the last one the count of system calls.
set -eu
build=$(cd "$1" && pwd)
rounds=${2:-30}
work=$(mktemp -d /run/isola-bench-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bundle/rootfs/bin" "$work/bundle/rootfs/proc" "$work/bundle/rootfs/sys" "$work/bundle/rootfs/dev"
printf 'int main(void) { return 0; }\n' | cc -O2 -static -x c - -o "$work/bundle/rootfs/bin/true"
"$build/src/main/isola-oci" spec -b "$work/bundle"
# Our own file says 1.2.0, which crun 1.8 does not know; nothing in it is newer than 1.0.
jq '.ociVersion="1.0.0" | .process.terminal=false | .process.args=["/bin/true"]' \
    "$work/bundle/config.json" >"$work/new.json"
mv "$work/new.json" "$work/bundle/config.json"
export build work rounds
unshare -m sh -euc '
    mount --make-rprivate /
    if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
    cd "$work/bundle"
    "$build/bench/bench_oci_run" "$rounds" \
        isola-oci "$build/src/main/isola-oci --root $work/isola run bench-isola" \
        crun "crun --root $work/crun run bench-crun" \
        floor "$build/bench/bench_floor $work/bundle/rootfs /bin/true"
    strace -f -c -o "$work/calls" "$build/src/main/isola-oci" --root "$work/isola" run bench-isola
    awk "\$NF == \"total\" { printf \"{\\\"name\\\":\\\"isola-oci-calls\\\",\\\"calls\\\":%d}\\n\", \$4 }" "$work/calls"
'
