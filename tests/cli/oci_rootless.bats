# The same program as an ordinary user, who has no subordinate ids.
load oci.bash

USER_ID=64123

setup() {
    oci_setup
    mkdir "$T/x"
    cp "$OCI" "$T/isola-oci"
    rm "$B/config.json"
    chown -R $USER_ID:$USER_ID "$T"
    as_user "$T/isola-oci" spec --rootless -b "$B"
    config '.process.terminal=false | .root.readonly=false'
    chown $USER_ID:$USER_ID "$B/config.json"
}

teardown() {
    [ -n "${T:-}" ] || return 0
    as_user "$T/isola-oci" delete -f "$ID" || true
    oci_teardown
}

as_user() {
    setpriv --reuid $USER_ID --regid $USER_ID --clear-groups env HOME="$T" XDG_RUNTIME_DIR="$T/x" "$@"
}

@test "an ordinary user is root in the container and himself outside" {
    args /bin/sh -c 'id -u; cat /proc/self/uid_map; touch /tmp/mine; echo x >/dev/null; hostname; exit 3'
    run as_user "$T/isola-oci" run -b "$B" "$ID"
    assert_status 3
    [ "${lines[0]}" = 0 ]
    assert_has "$USER_ID          1"
    assert_has isola
    [ "$(stat -c %u "$B/rootfs/tmp/mine")" = $USER_ID ]
    [ -z "$(ls -A "$T/x/isola-oci")" ]
}

@test "an ordinary user creates, starts, joins, kills and deletes" {
    args /bin/sleep 1000
    as_user "$T/isola-oci" create -b "$B" "$ID" </dev/null >"$T/out" 2>&1 3>&-
    as_user "$T/isola-oci" start "$ID"
    run as_user "$T/isola-oci" exec "$ID" /bin/sh -c 'id -u; cat /proc/1/cmdline; ls /proc/self/fd | wc -l; exit 6'
    assert_status 6
    [ "${lines[0]}" = 0 ]
    assert_has sleep
    run as_user "$T/isola-oci" kill "$ID" KILL
    assert_status 0
    for _ in $(seq 50); do [ "$(as_user "$T/isola-oci" state "$ID" | jq -r .status)" = stopped ] && break; sleep 0.02; done
    as_user "$T/isola-oci" delete "$ID"
    [ -z "$(ls -A "$T/x/isola-oci")" ]
}

@test "an ordinary user who asks for limits is told that he cannot have them" {
    config '.linux.resources={pids:{limit:5}}'
    run as_user "$T/isola-oci" run -b "$B" "$ID"
    assert_status 1
    assert_has cgroup
    [ -z "$(ls -A "$T/x/isola-oci")" ]
}

# as_mapped CMD...: the same user, with an account and ids 700000000 to 700065535 in files that only
# this command sees.
as_mapped() {
    [ -u "$(command -v newuidmap)" ] || skip "newuidmap (package uidmap) is not installed"
    { cat /etc/passwd; echo "isola-t:x:$USER_ID:$USER_ID::/:/bin/sh"; } >"$T/passwd"
    echo "isola-t:700000000:65536" >"$T/subid"
    FILES=$T USER_ID=$USER_ID unshare -m --propagation private sh -euc '
        mount --bind "$FILES/passwd" /etc/passwd
        mount --bind "$FILES/subid" /etc/subuid
        mount --bind "$FILES/subid" /etc/subgid
        exec setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups \
            env HOME="$FILES" XDG_RUNTIME_DIR="$FILES/x" "$@"' sh "$@"
}

@test "newuidmap and newgidmap give an ordinary user's container more than one id" {
    config --argjson u $USER_ID '.linux.uidMappings=[{containerID:0,hostID:$u,size:1},{containerID:1,hostID:700000000,size:65536}]
        | .linux.gidMappings=.linux.uidMappings | .process.capabilities|=map_values(.+["CAP_CHOWN"])'
    args /bin/sh -c 'cat /proc/self/uid_map /proc/self/gid_map; touch /tmp/f; chown 5:6 /tmp/f; exit 4'
    run as_mapped "$T/isola-oci" run -b "$B" "$ID"
    assert_status 4
    [ "$(echo "$output" | grep -c "1  700000000      65536")" = 2 ]
    [ "$(stat -c %u:%g "$B/rootfs/tmp/f")" = 700000004:700000005 ]
    # One more than the file gives: newuidmap says no, and nothing is left.
    config '.linux.uidMappings[1].size=65537'
    run as_mapped "$T/isola-oci" run -b "$B" "$ID"
    assert_status 1
    assert_has newuidmap
    [ -z "$(ls -A "$T/x/isola-oci")" ]
}
