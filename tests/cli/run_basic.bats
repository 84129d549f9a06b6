#!/usr/bin/env bats
# The command line of `isola run`: exit codes, standard streams, process options, terminals.
load helper

@test "the exit code of the workload is that of isola run" {
    run -0 irun --rm $IMAGE true
    run -7 irun --rm $IMAGE sh -c 'exit 7'
    run -255 irun --rm $IMAGE sh -c 'exit 255'
}

@test "a workload that a signal ends exits with 128 and the signal" {
    irun -d --name victim $IMAGE sleep 100
    isola kill victim
    run -0 isola wait victim
    equals 137 "$output"
    equals 137 "$(inspect victim '{{.State.ExitCode}}')"
}

@test "a command that is not there exits with 127 and names it" {
    run -127 irun --rm $IMAGE nonexistent
    contains "$output" "exec 'nonexistent'"
    run -127 irun --rm $IMAGE /no/such/file
    contains "$output" "/no/such/file"
    equals "" "$(isola ps -aq)"
}

@test "a command that cannot be executed exits with 126" {
    run -126 irun --rm $IMAGE /etc
    run -126 irun --rm $IMAGE /etc/passwd
    contains "$output" "/etc/passwd"
}

@test "a mistake in the command line exits with 125 and says where help is" {
    run -125 isola run --no-such-option $IMAGE true
    contains "$output" "--no-such-option"
    contains "$output" "isola run --help"
    run -125 isola run
    run -125 isola run --memory lots $IMAGE true
    contains "$output" "lots"
    run -125 irun --pull never no/such/image true
    contains "$output" "no/such/image"
}

@test "a bad command without --rm stays as created, says why, and holds nothing" {
    run -127 irun --name bad $IMAGE nonexistent
    equals "created 127" "$(inspect bad '{{.State.Status}} {{.State.ExitCode}}')"
    contains "$(inspect bad '{{.State.Error}}')" "nonexistent"
    equals "nothing to repair" "$(isola system check)"
    run -1 isola start bad
    contains "$output" "nonexistent"
}

@test "ten megabytes go through cat and back unchanged" {
    head -c 10000000 /dev/urandom >in
    irun -i --rm $IMAGE cat <in >out
    cmp in out
    cat in | irun -i --rm $IMAGE cat | cat >out
    cmp in out
}

@test "without -i the workload's standard input is empty" {
    equals 0 "$(echo text | irun --rm $IMAGE wc -c)"
}

@test "standard output and error stay apart" {
    irun --rm $IMAGE sh -c 'echo to-out; echo to-err >&2' >out 2>err
    equals to-out "$(cat out)"
    equals to-err "$(cat err)"
}

@test "a workload that ends while input still comes does not hang" {
    run -3 timeout 20 bash -c "yes | '$ISOLA_BUILD/src/main/isola' run -i --rm --network none $IMAGE sh -c 'exit 3'"
}

@test "a reader that goes away does not end the workload badly" {
    irun --name long $IMAGE sh -c 'i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo end >/done' | head -1
    run -0 isola wait long
    equals 0 "$output"
    equals end "$(isola cp long:/done - | tar xO)"
}

@test "-d prints the whole id and leaves" {
    id=$(irun -d $IMAGE sleep 100)
    [[ $id =~ ^[0-9a-f]{64}$ ]]
    equals "$id" "$(isola ps -q --no-trunc)"
}

@test "--rm removes the workload and its anonymous volumes" {
    irun --rm -v /data $IMAGE sh -c 'echo x >/data/x'
    equals "" "$(isola ps -aq)"
    equals "" "$(isola volume ls -q)"
    irun -d --rm --name gone $IMAGE true
    wait_until 'test -z "$(isola ps -aq)"'
}

@test "a name is taken once" {
    irun -d --name taken $IMAGE sleep 100
    run -125 irun --name taken $IMAGE true
    contains "$output" "taken"
    equals 1 "$(isola ps -aq | wc -l)"
    run -125 irun --name 'bad/name' $IMAGE true
    contains "$output" "bad/name"
}

@test "--cidfile gets the id and must be new" {
    irun --cidfile cid --name x $IMAGE true
    equals "$(inspect x '{{.Id}}')" "$(cat cid)"
    run -125 irun --cidfile cid $IMAGE true
    contains "$output" "cid"
    equals 1 "$(isola ps -aq | wc -l)"
}

@test "the environment is the image's, the files' and the options', in this order" {
    printf 'A=file\n# comment\nB=file with spaces \nFROM_HOST\n' >env
    FROM_HOST=host "$ISOLA_BUILD/src/main/isola" run --rm --network none --env-file env \
        -e A=option -e EMPTY= -e NOT_SET_ANYWHERE $IMAGE env >out
    grep -qx 'A=option' out
    grep -qx 'B=file with spaces ' out
    grep -qx 'FROM_HOST=host' out
    grep -qx 'EMPTY=' out
    run -1 grep -q NOT_SET_ANYWHERE out
    grep -q '^PATH=' out
    grep -q '^HOSTNAME=' out
    grep -qx 'HOME=/root' out
    run -125 irun --rm --env-file missing $IMAGE true
    contains "$output" "missing"
}

@test "-w sets the working directory and makes it" {
    equals /srv/new "$(irun --rm -w /srv/new $IMAGE pwd)"
    run -125 irun --rm -w relative $IMAGE true
    contains "$output" relative
}

@test "-u takes names, ids and groups; --group-add adds" {
    equals 1000:1000 "$(irun --rm -u 1000:1000 $IMAGE sh -c 'echo $(id -u):$(id -g)')"
    equals 12:0 "$(irun --rm -u 12 $IMAGE sh -c 'echo $(id -u):$(id -g)')"
    equals "$(irun --rm $IMAGE sh -c "grep ^nobody: /etc/passwd | cut -d: -f3")" \
        "$(irun --rm -u nobody $IMAGE id -u)"
    contains " $(irun --rm -u 1000:1000 --group-add 4242 --group-add 17 $IMAGE id -G) " " 4242 "
    run -125 irun --rm -u no-such-user $IMAGE true
    contains "$output" no-such-user
}

@test "--entrypoint replaces and an empty one removes" {
    equals "a b" "$(irun --rm --entrypoint echo $IMAGE a b)"
    equals hi "$(irun --rm --entrypoint '' $IMAGE echo hi)"
}

@test "--hostname and --domainname are what the workload sees" {
    equals box "$(irun --rm --hostname box $IMAGE hostname)"
    contains "$(irun --rm --hostname box $IMAGE cat /etc/hosts)" box
    id=$(irun -d $IMAGE sleep 100)
    equals "${id:0:12}" "$(isola exec "$id" hostname)"
    equals example.org "$(irun --rm --domainname example.org $IMAGE cat /proc/sys/kernel/domainname)"
}

@test "-t gives a terminal, and needs one with -i" {
    run -0 script -qec "'$ISOLA_BUILD/src/main/isola' run --rm -it --network none $IMAGE sh -c 'tty; test -t 0 -a -t 1 -a -t 2 && echo all'" /dev/null
    contains "$output" /dev/pts/0
    contains "$output" all
    run -0 irun --rm -t $IMAGE tty
    contains "$output" /dev/pts/0
    run -125 bash -c "echo | '$ISOLA_BUILD/src/main/isola' run --rm -it --network none $IMAGE true"
    contains "$output" terminal
}

@test "the terminal has the size of ours and TERM is set" {
    run -0 script -qec "stty rows 33 cols 99; '$ISOLA_BUILD/src/main/isola' run --rm -it --network none $IMAGE sh -c 'sleep 0.2; stty size; echo term=\$TERM'" /dev/null
    contains "$output" "33 99"
    contains "$output" "term=xterm"
}

@test "the exit code comes through a terminal, which is put right again" {
    run -5 script -qec "'$ISOLA_BUILD/src/main/isola' run --rm -it --network none $IMAGE sh -c 'exit 5'" /dev/null
    run -0 script -qec "a=\$(stty -g); '$ISOLA_BUILD/src/main/isola' run --rm -it --network none $IMAGE true; test \$a = \$(stty -g) && echo same" /dev/null
    contains "$output" same
}

@test "ctrl-p ctrl-q leaves the workload running" {
    (sleep 1; printf '\020\021'; sleep 1) | timeout 20 script -qec "'$ISOLA_BUILD/src/main/isola' run -it --name kept --network none $IMAGE sh" /dev/null
    equals running "$(inspect kept '{{.State.Status}}')"
}

@test "--detach-keys names other keys" {
    (sleep 1; printf 'x\001y'; sleep 1) | timeout 20 script -qec "'$ISOLA_BUILD/src/main/isola' run -it --detach-keys ctrl-a,y --name kept --network none $IMAGE sh" /dev/null
    equals running "$(inspect kept '{{.State.Status}}')"
    run -125 irun -it --detach-keys ctrl-, $IMAGE true
    contains "$output" detach-keys
}

@test "a signal to isola reaches the workload" {
    "$ISOLA_BUILD/src/main/isola" run --rm --network none --name sig $IMAGE \
        sh -c 'trap "echo got; exit 9" TERM; echo ready; while :; do sleep 0.05; done' >out 3>&- &
    pid=$!
    wait_until 'grep -q ready out'
    kill -TERM $pid
    rc=0
    wait $pid || rc=$?
    equals 9 $rc
    grep -q got out
}

@test "--sig-proxy=false keeps a signal for isola alone" {
    "$ISOLA_BUILD/src/main/isola" run --network none --sig-proxy=false --name sig $IMAGE \
        sh -c 'echo ready; exec sleep 100' >out 3>&- &
    pid=$!
    wait_until 'grep -q ready out'
    kill -TERM $pid
    wait $pid || true
    equals running "$(inspect sig '{{.State.Status}}')"
}

@test "--init puts a small init above the command" {
    run -0 irun --rm --init $IMAGE sh -c 'cat /proc/1/comm; echo $$'
    contains "$output" init
    lacks "${lines[1]}" 1$'\n'
    run -6 irun --rm --init $IMAGE sh -c 'exit 6'
    run -127 irun --rm --init $IMAGE nonexistent
}

@test "one of two runs of one name wins" {
    for i in 1 2 3 4; do
        irun -d --name race $IMAGE sleep 100 >"out$i" 2>&1 3>&- &
    done
    wait
    equals 1 "$(cat out? | grep -Ecx '[0-9a-f]{64}')"
    equals 3 "$(grep -c race out? | grep -c ':1')"
    equals 1 "$(isola ps -aq | wc -l)"
}

@test "twenty runs at once all end well" {
    for i in $(seq 20); do
        irun --rm $IMAGE sh -c "echo $i" >"out$i" 2>&1 3>&- &
    done
    wait
    cat out* | sort -n >all
    seq 20 | cmp - all
    equals "" "$(isola ps -aq)"
}

@test "a missing isola-shim is named and leaves nothing" {
    mkdir -p bin
    cp "$ISOLA_BUILD/src/main/isola" bin/isola
    run -125 ./bin/isola run --rm --network none $IMAGE true
    contains "$output" "isola-shim"
    equals "" "$(isola ps -aq)"
}

@test "text that is not UTF-8 is refused by the name of its option" {
    run -125 irun --rm $IMAGE echo $'a\xff'
    contains "$output" "command: the text is not valid UTF-8"
    run -125 irun --rm -e $'A=\xe4' $IMAGE true
    contains "$output" "env: the text is not valid UTF-8"
    equals "" "$(isola ps -aq)"
}
