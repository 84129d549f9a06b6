#!/bin/bash
# A Linux guest under load is saved, saved again as a difference, killed and restored. Usage: snapshot.sh BUILD STREAM
set -u
build=$(cd "$1" && pwd)
stream=$2
. "$(dirname "$0")/nested.bash"
nested_begin
nested_guest "$stream"
# Process 1 of the guest. Each "key value" line is for the job. It sees that it was restored by the
# generation id, whose place ACPI tells and layout.h names.
cat >"$work/tree/init" <<'SH'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp /mnt
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod $module; done
i=0
while [ ! -c /dev/hvc0 ] && [ $i -lt 100 ]; do usleep 50000; i=$((i + 1)); done
[ -c /dev/hvc0 ] || poweroff -f
exec </dev/hvc0 >/dev/hvc0 2>&1
stty -echo -onlcr raw
generation() { dd if=/dev/mem bs=16 skip=65535 count=1 2>/dev/null | md5sum; }
now() { sed 's@ .*@@; s@[.]@@' /proc/uptime; } # hundredths of a second
mount -t ext4 /dev/vdb /mnt || echo "mount failed"
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
first=$(generation)
mkfifo /tmp/copy
md5sum </tmp/copy >/tmp/sum &
(while [ ! -e /tmp/stop ]; do head -c 1000000 /dev/vda; usleep 100000; done) | tee /tmp/copy | stream tcp 5001 10.9.0.1 &
sending=$!
(
    while [ ! -e /tmp/stop ]; do head -c 1000000 /dev/vda; usleep 100000; done | stream vsock 7 2>/dev/null
    echo "vsock ended" >/tmp/vsock
) &
(
    n=0
    while [ ! -e /tmp/stop ]; do
        n=$((n + 1))
        cat /dev/vda >/mnt/$((n % 4)) && sync
        echo 3 >/proc/sys/vm/drop_caches
        cmp /dev/vda /mnt/$((n % 4)) || echo "disk differs"
        echo "load $n $(now)"
    done
    echo "disk done"
) &
writing=$!
while [ "$(generation)" = "$first" ]; do usleep 200000; done
echo "generation changed"
while [ ! -e /mnt/0 ]; do sleep 0.2; done
sleep 1
echo "clock $(now)"
echo "rtc $(cat /sys/class/rtc/rtc0/since_epoch)"
: >/tmp/stop
wait $writing $sending
echo "sum $(sed 's/ .*//' /tmp/sum)"
cat /tmp/vsock
ping -c 3 -i 0.2 -W 5 10.9.0.1 >/tmp/ping && echo "ping $(grep -o '[0-9]* packets received' /tmp/ping)"
echo again | stream vsock 9
stream vsock-listen 8 </dev/null | cmp - /dev/vda && echo "vsock same"
echo "rng $(head -c 4096 /dev/hwrng | wc -c)"
umount /mnt && echo "unmounted yes"
echo "complaints $(dmesg | grep -c -e 'WARNING: CPU' -e 'BUG: ' -e 'Oops' -e 'I/O error' -e 'virtio.*\(fail\|error\)' -e 'EXT4-fs error' -e 'nobody cared' -e 'stuck')"
dmesg | grep -e 'WARNING: CPU' -e 'BUG: ' -e 'Oops' -e 'I/O error' -e 'virtio.*\(fail\|error\)' -e 'EXT4-fs error' -e 'nobody cared' -e stuck | sed 's/^/# /'
poweroff -f
SH
nested_guest_pack "$stream"
head -c 2000896 /dev/urandom >"$job/raw"
truncate -s 32M "$job/fs"
mkfs.ext4 -q -F "$job/fs"
cat >"$job/machine.json" <<'JSON'
{
    "boot-source": {"kernel_image_path": "/host/vmlinux", "initrd_path": "/host/initrd",
        "boot_args": "quiet noxsave reboot=t panic=-1"},
    "machine-config": {"vcpu_count": 2, "mem_size_mib": 192, "pci": true, "rtc": true,
        "require_hardware": true, "track_dirty_pages": true},
    "drives": [{"drive_id": "a", "path_on_host": "/tmp/a", "is_read_only": true},
        {"drive_id": "b", "path_on_host": "/tmp/b"}],
    "network-interfaces": [{"iface_id": "n", "host_dev_name": "tap0"}],
    "vsock": {"guest_cid": 3, "uds_path": "/tmp/v"},
    "entropy": {},
    "stdio": "console"
}
JSON
{
    echo '#!/bin/sh'
    echo '. /lab/tap'
    cat <<'SH'
plan 21
cp /host/raw /tmp/a
cp /host/fs /tmp/b
tunctl -t tap0 >/dev/null
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 up
got() { sed -n "s/\r//; s/^$1 //p" /tmp/said2; }
api() { # METHOD PATH BODY: the status
    printf '%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' "$1" "$2" ${#3} "$3" |
        stream connect /tmp/api | tee /tmp/answer | head -1 | cut -d' ' -f2
}
now() { sed 's@ .*@@; s@[.]@@' /proc/uptime; } # hundredths of a second
until_said() { # FILE LINE: within a minute
    for i in $(seq 300); do
        ! grep -q "^$2" $1 || return 0
        sleep 0.2
    done
    echo "# no '$2' in $1:"; sed "s/^/# /" $1
}
stream tcp-listen 5001 </dev/null | md5sum >/tmp/sum &
stream listen /tmp/v_7 </dev/null >/dev/null &
: >/tmp/said
isola-vmm --api-sock /tmp/api --config-file /host/machine.json </dev/null >/tmp/said 2>/tmp/err &
pid=$!
until_said /tmp/said "load 1"
is "a machine under load is paused" 204 "$(api PATCH /vm '{"state": "Paused"}')"
is "and saved" 204 "$(api PUT /snapshot/create '{"snapshot_path": "/tmp/first", "mem_file_path": "/tmp/first.memory"}')"
is "and goes on" 204 "$(api PATCH /vm '{"state": "Resumed"}')"
until_said /tmp/said "load 2"
before=$(now)
is "and is paused again" 204 "$(api PATCH /vm '{"state": "Paused"}')"
files='"snapshot_path": "/tmp/state", "mem_file_path": "/tmp/memory"'
is "what was written since is saved" 204 "$(api PUT /snapshot/create "{$files, \"snapshot_type\": \"Diff\"}")"
echo "# $(du -k /tmp/first.memory /tmp/memory | tr '\n\t' '  ')"
grep fault /tmp/answer | sed 's/^/# /'
kill -9 $pid
wait $pid 2>/dev/null
is "it wrote to its disk" 1 "$(grep -c '^load 2' /tmp/said)"
is "until it was killed nothing had gone wrong" "" "$(cat /tmp/err; grep differs /tmp/said)"
sleep 5
rm -f /tmp/v_7
stream listen /tmp/v_9 </dev/null >/tmp/v9 &
isola-vmm --api-sock /tmp/api </dev/null >/tmp/said2 2>/tmp/err &
pid=$!
for i in $(seq 50); do [ ! -S /tmp/api ] || break; sleep 0.1; done
is "it is restored" 204 "$(api PUT /snapshot/load "{$files, \"mem_base_paths\": [\"/tmp/first.memory\"], \"resume_vm\": true}")"
grep fault /tmp/answer | sed 's/^/# /'
(until_said /tmp/said2 "ping"; stream connect /tmp/v 8 </tmp/a) &
until_said /tmp/said2 "clock"
after=$(now)
until_said /tmp/said2 "rtc"
here=$(date +%s)
there=$(got rtc)
wait $pid
is "and powers off by itself later" 0 $?
is "the monitor has nothing to say" "" "$(cat /tmp/err)"
is "the guest sees another generation" changed "$(got generation)"
# Hundredths of a second that it did not see, of the 500 in which there was no machine.
missed=$((after - before - ($(got clock) - $(sed -n 's/\r//; s/^load 2 //p' /tmp/said))))
is "its clock was not away for those seconds" yes "$([ $missed -ge 300 ] && echo yes || echo $missed)"
echo "# its clock missed $missed"
is "its clock chip tells the host's time" yes "$([ $((here - there)) -le 3 ] && [ $((there - here)) -le 3 ] && echo yes || echo $here $there)"
is "its disk is read as it was written" "" "$(grep differs /tmp/said2)"
is "a connection by TCP went on and lost nothing" "$(cut -d' ' -f1 /tmp/sum)" "$(got sum)"
is "the host answers pings" "3 packets received" "$(got ping)"
is "a connection by vsock has ended" ended "$(got vsock | head -1)"
is "new ones go both ways" "again same" "$(cat /tmp/v9) $(got vsock | tail -1)"
is "entropy comes" 4096 "$(got rng)"
is "the kernel has nothing to complain about" "yes 0" "$(got unmounted) $(got complaints)"
mkdir -p /tmp/m
mount -o loop /tmp/b /tmp/m
is "the file system is whole and holds what was written" 4 "$(for i in 0 1 2 3; do cmp /tmp/a /tmp/m/$i && echo same; done | wc -l)"
umount /tmp/m
grep '^#' /tmp/said2
dmesg | grep 'type=1326' | sed 's/^/# /'
tap_end
SH
} >"$job/job"
chmod +x "$job/job"
nested_run --timeout 200
