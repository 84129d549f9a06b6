#!/usr/bin/env bats
# Kernels for virtual machines: Debian's own from a file, unpacked, with its modules.
load helper

setup_file() {
    TEST_DIR=$(mktemp -d /var/tmp/isola-t-XXXXXX)
    export TEST_DIR ISOLA_ROOT="$TEST_DIR/root" ISOLA_RUN="$TEST_DIR/run"
    # The sanitized build has no copy of its own.
    export KERNEL=${ISOLA_BUILD%-asan}/kernel
}

setup() {
    cd "$BATS_TEST_TMPDIR" || return 1
}

teardown() {
    cd / && rm -rf "$ISOLA_ROOT/kernels"
}

need_kernel() {
    [ -e "$KERNEL/ready" ] || skip "no cloud kernel could be downloaded"
    version=$(cat "$KERNEL/version")
}

# Nothing but kernels, the default and the lock.
no_leftovers() {
    equals "" "$(find "$ISOLA_ROOT/kernels" -mindepth 1 -maxdepth 1 -name '.*' ! -name .lock)"
}

@test "a bzImage and its modules become a kernel that is the default" {
    need_kernel
    equals "$version" "$(isola kernel install --from "$KERNEL/vmlinuz" --modules "$KERNEL/modules")"
    equals "$version *" "$(isola kernel ls --format '{{.Version}} {{.Default}}')"
    dir=$ISOLA_ROOT/kernels/$version
    [ "$(readlink -f "$ISOLA_ROOT/kernels/default")" = "$(readlink -f "$dir")" ]
    equals "$(wc -l <"$dir/modules/order")" "$(isola kernel ls --format '{{.Modules}}')"
    for m in virtio_mmio virtio_pci virtio_blk virtio_net virtio_rng virtio_console virtio_balloon \
        virtiofs fuse overlay erofs vmw_vsock_virtio_transport; do
        grep -qE "^([a-z]+:[A-Za-z0-9]+ )?$m[.]ko\$" "$dir/modules/order"
    done
    grep -qx "virtio:d0000001A fuse.ko" "$dir/modules/order"
    grep -qx erofs.ko "$dir/modules/order"
    no_leftovers
}

@test "the unpacked kernel is the one that another program unpacks" {
    need_kernel
    isola kernel install --from "$KERNEL/vmlinuz" --name plain
    python3 - "$KERNEL/vmlinuz" >payload <<'PY'
import struct, sys
data = open(sys.argv[1], "rb").read()
start = ((data[0x1f1] or 4) + 1) * 512
offset, length = struct.unpack_from("<II", data, 0x248)
payload = data[start + offset:start + offset + length]
# All but gzip have the size behind the stream.
sys.stdout.buffer.write(payload if payload[:2] == b"\x1f\x8b" else payload[:-4])
PY
    case $(od -An -tx1 -N4 payload | tr -d ' ') in
    1f8b*) gzip -dc <payload >other ;;
    fd377a58) xz -dc <payload >other ;;
    02214c18) lz4 -dc <payload >other ;;
    28b52ffd) zstd -dc <payload >other ;;
    *) false ;;
    esac
    cmp other "$ISOLA_ROOT/kernels/plain/vmlinux"
}

@test "each module comes behind those that it needs, by modinfo's word" {
    need_kernel
    isola kernel install --from "$KERNEL/vmlinuz" --modules "$KERNEL/modules"
    cd "$ISOLA_ROOT/kernels/$version/modules"
    seen=
    while read -r line; do
        file=${line##* }
        for need in $(PATH=$PATH:/usr/sbin modinfo -F depends "./$file" | tr ',' ' '); do
            contains "$seen" " ${need//-/_}.ko "
        done
        seen="$seen $file "
    done <order
    equals "$(sed 's/.* //' order | sort)" "$(find . -name '*.ko' -printf '%f\n' | sort)"
}

# unsigned FILE: without the signature that the kernel's build has put behind it
unsigned() {
    python3 - "$1" <<'PY'
import struct, sys
data = open(sys.argv[1], "rb").read()
mark = b"~Module signature appended~\n"
if data.endswith(mark):
    data = data[:-len(mark)]
    data = data[:-12 - struct.unpack(">I", data[-4:])[0]]
sys.stdout.buffer.write(data)
PY
}

@test "compressed modules are unpacked, without their signatures" {
    need_kernel
    mkdir -p tree/kernel
    cp "$KERNEL"/modules/kernel/drivers/virtio/virtio{,_ring}.ko tree/kernel/
    cp "$KERNEL"/modules/kernel/drivers/virtio/virtio_mmio.ko tree/kernel/
    cp "$KERNEL"/modules/kernel/drivers/char/hw_random/virtio-rng.ko tree/kernel/
    xz --check=crc32 tree/kernel/virtio.ko
    zstd -q --rm tree/kernel/virtio_ring.ko
    gzip tree/kernel/virtio_mmio.ko
    run -0 --separate-stderr isola kernel install --from "$KERNEL/vmlinuz" --modules tree
    contains "$stderr" "kernel '$version' has no 'virtio_blk'"
    cd "$ISOLA_ROOT/kernels/$version/modules"
    for m in virtio virtio_ring virtio_mmio; do
        unsigned "$KERNEL/modules/kernel/drivers/virtio/$m.ko" | cmp - $m.ko
    done
    equals "virtio_ring.ko virtio.ko acpi:LNRO0005 virtio_mmio.ko virtio:d00000004 virtio_rng.ko" \
        "$(tr '\n' ' ' <order | sed 's/ $//')"
}

@test "a module without one that it needs, and a damaged one, leave nothing" {
    need_kernel
    mkdir -p tree/kernel
    cp "$KERNEL/modules/kernel/drivers/virtio/virtio_mmio.ko" tree/kernel/
    run -1 isola kernel install --from "$KERNEL/vmlinuz" --modules tree
    contains "$output" "module 'virtio_mmio' needs 'virtio'"
    head -c 5000 "$KERNEL/modules/kernel/drivers/virtio/virtio_mmio.ko" >tree/kernel/virtio_mmio.ko
    run -1 isola kernel install --from "$KERNEL/vmlinuz" --modules tree
    contains "$output" "module 'kernel/virtio_mmio.ko' is damaged"
    equals "" "$(isola kernel ls -q)"
    no_leftovers
}

# A package as Debian builds it, from parts. make_package FILE [usr]
make_package() {
    mkdir -p deb/DEBIAN deb/boot "deb${2:+/$2}/lib/modules/$version/kernel"
    cp "$KERNEL/vmlinuz" "deb/boot/vmlinuz-$version"
    cp "$KERNEL"/modules/kernel/drivers/virtio/virtio{,_ring,_mmio}.ko \
        "deb${2:+/$2}/lib/modules/$version/kernel/"
    printf 'Package: linux-image-test\nVersion: 1\nArchitecture: amd64\nMaintainer: t <t@example.org>\nDescription: test\n' \
        >deb/DEBIAN/control
    printf '#!/bin/sh\ntouch "%s/ran"\n' "$PWD" >deb/DEBIAN/postinst
    chmod 755 deb/DEBIAN/postinst
    dpkg-deb -Znone -b deb "$1" >/dev/null
    rm -r deb
}

@test "a package is unpacked, not installed" {
    need_kernel
    for where in "" usr; do
        make_package k.deb $where
        equals "$version" "$(isola kernel install --from k.deb 2>/dev/null)"
        equals 3 "$(isola kernel ls --format '{{.Modules}}')"
        isola kernel rm "$version"
    done
    [ ! -e ran ]
    no_leftovers
}

@test "the default is the last one installed, or chosen, or left" {
    need_kernel
    for n in a b c; do isola kernel install --from "$KERNEL/vmlinuz" --name $n; done
    equals "a b c*" "$(isola kernel ls --format '{{.Version}}{{.Default}}' | tr '\n' ' ' | sed 's/ $//')"
    isola kernel install --from "$KERNEL/vmlinuz" --name d --no-default
    equals c "$(isola kernel ls --format '{{if .IsDefault}}{{.Version}}{{end}}' | grep .)"
    isola kernel default a
    contains "$(isola kernel ls)" "DEFAULT"
    equals a "$(isola kernel ls --format '{{if .IsDefault}}{{.Version}}{{end}}' | grep .)"
    isola kernel rm a
    equals d "$(isola kernel ls --format '{{if .IsDefault}}{{.Version}}{{end}}' | grep .)"
    isola kernel rm b c d
    [ ! -L "$ISOLA_ROOT/kernels/default" ]
}

@test "a kernel is replaced in one step, and one that is open stays" {
    need_kernel
    isola kernel install --from "$KERNEL/vmlinuz" --name a
    exec 7<"$ISOLA_ROOT/kernels/a/vmlinux"
    isola kernel install --from "$ISOLA_ROOT/kernels/a/vmlinux" --name a
    equals a "$(isola kernel ls -q)"
    cmp /proc/self/fd/7 "$ISOLA_ROOT/kernels/a/vmlinux" 7<&7
    exec 7<&-
    no_leftovers
}

@test "what a killed install left is swept by the next" {
    need_kernel
    isola kernel install --from "$KERNEL/vmlinuz" --name a
    mkdir -p "$ISOLA_ROOT/kernels/.new-1/kernel" "$ISOLA_ROOT/kernels/.gone-b"
    equals a "$(isola kernel ls -q)"
    isola kernel install --from "$KERNEL/vmlinuz" --name b
    no_leftovers
}

@test "two installs at once both succeed" {
    need_kernel
    isola kernel install --from "$KERNEL/vmlinuz" --name a >/dev/null &
    isola kernel install --from "$KERNEL/vmlinuz" --name b >/dev/null
    wait $!
    equals "a b" "$(isola kernel ls -q | tr '\n' ' ' | sed 's/ $//')"
}

@test "kernel unpack unpacks once and says where" {
    need_kernel
    first=$(isola kernel unpack "$KERNEL/vmlinuz")
    inode=$(stat -c %i "$first")
    isola kernel install --from "$KERNEL/vmlinuz" --name a
    cmp "$first" "$ISOLA_ROOT/kernels/a/vmlinux"
    equals "$first" "$(isola kernel unpack "$KERNEL/vmlinuz")"
    equals "$inode" "$(stat -c %i "$first")"
    truncate -s 1000 "$first"
    equals "$first" "$(isola kernel unpack "$KERNEL/vmlinuz")"
    cmp "$first" "$ISOLA_ROOT/kernels/a/vmlinux"
    equals "$(readlink -f "$ISOLA_ROOT/kernels/a/vmlinux")" "$(isola kernel unpack "$ISOLA_ROOT/kernels/a/vmlinux")"
    # Eight stay, the oldest goes.
    for i in 1 2 3 4 5 6 7 8; do
        cp "$KERNEL/vmlinuz" other && printf $i | dd of=other bs=1 conv=notrunc status=none
        isola kernel unpack other >last
    done
    equals 8 "$(find "$ISOLA_ROOT/kernels/.cache" -type f | wc -l)"
    [ ! -e "$first" ]
    [ -e "$(cat last)" ]
    equals a "$(isola kernel ls -q)"
}

@test "what is no kernel is refused with the reason" {
    echo nothing >file
    run -1 isola kernel install --from file
    contains "$output" "kernel 'file': is neither ELF nor bzImage"
    run -1 isola kernel install --from missing
    contains "$output" "open 'missing': No such file"
    run -1 isola kernel install --modules /
    contains "$output" "--modules goes with --from"
    printf '!<arch>\n0123' >bad.deb
    run -1 isola kernel install --from bad.deb
    contains "$output" "unpack package 'bad.deb'"
    run -1 isola kernel rm none
    contains "$output" "no such kernel: 'none'"
    run -1 isola kernel default none
    contains "$output" "no such kernel: 'none'"
    need_kernel
    head -c 1000000 "$KERNEL/vmlinuz" >cut
    run -1 isola kernel install --from cut
    contains "$output" "kernel 'cut': setup header field syssize"
    run -1 isola kernel install --from "$KERNEL/vmlinuz" --name ../x
    contains "$output" "'../x' cannot be the name of a kernel"
    run -1 isola kernel install --from "$KERNEL/vmlinuz" --name default
    contains "$output" "'default' cannot be the name of a kernel"
    no_leftovers
}

@test "without apt-get the remedy is told" {
    mkdir bin
    for p in sh env; do ln -s "$(command -v $p)" bin/$p; done
    run -1 env PATH="$PWD/bin" "$ISOLA_BUILD/src/main/isola" kernel install
    contains "$output" "apt-get is not installed on this host; give a kernel with --from FILE"
}

@test "Debian's cloud kernel comes by apt" {
    need_kernel
    apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || skip "no cloud kernel could be downloaded"
    name=$(isola kernel install)
    contains "$name" "cloud-amd64"
    equals "$name *" "$(isola kernel ls --format '{{.Version}} {{.Default}}')"
    [ "$(isola kernel ls --format '{{.Modules}}')" -ge 12 ]
    no_leftovers
}
