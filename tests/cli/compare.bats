#!/usr/bin/env bats
# One command behind every wall: figures side by side, as a table, JSON and a picture.
load helper

# Has this host a wall besides? The word of `isola doctor`.
has_vm() {
    isola doctor | grep -q 'the vm wall can run here'
}

# No cgroup of a run stays.
no_cgroups() {
    equals "" "$(find /sys/fs/cgroup -maxdepth 4 -type d -name "compare-$1-*")"
}

@test "the container wall is measured, and the vm wall is told with the reason" {
    run -0 --separate-stderr isola compare --runs 3 $IMAGE -- echo hello
    equals "WALL START TOTAL PEAK" "$(echo "${lines[0]}" | awk '{print $1, $2, $3, $4}')"
    [[ ${lines[1]} =~ ^container\ +[0-9.]+\ m?s\ +[0-9.]+\ m?s\ +[0-9.]+[KMG]iB\ +[0-9.]+\ m?s\ +-\ +[0-9]+\ +0\ +0$ ]]
    contains "$output" "Medians of 3 runs"
    if has_vm; then
        [[ $output =~ $'\n'vm\ +[0-9] ]]
    else
        reason=$(isola run --rm --network none --isolation vm $IMAGE true 2>&1 | sed -n 's/^isola: start [^:]*: //p')
        # The same words: figures of two measurements differ.
        contains "$output" "vm: not available here: "
        equals 1 "$(echo "$output" | grep -c '^vm')"
        contains "$(echo "$output" | sed -n 's/^vm: not available here: //p')" "${reason%% (*}"
    fi
}

@test "JSON has all fields, and their values fit together" {
    isola compare --runs 4 --format json $IMAGE sh -c 'sleep 0.2; echo x; sleep 0.2' >all
    equals '["container","vm"]' "$(jq -sc 'map(.Wall)' all)"
    jq -se '.[0] | .Available and .Runs == 4 and .Failed == 0 and .ExitCode == 0 and .Reason == ""' all
    jq -se '.[0].StartNs | .Min <= .Median and .Median <= .Max' all
    # The command itself says how long it takes until its first byte, and after it.
    jq -se '.[0] | .StartNs.Min >= 200000000 and .TotalNs.Median > .StartNs.Median and .TotalNs.Min >= 400000000' all
    jq -se '.[0] | .CPUNs.Min > 0 and .MemoryBytes.Min > 65536 and .SystemCalls > 200 and .Devices == 0' all
    equals cgroup "$(jq -sr '.[0].MemorySource' all)"
    jq -se '.[1] | .SystemCalls > 20 and .CPUThreadCalls > 0 and .Devices == 8' all
    has_vm || jq -se '.[1] | (.Available | not) and .StartNs == null and .Start == "-" and (.Reason | length) > 20' all
    equals "container 4" "$(isola compare --runs 4 --format '{{.Wall}} {{.Runs}}' $IMAGE true | head -n 1)"
}

@test "memory and CPU time are those of the command" {
    measure() { isola compare --runs 1 --format json $IMAGE sh -c "$1" | jq -s "$2"; }
    small=$(measure true '.[0].MemoryBytes.Median')
    large=$(measure 'dd if=/dev/zero of=/dev/shm/fill bs=1M count=40' '.[0].MemoryBytes.Median')
    [ "$large" -ge 41943040 ]
    [ $((large - small)) -gt 30000000 ]
    idle=$(measure 'sleep 0.5' '.[0].CPUNs.Median')
    busy=$(measure 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done' '.[0].CPUNs.Median')
    # Any machine needs a fifth of a second for that.
    [ $((busy - idle)) -gt 200000000 ]
}

@test "--bare measures the host's own command, and the rest against it" {
    isola compare --bare --runs 2 --format json $IMAGE echo x >all
    equals '["bare","container","vm"]' "$(jq -sc 'map(.Wall)' all)"
    jq -se '.[0].OverheadNs == null and .[1].OverheadNs == .[1].CPUNs.Median - .[0].CPUNs.Median' all
    jq -se '.[0].SystemCalls > .[1].SystemCalls and .[1].SystemCalls > .[2].SystemCalls' all
    jq -se '.[0].MemorySource == "cgroup" and .[0].StartNs.Min > 0' all
    run -0 isola compare --bare --runs 1 $IMAGE busybox-has-no-such
    contains "$output" "bare: not available here: run 'busybox-has-no-such' on this host: No such file"
    run -1 isola compare --bare $IMAGE
    contains "$output" "--bare needs a command"
}

@test "the exit code of a command that fails is shown" {
    run -0 isola compare --runs 2 $IMAGE sh -c 'exit 3'
    [[ ${lines[1]} =~ ^container\ +-\ .*\ 3$ ]]
    contains "$output" "container: 2 of 2 runs ended with an exit code that is not 0"
    equals 127 "$(isola compare --runs 1 --format '{{.ExitCode}}' $IMAGE nonsense | head -n 1)"
    # 125 of the command's own is no failure of the wall.
    equals "true 125" "$(isola compare --runs 1 --format '{{.Available}} {{.ExitCode}}' $IMAGE sh -c 'exit 125' | head -n 1)"
}

@test "where no wall runs the exit code is 1 and each has its reason" {
    run -1 isola compare --runs 1 --network nonsense $IMAGE true
    contains "$output" "container: not available here: "
    contains "$output" nonsense
    lacks "$output" WALL
}

@test "--memory is the workload's limit" {
    run -0 isola compare --runs 1 --memory 32m $IMAGE tail /dev/zero
    [[ ${lines[1]} =~ ^container\ .*\ 137$ ]]
}

@test "the picture is well-formed XML that needs no other file" {
    isola compare --bare --runs 2 --svg out.svg $IMAGE sh -c 'echo "<&>"' $'\x01\u00e4' >/dev/null
    python3 - out.svg <<'PY'
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
svg = "{http://www.w3.org/2000/svg}"
assert root.tag == svg + "svg", root.tag
texts = [t.text for t in root.iter(svg + "text")]
assert texts[0].startswith('isola compare isola/busybox sh -c echo "<&>"'), texts[0]
for head in ("Start", "Whole run", "Peak memory", "CPU time", "System calls"):
    assert head in texts, head
assert texts.count("container") == 5 and texts.count("bare") == 5, texts
width = float(root.get("width"))
for r in root.findall(svg + "rect")[1:]:
    assert 0 < float(r.get("width")) and float(r.get("x")) + float(r.get("width")) < width
assert "href" not in open(sys.argv[1]).read() and "url(" not in open(sys.argv[1]).read()
PY
    # Bytes that are no text: the container refuses them, the host's own command takes them.
    isola compare --bare --runs 1 --svg out.svg $IMAGE echo $'\xff' >/dev/null
    contains "$(python3 -c 'import xml.etree.ElementTree as t; print(*t.parse("out.svg").getroot().itertext())')" \
        "isola compare isola/busybox echo ?"
    run -1 isola compare --runs 1 --svg no/such/dir.svg $IMAGE true
    contains "$output" "write the picture to 'no/such/dir.svg': No such file"
}

@test "an interrupt undoes the run" {
    "$ISOLA_BUILD/src/main/isola" compare --runs 1 $IMAGE sleep 1000 >out 2>&1 &
    pid=$!
    wait_until 'isola ps -q | grep -q .'
    kill -TERM $pid
    code=0
    begin=$SECONDS
    wait $pid || code=$?
    # Undone, not waited for in vain.
    [ $((SECONDS - begin)) -lt 8 ]
    equals 1 $code
    contains "$(cat out)" "isola: interrupted"
    equals "" "$(isola ps -aq)"
    no_cgroups $pid
}

@test "options that make no sense are refused" {
    run -1 isola compare --runs 0 $IMAGE true
    contains "$output" "--runs 0 is not between 1 and 1000"
    run -1 isola compare --format '{{.Wall' $IMAGE true
    run -1 isola compare
}
