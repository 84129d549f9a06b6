#!/usr/bin/env bats
# What Isola says of workloads and of itself: ps, inspect, top, stats, port, info, version, system.
load helper

@test "ps lists what runs, ps -a all, newest first, under Docker's headings" {
    irun -d --name up $IMAGE sleep 100
    irun --name down $IMAGE sh -c 'exit 3' || true
    run -0 isola ps
    [[ ${lines[0]} =~ ^CONTAINER\ ID\ +IMAGE\ +COMMAND\ +CREATED\ +STATUS\ +PORTS\ +NAMES$ ]]
    equals 2 "${#lines[@]}"
    contains "${lines[1]}" '"sleep 100"'
    contains "${lines[1]}" 'Up '
    run -0 isola ps -a
    equals 3 "${#lines[@]}"
    contains "${lines[1]}" "Exited (3)"
    equals "$(printf 'down\nup')" "$(isola ps -a --format '{{.Names}}')"
    equals down "$(isola ps -l --format '{{.Names}}')"
    equals down "$(isola ps -n 1 --format '{{.Names}}')"
    equals 12 "$(isola ps -q | tr -d '\n' | wc -c)"
    equals 64 "$(isola ps -q --no-trunc | tr -d '\n' | wc -c)"
    equals "$(isola ps -a --format '{{.ID}} {{.Names}}')" "$(isola container ls -a --format '{{.ID}} {{.Names}}')"
}

@test "ps filters by name, label, status, exit code, image and more" {
    irun -d --name web1 --label tier=front --label plain $IMAGE sleep 100
    irun --name job1 --label tier=back $IMAGE sh -c 'exit 4' || true
    isola create --name new --network none $IMAGE true >/dev/null
    names() { isola ps "$@" --format '{{.Names}}' | sort | tr '\n' ' ' | sed 's/ $//'; }
    equals web1 "$(names --filter name=web)"
    equals web1 "$(names -a --filter label=tier=front)"
    equals "job1 web1" "$(names -a --filter label=tier)"
    equals web1 "$(names -a --filter label=plain)"
    equals job1 "$(names --filter status=exited)"
    equals new "$(names --filter status=created)"
    equals job1 "$(names --filter exited=4)"
    equals "job1 new web1" "$(names -a --filter ancestor=$IMAGE)"
    equals "job1 new" "$(names -a --filter status=exited --filter status=created)"
    equals "" "$(names -a --filter name=none-such)"
    equals web1 "$(names -a --filter id="$(inspect web1 '{{.Id}}')")"
    equals web1 "$(names --filter network=none)"
    run -1 isola ps --filter colour=red
    contains "$output" colour
    run -1 isola ps --filter nothing
}

@test "a long command is cut at a character, not within one" {
    irun -d --name umlaut $IMAGE sh -c 'sleep 100; : ääääääääääääääääääääääää'
    run -0 isola ps
    echo "$output" | iconv -f utf-8 -t utf-8 >/dev/null
    contains "$output" '"sh -c sleep 100; :…"'
    contains "$(isola ps --no-trunc)" 'ääääääää"'
    isola ps --format json | jq -e .Command
}

@test "ps --format takes templates, tables and json" {
    irun -d --name f --label a=1 $IMAGE sleep 100
    equals "f|$IMAGE|running" "$(isola ps --format '{{.Names}}|{{.Image}}|{{.State}}')"
    run -0 isola ps --format 'table {{.Names}}\t{{.Status}}'
    [[ ${lines[0]} =~ ^NAMES\ +STATUS$ ]]
    equals f "$(isola ps --format json | jq -r .Names)"
    contains "$(isola ps --format '{{.Labels}}')" a=1
    run -1 isola ps --format '{{.Nothing}}'
    run -1 isola ps --format '{{.Names'
}

@test "inspect has Docker's common paths" {
    irun -d --name i -e A=b --label k=v --hostname box --memory 64m -w /tmp -u 5 -v data:/data --tmpfs /t \
        --cap-add NET_ADMIN --restart on-failure:3 -t -i --entrypoint sleep --stop-signal INT $IMAGE 100
    equals "running true false 0" "$(inspect i '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}}')"
    [ "$(inspect i '{{.State.Pid}}')" -gt 1 ]
    [[ $(inspect i '{{.State.StartedAt}}') =~ ^20.*Z$ ]]
    contains "$(inspect i '{{.Config.Env}}')" "A=b"
    equals "A=b" "$(inspect i '{{range .Config.Env}}{{println .}}{{end}}' | grep ^A=)"
    equals v "$(inspect i '{{index .Config.Labels "k"}}')"
    equals v "$(inspect i '{{.Config.Labels.k}}')"
    equals "box /tmp 5 SIGINT" "$(inspect i '{{.Config.Hostname}} {{.Config.WorkingDir}} {{.Config.User}} {{.Config.StopSignal}}' | sed 's/ INT$/ SIGINT/')"
    equals "true true $IMAGE" "$(inspect i '{{.Config.Tty}} {{.Config.OpenStdin}} {{.Config.Image}}')"
    equals '["sleep"]' "$(inspect i '{{json .Config.Entrypoint}}')"
    equals '["100"]' "$(inspect i '{{json .Config.Cmd}}')"
    equals 'sleep ["100"]' "$(inspect i '{{.Path}} {{json .Args}}')"
    equals "67108864 none on-failure" "$(inspect i '{{.HostConfig.Memory}} {{.HostConfig.NetworkMode}} {{.HostConfig.RestartPolicy.Name}}')"
    equals '["NET_ADMIN"]' "$(inspect i '{{json .HostConfig.CapAdd}}')"
    equals /i "$(inspect i '{{.Name}}')"
    equals "data /data true" "$(isola inspect i | jq -r '.[0].Mounts[] | select(.Type == "volume") | .Name + " " + .Destination + " " + (.RW | tostring)')"
    isola inspect i | jq -e '.[0].Mounts | type == "array"' >/dev/null
    equals volume "$(inspect i '{{json .Mounts}}' | jq -r '.[0].Type')"
    [[ $(inspect i '{{.Image}}') =~ ^sha256: ]]
    [[ $(inspect i '{{.Created}}') =~ Z$ ]]
    equals "" "$(inspect i '{{.NetworkSettings.IPAddress}}')"
    isola inspect i | jq -e '.[0].NetworkSettings | has("Networks") and has("Ports")' >/dev/null
    equals "$(isola inspect i | jq -r '.[0].Id')" "$(isola ps -q --no-trunc)"
    run -1 isola inspect --format '{{.No.Such}}' i
    run -1 isola inspect nobody
    contains "$output" nobody
    contains "$output" "[]"
    equals "$IMAGE:latest" "$(isola inspect --type image --format '{{index .RepoTags 0}}' $IMAGE)"
}

@test "a container's own hostname is in inspect" {
    id=$(irun -d $IMAGE sleep 100)
    equals "${id:0:12}" "$(inspect "$id" '{{.Config.Hostname}}')"
}

@test "top lists the processes of a workload" {
    irun -d --name t $IMAGE sh -c 'sleep 100 & sleep 200'
    wait_until 'isola top t | grep -q "sleep 200"'
    run -0 isola top t
    contains "${lines[0]}" PID
    contains "${lines[0]}" CMD
    contains "$output" "sleep 100"
    irun --name ended $IMAGE true
    run -1 isola top ended
}

@test "stats --no-stream shows one table" {
    irun -d --name s --memory 64m $IMAGE sleep 100
    run -0 isola stats --no-stream
    contains "${lines[0]}" "CONTAINER ID"
    contains "${lines[0]}" "MEM USAGE / LIMIT"
    contains "${lines[1]}" " s "
    contains "${lines[1]}" "64MiB"
    equals 1 "$(isola stats --no-stream --format '{{.PIDs}}' s)"
    [[ $(isola stats --no-stream --format '{{.CPUPerc}} {{.MemPerc}}' s) =~ ^[0-9.]+%\ [0-9.]+%$ ]]
    run -1 isola stats --no-stream nobody
}

@test "exec runs beside the command, with its own user, directory and environment" {
    irun -d --name e -e FROM=run -w /tmp $IMAGE sleep 100
    equals "run /tmp 0" "$(isola exec e sh -c 'echo $FROM $(pwd) $(id -u)')"
    equals "exec /etc 7" "$(isola exec -e FROM=exec -w /etc -u 7 e sh -c 'echo $FROM $(pwd) $(id -u)')"
    run -9 isola exec e sh -c 'exit 9'
    run -127 isola exec e nonexistent
    contains "$output" nonexistent
    run -126 isola exec e /etc
    run -127 isola exec -w /no/dir e true || true
    equals 5 "$(echo hello | isola exec -i e sh -c 'tr -d "\n" | wc -c')"
    equals 0 "$(echo hello | isola exec e wc -c)"
    isola exec e sh -c 'echo o; echo e >&2' >out 2>err
    equals "o e" "$(cat out err | tr '\n' ' ' | sed 's/ $//')"
    isola exec -d e sh -c 'sleep 0.1; touch /done'
    wait_until 'isola exec e test -e /done'
    run -1 isola exec nobody true
    isola stop -t 0 e
    run -1 isola exec e true
    contains "$output" "does not run"
}

@test "exec -it has a terminal that follows the size of ours" {
    irun -d --name e $IMAGE sleep 100
    run -0 script -qec "stty rows 20 cols 70; '$ISOLA_BUILD/src/main/isola' exec -it e sh -c 'tty; sleep 0.2; stty size'" /dev/null
    contains "$output" "/dev/pts/"
    contains "$output" "20 70"
    run -0 script -qec "stty rows 20 cols 70; (sleep 0.5; stty rows 30 cols 90 </dev/tty) & '$ISOLA_BUILD/src/main/isola' exec -it e sh -c 'sleep 1; stty size'" /dev/null
    contains "$output" "30 90"
    run -8 script -qec "'$ISOLA_BUILD/src/main/isola' exec -it e sh -c 'exit 8'" /dev/null
}

@test "info and version speak of this machine" {
    run -0 isola version
    contains "$output" "Version"
    run -0 isola info
    contains "$output" "$(uname -r)"
    isola version --format json | jq -e .Version
    isola info --format json | jq -e . >/dev/null
}

@test "system df counts, system prune removes, system check is content" {
    irun --name old -v /x $IMAGE dd if=/dev/zero of=/big bs=1M count=5
    irun -d --name new $IMAGE sleep 100
    run -0 isola system df
    contains "${lines[0]}" TYPE
    contains "$output" Images
    contains "$output" Containers
    contains "$output" "Local Volumes"
    run -0 isola system prune -f
    # One sum, of all that was removed.
    equals 1 "$(grep -ci reclaimed <<<"$output")"
    [[ ${lines[-1]} =~ ^Total\ reclaimed\ space:\ 5(\.[0-9]+)?MB$ ]] || { echo "$output"; return 1; }
    equals new "$(isola ps -a --format '{{.Names}}')"
    isola images | grep -q $IMAGE
    equals "nothing to repair" "$(isola system check)"
    run -0 isola container prune -f
}

@test "system check finds what is left over, and --repair removes it" {
    stray=$(printf 'a%.0s' $(seq 64))
    mkdir -p "$ISOLA_ROOT/workloads/$stray" "$ISOLA_RUN/workloads/$stray"
    run isola system check
    contains "$output" "$stray"
    run -0 isola system check --repair
    [ ! -e "$ISOLA_ROOT/workloads/$stray" ]
    equals "nothing to repair" "$(isola system check)"
}

@test "names, ids and beginnings of ids mean the same workload" {
    id=$(irun -d --name n $IMAGE sleep 100)
    for name in n "$id" "${id:0:12}" "${id:0:3}"; do
        equals "$id" "$(inspect "$name" '{{.Id}}')"
    done
    run -1 isola inspect ''
}
