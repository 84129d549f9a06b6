# Shared by the files beside it: private state, the embedded image, and the proof after each test
# that nothing of it is left. A file calls isola_setup_file and isola_teardown_file; `isola` is the
# program under test.
bats_require_minimum_version 1.5.0

IMAGE=isola/busybox

# meson names the build; by hand it is the release build.
export ISOLA_BUILD=${ISOLA_BUILD:-$BATS_TEST_DIRNAME/../../build}

isola() {
    "$ISOLA_BUILD/src/main/isola" "$@"
}

# The usual run of a test: no network, which costs time and belongs to other tests.
irun() {
    isola run --network none "$@"
}

isola_setup_file() {
    TEST_DIR=$(mktemp -d /var/tmp/isola-t-XXXXXX)
    export TEST_DIR ISOLA_ROOT="$TEST_DIR/root" ISOLA_RUN="$TEST_DIR/run"
    isola load -q -i "$ISOLA_BUILD/src/main/isola-busybox.tar" >/dev/null
}

isola_teardown_file() {
    [ -n "$TEST_DIR" ] && rm -rf "$TEST_DIR"
}

setup_file() {
    isola_setup_file
}

teardown_file() {
    isola_teardown_file
}

setup() {
    cd "$BATS_TEST_TMPDIR" || return 1
}

# Processes of ours that still run, by the status files of this test alone.
live_shims() {
    local file pid
    for file in "$ISOLA_RUN"/workloads/*/status.json; do
        [ -e "$file" ] || continue
        for pid in $(jq '.shim_pid, .worker_pid' "$file"); do
            kill -0 "$pid" 2>/dev/null && echo "$pid"
        done
    done
    return 0
}

# clean_up DIRECTORY PIDS: removes what a test has left; proves that then nothing of it is there: no
# process that the command PIDS names, no cgroup, no mount of DIRECTORY, nothing to repair.
clean_up() {
    local ids id left
    cd /
    ids=$(isola ps -aq --no-trunc)
    for id in $ids; do
        isola rm -f -v "$id" >/dev/null
    done
    wait_until "test -z \"\$($2)\"" || { ps -fp "$($2 | paste -sd,)" >&2; $2 | xargs -r kill -9; return 1; }
    isola volume prune -a -f >/dev/null
    for id in $ids; do
        left=$(find /sys/fs/cgroup -maxdepth 4 -type d -name "$id")
        [ -z "$left" ] || { echo "cgroups left: $left" >&2; return 1; }
    done
    if grep -q "$1" /proc/self/mountinfo; then
        echo "mounts left:" >&2
        grep "$1" /proc/self/mountinfo >&2
        return 1
    fi
    left=$(isola system check)
    [ "$left" = "nothing to repair" ] || { echo "system check: $left" >&2; return 1; }
}

teardown() {
    clean_up "$TEST_DIR" live_shims
}

# wait_until 'CONDITION' [SECONDS]: polls ten times a second.
wait_until() {
    local end=$((SECONDS + ${2:-10}))
    until eval "$1"; do
        [ $SECONDS -lt $end ] || { echo "not within time: $1" >&2; return 1; }
        sleep 0.05
    done
}

# Fails with what was found. equals WANTED FOUND
equals() {
    [ "$1" = "$2" ] || { printf 'wanted: %s\nfound:  %s\n' "$1" "$2" >&2; return 1; }
}

# contains TEXT PART
contains() {
    case $1 in *"$2"*) return 0 ;; esac
    printf 'not found: %s\nin: %s\n' "$2" "$1" >&2
    return 1
}

# lacks TEXT PART
lacks() {
    case $1 in *"$2"*) printf 'found: %s\nin: %s\n' "$2" "$1" >&2; return 1 ;; esac
}

# inspect NAME TEMPLATE
inspect() {
    isola inspect --type container --format "$2" "$1"
}
