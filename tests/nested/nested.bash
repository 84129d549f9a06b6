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
