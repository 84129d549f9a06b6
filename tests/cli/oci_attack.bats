# One test a row of the table of past breaks in the runtimes: the attack itself, and that it fails.
load oci.bash
setup() { oci_setup; }
teardown() { oci_teardown; }

@test "2019-5736: the runtime's file cannot be had from inside for writing" {
    cp "$OCI" "$T/isola-oci"
    OCI=$T/isola-oci
    sum=$(sha256sum <"$OCI")
    start_sleeper
    # The container's program is the runtime itself, by link, by script line and by name.
    ln -s /proc/self/exe "$B/rootfs/bin/evil"
    printf '#!/proc/self/exe\n' >"$B/rootfs/bin/evil.sh"
    chmod +x "$B/rootfs/bin/evil.sh"
    cat >"$B/rootfs/bin/hold.sh" <<'SH'
#!/bin/sh
# Catches the runtime in the act and tries to write to it later.
i=0
while [ $i -lt 3000 ]; do
    for p in /proc/[0-9]*; do
        case $p in /proc/1|/proc/$$) continue ;; esac
        if exec 9<"$p/exe"; then
            case $(readlink /proc/self/fd/9) in
            */busybox | "") ;;
            *) echo caught; (echo pwned >/proc/self/fd/9) && echo WRITTEN; exit ;;
            esac
        fi 2>/dev/null
    done
    i=$((i + 1))
done
SH
    chmod +x "$B/rootfs/bin/hold.sh"
    jq '.process.capabilities|=with_entries(.value+=["CAP_SYS_PTRACE","CAP_DAC_OVERRIDE","CAP_SYS_ADMIN"])
        | .process | .args=["/bin/hold.sh"]' "$B/config.json" >"$T/hold.json"
    oci exec --process "$T/hold.json" "$ID" >"$T/held" 2>&1 3>&- &
    holder=$!
    for program in /proc/self/exe /bin/evil /bin/evil.sh; do
        for _ in 1 2 3 4 5; do
            run oci exec "$ID" "$program" --version
        done
    done
    kill -KILL $holder 2>/dev/null || true
    run cat "$T/held"
    refute_has WRITTEN
    [ "$(sha256sum <"$OCI")" = "$sum" ]
    # And what the container does get hold of refuses to be opened for writing, idle or not.
    run oci exec "$ID" /proc/self/exe --version
    # (A build with sanitizers is linked dynamically: there it finds no loader.)
    case $output in *"isola-oci version"* | *"the interpreter that it names"*) ;; *) false ;; esac
    run oci exec --cap CAP_DAC_OVERRIDE "$ID" /proc/self/exe --log /proc/self/exe state none
    [ "$(sha256sum <"$OCI")" = "$sum" ]
}

@test "2019-5736: the program runs from a mount that is read-only and attached nowhere" {
    # Held while the first process still is ours; written when nothing executes the file any more.
    cp "$OCI" "$T/isola-oci"
    OCI=$T/isola-oci
    args /bin/true
    oci create -b "$B" "$ID" </dev/null >"$T/out" 2>&1 3>&-
    exec 9<"/proc/$(oci state "$ID" | jq .pid)/exe"
    oci delete -f "$ID"
    run sh -c 'echo x >>/proc/self/fd/9'
    exec 9<&-
    [ "$status" -ne 0 ]
    assert_has "Read-only file system"
}

@test "2024-21626: a working directory outside of the container is refused" {
    exec 7</
    # A descriptor of ours may be a directory of the container itself: then the way up ends there.
    args /bin/sh -c 'stat -c %d:%i /; cd ../../../../../..; stat -c %d:%i .'
    for fd in $(seq 3 40); do
        config --arg d "/proc/self/fd/$fd" '.process.cwd=$d'
        run oci run -b "$B" "$ID"
        [ "$status" -eq 1 ] || [ "${lines[0]}" = "${lines[1]}" ]
        assert_nothing_left
    done
    exec 7<&-
    config '.process.cwd="/"'
    start_sleeper
    exec 7</
    for fd in 3 4 5 6 7 8 9 10; do
        run oci exec --cwd "/proc/self/fd/$fd" "$ID" /bin/sh -c 'ls; pwd'
        assert_status 1
        refute_has bundle
        run oci exec --cwd "/proc/self/fd/$fd/.." "$ID" /bin/sh -c 'ls; pwd'
        assert_status 1
    done
    exec 7<&-
    # The same by a link in the image.
    ln -s /proc/self/fd/7 "$B/rootfs/tmp/cwd"
    run oci exec --cwd /tmp/cwd "$ID" /bin/ls
    assert_status 1
}

@test "2025-31133: masked paths are masked by the real null device" {
    # The image's own /dev/null is a link to a file that the container wants writable.
    config '.mounts|=map(select(.destination|startswith("/dev")|not)) | .root.readonly=false'
    ln -s /proc/sys/kernel/core_pattern "$B/rootfs/dev/null"
    in_container 'stat -c %t:%T /proc/keys /proc/timer_list; grep core_pattern /proc/self/mountinfo'
    assert_has "1:3"
    refute_has core_pattern
    # And where the host's own is a fake, nothing is bound at all.
    cat >"$T/fake.sh" <<'SH'
mount --make-rprivate /
echo fake >"$1/null"
chmod 666 "$1/null"
mount --bind "$1/null" /dev/null
shift
exec "$@" </dev/zero
SH
    mkdir "$T/fake"
    run unshare -m sh "$T/fake.sh" "$T/fake" "$OCI" --root "$ROOT" run -b "$B" "$ID"
    assert_status 1
    assert_has "not device 1:3"
    assert_nothing_left
}

@test "2025-52565: the console is not bound through a link" {
    config '.process.terminal=true | .mounts|=map(select(.destination!="/dev"))'
    mkdir -p "$B/rootfs/dev/pts"
    ln -s /proc/sys/kernel/core_pattern "$B/rootfs/dev/console"
    python3 -c "
import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1)
c, _ = s.accept(); c.recv(10)" "$T/console" 3>&- &
    for _ in $(seq 100); do [ -S "$T/console" ] && break; sleep 0.02; done
    run oci run --console-socket "$T/console" -b "$B" "$ID"
    wait
    assert_status 1
    assert_has "/dev/console"
    assert_nothing_left
}

@test "2025-52881: sysctls are written to the kernel's files and no others" {
    # /proc of the image is replaced by a tree of links and plain files.
    mkdir -p "$T/proc/sys/net/ipv4"
    echo keep >"$T/target"
    ln -s "$T/target" "$T/proc/sys/net/ipv4/ip_forward"
    config --arg p "$T/proc" '.mounts[0]={destination:"/proc",source:$p,options:["rbind"]}
        | .linux.maskedPaths=[] | .linux.readonlyPaths=[] | .linux.sysctl={"net.ipv4.ip_forward":"1"}
        | .mounts+=[{destination:"/real",type:"proc",source:"proc"}] | .root.readonly=false'
    in_container 'cat /real/sys/net/ipv4/ip_forward'
    assert_status 0
    [ "$output" = 1 ]
    [ "$(cat "$T/target")" = keep ]
    config '.linux.sysctl={"net/../../../../etc/passwd":"x"}'
    in_container true
    assert_status 1
    assert_has "not the name of a sysctl"
}

@test "2026-47766: a root file system whose /dev, /proc or /sys is a link leads nowhere else" {
    mkdir "$T/outside"
    rmdir "$B/rootfs/dev"
    ln -s "$T/outside" "$B/rootfs/dev"
    in_container 'ls -d /dev/null'
    [ -z "$(ls -A "$T/outside")" ]
    rm "$B/rootfs/dev"
    mkdir "$B/rootfs/dev"
    for name in proc sys; do
        rmdir "$B/rootfs/$name"
        ln -s /tmp "$B/rootfs/$name"
        in_container true
        assert_status 1
        assert_has "'/$name' in the root file system is a symbolic link"
        rm "$B/rootfs/$name"
        mkdir "$B/rootfs/$name"
    done
    # Targets of mounts and devices: links of any kind stay inside.
    ln -s "../../../../../..$T/outside" "$B/rootfs/up"
    ln -s "$T/outside" "$B/rootfs/abs"
    ln -s /proc/1/root "$B/rootfs/magic"
    config '.root.readonly=false | .mounts+=[{destination:"/up/m",type:"tmpfs",source:"x"},{destination:"/abs/n",type:"tmpfs",source:"x"}]
        | .linux.devices=[{path:"/up/node",type:"c",major:1,minor:3}]'
    in_container true
    [ -z "$(ls -A "$T/outside")" ]
    config '.mounts[-1].destination="/magic/etc/m"'
    in_container true
    assert_status 1
    [ ! -e /etc/m ]
    assert_nothing_left
}

@test "a mount over parts of /proc is refused" {
    echo fake >"$T/fake"
    config --arg f "$T/fake" '.mounts+=[{destination:"/proc/self/attr/exec",source:$f,options:["bind"]}]'
    in_container true
    assert_status 1
    assert_has "must not lie inside /proc"
    config '.mounts[-1].destination="/proc/uptime"'
    in_container 'cat /proc/uptime'
    [ "$output" = fake ]
}

@test "cgroup paths and ids cannot climb" {
    for path in ../x /a/../../x; do
        config --arg p "$path" '.linux.cgroupsPath=$p'
        run oci run -b "$B" "$ID"
        assert_status 1
        assert_has "must not hold '..'"
    done
    config 'del(.linux.cgroupsPath)'
    start_sleeper
    run oci exec --cgroup ../.. "$ID" /bin/true
    assert_status 1
    for id in ../x .. '' a/b; do
        run oci delete --force "$id"
        assert_status 1
    done
}

@test "a waiting or joining process of ours cannot be read from inside" {
    start_sleeper
    pid=$(oci state "$ID" | jq .pid)
    args /bin/true
    config --arg p "/proc/$pid/ns/pid" '.linux.namespaces|=map(if .type=="pid" then .path=$p else . end)'
    oci create -b "$B" "$ID-2" </dev/null >"$T/out" 2>&1 3>&-
    run oci exec "$ID" /bin/sh -c 'for p in /proc/[0-9]*; do grep -q "is[o]la" $p/cmdline || continue; cat $p/environ; ls $p/fd; readlink $p/exe; echo seen $p; done'
    assert_has "seen"
    assert_has "Permission denied"
    refute_has PATH=
    refute_has /isola
}
