#!/bin/bash
# The CPU engine on a KVM with hardware virtualisation. Usage: kvm.sh BUILD PROBE TEST...; TEST is a
# unit test, which runs on this host's /dev/kvm too.
set -u
build=$(cd "$1" && pwd)
probe=$2
shift 2
. "$(dirname "$0")/nested.bash"
nested_begin
"$lab" copy "$job" "$probe" "$@"
{
    echo '#!/bin/sh'
    echo '. /lab/tap'
    echo "plan $((3 + $#))"
    cat <<'SH'
is "L1 has /dev/kvm with nested paging" 1 "$(dmesg | grep -c 'Nested Paging enabled')"
said=$(kvm_probe)
is "the probe finds that it executes" 0 $?
echo "# $said"
SH
    for test in "$@"; do
        echo "claim '$(basename "$test") passes on it' $(basename "$test")"
    done
    echo 'is "the kernel has nothing to complain about" "" "$(dmesg | grep -e "WARNING: CPU" -e "BUG: " -e "Oops: ")"'
    echo 'tap_end'
} >"$job/job"
chmod +x "$job/job"
nested_run
