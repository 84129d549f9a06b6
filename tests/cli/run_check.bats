#!/usr/bin/env bats
# What `isola system check --repair` must not do, and what a start that fails leaves. In a network
# namespace of its own.
load helper

setup() {
    cd "$BATS_TEST_TMPDIR" || return 1
    if [ -z "$NETNS_PID" ]; then
        unshare --net sh -c 'ip link set lo up; exec sleep 1000' 3>&- &
        NETNS_PID=$!
        wait_until 'inside ip link show up 2>/dev/null | grep -q LOOPBACK,UP'
    fi
}

inside() {
    if [ -n "$NETNS_PID" ]; then
        nsenter --net="/proc/$NETNS_PID/ns/net" "$@"
    else
        "$@"
    fi
}

isola() {
    inside "$ISOLA_BUILD/src/main/isola" "$@"
}

teardown_check() {
    kill "$NETNS_PID"
}

eval "helper_$(declare -f teardown)"
teardown() {
    helper_teardown || { teardown_check; return 1; }
    teardown_check
}

status_of() {
    inspect "$1" '{{.State.Status}} {{.State.ExitCode}}'
}

# loop N: starts and stops workloads of all kinds until `stop` is there; complains into errors.N.
loop() {
    local i=0
    while [ ! -e stop ]; do
        isola run --rm --network none -v "/data$1" $IMAGE true 2>>"errors.$1" ||
            echo "run --rm: $?" >>"errors.$1"
        isola run -d --name "w$1" -p "$((21000 + $1)):80" -v "v$1:/data" $IMAGE sleep 100 \
            >/dev/null 2>>"errors.$1" || echo "run -d: $?" >>"errors.$1"
        equals running "$(inspect "w$1" '{{.State.Status}}')" 2>>"errors.$1"
        isola exec "w$1" sh -c 'echo ok >/data/file && cat /data/file' 2>>"errors.$1" |
            grep -q ok || echo "exec: no volume" >>"errors.$1"
        inside nft list ruleset | grep -q "$((21000 + $1))" || echo "port $1 is gone" >>"errors.$1"
        isola restart -t 0 "w$1" >/dev/null 2>>"errors.$1" || echo "restart: $?" >>"errors.$1"
        isola rm -f -v "w$1" >/dev/null 2>>"errors.$1" || echo "rm: $?" >>"errors.$1"
        isola volume rm "v$1" >/dev/null 2>>"errors.$1" || echo "volume rm: $?" >>"errors.$1"
        i=$((i + 1))
    done
    echo "$i" >"rounds.$1"
}

@test "check --repair leaves workloads alone that start and stop meanwhile" {
    local pids=() n
    for n in 1 2 3 4 5 6 7 8; do
        loop "$n" 3>&- &
        pids+=($!)
    done
    end=$((SECONDS + 12))
    while [ $SECONDS -lt $end ]; do
        isola system check --repair >>found 2>&1 || echo "check: $?" >>errors.check
    done
    touch stop
    wait "${pids[@]}" || true
    cat rounds.* found
    cat errors.*
    [ -z "$(cat errors.*)" ]
    [ "$(cat rounds.* | sort -n | head -n 1)" -gt 0 ]
}

@test "what was left over is still found and removed" {
    gone=$(printf '%064d' 7)
    mkdir -p "$ISOLA_ROOT/workloads/$gone" "$ISOLA_RUN/workloads/$gone" \
        "$ISOLA_ROOT/volumes/nobody/_data" "$ISOLA_ROOT/volumes/.aside"
    touch "$ISOLA_RUN/locks/$gone"
    run isola system check
    for part in "root/workloads/$gone" "run/workloads/$gone" volumes/nobody volumes/.aside; do
        contains "$output" "$part"
    done
    isola system check --repair
    equals "nothing to repair" "$(isola system check)"
    [ ! -e "$ISOLA_ROOT/volumes/nobody" ]
    [ ! -e "$ISOLA_RUN/locks/$gone" ]
}

@test "a start that fails leaves a workload that ran before as it was" {
    mkdir source
    run -7 isola run --name w -v "$PWD/source:/data" --network none $IMAGE sh -c 'exit 7'
    equals "exited 7" "$(status_of w)"
    finished=$(inspect w '{{.State.FinishedAt}}')
    isola run -d --name holder -p 21100:80 $IMAGE sleep 100
    isola create --name p -p 21100:80 $IMAGE sh -c 'exit 8'
    run ! isola start p
    contains "$output" 21100
    equals "created" "$(inspect p '{{.State.Status}}')"
    isola stop -t 0 holder
    run -8 isola start -a p
    isola start holder
    run ! isola start p
    equals "exited 8" "$(status_of p)"
    contains "$(inspect p '{{.State.Error}}')" 21100
    equals "exited 7" "$(status_of w)"
    equals "$finished" "$(inspect w '{{.State.FinishedAt}}')"
}

@test "the owner of a shared network namespace may end first: its interface goes with it" {
    isola run -d --name owner $IMAGE sleep 100
    isola run -d --name joiner --network container:owner $IMAGE sleep 100
    equals 1 "$(inside ip -o link show type veth | wc -l)"
    isola rm -f owner
    equals 0 "$(inside ip -o link show type veth | wc -l)"
    equals "nothing to repair" "$(isola system check)"
    isola exec joiner true
}
