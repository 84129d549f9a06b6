#!/usr/bin/env bats
# Volumes, bind mounts and tmpfs.
load helper

@test "-v mounts a host directory both ways" {
    mkdir d && echo host >d/file
    equals host "$(irun --rm -v "$PWD/d:/d" $IMAGE sh -c 'cat /d/file; echo inside >/d/new')"
    equals inside "$(cat d/new)"
    equals host "$(irun --rm -v ./d:/d $IMAGE cat /d/file)"
}

@test "-v mounts a single file" {
    echo one >file
    equals one "$(irun --rm -v "$PWD/file:/etc/one:ro" $IMAGE cat /etc/one)"
}

@test "-v makes a missing host directory, --mount refuses it" {
    irun --rm -v "$PWD/new:/d" $IMAGE touch /d/x
    [ -e new/x ]
    run -125 irun --rm --mount type=bind,src="$PWD/missing",dst=/d $IMAGE true
    contains "$output" "$PWD/missing"
    [ ! -e missing ]
    equals "" "$(isola ps -aq)"
}

@test ":ro and readonly protect, also what is mounted below" {
    mkdir -p d/sub && echo x >d/f
    run ! irun --rm -v "$PWD/d:/d:ro" $IMAGE touch /d/f
    contains "$output" "Read-only"
    run ! irun --rm --mount type=bind,src="$PWD/d",dst=/d,readonly $IMAGE touch /d/f
    contains "$output" "Read-only"
    mkdir e && echo y >e/g
    equals y "$(irun --rm -v "$PWD/d:/d:ro" -v "$PWD/e:/d/sub" $IMAGE cat /d/sub/g)"
    irun --rm -v "$PWD/d:/d:ro" -v "$PWD/e:/d/sub" $IMAGE touch /d/sub/new
    [ -e e/new ]
}

@test "nested mounts are made outermost first, whatever their order" {
    mkdir a b && echo a >a/name && echo b >b/name
    mkdir a/in
    equals "a b" "$(irun --rm -v "$PWD/b:/x/in" -v "$PWD/a:/x" $IMAGE sh -c 'echo $(cat /x/name /x/in/name)')"
}

@test "mount options that are wrong are named" {
    run -125 irun --rm -v /a:/b:ro:x $IMAGE true
    run -125 irun --rm -v "$PWD:/d:sideways" $IMAGE true
    contains "$output" sideways
    run -125 irun --rm -v "$PWD:relative" $IMAGE true
    contains "$output" relative
    run -125 irun --rm -v "$PWD:/d" --tmpfs /d $IMAGE true
    contains "$output" "two mounts"
    run -125 irun --rm -v "$PWD:/" $IMAGE true
    run -125 irun --rm --mount type=magic,dst=/x $IMAGE true
    contains "$output" magic
    run -125 irun --rm --mount type=bind,dst=/x $IMAGE true
    contains "$output" source
    run -125 irun --rm -v 'bad|name:/d' $IMAGE true
    equals "" "$(isola ps -aq)"
    equals "" "$(isola volume ls -q)"
}

@test "a named volume keeps its files from run to run" {
    irun --rm -v data:/data $IMAGE sh -c 'echo kept >/data/f'
    equals kept "$(irun --rm -v data:/data $IMAGE cat /data/f)"
    equals kept "$(irun --rm --mount type=volume,src=data,dst=/d,ro $IMAGE cat /d/f)"
    equals data "$(isola volume ls -q)"
}

@test "a new volume gets the image's files, once, with owner and mode" {
    irun --name base $IMAGE sh -c 'mkdir -p /srv/app && echo one >/srv/app/f && chmod 640 /srv/app/f && chown -R 7:8 /srv/app && chmod 751 /srv/app'
    isola commit base filled >/dev/null
    equals "7:8 751 7:8 640" "$(irun --rm -v app:/srv/app filled stat -c '%u:%g %a' /srv/app /srv/app/f | tr '\n' ' ' | sed 's/ $//')"
    irun --rm -v app:/srv/app filled sh -c 'echo two >/srv/app/f'
    equals two "$(irun --rm -v app:/srv/app filled cat /srv/app/f)"
    equals "" "$(irun --rm -v bare:/srv/app:nocopy filled ls /srv/app)"
    isola rm base >/dev/null
    isola rmi filled >/dev/null
}

@test "an anonymous volume lives with its workload and goes with rm -v" {
    irun --name a -v /data $IMAGE sh -c 'echo x >/data/f'
    equals 1 "$(isola volume ls -q | wc -l)"
    isola start -a a
    equals x "$(isola cp a:/data/f - | tar xO)"
    isola rm a >/dev/null
    equals 1 "$(isola volume ls -q | wc -l)"
    irun --name b -v /data $IMAGE true
    isola rm -v b >/dev/null
    equals 1 "$(isola volume ls -q | wc -l)"
}

@test "--tmpfs is memory with the options given" {
    run -0 irun --rm --tmpfs /t:size=1m,mode=700,noexec $IMAGE sh -c 'grep " /t " /proc/self/mounts; stat -c %a /t'
    contains "$output" "tmpfs"
    contains "$output" "size=1024k"
    contains "$output" "noexec"
    contains "$output" "nosuid"
    contains "$output" $'\n700'
    equals 1777 "$(irun --rm --tmpfs /t $IMAGE stat -c %a /t)"
    run -0 irun --rm --mount type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=750 $IMAGE sh -c 'grep " /t " /proc/self/mounts; stat -c %a /t'
    contains "$output" "size=2048k"
    contains "$output" $'\n750'
}

@test "bind propagation is what was asked for" {
    mkdir d
    run -0 irun --rm -v "$PWD/d:/d" $IMAGE grep ' /d ' /proc/self/mountinfo
    lacks "$output" "shared:"
    lacks "$output" "master:"
}

@test "--volumes-from takes bind mounts, named and anonymous volumes" {
    mkdir d && echo bind >d/f
    irun --name from -v "$PWD/d:/b" -v named:/n -v /anon $IMAGE sh -c 'echo n >/n/f; echo a >/anon/f'
    equals "bind n a" "$(irun --rm --volumes-from from $IMAGE sh -c 'echo $(cat /b/f /n/f /anon/f)')"
    run ! irun --rm --volumes-from from:ro $IMAGE touch /n/x
    contains "$output" "Read-only"
    run -125 irun --rm --volumes-from nobody $IMAGE true
    contains "$output" nobody
    # The anonymous volume is still that of its first workload.
    equals a "$(isola cp from:/anon/f - | tar xO)"
}

@test "a symlink in the image does not lead a mount out of the root" {
    mkdir victim d
    irun --name evil $IMAGE sh -c "ln -s $PWD/victim /mnt-link; ln -s ../../../../../..$PWD/victim /up-link"
    isola commit evil evil-image >/dev/null
    irun --rm -v "$PWD/d:/mnt-link/x" evil-image true || [ $? -eq 125 ]
    irun --rm -v "$PWD/d:/up-link/y" evil-image true || [ $? -eq 125 ]
    equals "" "$(ls victim)"
    isola rm evil >/dev/null
    isola rmi evil-image >/dev/null
}

@test "volume create, ls, inspect and rm" {
    equals v1 "$(isola volume create v1)"
    equals v2 "$(isola volume create --label color=red v2)"
    equals v1 "$(isola volume create v1)"
    equals "v1 v2" "$(isola volume ls -q | sort | tr '\n' ' ' | sed 's/ $//')"
    equals v2 "$(isola volume ls -q --filter label=color=red)"
    run -0 isola volume inspect v2
    equals "v2 local red" "$(echo "$output" | jq -r '.[0] | .Name + " " + .Driver + " " + .Labels.color')"
    [ -d "$(echo "$output" | jq -r '.[0].Mountpoint')" ]
    [[ $(isola volume create) =~ ^[0-9a-f]{64}$ ]]
    equals v1 "$(isola volume rm v1)"
    run -1 isola volume rm v1
    contains "$output" v1
    run -1 isola volume create 'a/b'
}

@test "a volume in use is not removed" {
    irun -d --name user -v used:/d $IMAGE sleep 100
    run -1 isola volume rm used
    contains "$output" used
    isola volume prune -a -f >/dev/null
    equals used "$(isola volume ls -q)"
    equals used "$(isola ps --filter volume=used --format '{{.Mounts}}')"
}

@test "volume prune removes anonymous ones, with -a all unused ones" {
    isola volume create named >/dev/null
    irun --name a -v /x $IMAGE true
    isola rm a >/dev/null
    run -0 isola volume prune -f
    contains "$output" "Total reclaimed space"
    equals named "$(isola volume ls -q)"
    isola volume prune -a -f >/dev/null
    equals "" "$(isola volume ls -q)"
}

@test "a full disk is reported and leaves nothing" {
    mkdir small
    unshare -m sh -c "mount -t tmpfs -o size=200k tmpfs small && ISOLA_ROOT=$PWD/small/root ISOLA_RUN=$PWD/run '$ISOLA_BUILD/src/main/isola' load -i '$ISOLA_BUILD/src/main/isola-busybox.tar'; echo rc=\$?" >out 2>&1
    grep -q 'No space left' out
    run -1 grep -q 'rc=0' out
    unshare -m sh -ec "mount -t tmpfs -o size=12m tmpfs small
        export ISOLA_ROOT=$PWD/small/root ISOLA_RUN=$PWD/run
        isola='$ISOLA_BUILD/src/main/isola'
        \$isola load -q -i '$ISOLA_BUILD/src/main/isola-busybox.tar'
        \$isola run --network none --name first $IMAGE true
        dd if=/dev/zero of=small/fill bs=64k 2>/dev/null || :
        \$isola run --rm --network none $IMAGE true || echo rc=\$?
        rm small/fill
        \$isola run --rm --network none $IMAGE echo works-again
        \$isola rm first
        \$isola system check" >out 2>&1
    cat out
    contains "$(cat out)" "rc=125"
    contains "$(cat out)" "works-again"
    contains "$(cat out)" "nothing to repair"
}

@test "a full RUN is reported, whatever step meets it, and leaves nothing" {
    mkdir small
    unshare -m sh -ec "mount -t tmpfs -o size=1m,nr_inodes=120 tmpfs small
        export ISOLA_ROOT=$PWD/root ISOLA_RUN=$PWD/small/run
        isola='$ISOLA_BUILD/src/main/isola'
        \$isola run --network none --name first $IMAGE true
        for free in 0 1 2 3 4 5 6 7 8; do
            i=0
            while [ \$i -lt 120 ] && mkdir small/\$i 2>/dev/null; do i=\$((i + 1)); done
            n=0
            while [ \$n -lt \$free ]; do rmdir small/\$n; n=\$((n + 1)); done
            if \$isola run --rm --network none $IMAGE true; then echo enough; else echo rc=\$?; fi
            rmdir small/[0-9]*
            \$isola system check
        done
        \$isola run --rm --network none $IMAGE echo works-again
        \$isola rm first
        \$isola system check" >out 2>&1
    cat out
    contains "$(cat out)" "works-again"
    equals 10 "$(grep -c 'nothing to repair' out)"
    # Each refusal says why; the first ones cannot be anything else.
    equals "$(grep -c 'rc=125' out)" "$(grep -c 'No space left' out)"
    [ "$(grep -c 'rc=125' out)" -ge 5 ]
}
