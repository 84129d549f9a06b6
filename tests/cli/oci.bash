# What the oci_*.bats files share: a bundle with busybox, its own state root, names of its own.
bats_require_minimum_version 1.5.0

oci_setup() {
    [ "$(id -u)" = 0 ] || skip "needs root"
    # LeakSanitizer reads its own memory through ptrace, which a process that hides from its
    # container (dumpable = 0) does not allow.
    export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
    OCI="$ISOLA_BUILD/src/main/isola-oci"
    T=$(mktemp -d /tmp/isola-t-oci-XXXXXX)
    ROOT=$T/state
    B=$T/bundle
    ID=isola-t-$(basename "$T")
    mkdir -p "$B/rootfs/bin" "$B/rootfs/etc" "$B/rootfs/proc" "$B/rootfs/sys" "$B/rootfs/dev" "$B/rootfs/tmp"
    cp /bin/busybox "$B/rootfs/bin/busybox"
    for name in sh cat ls id mount echo sleep ps env true false stat touch mkdir umask hostname \
        readlink grep head printf wc kill chmod dd sysctl test tty; do
        ln -s busybox "$B/rootfs/bin/$name"
    done
    echo 'root:x:0:0::/root-home:/bin/sh' >"$B/rootfs/etc/passwd"
    "$OCI" spec -b "$B"
    config '.process.terminal=false'
}

oci_teardown() {
    [ -n "${T:-}" ] || return 0
    for id in $("$OCI" --root "$ROOT" list -q); do
        "$OCI" --root "$ROOT" delete -f "$id" || true
    done
    [ -z "${MOUNTED:-}" ] || umount -R "$MOUNTED" || true
    rm -rf "$T"
}

oci() { "$OCI" --root "$ROOT" "$@"; }

# Changes config.json with a jq program; further arguments go to jq.
config() {
    jq "$@" "$B/config.json" >"$B/new.json"
    mv "$B/new.json" "$B/config.json"
}

# Sets the program.
args() {
    jq '.process.args=$ARGS.positional' "$B/config.json" --args -- "$@" >"$B/new.json"
    mv "$B/new.json" "$B/config.json"
}

# Runs a shell line in the container.
in_container() {
    args /bin/sh -c "$1"
    run oci run -b "$B" "$ID"
}

# A created and started container that sleeps.
start_sleeper() {
    args /bin/sleep 1000
    oci create -b "$B" "$ID" </dev/null >"$T/out" 2>&1 3>&-
    oci start "$ID"
}

assert_status() {
    [ "$status" -eq "$1" ] || {
        echo "status $status, wanted $1; output: $output"
        return 1
    }
}

assert_has() {
    case $output in
    *"$1"*) ;;
    *)
        echo "no '$1' in: $output"
        return 1
        ;;
    esac
}

refute_has() {
    case $output in
    *"$1"*)
        echo "'$1' in: $output"
        return 1
        ;;
    esac
}

assert_nothing_left() {
    [ -z "$(ls -A "$ROOT" 2>/dev/null | grep -v '^\.seccomp$')" ]
    [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "*$ID*")" ]
}
