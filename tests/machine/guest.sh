#!/bin/bash
# isola-guest as process 1 of Debian's cloud kernel: modules, EROFS disks by serial, a scratch disk,
# cgroup v2, power-off. Usage: guest.sh BUILD KERNEL-DIR
set -eu
. "$(dirname "$0")/machine.bash"
machine_begin "$@"
for need in mkfs.erofs mkfs.ext4; do
    PATH=$PATH:/usr/sbin command -v $need >/dev/null || {
        echo "1..0 # SKIP $need is not installed"
        exit 0
    }
done
rm -rf "$tree/new"
version=$(cat "$kernel/version")

# The modules in the order of loading, as the list in the initramfs has them.
base=$work/base/lib/modules/$version
for folder in fs/erofs fs/overlayfs drivers/block/virtio_blk.ko drivers/virtio net/vmw_vsock lib; do
    mkdir -p "$base/kernel/$(dirname "$folder")"
    cp -r "$kernel/modules/kernel/$folder" "$base/kernel/$folder"
done
cp "$kernel"/modules/modules.builtin* "$kernel"/modules/modules.order "$base/"
PATH=$PATH:/usr/sbin depmod -b "$work/base" "$version" 2>/dev/null
mkdir -p "$tree/modules"
for name in virtio_pci virtio_blk vmw_vsock_virtio_transport erofs overlay; do
    PATH=$PATH:/usr/sbin modprobe -d "$work/base" -S "$version" --show-depends $name
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
    cp "$file" "$tree/modules/"
    basename "$file"
done >"$tree/modules/list"

# Two layers and a place for changes.
mkdir -p "$work/low/bin" "$work/low/etc" "$work/low/opaque" "$work/top/etc" "$work/top/opaque"
mkdir -p "$work/low/proc" "$work/low/sys" "$work/low/dev"
cp "$(command -v busybox)" "$work/low/bin/busybox"
for name in sh cat echo test stat grep dd; do ln -s busybox "$work/low/bin/$name"; done
printf 'low\n' >"$work/low/etc/which"
printf 'top\n' >"$work/top/etc/which"
touch "$work/low/gone" "$work/low/opaque/old" "$work/low/owned"
chown 1000:2000 "$work/low/owned"
chmod 4755 "$work/low/owned"
mknod "$work/top/gone" c 0 0
python3 -c 'import os, sys; os.setxattr(sys.argv[1], "trusted.overlay.opaque", b"y")' "$work/top/opaque"
PATH=$PATH:/usr/sbin mkfs.erofs --quiet "$work/low.erofs" "$work/low"
PATH=$PATH:/usr/sbin mkfs.erofs --quiet "$work/top.erofs" "$work/top"
truncate -s 64M "$work/scratch.img"
PATH=$PATH:/usr/sbin mkfs.ext4 -q -F "$work/scratch.img"

cp "$build/src/main/isola-guest" "$tree/agent"
cp "$build/tests/machine/guest_driver" "$tree/driver"
cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
# On a mount that the agent keeps.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir /dev/sockets
/driver /dev/sockets &
exec /agent --unix /dev/sockets
INIT
chmod +x "$tree/init"
(cd "$tree" && find . | cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initrd.gz"
disks=
for name in low.erofs top.erofs scratch.img; do
    disks="$disks -drive file=$work/$name,if=none,id=${name%.*},format=raw -device virtio-blk-pci,drive=${name%.*},serial=${name%.*}"
done
# shellcheck disable=SC2086
timeout 90 qemu-system-x86_64 -accel tcg -cpu max -m 256 -nographic -nodefaults -no-reboot \
    -serial stdio -kernel "$kernel/vmlinuz" -initrd "$work/initrd.gz" $disks \
    -append "console=ttyS0 quiet panic=-1 reboot=t" </dev/null 2>&1 | tr -d '\r' >"$work/serial" || true
sed -n '/^1\.\./p; /^ok /p; /^not ok /p; /^# /p' "$work/serial"
grep -q '^1\.\.' "$work/serial" || {
    tail -n 20 "$work/serial" | sed 's/^/# /'
    echo "1..7"
}
if grep -q 'reboot: Power down' "$work/serial" && ! grep -qi 'panic' "$work/serial"; then
    echo "ok 7 - then the machine is switched off"
else
    tail -n 20 "$work/serial" | sed 's/^/# /'
    echo "not ok 7 - then the machine is switched off"
fi
