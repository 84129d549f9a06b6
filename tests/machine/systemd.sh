#!/bin/bash
# isola-oci with the systemd cgroup driver, where systemd is process 1: Debian's own, with its bus,
# on Debian's own kernel. The system's manager, and that of an ordinary user.
# Usage: systemd.sh BUILD KERNEL-DIR
set -eu
. "$(dirname "$0")/machine.bash"
machine_need /lib/systemd/systemd /usr/bin/dbus-daemon /usr/bin/podman /usr/bin/conmon /usr/bin/newuidmap
machine_begin "$@"

copy /lib/systemd/systemd /lib/systemd/systemd-executor /bin/systemctl /usr/bin/dbus-daemon \
    2>/dev/null || true
units=$new/lib/systemd/system
mkdir -p "$units" "$new/etc/systemd" "$new/usr/share/dbus-1/system.d" "$new/var/lib" "$new/root" "$new/usr/lib/systemd/user"
cp /lib/systemd/system/{slices,basic,sysinit,sockets,shutdown,umount,final,poweroff}.target \
    "$units/" 2>/dev/null || true
cp -L /usr/share/dbus-1/system.conf "$new/usr/share/dbus-1/"
cp -L /usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf "$new/usr/share/dbus-1/system.d/"
echo 0123456789abcdef0123456789abcdef >"$new/etc/machine-id"
printf 'root:x:0:0::/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\nann:x:1000:1000::/:/bin/sh\n' >"$new/etc/passwd"
printf 'root:x:0:\nmessagebus:x:100:\nann:x:1000:\n' >"$new/etc/group"
cat >"$units/dbus.socket" <<'UNIT'
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
UNIT
cat >"$units/dbus.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
UNIT
cat >"$units/ann.service" <<'UNIT'
[Unit]
DefaultDependencies=no
[Service]
User=1000
Type=notify
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/1000 HOME=/tmp
ExecStart=/lib/systemd/systemd --user
UNIT
cat >"$new/usr/lib/systemd/user/default.target" <<'UNIT'
[Unit]
Description=nothing
UNIT
cat >"$units/default.target" <<'UNIT'
[Unit]
Wants=cases.service
UNIT
cat >"$units/cases.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Wants=dbus.socket
After=dbus.socket
[Service]
ExecStart=/bin/busybox sh -c '/bin/busybox --install -s /bin; sh /cases >/dev/ttyS0 2>&1; poweroff -f'
Environment=PATH=/bin:/usr/bin:/sbin
UNIT

machine_bundles
bundle plain "$(words 'exit 7') | .linux.cgroupsPath=\"isola.slice:it:plain\""
bundle memory "$(words 'busybox dd if=/dev/zero of=/dev/null bs=96M count=1') |
    .linux.cgroupsPath=\"isola.slice:it:memory\" | .linux.resources.memory={limit:33554432,swap:33554432}"
bundle idle "$(words 'exec busybox sleep 1000') | .linux.cgroupsPath=\"isola-deep.slice:it:idle\" |
    .annotations={\"org.systemd.property.TimeoutStopSec\":\"5\",
        \"org.systemd.property.Description\":\"'words of the user'\"} |
    .linux.resources={memory:{limit:67108864,swap:67108864},cpu:{quota:50000,period:100000,shares:512,cpus:\"0\"},
        pids:{limit:50},unified:{\"memory.high\":\"60000000\"},
        devices:[{allow:false,access:\"rwm\"},{allow:true,type:\"c\",major:1,minor:11,access:\"m\"}]}"
bundle wrong "$(words 'exit 0') | .linux.cgroupsPath=\"isola.slice:it:wrong\" |
    .annotations={\"org.systemd.property.NoSuchThing\":\"true\"}"
bundle path "$(words 'exit 0') | .linux.cgroupsPath=\"/a/path\""
bundle own "$(words 'busybox cat /proc/self/cgroup; exit 5') | .linux.resources={pids:{limit:40}} |
    .linux.namespaces|=map(select(.type!=\"cgroup\")) | .linux.namespaces+=[{type:\"user\"}] |
    .linux.uidMappings=[{containerID:0,hostID:1000,size:1}] |
    .linux.gidMappings=[{containerID:0,hostID:1000,size:1}] |
    .mounts|=map(select(.type!=\"cgroup\" and .type!=\"devpts\")) | del(.linux.resources.devices)"

# Podman, whose containers are isola-oci's, in scopes that systemd makes for it.
copy /usr/bin/podman /usr/bin/conmon
mkdir -p "$new/etc/containers" "$new/run" "$new/tmp" "$new/var/tmp"
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$new/etc/containers/policy.json"
printf '[storage]\ndriver="vfs"\nrunroot="/run/containers"\ngraphroot="/var/lib/containers"\n' \
    >"$new/etc/containers/storage.conf"

# What an ordinary user has, on a file system that takes the attributes of an overlay of his.
machine_modules overlay loop
copy /usr/bin/newuidmap /usr/bin/newgidmap /usr/sbin/mkfs.ext4
chmod u+s "$new/usr/bin/newuidmap" "$new/usr/bin/newgidmap"
printf 'ann:100000:65536\n' | tee "$new/etc/subuid" >"$new/etc/subgid"
for program in isola isola-shim isola-init; do
    cp "$build/src/main/$program" "$new/bin/$program"
done
ISOLA_ROOT=$new/store ISOLA_RUN=$work/run "$build/src/main/isola" load -q \
    -i "$build/src/main/isola-busybox.tar" >/dev/null
machine_cases >"$new/cases" <<'SH'
oci() { isola-oci --root /run/oci --systemd-cgroup "$@"; }
lines() { tr '\n' ' ' | sed 's/ $//'; }
show() { systemctl show -p "$2" --value "$1"; }
has() { echo "$1" | grep -c -e "$2"; }
is_gone() { [ "$(show "$1" ActiveState)" = inactive ] && [ "$(show "$1" LoadState)" = not-found ]; echo $?; }
echo "1..38"
oci run -b /plain one >/tmp/out 2>&1
is "a container runs in a scope and gives its exit code" 7 $?
is "the scope is gone with it" 0 "$(is_gone it-plain.scope)"
oci run -b /memory two >/tmp/out 2>&1
is "MemoryMax ends a process that takes too much" 137 $?
oci run -d -b /idle four </dev/null >/tmp/out 2>&1
is "a detached container starts" 0 $?
s=it-idle.scope
pid=$(oci state four | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
is "its processes are in the scope" "0::/isola.slice/isola-deep.slice/$s" "$(cat /proc/$pid/cgroup)"
g=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
is "the scope is active, delegated and has limits" "active yes 67108864 50 20 500ms" \
    "$(show $s ActiveState) $(show $s Delegate) $(show $s MemoryMax) $(show $s TasksMax) $(show $s CPUWeight) $(show $s CPUQuotaPerSecUSec)"
is "swap, CPUs and what unified names are there too" "0 0 60000000" \
    "$(show $s MemorySwapMax) $(show $s AllowedCPUs) $(show $s MemoryHigh)"
is "the files of the cgroup agree" "67108864 50 50000 100000" \
    "$(cat $g/memory.max) $(cat $g/pids.max) $(cat $g/cpu.max)"
is "annotations become properties" "5s words of the user" \
    "$(show $s TimeoutStopUSec) $(show $s Description)"
is "device rules are systemd's too" "strict 1" "$(show $s DevicePolicy) $(show $s DeviceAllow | grep -c 'char/1:11 m')"
systemctl daemon-reload
is "a reload of systemd leaves the limits alone" "67108864 50" "$(cat $g/memory.max) $(cat $g/pids.max)"
oci exec four /bin/busybox true
is "exec joins" 0 $?
oci update --memory 134217728 --memory-swap 134217728 --pids-limit 60 four
is "update changes unit and files" "134217728 60 134217728 60" \
    "$(show $s MemoryMax) $(show $s TasksMax) $(cat $g/memory.max) $(cat $g/pids.max)"
oci pause four; frozen=$(cat $g/cgroup.freeze); oci resume four
is "pause freezes the scope" 1 "$frozen"
out=$(oci run -b /idle five 2>&1)
is "a scope that exists is not taken over" "1 active" "$(has "$out" "it-idle.scope.*already") $(show $s ActiveState)"
oci delete --force four
is "delete removes the scope" "0 1" "$(is_gone $s) $([ -d $g ]; echo $?)"
out=$(oci run -b /wrong six 2>&1)
is "a wrong property is named with its unit" "1 1" "$(has "$out" NoSuchThing) $(has "$out" it-wrong.scope)"
is "and nothing is left of it" "0 0" "$(is_gone it-wrong.scope) $(ls /run/oci | wc -l)"
out=$(oci run -b /path seven 2>&1)
is "a path is refused with the remedy" "1 1" "$(has "$out" SLICE:PREFIX:NAME) $(has "$out" cgroupfs)"
out=$(DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere oci run -b /plain eight 2>&1)
is "without the bus systemd's own socket serves" 7 $?
oci create -b /plain nine </dev/null; oci start nine; oci delete --force nine
is "create, start and delete in turn" "0 0" "$? $(is_gone it-plain.scope)"

# Podman: its containers are ours, in scopes of its choice.
peer() {
    podman --runtime /bin/isola-oci --cgroup-manager systemd --events-backend file --log-level error "$@"
}
set -- --network none --ulimit nofile=1000:1000 --log-driver k8s-file
peer run --rm "$@" --rootfs /bundle/rootfs /bin/busybox sh -c 'exit 6' >/tmp/out 2>&1
is "podman with the systemd manager runs one" 6 $?; sed 's/^/# /' /tmp/out
id=$(peer run -d --name pod -m 64m --pids-limit 40 "$@" --rootfs /bundle/rootfs /bin/busybox sleep 1000 2>&1)
s=libpod-$id.scope
g=/sys/fs/cgroup$(show $s ControlGroup)
is "its limits are properties of its scope, and in the files" "active machine.slice 67108864 40 67108864 40" \
    "$(show $s ActiveState) $(show $s Slice) $(show $s MemoryMax) $(show $s TasksMax) $(cat $g/memory.max) $(cat $g/pids.max)"
out=$(peer exec pod /bin/busybox sh -c 'busybox cat /proc/1/cgroup /proc/self/cgroup' 2>&1 | sort | uniq -c | sed 's/^ *//')
is "its exec joins the scope" "2 0::/" "$out"
peer stop -t 0 pod >/tmp/out 2>&1
is "its stop ends container and scope" "0 0" "$? $(is_gone $s)"
peer rm pod >/tmp/out 2>&1
is "and nothing of ours is left" "0 0" "$? $(ls /run/isola-oci 2>/dev/null | wc -l)"

# An ordinary user, in a user namespace of his own, with his own manager.
mkdir -p /run/user/1000
chown 1000:1000 /run/user/1000
systemctl start ann.service
cp -r /own /tmp/own && chown -R 1000:1000 /tmp/own
chmod 1777 /tmp
as_ann() { su ann -s /bin/sh -c "XDG_RUNTIME_DIR=/run/user/1000 $1"; }
out=$(as_ann "isola-oci --systemd-cgroup run -b /tmp/own mine" 2>&1)
is "an ordinary user's container runs" 5 $?
is "it lives below his own manager" 1 "$(has "$out" "/ann.service/user.slice/isola-oci-mine.scope")"
out=$(as_ann "XDG_RUNTIME_DIR=/nowhere isola-oci --root /tmp/ann --systemd-cgroup run -b /tmp/own mine" 2>&1)
is "without a manager the error names the remedy" 1 "$(has "$out" "cgroupfs driver")"

truncate -s 64M /tmp/disk
mkfs.ext4 -q -F -O ^has_journal /tmp/disk
mkdir -p /home/ann
mount -o loop /tmp/disk /home/ann
mkdir -p /home/ann/.local/share
cp -a /store /home/ann/.local/share/isola
chown -R 1000:1000 /home/ann
as_ann() { su ann -s /bin/sh -c "export HOME=/home/ann XDG_RUNTIME_DIR=/run/user/1000; $1"; }
run="isola run --network none"
out=$(as_ann "$run -d --name web -m 64m --cpus 0.5 --pids-limit 30 isola/busybox sleep 1000" 2>&1)
is "isola run of an ordinary user is in a scope of his manager, with limits" \
    "/system.slice/ann.service/user.slice/isola-$out.scope" "$(cut -d: -f3 /proc/$(pidof sleep)/cgroup)"
g=/sys/fs/cgroup/system.slice/ann.service/user.slice/isola-$out.scope
is "they are in its files" "67108864 50000 100000 30" "$(cat $g/memory.max $g/cpu.max $g/pids.max | lines)"
is "isola exec joins, though it comes from a place that is not his" "0::/" "$(as_ann "isola exec web cat /proc/self/cgroup" 2>&1)"
as_ann "isola pause web" >/dev/null 2>&1; frozen=$(cat $g/cgroup.freeze)
out=$(as_ann "isola unpause web; isola update -m 100m --memory-swap 200m web; isola stats --no-stream web; isola top web" 2>&1)
is "pause, update, stats and top work" "1 104857600 1 1" \
    "$frozen $(cat $g/memory.max) $(has "$out" "/ 100MiB") $(has "$out" "sleep 1000")"
is "doctor says where limits come from" 1 "$(as_ann "isola doctor" | grep -c 'limits, pause and stats by your systemd manager')"
# Both at once: the second must not have the time to end the run because the first is gone.
kill -STOP $(pidof isola-shim)
kill -9 $(pidof isola-shim)
out=$(as_ann "isola system check --repair")
is "check --repair ends the scope of a workload whose shim was killed" "1 0" "$(has "$out" "'web': its run ended") $([ -d $g ]; echo $(($? - 1)))"
mkdir -p /tmp/none /tmp/dead/systemd
: >/tmp/dead/systemd/private # nobody listens
chown -R 1000 /tmp/none /tmp/dead
chmod -R 700 /tmp/none /tmp/dead
out=$(as_ann "export XDG_RUNTIME_DIR=/tmp/none; $run --rm isola/busybox echo runs; $run --rm -m 32m isola/busybox true" 2>&1)
is "without a manager it runs, but for limits, whose error names the remedy" "1 1" \
    "$(has "$out" '^runs') $(has "$out" 'loginctl enable-linger')"
out=$(as_ann "export XDG_RUNTIME_DIR=/tmp/dead; $run --rm isola/busybox echo runs; $run --rm -m 32m isola/busybox true" 2>&1)
is "with one that does not answer it is the same" "1 1" "$(has "$out" '^runs') $(has "$out" 'loginctl enable-linger')"
find /sys/fs/cgroup/system.slice/ann.service -type d -exec chown 0 {} +
out=$(as_ann "$run --rm isola/busybox echo runs; $run --rm -m 32m isola/busybox true" 2>&1)
is "with one that may make no groups, too, and then the error names the unit" "1 1" \
    "$(has "$out" '^runs') $(has "$out" "start systemd unit 'isola-")"
SH
machine_append="${machine_append-cgroup_no_v1=all} systemd.show_status=0 systemd.log_level=warning systemd.log_target=console" machine_run 1024 300
[ -z "${MACHINE_LOG-}" ] || cp "$work/serial" "$MACHINE_LOG"
