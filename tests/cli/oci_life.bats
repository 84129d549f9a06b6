load oci.bash
setup() { oci_setup; }
teardown() { oci_teardown; }

@test "run gives the exit code of the workload and leaves nothing" {
    in_container 'exit 7'
    assert_status 7
    assert_nothing_left
    in_container 'kill -9 $$; true'
    assert_nothing_left
}

@test "run dies of the workload's signal as 128 plus its number" {
    args /bin/sh -c 'sleep 100 & wait'
    "$OCI" --root "$ROOT" run -b "$B" "$ID" 3>&- &
    pid=$!
    for _ in $(seq 50); do oci state "$ID" >/dev/null 2>&1 && break; sleep 0.02; done
    sleep 0.1
    oci kill "$ID" KILL
    status=0
    wait $pid || status=$?
    assert_status 137
    assert_nothing_left
}

@test "run hands signals on to the workload" {
    args /bin/sh -c 'trap "exit 9" TERM; echo up; while :; do sleep 0.05; done'
    "$OCI" --root "$ROOT" run -b "$B" "$ID" >"$T/out" 3>&- &
    pid=$!
    for _ in $(seq 100); do grep -q up "$T/out" && break; sleep 0.02; done
    kill -TERM $pid
    status=0
    wait $pid || status=$?
    assert_status 9
}

@test "a container goes from created to running to stopped to gone" {
    args /bin/sleep 1000
    oci create -b "$B" --pid-file "$T/pid" "$ID" </dev/null >"$T/out" 2>&1 3>&-
    [ "$(oci state "$ID" | jq -r .status)" = created ]
    [ "$(oci state "$ID" | jq -r .pid)" = "$(cat "$T/pid")" ]
    [ -e "/proc/$(cat "$T/pid")/ns/net" ]
    oci start "$ID"
    [ "$(oci state "$ID" | jq -r .status)" = running ]
    run oci start "$ID"
    assert_status 1
    assert_has "it is running, not created"
    run oci delete "$ID"
    assert_status 1
    oci kill "$ID" KILL
    for _ in $(seq 50); do [ "$(oci state "$ID" | jq -r .status)" = stopped ] && break; sleep 0.02; done
    [ "$(oci state "$ID" | jq -r .status)" = stopped ]
    run oci kill "$ID" TERM
    assert_status 1
    oci delete "$ID"
    run oci state "$ID"
    assert_status 1
    assert_has "does not exist"
    assert_nothing_left
}

@test "delete of a container that is not there fails, and with --force succeeds" {
    run oci delete nobody
    assert_status 1
    oci delete --force nobody
}

@test "delete --force ends a running container" {
    start_sleeper
    oci delete -f "$ID"
    assert_nothing_left
}

@test "an id that is taken or unsafe is refused" {
    start_sleeper
    run oci create -b "$B" "$ID"
    assert_status 1
    assert_has "exists already"
    [ "$(oci state "$ID" | jq -r .status)" = running ]
    for id in .. . a/b ../x .hidden 'a b' ''; do
        run oci run -b "$B" "$id"
        assert_status 1
        assert_has "container id"
    done
}

@test "a missing program is 127 and one that is no program 126, with nothing left" {
    args /bin/nope
    run oci run -b "$B" "$ID"
    assert_status 127
    assert_has "exec '/bin/nope': no such file or directory"
    args nope
    run oci run -b "$B" "$ID"
    assert_status 127
    assert_has "executable file not found in"
    args /etc/passwd
    run oci run -b "$B" "$ID"
    assert_status 126
    assert_has "permission denied"
    printf 'no program' >"$B/rootfs/bin/bad"
    chmod +x "$B/rootfs/bin/bad"
    args /bin/bad
    run oci run -b "$B" "$ID"
    assert_status 126
    args /bin/nope
    run oci create -b "$B" "$ID"
    assert_status 1
    assert_nothing_left
}

@test "exec joins the container and gives the exit code" {
    start_sleeper
    run oci exec "$ID" /bin/sh -c 'echo $$; cat /proc/1/cmdline; exit 5'
    assert_status 5
    assert_has "/bin/sleep"
    [ "${lines[0]}" -gt 1 ]
    run oci exec "$ID" /bin/nope
    assert_status 127
    run oci exec --cwd /tmp --user 5:6 --env A=b "$ID" /bin/sh -c 'id -u; id -g; echo $A$PWD'
    [ "$output" = "5
6
b/tmp" ]
    oci exec -d --pid-file "$T/pid" "$ID" /bin/sleep 500 3>&-
    run oci ps --format json "$ID"
    assert_has "$(cat "$T/pid")"
    run oci ps "$ID"
    [ "${#lines[@]}" -eq 3 ]
}

@test "exec --process takes a whole process object" {
    start_sleeper
    jq '.process | .args=["/bin/sh","-c","echo $X; umask"] | .env=["X=y","PATH=/bin"] | .user.umask=63' \
        "$B/config.json" >"$T/process.json"
    run oci exec --process "$T/process.json" "$ID"
    assert_status 0
    [ "$output" = "y
0077" ]
}

@test "pause stops every process and resume lets it go on" {
    args /bin/sh -c 'while :; do echo x >>/tmp/beat; sleep 0.01; done'
    config '.root.readonly=false'
    oci create -b "$B" "$ID" </dev/null >"$T/out" 2>&1 3>&-
    oci start "$ID"
    sleep 0.1
    oci pause "$ID"
    [ "$(oci state "$ID" | jq -r .status)" = paused ]
    a=$(wc -l <"$B/rootfs/tmp/beat")
    sleep 0.1
    [ "$(wc -l <"$B/rootfs/tmp/beat")" = "$a" ]
    run oci exec "$ID" /bin/true
    assert_status 1
    assert_has "is paused"
    oci resume "$ID"
    sleep 0.1
    [ "$(wc -l <"$B/rootfs/tmp/beat")" -gt "$a" ]
    run oci resume "$ID"
    assert_status 1
    oci pause "$ID"
    oci delete -f "$ID"
}

@test "update changes limits and events shows them" {
    start_sleeper
    oci update --memory 64m --pids-limit 40 "$ID"
    run oci events --stats "$ID"
    [ "$(echo "$output" | jq .data.memory.usage.limit)" = 67108864 ]
    [ "$(echo "$output" | jq .data.pids.limit)" = 40 ]
    echo '{"memory":{"limit":33554432}}' | oci update -r - "$ID"
    [ "$(oci events --stats "$ID" | jq .data.memory.usage.limit)" = 33554432 ]
    run sh -c 'echo "{\"memory\":{\"limit\":4096,\"checkBeforeUpdate\":true}}" | "$1" --root "$2" update -r - "$3"' \
        sh "$OCI" "$ROOT" "$ID"
    assert_status 1
    assert_has "bytes that are in use"
    run oci update --memory lots "$ID"
    assert_status 1
    assert_has "'lots' is not a number"
}

@test "hooks run at their points with the state on standard input" {
    for kind in prestart createRuntime createContainer startContainer poststart poststop; do
        config --arg k "$kind" --arg f "$T/$kind" \
            '.hooks[$k]=[{path:"/bin/sh",args:["sh","-c",("cat >" + (if $k=="startContainer" then "/tmp/start" else $f end))],env:["PATH=/bin"]}]'
    done
    config '.root.readonly=false'
    in_container 'cat /tmp/start'
    assert_status 0
    [ "$(echo "$output" | jq -r .id)" = "$ID" ]
    for kind in prestart createRuntime createContainer poststart poststop; do
        [ "$(jq -r .id "$T/$kind")" = "$ID" ]
    done
    [ "$(jq -r .status "$T/poststop")" = stopped ]
    [ "$(jq -r .pid "$T/createRuntime")" -gt 0 ]
}

@test "a hook that fails or overruns its time stops the creation, with nothing left" {
    config '.hooks={createRuntime:[{path:"/bin/false"}]}'
    run oci run -b "$B" "$ID"
    assert_status 1
    assert_has "hooks.createRuntime[0]: hook '/bin/false' failed with exit code 1"
    assert_nothing_left
    config '.hooks={createContainer:[{path:"/bin/sleep",args:["sleep","100"],timeout:1}]}'
    run oci run -b "$B" "$ID"
    assert_status 1
    assert_has "did not end within 1 s"
    assert_nothing_left
}

@test "version, features and errors come in the forms that engines read" {
    run oci --version
    assert_has "spec: 1.2.0"
    run oci features
    [ "$(echo "$output" | jq -r .ociVersionMax)" = 1.2.0 ]
    [ "$(echo "$output" | jq '.linux.namespaces | length')" -ge 7 ]
    run oci --log "$T/log" --log-format json state nobody
    assert_status 1
    [ "$(jq -r .level "$T/log")" = error ]
    [ "$(jq -r .msg "$T/log")" = "container 'nobody' does not exist" ]
    run oci --systemd-cgroup run -b "$B" "$ID"
    assert_status 1
    assert_has "systemd cgroup driver"
}

@test "a terminal is made in the container and its master sent to the console socket" {
    config '.process.terminal=true | .process.consoleSize={height:33,width:77}'
    args /bin/sh -c 'tty; stat -c %F /dev/console; echo done'
    python3 - "$T/console" "$T/console.out" 3>&- <<'PY' &
import array, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(1)
c, _ = s.accept()
_, anc, _, _ = c.recvmsg(100, socket.CMSG_SPACE(4))
fd = array.array("i", anc[0][2])[0]
out = b""
try:
    while True:
        d = os.read(fd, 1000)
        if not d:
            break
        out += d
except OSError:
    pass
open(sys.argv[2], "wb").write(out)
PY
    reader=$!
    for _ in $(seq 100); do [ -S "$T/console" ] && break; sleep 0.02; done
    oci run -b "$B" --console-socket "$T/console" "$ID"
    wait $reader
    grep -q /dev/pts/0 "$T/console.out"
    grep -q 'character special file' "$T/console.out"
    run oci run -b "$B" "$ID"
    assert_status 1
    assert_has "needs a console socket"
}
