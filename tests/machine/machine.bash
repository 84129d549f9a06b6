# Boots Debian's own kernel in QEMU, without hardware help, with a tree as its initial file system,
# and prints the TAP that its /cases prints. Sourced by the tests of this folder.

PATH=$PATH:/usr/sbin:/sbin

# machine_need PROGRAM...: leaves with a skip when one is missing.
machine_need() {
    local need
    for need in "$@"; do
        command -v "$need" >/dev/null || {
            echo "1..0 # SKIP $need is not installed"
            exit 0
        }
    done
}

# machine_begin BUILD KERNEL: sets build, kernel, work and tree; leaves with a skip when a part misses.
machine_begin() {
    build=$(cd "$1" && pwd)
    kernel=$2
    machine_need qemu-system-x86_64 cpio depmod busybox
    [ -e "$kernel/vmlinuz" ] || {
        echo "1..0 # SKIP $(cat "$kernel/missing" 2>/dev/null || echo "no cloud kernel was unpacked")"
        exit 0
    }
    work=$(mktemp -d /var/tmp/isola-machine-XXXXXX)
    trap 'rm -rf "$work"' EXIT
    tree=$work/tree
    mkdir -p "$tree/bin" "$tree/proc" "$tree/sys" "$tree/dev" "$tree/run" "$tree/sbin"
    mkdir -p "$tree/new/proc" "$tree/new/sys" "$tree/new/dev" "$tree/new/run" "$tree/new/tmp" \
        "$tree/new/bin" "$tree/new/etc" "$tree/new/var"
    cp "$(command -v busybox)" "$tree/bin/busybox"
    cp "$(command -v busybox)" "$tree/new/bin/busybox"
    new=$tree/new # becomes "/" of the cases
}

# machine_bundles: isola-oci, and /bundle for the cases to be made from.
machine_bundles() {
    mkdir -p "$new/bundle/rootfs/bin"
    cp "$new/bin/busybox" "$new/bundle/rootfs/bin/busybox"
    cp "$build/src/main/isola-oci" "$new/bin/isola-oci"
    "$build/src/main/isola-oci" spec -b "$new/bundle"
}

# bundle NAME PROGRAM: the bundle /NAME, changed by a program of jq, for the guest has no tool for JSON.
bundle() {
    mkdir -p "$new/$1"
    ln -s /bundle/rootfs "$new/$1/rootfs"
    jq ".process.terminal=false | .process.env=[\"PATH=/bin\"] | .linux.resources={} | $2" \
        "$new/bundle/config.json" >"$new/$1/config.json"
}

# words SCRIPT: the part of such a program that makes the shell's script the process.
words() { printf '.process.args=["/bin/busybox","sh","-c","%s"]' "$1"; }

# copy FILE...: with the libraries that it asks for.
copy() {
    local file lib
    for file in "$@"; do
        mkdir -p "$new$(dirname "$file")"
        [ -e "$new$file" ] || cp -L "$file" "$new$file"
        for lib in $(ldd "$file" 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^\t\(\/[^ ]*\) (.*/\1/p'); do
            [ -e "$new$lib" ] || { mkdir -p "$new$(dirname "$lib")"; cp -L "$lib" "$new$lib"; }
        done
    done
}

# machine_modules NAME...: loaded at the start, with what they need.
machine_modules() {
    version=$(cat "$kernel/version")
    mkdir -p "$tree/lib/modules/$version"
    for folder in fs/overlayfs net drivers/net/veth.ko drivers/block/loop.ko lib; do
        mkdir -p "$tree/lib/modules/$version/kernel/$(dirname "$folder")"
        cp -r "$kernel/modules/kernel/$folder" "$tree/lib/modules/$version/kernel/$folder"
    done
    cp "$kernel"/modules/modules.builtin* "$kernel"/modules/modules.order "$tree/lib/modules/$version/"
    depmod -b "$tree" "$version" 2>/dev/null
    echo "$*" >"$tree/modules"
}

# machine_run MEGABYTES SECONDS: boots and prints.
machine_run() {
    cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
[ -e /new/lib/systemd/systemd ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
[ ! -e /modules ] || for m in $(cat /modules); do modprobe $m || echo "# no module $m"; done
# The initial file system of the kernel cannot be pivoted away from: live in one that can, and that
# is the root of its mount namespace, which setns() into another one looks for.
mkdir /sysroot
mount -t tmpfs -o mode=755 root /sysroot
cp -a /new/. /sysroot/
for m in proc sys dev; do mount --move /$m /sysroot/$m; done
[ ! -e /sysroot/lib/systemd/systemd ] || exec switch_root /sysroot /lib/systemd/systemd
exec switch_root /sysroot /bin/busybox sh -c '/bin/busybox --install -s /bin; mount -t tmpfs run /run; ip link set lo up; sh /cases; poweroff -f'
INIT
    chmod +x "$tree/init"
    (cd "$tree" && find . | cpio -o -H newc 2>/dev/null) >"$work/initrd"
    timeout "$2" qemu-system-x86_64 -accel tcg -cpu max -m "$1" -nographic -nodefaults -no-reboot \
        -serial stdio -kernel "$kernel/vmlinuz" -initrd "$work/initrd" \
        -append "console=ttyS0 quiet panic=-1 reboot=t ${machine_append-cgroup_no_v1=all}" </dev/null 2>&1 |
        tr -d '\r' >"$work/serial" || true
    sed -n '/^1\.\./p; /^ok /p; /^not ok /p; /^# /p' "$work/serial"
    grep -q '^1\.\.' "$work/serial" || {
        echo "1..1"
        tail -n 20 "$work/serial" | sed 's/^/# /'
        echo "not ok 1 - the machine boots"
    }
}

# The first lines of /cases: is CLAIM EXPECTED GOT.
machine_cases() {
    cat <<'SH'
echo # behind what the firmware left on the line
number=0
is() {
    number=$((number + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $number - $1"
    else
        echo "not ok $number - $1"
        echo "# expected '$2', got '$3'"
    fi
}
SH
    cat
}
