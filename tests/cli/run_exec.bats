#!/usr/bin/env bats
# `isola exec`: what its process is given, and what comes back.
load helper

# limit SECONDS ARGUMENT...: isola, which must end within the time.
limit() {
    timeout "$1" "$ISOLA_BUILD/src/main/isola" "${@:2}"
}

digest() {
    sha256sum | cut -d ' ' -f 1
}

@test "without a terminal the process has pipes, and nothing of the caller's files" {
    irun -d --name w $IMAGE sleep 100
    links='for fd in 0 1 2; do readlink /proc/self/fd/$fd; done'
    isola exec w sh -c "$links" >out 2>err <err
    equals "/dev/null" "$(sed -n 1p out)"
    equals "pipe pipe" "$(sed -n '2,3s/:.*//p' out | tr '\n' ' ' | sed 's/ $//')"
    echo in >in
    isola exec -i w sh -c "$links" >out 2>err <in
    equals "pipe pipe pipe" "$(sed 's/:.*//' out | tr '\n' ' ' | sed 's/ $//')"
    # Nothing else is open; 3 is the directory that ls reads.
    equals "0 1 2 3 " "$(isola exec -i w ls /proc/self/fd <in 5<in 9>out | tr '\n' ' ')"
    # The user of the process can open its own pipes.
    equals hello "$(isola exec -u 1000 w sh -c 'echo hello >/dev/stdout')"
}

@test "without -i standard input is empty" {
    irun -d --name w $IMAGE sleep 100
    equals "" "$(echo text | isola exec w cat)"
    equals text "$(echo text | isola exec -i w cat)"
}

@test "20 MB go through exec and back" {
    irun -d --name w $IMAGE sleep 100
    head -c 20M /dev/urandom >data
    wanted=$(digest <data)
    equals "$wanted" "$(limit 60 exec -i w cat <data | digest)"
    equals "$wanted" "$(cat data | limit 60 exec -i w cat | digest)"
    equals "$wanted" "$(cat data | limit 60 exec -i w sh -c 'cat >&2' 2>&1 >/dev/null | digest)"
}

@test "20 MB go through an attached run and back" {
    head -c 20M /dev/urandom >data
    wanted=$(digest <data)
    equals "$wanted" "$(cat data | limit 60 run --rm -i --network none $IMAGE cat | digest)"
}

@test "exec gives back the exit code, the command's last output before it" {
    irun -d --name w $IMAGE sleep 100
    run -7 isola exec w sh -c 'head -c 60000 /dev/zero; exit 7'
    run -137 isola exec w sh -c 'kill -9 $$'
    equals 60000 "$(isola exec w sh -c 'head -c 60000 /dev/zero; exit 7' | wc -c)"
}

@test "a child that keeps the pipes open, or writes on, does not hold exec" {
    irun -d --name w $IMAGE sleep 100
    equals now "$(limit 10 exec w sh -c 'sleep 90 & echo now')"
    limit 10 exec w sh -c 'yes & sleep 0.2' >/dev/null
}

@test "a process that does not read its input to the end is no error" {
    irun -d --name w $IMAGE sleep 100
    equals 4 "$(yes | limit 10 exec -i w head -c 4 | wc -c)"
}

@test "a reader that leaves ends the command" {
    irun -d --name w $IMAGE sleep 100
    equals "y" "$(limit 10 exec w yes | head -n 1)"
    run isola exec w pidof yes
    equals "" "$output"
}

@test "exec -d returns at once and gives /dev/null" {
    irun -d --name w $IMAGE sleep 100
    limit 5 exec -d w sh -c 'for fd in 0 2; do readlink /proc/self/fd/$fd >>/links; done; sleep 50' >out 2>&1
    equals "" "$(cat out)"
    wait_until '[ "$(isola exec w cat /links | wc -l)" = 2 ]'
    equals /dev/null "$(isola exec w sed -n 1p /links)"
}

@test "exec refuses a working directory that is missing, and does not make it" {
    irun -d --name w $IMAGE sleep 100
    run -127 isola exec -w /no/such/dir w true
    contains "$output" "no such file or directory"
    contains "$output" "/no/such/dir"
    run ! isola exec -w /bin/busybox w true
    run -1 isola exec w ls -d /no
    equals /tmp "$(isola exec -w /tmp w pwd)"
}

@test "run makes a working directory that is missing" {
    equals /no/such/dir "$(irun --rm -w /no/such/dir $IMAGE pwd)"
}

@test "a health check has a pipe, and what it says beyond 4 KB is thrown away" {
    irun -d --name w --health-interval 0.2s --health-timeout 20s --health-cmd \
        'readlink /proc/self/fd/1 | grep -q ^pipe: && { sleep 30 & yes | head -c 3000000; }' $IMAGE sleep 100
    wait_until '[ "$(inspect w "{{.State.Health.Status}}")" = healthy ]'
    id=$(inspect w '{{.Id}}')
    equals 4096 "$(stat -c %s "$ISOLA_RUN/workloads/$id/health.log")"
}

@test "unpause frees a workload whose pause was killed before it was noted" {
    irun -d --name w $IMAGE sleep 100
    isola pause w
    python3 -c 'import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
db.execute("UPDATE workload SET state = ?", ("running",)); db.commit()' "$ISOLA_ROOT/state.db"
    isola unpause w
    isola exec w true
    run ! isola unpause w
    contains "$output" "not paused"
}

@test "output of a process that survives its workload does not hold the shim" {
    irun -d --name w --pid host $IMAGE sh -c 'yes & sleep 0.5; exit 3'
    equals 3 "$(limit 20 wait w)"
    equals exited "$(inspect w '{{.State.Status}}')"
}

@test "a workload that only names the emulator is none of another CPU" {
    irun -d --name v $IMAGE env -u /dev/emulator sleep 100
    equals here "$(isola exec v echo here)"
    isola rm -f v
}
