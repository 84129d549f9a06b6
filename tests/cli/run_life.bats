#!/usr/bin/env bats
# From create to remove: stop, kill, restart policies, pause, health, attach, logs, events.
load helper

state() {
    inspect "$1" '{{.State.Status}}'
}

count() {
    isola logs "$1" 2>/dev/null | grep -c "$2"
}

TRAP='trap "echo got TERM; exit 4" TERM; trap "echo got USR1; exit 5" USR1; echo ready; while :; do sleep 0.05; done'

@test "stop sends SIGTERM, then waits for the end" {
    irun -d --name s $IMAGE sh -c "$TRAP"
    wait_until 'count s ready'
    equals s "$(isola stop s)"
    equals "exited 4" "$(inspect s '{{.State.Status}} {{.State.ExitCode}}')"
    contains "$(isola logs s)" "got TERM"
    run -0 isola stop s
}

@test "stop kills after its timeout" {
    irun -d --name s $IMAGE sh -c 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
    wait_until 'count s ready'
    start=$SECONDS
    isola stop -t 1 s
    [ $((SECONDS - start)) -lt 5 ]
    equals "exited 137" "$(inspect s '{{.State.Status}} {{.State.ExitCode}}')"
}

@test "--stop-signal and stop --signal choose the signal" {
    irun -d --name a --stop-signal USR1 $IMAGE sh -c "$TRAP"
    irun -d --name b $IMAGE sh -c "$TRAP"
    wait_until 'count a ready && count b ready'
    isola stop a
    isola stop --signal USR1 b
    equals "5 5" "$(inspect a '{{.State.ExitCode}}') $(inspect b '{{.State.ExitCode}}')"
    run -125 irun --rm --stop-signal LOUD $IMAGE true
    contains "$output" LOUD
}

@test "stop works on a paused workload" {
    irun -d --name p $IMAGE sh -c "$TRAP"
    wait_until 'count p ready'
    isola pause p
    equals paused "$(state p)"
    isola stop -t 5 p
    equals "exited 4" "$(inspect p '{{.State.Status}} {{.State.ExitCode}}')"
}

@test "kill takes names and numbers of signals" {
    irun -d --name k $IMAGE sh -c "$TRAP"
    wait_until 'count k ready'
    equals k "$(isola kill -s USR1 k)"
    equals 5 "$(isola wait k)"
    run -1 isola kill k
    contains "$output" "does not run"
    irun -d --name l $IMAGE sleep 100
    run -1 isola kill -s NOPE l
    isola kill -s 9 l
    equals 137 "$(isola wait l)"
}

@test "kill works on a paused workload" {
    irun -d --name k $IMAGE sleep 100
    isola pause k
    isola kill k
    equals 137 "$(timeout 10 "$ISOLA_BUILD/src/main/isola" wait k)"
}

@test "a stopped workload starts again with its files" {
    irun --name again $IMAGE sh -c 'echo run >>/runs; wc -l </runs'
    equals again "$(isola start again)"
    isola wait again
    equals 3 "$(isola start -a again)"
    equals "$(printf '1\n2\n3')" "$(isola logs again)"
}

@test "create makes, start runs, start -a -i is attached" {
    id=$(isola create -i --network none --name c $IMAGE sh -c 'cat; exit 3')
    equals created "$(state c)"
    [[ $id =~ ^[0-9a-f]{64}$ ]]
    run -3 bash -c "echo text | '$ISOLA_BUILD/src/main/isola' start -ai c"
    equals text "$output"
    run -1 isola start nobody
    contains "$output" nobody
}

@test "start of a running workload is no error" {
    irun -d --name r $IMAGE sleep 100
    pid=$(inspect r '{{.State.Pid}}')
    run -0 isola start r
    equals "$pid" "$(inspect r '{{.State.Pid}}')"
}

@test "restart gives a new process" {
    irun -d --name r $IMAGE sleep 100
    pid=$(inspect r '{{.State.Pid}}')
    equals r "$(isola restart -t 0 r)"
    [ "$pid" != "$(inspect r '{{.State.Pid}}')" ]
    equals running "$(state r)"
    isola stop -t 0 r
    isola restart r
    equals running "$(state r)"
}

@test "on-failure:2 restarts twice and then rests" {
    irun -d --name f --restart on-failure:2 $IMAGE sh -c 'echo try; exit 1'
    wait_until 'test "$(state f)" = exited'
    equals "2 1" "$(inspect f '{{.RestartCount}} {{.State.ExitCode}}')"
    equals 3 "$(count f try)"
    irun -d --name ok --restart on-failure $IMAGE true
    wait_until 'test "$(state ok)" = exited'
    equals 0 "$(inspect ok '{{.RestartCount}}')"
}

@test "always restarts, ever slower, until it is stopped" {
    irun -d --name a --restart always $IMAGE sh -c 'date +%s.%N 2>/dev/null || date +%s; echo try'
    wait_until 'test $(inspect a "{{.RestartCount}}") -ge 3'
    contains "running restarting starting exited" "$(state a)"
    isola stop a
    equals exited "$(state a)"
    n=$(inspect a '{{.RestartCount}}')
    sleep 1
    equals "$n exited" "$(inspect a '{{.RestartCount}} {{.State.Status}}')"
    # 0.1, 0.2 and 0.4 s apart at least
    isola logs -t a | awk '/try/ {print $1}' >times
    [ "$(wc -l <times)" -ge 4 ]
}

@test "a kill by hand ends a workload that restarts always" {
    irun -d --name a --restart always $IMAGE sleep 100
    isola kill a
    wait_until 'test "$(state a)" = exited'
    sleep 0.5
    equals "exited 0" "$(inspect a '{{.State.Status}} {{.RestartCount}}')"
}

@test "rm -f ends a workload that restarts always" {
    irun -d --name a --restart always $IMAGE false
    wait_until 'test $(inspect a "{{.RestartCount}}") -ge 1'
    equals a "$(isola rm -f a)"
    sleep 0.7
    equals "" "$(isola ps -aq)"
}

@test "--rm cannot go with --restart" {
    run -125 irun --rm --restart always $IMAGE true
    contains "$output" "--restart"
    run -125 irun --restart sometimes $IMAGE true
    contains "$output" sometimes
}

@test "pause freezes, unpause goes on" {
    irun -d --name p $IMAGE sh -c 'i=0; while :; do i=$((i+1)); echo $i >/n; sleep 0.02; done'
    equals p "$(isola pause p)"
    contains "$(isola ps --format '{{.Status}}')" "(Paused)"
    run -1 isola pause p
    run -1 isola exec p true
    contains "$output" "paused"
    a=$(isola cp p:/n - | tar xO)
    sleep 0.3
    equals "$a" "$(isola cp p:/n - | tar xO)"
    equals p "$(isola unpause p)"
    wait_until 'test "$(isola cp p:/n - | tar xO)" != "$a"'
    run -1 isola unpause p
}

@test "rename gives another name, which must be free" {
    irun -d --name one $IMAGE sleep 100
    irun -d --name two $IMAGE sleep 100
    isola rename one uno
    equals running "$(state uno)"
    run -1 isola rename uno two
    contains "$output" two
    run -1 isola rename uno 'no/good'
    run -1 isola inspect one
}

@test "wait prints the exit code of each" {
    irun -d --name w1 $IMAGE sh -c 'sleep 0.3; exit 3'
    irun -d --name w2 $IMAGE sh -c 'sleep 0.1; exit 4'
    equals "$(printf '3\n4')" "$(isola wait w1 w2)"
    run -1 isola wait nobody
}

@test "rm removes what has ended, rm -f also what runs" {
    irun -d --name r $IMAGE sleep 100
    irun --name e $IMAGE true
    run -1 isola rm r
    contains "$output" "running"
    equals e "$(isola rm e)"
    equals r "$(isola rm -f r)"
    run -1 isola rm gone
    contains "$output" gone
    irun -d --name u $IMAGE sleep 100
    isola pause u
    equals u "$(isola rm -f u)"
}

@test "a health check makes healthy, then unhealthy" {
    irun -d --name h --health-cmd 'test -e /ok' --health-interval 100ms --health-retries 2 $IMAGE sh -c 'touch /ok; sleep 100'
    contains "starting healthy" "$(inspect h '{{.State.Health.Status}}')"
    wait_until 'test "$(inspect h "{{.State.Health.Status}}")" = healthy'
    contains "$(isola ps --format '{{.Status}}')" "(healthy)"
    equals h "$(isola ps --filter health=healthy --format '{{.Names}}')"
    isola exec h rm /ok
    wait_until 'test "$(inspect h "{{.State.Health.Status}}")" = unhealthy'
    [ "$(inspect h '{{.State.Health.FailingStreak}}')" -ge 2 ]
}

@test "a health check that hangs is ended at its timeout" {
    irun -d --name h --health-cmd 'sleep 50' --health-interval 100ms --health-timeout 200ms --health-retries 1 $IMAGE sleep 100
    wait_until 'test "$(inspect h "{{.State.Health.Status}}")" = unhealthy'
    # No more than one check at a time, and none is left over.
    [ "$(isola top h | grep -c 'sleep 50')" -le 1 ]
}

@test "failures in the start period do not count" {
    irun -d --name h --health-cmd 'false' --health-interval 50ms --health-retries 1 --health-start-period 30s $IMAGE sleep 100
    sleep 0.5
    equals starting "$(inspect h '{{.State.Health.Status}}')"
    irun -d --name none --no-healthcheck $IMAGE sleep 100
    equals "<nil>" "$(inspect none '{{.State.Health}}')"
}

@test "attach shows what a running workload writes, and gives its exit code" {
    irun -d -i --name a $IMAGE sh -c 'read x; echo got $x; exit 6'
    run -6 bash -c "echo word | '$ISOLA_BUILD/src/main/isola' attach a"
    equals "got word" "$output"
    run -1 isola attach a
    contains "$output" exited
}

@test "two attached readers see the same" {
    irun -d --name a $IMAGE sh -c 'while ! test -e /go; do sleep 0.05; done; seq 1000'
    for i in 1 2; do
        isola attach a >"out$i" 3>&- &
    done
    sleep 0.3
    isola exec a touch /go
    wait
    seq 1000 >want
    cmp want out1
    cmp want out2
}

@test "logs shows both streams, --tail the end, --timestamps the times" {
    irun --name l $IMAGE sh -c 'seq 5; echo err >&2' >/dev/null 2>&1
    equals "$(seq 5)" "$(isola logs l 2>/dev/null)"
    equals err "$(isola logs l 2>&1 >/dev/null)"
    equals "$(printf '4\n5')" "$(isola logs --tail 3 l 2>/dev/null)"
    equals "" "$(isola logs --tail 0 l)"
    equals 5 "$(isola logs --tail all l 2>/dev/null | wc -l)"
    [[ $(isola logs -t --tail 1 l 2>&1) =~ ^20[0-9-]{8}T[0-9:.]+Z\ err$ ]]
    run -1 isola logs --tail many l
    run -1 isola logs nobody
}

@test "logs --since and --until cut by time" {
    irun --name l $IMAGE sh -c 'echo old; sleep 1.2; echo new' >/dev/null
    from=$(isola logs -t l | awk '/new/ {print $1}')
    equals new "$(isola logs --since "$from" l)"
    equals old "$(isola logs --until "$(isola logs -t l | awk '/old/ {print $1}')" l)"
    equals "" "$(isola logs --since 2099-01-01T00:00:00Z l)"
    equals "$(printf 'old\nnew')" "$(isola logs --since 1h l)"
    run -1 isola logs --since yesterday-ish l
}

@test "logs -f follows until the end" {
    irun -d --name l $IMAGE sh -c 'echo one; sleep 0.5; echo two; sleep 0.3; echo three'
    equals "$(printf 'one\ntwo\nthree')" "$(timeout 10 "$ISOLA_BUILD/src/main/isola" logs -f l)"
    equals "$(printf 'one\ntwo\nthree')" "$(timeout 10 "$ISOLA_BUILD/src/main/isola" logs -f l)"
}

@test "a line without its newline, a long line and odd bytes are kept exactly" {
    irun --name p $IMAGE printf 'no newline' >/dev/null
    equals "no newline." "$(isola logs p; echo .)"
    head -c 20000 /dev/zero | tr '\0' x >long
    printf '\001\377\r\n\n\t \n' >>long
    irun --name q -i $IMAGE cat <long >/dev/null
    isola logs q | cmp - long
}

@test "the log of a terminal is what the terminal showed" {
    irun --name t -t $IMAGE sh -c 'echo one; echo two >&2' >/dev/null
    equals "$(printf 'one\r\ntwo\r')" "$(isola logs t)"
}

@test "logs rotate, keep the newest, and lose nothing while followed" {
    irun -d --name r --log-opt max-size=16k --log-opt max-file=3 $IMAGE sh -c 'while ! test -e /go; do sleep 0.05; done; seq 3000'
    timeout 20 "$ISOLA_BUILD/src/main/isola" logs -f r >out 3>&- &
    follower=$!
    sleep 0.2
    isola exec r touch /go
    isola wait r >/dev/null
    wait $follower
    dir=$(dirname "$(inspect r '{{.LogPath}}')")
    equals "log log.1 log.2" "$(cd "$dir" && echo log*)"
    for file in "$dir"/log*; do
        [ "$(stat -c %s "$file")" -le 16384 ]
    done
    isola logs r >kept
    tail -n "$(wc -l <kept)" <(seq 3000) | cmp - kept
    # A reader that keeps up has every line; one that does not misses whole files, never lines.
    tail -1 out | grep -qx 3000
    run -125 irun --rm --log-opt max-size=big $IMAGE true
    contains "$output" big
}

@test "a follower that keeps up sees every line across rotations" {
    irun -d --name r --log-opt max-size=8k --log-opt max-file=4 $IMAGE sh -c 'i=0; while [ $i -lt 60 ]; do seq $((i*20+1)) $((i*20+20)); i=$((i+1)); usleep 10000; done'
    timeout 20 "$ISOLA_BUILD/src/main/isola" logs -f r >out
    seq 1200 | cmp - out
}

@test "--log-driver none keeps no log" {
    equals hi "$(irun --name n --log-driver none $IMAGE echo hi)"
    run -1 isola logs n
    contains "$output" none
    run -125 irun --rm --log-driver carrier-pigeon $IMAGE true
}

@test "events tells create, start, die and destroy in order" {
    since=$(date +%s)
    irun --rm --name ev $IMAGE sh -c 'exit 2' || true
    isola events --since "$since" --until "$(($(date +%s) + 1))" --filter container=ev --format '{{.Action}}' >out
    equals "create start die destroy" "$(tr '\n' ' ' <out | sed 's/ $//')"
    run -0 isola events --since "$since" --until "$(date +%s)" --filter event=die
    contains "$output" "exitCode=2"
    contains "$output" "name=ev"
}

@test "events waits for what comes" {
    timeout 3 "$ISOLA_BUILD/src/main/isola" events --format '{{.Action}}' >out 3>&- &
    watcher=$!
    sleep 0.3
    irun --rm $IMAGE true
    wait_until 'grep -q destroy out' 3
    kill $watcher 2>/dev/null || true
    wait $watcher || true
}

@test "a killed shim is noticed: exit 137, and the next start works" {
    irun -d --name v $IMAGE sleep 100
    kill -9 "$(jq .shim_pid "$ISOLA_RUN/workloads/$(inspect v '{{.Id}}')/status.json")"
    wait_until 'test "$(state v)" = exited'
    equals "137" "$(inspect v '{{.State.ExitCode}}')"
    contains "$(inspect v '{{.State.Error}}')" shim
    isola start v
    equals running "$(state v)"
}

# The workloads below that wait for /stop live a little longer, so that the exec that makes it ends before they take it along.

# A number of the status file of workload $1.
status_of() {
    jq ".$2" "$ISOLA_RUN/workloads/$(inspect "$1" '{{.Id}}')/status.json"
}

@test "a killed worker of the shim is replaced: the workload goes on and its log has no hole" {
    irun -d --name v $IMAGE sh -c 'i=0; while [ ! -e /stop ]; do echo $i; i=$((i+1)); done; echo $i; sleep 0.5; exit 3'
    pid=$(status_of v pid)
    for round in 1 2 3 4 5; do
        worker=$(status_of v worker_pid)
        kill -9 "$worker"
        wait_until 'test "$(status_of v worker_pid)" != '"$worker"
        count=$(isola logs v | wc -l)
        wait_until 'test "$(isola logs v | wc -l)" -gt '"$count"
    done
    equals running "$(state v)"
    equals "$pid" "$(status_of v pid)"
    isola exec v touch /stop
    equals 3 "$(isola wait v)"
    isola logs v | awk '$1 != NR - 1 { print "hole at line " NR; exit 1 }'
}

@test "a killed worker of the shim takes no line of a terminal along" {
    irun -dt --name v $IMAGE sh -c 'i=0; while [ ! -e /stop ]; do seq $i $((i+999)); i=$((i+1000)); done | cat; sleep 0.5; exit 3'
    for round in $(seq 30); do
        worker=$(status_of v worker_pid)
        kill -9 "$worker"
        wait_until 'test "$(status_of v worker_pid)" != '"$worker"
        sleep 0.1
    done
    isola exec v touch /stop
    equals 3 "$(isola wait v)"
    isola logs v | awk '{ sub(/\r$/, "") } $0 != NR - 1 "" { print "hole at line " NR ": " $0; exit 1 }'
}

@test "an attached isola goes on when the worker of the shim is killed, without a hole" {
    irun --name v $IMAGE sh -c 'i=0; while [ ! -e /stop ]; do echo $i; i=$((i+1)); done; sleep 0.5; exit 3' >out 3>&- &
    attached=$!
    wait_until 'test -s out'
    for round in 1 2 3; do
        worker=$(status_of v worker_pid)
        kill -9 "$worker"
        wait_until 'test "$(status_of v worker_pid)" != '"$worker"
        count=$(wc -l <out)
        wait_until 'test "$(wc -l <out)" -gt '"$count"
    done
    isola exec v touch /stop
    code=0
    wait $attached || code=$?
    equals 3 $code
    awk '$1 != NR - 1 { print "hole at line " NR; exit 1 }' out
    equals "$(isola logs v | cksum)" "$(cksum <out)"
}

# slow_reader COMMAND...: reads what it prints only when two workers of v's shim were killed after its end.
slow_reader() {
    local attached worker waiter pid code=0
    mkfifo out
    "$@" >out 2>err 3>&- &
    attached=$!
    exec 4<out
    # Now, as it cannot end before it is read; and not by a command, which would end the run later.
    head -c 1000 <&4 >got
    read -r waiter pid <<<"$(jq -r '"\(.shim_pid) \(.pid)"' "$ISOLA_RUN"/workloads/*/status.json)"
    while [ -e "/proc/$pid" ]; do
        head -c 8192 <&4 >>got
        sleep 0.01
    done
    for round in 1 2; do
        # Gone when the rest is on its way and nobody is to end the run.
        worker=$(pgrep -P "$waiter" isola-shim) || break
        kill -9 "$worker"
        wait_until 'test "$(pgrep -P $waiter isola-shim)" != '"$worker"
        # Longer than a worker waits for those who were connected before.
        sleep 6
        # A command that finds the end makes an end of it.
        equals "exited 4" "$(inspect v '{{.State.Status}} {{.State.ExitCode}}')"
    done
    cat <&4 >>got
    wait $attached || code=$?
    equals 4 $code
    seq 200000 299999 | cmp - got
    seq 9000 | cmp - err
    wait_until '! kill -0 '"$waiter"
    exec 4<&-
}

@test "a slow reader has all output of a workload that has ended, also from a new worker of the shim" {
    SLOW='read x; seq 200000 299999; seq 9000 >&2; exit 4'
    slow_reader bash -c "echo | '$ISOLA_BUILD/src/main/isola' run -i --network none --name v $IMAGE sh -c '$SLOW'"
    isola rm v
    rm out
    irun -d -i --name v $IMAGE sh -c "$SLOW"
    slow_reader bash -c "echo | '$ISOLA_BUILD/src/main/isola' attach v"
}

@test "standard input and its end reach the workload through a new worker" {
    mkfifo in
    irun -i --name v $IMAGE sh -c 'cat; echo end' <in >out 3>&- &
    attached=$!
    exec 4>in
    echo one >&4
    wait_until 'grep -q one out'
    worker=$(status_of v worker_pid)
    kill -9 "$worker"
    wait_until 'test "$(status_of v worker_pid)" != '"$worker"
    echo two >&4
    wait_until 'grep -q two out'
    exec 4>&-
    wait $attached
    equals "one two end" "$(tr '\n' ' ' <out | sed 's/ $//')"
}

@test "an exit that the waiter of the shim did not live to see is not lost, nor the log" {
    irun -d --name v -v "$PWD:/here" $IMAGE sh -c 'while [ ! -e /here/stop ]; do sleep 0.05; done; echo last; exit 3'
    pid=$(status_of v pid)
    waiter=$(status_of v shim_pid)
    kill -STOP "$waiter"
    touch stop
    wait_until 'grep -q "^State:.Z" /proc/'"$pid"/status
    kill -9 "$waiter"
    equals 3 "$(isola wait v)"
    equals 3 "$(inspect v '{{.State.ExitCode}}')"
    equals last "$(isola logs v)"
}

@test "an exit while no worker of the shim is at work is not lost" {
    irun -d --name v -v "$PWD:/here" $IMAGE sh -c 'while [ ! -e /here/stop ]; do sleep 0.05; done; echo last; exit 3'
    pid=$(status_of v pid)
    worker=$(status_of v worker_pid)
    kill -STOP "$worker"
    touch stop
    wait_until '! test -e /proc/'"$pid"
    kill -9 "$worker"
    equals 3 "$(isola wait v)"
    equals last "$(isola logs v)"
}

@test "a workload whose isola was killed before it noted the start runs, and can be used" {
    # The second word from the shim would be that the workload has started.
    strace -o trace -e trace=recvfrom -e inject=recvfrom:signal=KILL:when=2 \
        "$ISOLA_BUILD/src/main/isola" run -d --name v --network host $IMAGE sleep 100 >/dev/null 2>&1 || true
    wait_until 'grep -q "\"started_ns\":[1-9]" "$ISOLA_RUN"/workloads/*/status.json'
    equals starting "$(python3 -c "import sqlite3
print(sqlite3.connect('$ISOLA_ROOT/state.db').execute('SELECT state FROM workload').fetchone()[0])")"
    contains "$(isola ps --format '{{.Names}} {{.Status}}')" "v Up"
    equals in "$(isola exec v echo in)"
    equals 1 "$(isola events --since 1h --until 0s --format '{{.Action}} {{.Actor.ID}}' |
        grep -c "^start $(inspect v '{{.Id}}')")"
    isola logs v
    pid=$(status_of v pid)
    isola start v
    equals "$pid" "$(status_of v pid)"
    isola stop -t 0 v
    equals exited "$(state v)"
    equals 137 "$(isola wait v)"
}

@test "workers of the shim that die again and again end the run, with the reason" {
    irun -d --name v $IMAGE sleep 100
    waiter=$(status_of v shim_pid)
    # Ten within a second, on a busy machine too: the shell does it all by itself. And no more: behind
    # them a waiter under the sanitizers has a child that looks for leaks, and waits for it.
    while kill -0 "$waiter" 2>/dev/null; do
        killed=" " count=0
        while [ $count -lt 10 ] && kill -0 "$waiter" 2>/dev/null; do
            read -r kids 2>/dev/null <"/proc/$waiter/task/$waiter/children" || true
            for kid in $kids; do
                read -r name 2>/dev/null <"/proc/$kid/comm" || continue
                case $name$killed in
                isola-shim*" $kid "*) ;;
                isola-shim*)
                    kill -9 "$kid" 2>/dev/null || continue
                    killed="$killed$kid " count=$((count + 1))
                    [ $count -lt 10 ] || break
                    ;;
                esac
            done
        done
        for _ in $(seq 20); do
            kill -0 "$waiter" 2>/dev/null || break
            sleep 0.1
        done
    done
    wait_until 'test "$(state v)" = exited'
    equals 137 "$(inspect v '{{.State.ExitCode}}')"
    contains "$(inspect v '{{.State.Error}}')" "again and again"
}

@test "a workload cannot make files too deep to remove" {
    part=$(printf 'd/%.0s' $(seq 400))
    irun --name deep $IMAGE sh -c "for k in 1 2 3 4 5 6 7; do mkdir -p /tmp/x\$k/$part; done
        for k in 2 3 4 5 6 7; do (cd /tmp/x\$k/$part && mv /tmp/x\$((k-1)) .) || exit 1; done
        touch /tmp/x7/.removed-0"
    equals deep "$(isola rm deep)"
    equals "" "$(ls "$ISOLA_ROOT/workloads")"
}
