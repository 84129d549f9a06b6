# For the tests of this folder that run outside of L1. Sourced after `build` is set.
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"
lab=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lab

# nested_begin [OPTION...]: sets work and job (an empty folder), boots L1 if it must; leaves with a skip when a part misses.
nested_begin() {
    for need in qemu-system-x86_64 cpio depmod busybox mkfs.ext4; do
        PATH=$PATH:/usr/sbin command -v $need >/dev/null || {
            echo "1..0 # SKIP $need is not installed"
            exit 0
        }
    done
    [ -e "$build/kernel/vmlinuz" ] || {
        echo "1..0 # SKIP no cloud kernel could be downloaded"
        exit 0
    }
    work=$(mktemp -d /var/tmp/isola-nested-XXXXXX)
    trap 'rm -rf "$work"' EXIT
    job=$work/job
    mkdir "$job"
    "$lab" build "$@" "$build/nested" || {
        echo "1..1"
        echo "not ok 1 - the outer machine starts"
        exit 1
    }
}

# nested_engine PROGRAM...: after nested_begin, for jobs that are `isola run --isolation vm`: the named programs in the
# job's bin, and ROOT with a kernel (installed here: what unpacks it needs libraries and time) and our image.
nested_engine() {
    local programs=$build/src/main tool program tools=()
    for tool in mkfs.erofs mkfs.ext4; do
        tool=$(PATH=$PATH:/usr/sbin:/sbin command -v $tool) || {
            echo "1..0 # SKIP $tool is not installed"
            exit 0
        }
        tools+=("$tool")
    done
    PATH=$PATH:/usr/sbin:/sbin "$lab" copy "$job" "${tools[@]}"
    for program in "$@"; do
        cp "$programs/$program" "$job/bin/"
    done
    strip "$job"/bin/isola* 2>/dev/null
    export ISOLA_ROOT=$work/root ISOLA_RUN=$work/run
    isola=$programs/isola
    "$isola" kernel install --from "$build/kernel/vmlinuz" --modules "$build/kernel/modules" \
        >"$work/said" 2>&1 || {
        echo "1..1"
        sed 's/^/# /' "$work/said"
        echo "not ok 1 - the guest kernel can be installed"
        exit 1
    }
    "$isola" load -q -i "$programs/isola-busybox.tar" >/dev/null
    cp "$(dirname "${BASH_SOURCE[0]}")/engine.sh" "$job/"
}

# nested_engine_run [OPTION...]: packs ROOT as the job finds it, and runs.
nested_engine_run() {
    tar c -C "$work" root >"$job/root.tar"
    chmod +x "$job/job"
    nested_run "$@"
}

# nested_guest PROGRAM...: after nested_begin, for jobs that start isola-vmm with a guest of the test's own: $work/tree is
# its initial file system, with busybox, the programs and the modules of our devices in the order of their loading; /init
# is the caller's.
nested_guest() {
    local module number=10 modules="drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev
        drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci drivers/virtio/virtio_mmio
        drivers/char/virtio_console drivers/block/virtio_blk net/core/failover drivers/net/net_failover
        drivers/net/virtio_net drivers/char/hw_random/virtio-rng drivers/virtio/virtio_balloon
        net/vmw_vsock/vsock net/vmw_vsock/vmw_vsock_virtio_transport_common
        net/vmw_vsock/vmw_vsock_virtio_transport"
    mkdir -p "$work/tree/bin" "$work/tree/modules"
    cp "$(command -v busybox)" "$@" "$work/tree/bin/"
    for module in $modules; do
        cp "$build/kernel/modules/kernel/$module.ko" "$work/tree/modules/$number.ko"
        number=$((number + 1))
    done
}

# nested_guest_pack PROGRAM...: initrd, vmlinux, isola-vmm and the programs to the job.
nested_guest_pack() {
    chmod +x "$work/tree/init"
    (cd "$work/tree" && find . | cpio -o -H newc --quiet) >"$job/initrd"
    "$build/bench/vm/bench_vm_unpack" "$build/kernel/vmlinuz" "$job/vmlinux" || exit 1
    mkdir -p "$job/bin"
    cp "$build/src/main/isola-vmm" "$@" "$job/bin/"
    strip "$job/bin/isola-vmm"
}

# nested_run [OPTION...]: the job's lines; a job that did not come to its end is a failure of its own.
nested_run() {
    "$lab" run "$@" "$build/nested" "$job" 2>"$work/said" >"$work/serial"
    local code=$?
    cat "$work/serial"
    [ $code -lt 124 ] || sed 's/^/# /' "$work/said"
    grep -q '^1\.\.' "$work/serial" || {
        echo "1..1"
        echo "not ok 1 - the job starts"
    }
    return $code
}

nested_end() { exit $tap_bad; }
