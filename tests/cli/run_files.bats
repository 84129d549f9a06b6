#!/usr/bin/env bats
# Files in and out: cp, diff, commit, export.
load helper

@test "cp brings a file in and out, of a running and of a stopped workload" {
    echo in >file
    irun -d --name c $IMAGE sleep 100
    isola cp file c:/etc/file
    equals in "$(isola exec c cat /etc/file)"
    isola exec c sh -c 'echo out >/etc/other'
    isola cp c:/etc/other got
    equals out "$(cat got)"
    isola stop -t 0 c
    isola cp c:/etc/other got2
    equals out "$(cat got2)"
    echo later >later
    isola cp later c:/later
    isola start c
    equals later "$(isola exec c cat /later)"
}

@test "cp follows Docker's rules for directories" {
    mkdir -p d/sub && echo 1 >d/one && echo 2 >d/sub/two
    irun -d --name c $IMAGE sleep 100
    isola cp d c:/tmp
    equals "1 2" "$(isola exec c sh -c 'echo $(cat /tmp/d/one /tmp/d/sub/two)')"
    isola cp d c:/tmp/new
    equals 1 "$(isola exec c cat /tmp/new/one)"
    isola cp d/. c:/tmp/new
    equals 1 "$(isola exec c cat /tmp/new/one)"
    run ! isola exec c test -e /tmp/new/d
    isola cp c:/tmp/d back
    diff -r d back
    mkdir into
    isola cp c:/tmp/d into
    diff -r d into/d
    isola cp c:/tmp/d/. into
    equals 1 "$(cat into/one)"
    run -1 isola cp d c:/etc/passwd
    contains "$output" "/etc/passwd"
    run -1 isola cp d/one c:/no/such/dir/
    run -1 isola cp missing c:/tmp
    contains "$output" missing
    run -1 isola cp c:/missing .
    contains "$output" missing
    run -1 isola cp d/one d/two
    run -1 isola cp nobody:/etc/passwd .
    contains "$output" nobody
}

@test "cp reads an archive from standard input and writes one to standard output" {
    mkdir d && echo x >d/x && chmod 640 d/x
    irun --name c $IMAGE true
    tar cf - --owner=5 --group=6 d | isola cp - c:/srv 2>/dev/null || { isola cp d c:/srv; }
    isola cp c:/etc/passwd - | tar tf - | grep -qx passwd
    isola cp c:/srv - | tar tf - | grep -q x
}

@test "cp keeps modes, symlinks and odd names" {
    mkdir d && echo x >d/$'new\nline' && ln -s /etc/shadow d/link && echo run >d/run && chmod 4755 d/run
    irun --name c $IMAGE true
    isola cp d c:/d
    isola cp c:/d back
    equals /etc/shadow "$(readlink back/link)"
    equals x "$(cat back/$'new\nline')"
    [ -x back/run ]
}

@test "cp -L follows links below the workload's root, and takes what is none as it is" {
    irun --name c $IMAGE sh -c 'mkdir /d; echo theirs >/d/end; ln -s end /d/second; ln -s /d/second /first; ln -s d /dir'
    for name in first d/second d/end dir/second; do
        isola cp -L c:/$name got
        [ ! -L got ]
        equals theirs "$(cat got)"
        rm got
    done
    isola cp -L c:/dir tree
    equals theirs "$(cat tree/end)"
}

@test "symlinks in a workload never lead cp out of it" {
    mkdir victim && echo secret >victim/secret
    irun --name evil $IMAGE sh -c "ln -s $PWD/victim /abs; ln -s ../../../../../../../..$PWD/victim /rel; ln -s $PWD/victim/secret /file; ln -s $PWD/victim/secret /link"
    echo bad >bad
    run isola cp bad evil:/abs/secret
    run isola cp bad evil:/rel/secret
    run isola cp bad evil:/file
    run isola cp bad evil:/abs/
    equals secret "$(cat victim/secret)"
    equals secret "$(ls victim)"
    run -1 isola cp evil:/abs/secret out
    [ ! -e out ]
    run -1 isola cp -L evil:/link out
    [ ! -e out ]
    isola cp -L evil:/file file # which the copy above has replaced
    equals bad "$(cat file)"
    isola cp evil:/link link
    equals "$PWD/victim/secret" "$(readlink link)"
}

@test "an archive on standard input cannot write outside its directory" {
    mkdir in && echo evil >in/f
    tar cf traversal.tar --transform 's,^in/f,../../../../../../../../../../tmp/isola-t-escaped,' -P in/f
    irun --name c $IMAGE true
    run isola cp - c:/tmp <traversal.tar
    [ ! -e /tmp/isola-t-escaped ]
}

@test "cp reaches the volumes of a workload that does not run" {
    irun --name v -v data:/data -v /anon $IMAGE sh -c 'echo d >/data/f; mkdir /anon/sub; echo a >/anon/sub/f'
    equals d "$(isola cp v:/data/f - | tar xO)"
    equals a "$(isola cp v:/anon/sub/f - | tar xO)"
    echo new >new
    isola cp new v:/data/new
    equals new "$(irun --rm -v data:/data $IMAGE cat /data/new)"
    mkdir ro
    irun --name r -v "$PWD/ro:/ro:ro" $IMAGE true
    run -1 isola cp new r:/ro/new
    contains "$output" "ead-only"
    [ ! -e ro/new ]
}

@test "cp of a directory of a workload that does not run includes the volumes mounted below it" {
    mkdir host
    echo h >host/f
    irun --name v -v data:/srv/data -v /srv/anon -v "$PWD/host:/srv/data/host:ro" $IMAGE \
        sh -c 'echo d >/srv/data/f; echo a >/srv/anon/f; echo o >/srv/own'
    isola cp v:/srv back
    equals "a d h o" "$(cat back/anon/f back/data/f back/data/host/f back/own | tr '\n' ' ' | sed 's/ $//')"
    isola cp v:/ all
    equals d "$(cat all/srv/data/f)"
    equals "$(isola cp v:/srv - | tar t | sort)" "$(isola start v >/dev/null; isola wait v >/dev/null; isola cp v:/srv - | tar t | sort)"
    # And the other way: what goes into a directory goes into the volume that is mounted there.
    mkdir -p in/data
    echo new >in/data/new
    isola cp in/. v:/srv
    equals new "$(irun --rm -v data:/data $IMAGE cat /data/new)"
    mkdir -p in/data/host
    echo bad >in/data/host/f
    run -1 isola cp in/. v:/srv
    contains "$output" "ead-only"
    equals h "$(cat host/f)"
    run -1 grep -q "$ISOLA_RUN" /proc/self/mountinfo
    isola create --name never -v data:/srv/data $IMAGE true >/dev/null
    isola cp never:/srv fresh
    equals d "$(cat fresh/data/f)"
}

@test "diff lists what was added, changed and deleted" {
    irun --name d $IMAGE sh -c 'echo x >/added; echo y >>/etc/passwd; rm /etc/group; mkdir /dir; touch /dir/f'
    isola diff d >out
    grep -qx 'A /added' out
    grep -qx 'C /etc/passwd' out
    grep -qx 'D /etc/group' out
    grep -qx 'C /etc' out
    grep -qx 'A /dir' out
    grep -qx 'A /dir/f' out
    run -1 grep -q /proc out
    id=$(isola create --network none $IMAGE true)
    equals "" "$(isola diff "$id")"
}

@test "commit makes an image that runs, with changes" {
    irun --name c $IMAGE sh -c 'echo made >/made'
    id=$(isola commit -m 'a message' -a me --change 'ENV A=b' --change 'CMD ["cat", "/made"]' --change 'WORKDIR /srv' c mine:v1)
    [[ $id =~ ^sha256:[0-9a-f]{64}$ ]]
    equals made "$(irun --rm mine:v1)"
    equals "b /srv" "$(irun --rm mine:v1 sh -c 'echo $A $(pwd)')"
    run -1 isola commit --change 'FLY high' c other
    contains "$output" FLY
    irun -d --name run $IMAGE sh -c 'echo live >/live; sleep 100'
    wait_until 'isola exec run test -e /live'
    isola commit run live >/dev/null
    equals running "$(inspect run '{{.State.Status}}')"
    equals live "$(irun --rm live cat /live)"
    isola rm -f c run >/dev/null
    isola rmi mine:v1 live >/dev/null
}

@test "export writes the whole file system as tar" {
    irun --name e $IMAGE sh -c 'echo x >/exported'
    isola export e | tar tf - >out
    grep -qx exported out
    grep -q '^etc/passwd' out
    isola export -o e.tar e
    equals x "$(tar xOf e.tar exported)"
    run -1 isola export nobody
}
