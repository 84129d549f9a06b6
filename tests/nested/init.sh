#!/bin/busybox sh
# Process 1 of the outer machine (L1) of tests/nested/lab: stands at "lab: ready" when the machine is
# saved, and goes on from there with the job of each run.
if [ ! -e /lab/init2 ]; then
    # The initial file system of the kernel cannot be pivoted away from: live in one that can.
    /bin/busybox mkdir /new
    /bin/busybox mount -t tmpfs -o mode=755 root /new
    /bin/busybox cp -a /bin /sbin /usr /lib /lab /etc /init /new/
    /bin/busybox cp -a /init /new/lab/init2
    for dir in proc sys dev tmp run host out root var; do
        /bin/busybox mkdir -p /new/$dir
    done
    exec /bin/busybox switch_root /new /lab/init2
fi
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
for module in $(cat /lab/modules); do
    modprobe "$module" || echo "lab: no module $module"
done
stty -F /dev/ttyS0 -echo -onlcr
echo "lab: ready"

# Here every run begins. What it says behind its token is for the lab, the rest is the job's.
read -r token now </dev/ttyS0
echo "$token start"
date -u -s "@$now" >/dev/null
mount -t ext4 -o ro,noload /dev/vda /host
# What `lab copy` brought is found where it was on the host.
for dir in lib64 lib/x86_64-linux-gnu usr/lib usr/share; do
    [ ! -e /host/$dir ] || ln -s /host/$dir /$dir
done
cd /host
export PATH=/host/bin:/host:/bin
/host/job </dev/null
code=$?
cd /
if [ -n "$(ls -A /out)" ]; then
    size=$(tar c -C /out . | tee /dev/vdb | wc -c)
    sync
fi
printf '\n%s exit %s %s\n' "$token" "$code" "${size:-0}"
sleep 60
poweroff -f
