#!/bin/bash
# Debian's kernel with every device of ours, in real machines: behind virtio-mmio with our own I/O APIC, then behind PCI with KVM's.
# Usage: devices.sh BUILD STREAM DISKLOAD
set -u
build=$(cd "$1" && pwd)
stream=$2 diskload=$3
. "$(dirname "$0")/nested.bash"
command -v qemu-img >/dev/null || {
    echo "1..0 # SKIP qemu-img is not installed"
    exit 0
}
nested_begin
nested_guest "$stream" "$diskload"
# Process 1 of the guest. Each "key value" line is for the job.
cat >"$work/tree/init" <<'SH'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
free() { awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo; }
before=$(free)
for module in /modules/*.ko; do insmod $module; done
i=0
while [ ! -c /dev/hvc0 ] && [ $i -lt 100 ]; do usleep 50000; i=$((i + 1)); done
[ -c /dev/hvc0 ] || poweroff -f
exec </dev/hvc0 >/dev/hvc0 2>&1
stty -echo -onlcr raw
echo "cpus $(nproc)"
echo "line $(cat /proc/cmdline)"
case $(cat /proc/cmdline) in *again*) cmp /dev/vda /dev/vdc && echo "kept yes" ;; esac
echo "load $(diskload /dev/vdb 2000) $(diskload /dev/vdc 600)"
cat /dev/vda >/dev/vdb
cat /dev/vda >/dev/vdc
sync
echo 3 >/proc/sys/vm/drop_caches
cmp /dev/vda /dev/vdc && echo "qcow2 same"
echo x 2>/dev/null >/dev/vdd && sync && echo "vdd written" || echo "vdd read-only"
echo "serial $(cat /sys/block/vda/serial)"
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
ping -c 3 -i 0.2 -W 5 10.9.0.1 >/tmp/ping && echo "ping $(grep -o '[0-9]* packets received' /tmp/ping)"
stream tcp 5001 10.9.0.1 </dev/vda && echo "sent yes"
stream tcp 5002 10.9.0.1 </dev/null | cmp - /dev/vda && echo "received same"
echo "rng $(cat /sys/class/misc/hw_random/rng_current) $(head -c 4096 /dev/hwrng | wc -c)"
stream vsock 7 </dev/vda && echo "vsock sent"
stream vsock-listen 8 </dev/null | cmp - /dev/vda && echo "vsock same"
i=0
while [ $((before - $(free))) -lt 24 ] && [ $i -lt 100 ]; do usleep 100000; i=$((i + 1)); done
echo "balloon $((before - $(free) >= 24))"
case $(cat /proc/cmdline) in *again*)
    dd if=/dev/zero of=/tmp/big bs=1M count=48 2>/dev/null
    echo touched yes
    sleep 1
    rm /tmp/big
    sleep 4 # the kernel looks for free pages every two seconds
    echo given yes
    sleep 1 ;;
esac
echo "msix $(grep -c 'PCI-MSI.*virtio' /proc/interrupts)"
echo "lines $(grep -c 'IO-APIC.*virtio' /proc/interrupts)"
echo "complaints $(dmesg | grep -c -e 'WARNING: CPU' -e 'BUG: ' -e 'Oops' -e 'I/O error' -e 'virtio.*\(fail\|error\)' -e 'nobody cared' -e 'stuck')"
dmesg | grep -e 'WARNING: CPU' -e 'BUG: ' -e 'Oops' -e 'I/O error' -e 'virtio.*\(fail\|error\)' -e 'nobody cared' -e stuck | sed 's/^/# /'
poweroff -f
SH
nested_guest_pack "$stream"
head -c 4001792 /dev/urandom >"$job/raw"
qemu-img create -q -f qcow2 "$job/disk.qcow2" 4001792
for kind in mmio pci; do
    pci=false split=true again=
    [ $kind = mmio ] || { pci=true split=false again=" again"; }
    cat >"$job/$kind.json" <<JSON
{
    "boot-source": {"kernel_image_path": "/host/vmlinux", "initrd_path": "/host/initrd",
        "boot_args": "quiet noxsave tsc=unstable reboot=t panic=-1$again"},
    "machine-config": {"vcpu_count": 2, "mem_size_mib": 256, "pci": $pci, "rtc": true,
        "split_irqchip": $split},
    "drives": [{"drive_id": "a", "path_on_host": "/tmp/a", "is_read_only": true},
        {"drive_id": "b", "path_on_host": "/tmp/b", "queues": 2, "io_thread": $pci},
        {"drive_id": "c", "path_on_host": "/tmp/disk.qcow2", "format": "qcow2", "io_thread": $pci},
        {"drive_id": "d", "path_on_host": "/tmp/d", "is_read_only": true}],
    "network-interfaces": [{"iface_id": "n", "host_dev_name": "tap0", "io_thread": $pci}],
    "vsock": {"guest_cid": 3, "uds_path": "/tmp/v"},
    "balloon": {"amount_mib": 32, "free_page_reporting": true},
    "entropy": {},
    "stdio": "console"
}
JSON
done
{
    echo '#!/bin/sh'
    echo '. /lab/tap'
    cat <<'SH'
plan 39
cp /host/raw /tmp/a
cp /host/raw /tmp/d
cp /host/disk.qcow2 /tmp/
tunctl -t tap0 >/dev/null
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 up
rss() { # VALUE: KiB of the monitor's processes when the guest has said so
    while ! grep -q "$1 yes" /tmp/said; do usleep 100000; done
    for p in $(pidof isola-vmm); do cat "/proc/$p/status"; done | awk '/^VmRSS/ { n += $2 } END { print n }' >"/tmp/rss-$1"
}
got() { sed -n "s/\r//; s/^$1 //p" /tmp/said; }
for kind in mmio pci; do
    truncate -s 0 /tmp/b
    truncate -s 4001792 /tmp/b
    stream tcp-listen 5001 </dev/null >/tmp/sent &
    servers=$!
    stream tcp-listen 5002 </tmp/a >/dev/null &
    servers="$servers $!"
    stream listen /tmp/v_7 </dev/null >/tmp/vsent 2>/tmp/verr &
    servers="$servers $!"
    : >/tmp/said
    (while ! grep -q 'vsock sent' /tmp/said; do sleep 0.2; done; stream connect /tmp/v 8 </tmp/a) &
    servers="$servers $!"
    [ $kind = mmio ] || {
        (rss touched; rss given) &
        servers="$servers $!"
    }
    isola-vmm --config-file /host/$kind.json </dev/null >/tmp/said 2>/tmp/err
    is "$kind: it powers off" 0 $?
    is "$kind: the monitor has nothing to say" "" "$(cat /tmp/err)"
    is "$kind: two CPUs" 2 "$(got cpus)"
    board="cryptomgr.notests 8250.nr_uarts=1"
    [ $kind = pci ] || board="$board pci=off"
    is "$kind: Linux is told of the board what its user does not say" "$board tsc=unstable" \
        "$(got line | sed 's/ quiet.*//') $(got line | grep -o 'tsc=[a-z]*')"
    is "$kind: random reads find what random writes left" "2000 done 600 done" "$(got load)"
    is "$kind: a disk's bytes are those of its file" same "$(cmp /tmp/a /tmp/b && echo same)"
    is "$kind: so are those of a qcow2 image" same "$(got qcow2)"
    is "$kind: a read-only disk is not written" "read-only same" "$(got vdd) $(cmp /tmp/d /host/raw && echo same)"
    is "$kind: the drive's id is its serial number" a "$(got serial)"
    is "$kind: the host answers pings" "3 packets received" "$(got ping)"
    is "$kind: bytes go out by the network" same "$(cmp /tmp/a /tmp/sent && echo same)"
    is "$kind: and come in by it" same "$(got received)"
    is "$kind: entropy comes from the host" "virtio_rng.0 4096" "$(got rng)"
    is "$kind: bytes go out by vsock" same "$(cmp /tmp/a /tmp/vsent && echo same)"
    is "$kind: and come in by it" "$(printf 'sent\nsame')" "$(got vsock)"
    is "$kind: the balloon takes its memory" 1 "$(got balloon)"
    is "$kind: the kernel has nothing to complain about" 0 "$(got complaints)"
    if [ $kind = pci ]; then
        is "pci: interrupts are messages" "yes 0" "$([ "$(got msix)" -ge 14 ] && echo yes) $(got lines)"
        is "pci: what the guest needs no more is the host's again: 32 of 48 MiB at least" yes \
            "$([ $(($(cat /tmp/rss-touched) - $(cat /tmp/rss-given))) -ge 32768 ] && echo yes || echo $(cat /tmp/rss-*))"
        is "pci: a qcow2 image keeps what the machine before wrote" yes "$(got kept)"
    else
        is "mmio: interrupts are lines" "0 9" "$(got msix) $(got lines)"
        is "mmio: nothing is left in the way of the next machine" "" "$(ls -d /tmp/v 2>/dev/null)"
    fi
    rm -f /tmp/v /tmp/v_7
    kill $servers 2>/dev/null
    grep '^#' /tmp/said
    dmesg | grep 'type=1326' | sed 's/^/# /'
    dmesg -c >/dev/null
done
tap_end
SH
} >"$job/job"
chmod +x "$job/job"
nested_run --timeout 500
