#!/bin/bash
# Real load on the disk and on a shared directory of a workload's machine: Debian's fio, which holds every block that it
# reads against what it has written, in L1. Usage: fio.sh BUILD
set -u
build=$(cd "$1" && pwd)
. "$(dirname "$0")/nested.bash"
fio=$(command -v fio) || {
    echo "1..0 # SKIP fio is not installed"
    exit 0
}
nested_begin
nested_engine isola isola-shim isola-init isola-vmm isola-fs isola-guest isola-files
# An image with nothing but fio and what it loads.
ldd "$fio" | sed -n 's/.*\(=> \|\t\)\(\/[^ ]*\) .*/\2/p' >"$work/libraries"
tar c -h -C / --transform 's,^usr/bin/fio$,fio,' usr/bin/fio $(sed 's,^/,,' "$work/libraries") | "$isola" import - fio >/dev/null
rm -f "$work/libraries"
cat >"$job/job" <<'SH'
#!/bin/sh
. /host/engine.sh
plan 8
mkdir /var/tmp/shared
# load WHAT DIRECTORY ARGUMENT...: prints how many jobs ended without an error, and what fio complains of.
load() {
    what=$1 directory=$2
    shift 2
    isola run --rm --isolation vm --network none --cpus 2 -m 300m -v /var/tmp/shared:/shared --tmpfs /tmp --security-opt seccomp=unconfined fio \
        /fio --directory="$directory" --thread --numjobs=2 --size=3m --bsrange=512-64k --verify=crc32c --verify_fatal=1 \
        --verify_state_save=0 --output-format=terse --terse-version=3 --name="$what" "$@" >/tmp/fio 2>/tmp/fio.err
    echo "$? $(awk -F ';' '$5 == 0 && $6 > 0' /tmp/fio | wc -l) $(head -c 300 /tmp/fio.err)"
}
is "random writes, synchronous, past the caches" "0 2 " "$(load sync / --rw=randwrite --ioengine=psync --direct=1)"
is "random reads and writes, 16 at a time, by io_uring" "0 2 " "$(load uring / --rw=randrw --ioengine=io_uring --iodepth=16 --direct=1)"
is "the same by the older interface" "0 2 " "$(load aio / --rw=randrw --ioengine=libaio --iodepth=16 --direct=1)"
is "through the caches, flushed every eighth write" "0 2 " "$(load flushed / --rw=randwrite --ioengine=psync --fsync=8)"
is "into room that was taken before" "0 2 " "$(load taken / --rw=write --ioengine=psync --direct=1 --fallocate=posix)"
is "a shared directory, past the caches" "0 2 " "$(load direct /shared --rw=randrw --ioengine=psync --direct=1)"
is "and mapped into memory" "0 2 " "$(load mapped /shared --rw=randrw --ioengine=mmap)"
is "its files are the host's" 4 "$(ls /var/tmp/shared | wc -l)"
tap_end
SH
nested_engine_run --timeout 500
