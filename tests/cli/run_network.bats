# Networks as `isola` has them: a workload's files and names. The host is a network namespace of the
# test's own; what the networks do below is tested in network.bats.
load helper

setup_file() {
    NETNS_UP=$(mktemp)
    unshare --net sh -c 'ip link set lo up; echo up; exec sleep 600' >"$NETNS_UP" 2>/dev/null 3>&- &
    NETNS_PID=$!
    export NETNS_PID
    until grep -q up "$NETNS_UP"; do sleep 0.05; done
    rm "$NETNS_UP"
    isola_setup_file
}

teardown_file() {
    kill "$NETNS_PID"
    isola_teardown_file
}

isola() {
    nsenter --net="/proc/$NETNS_PID/ns/net" "$ISOLA_BUILD/src/main/isola" "$@"
}

@test "a running workload that joins a network finds the others there by name, until it leaves" {
    isola network create joined >/dev/null
    isola run -d --name web --network joined $IMAGE sleep 100 >/dev/null
    isola run -d --name client $IMAGE sleep 100 >/dev/null
    run -1 isola exec client ping -c1 -W1 web
    isola network connect joined client
    isola exec client ping -c1 -W5 web
    # The address that it has there is its own name's, too.
    equals 2 "$(isola exec client cat /etc/hosts | grep -c "$(isola exec client hostname)")"
    isola network disconnect joined client
    equals 1 "$(isola exec client cat /etc/hosts | grep -c "$(isola exec client hostname)")"
    run -1 isola exec client ping -c1 -W1 web
    isola rm -f web client >/dev/null
    isola network rm joined
}

@test "names go on being answered when the worker of the shim is killed after a join" {
    isola network create kept >/dev/null
    isola run -d --name web --network kept $IMAGE sleep 100 >/dev/null
    id=$(isola run -d --name client $IMAGE sleep 100)
    isola network connect kept client
    worker=$(jq .worker_pid "$ISOLA_RUN/workloads/$id/status.json")
    kill -9 "$worker"
    until [ "$(jq .worker_pid "$ISOLA_RUN/workloads/$id/status.json")" != "$worker" ]; do
        sleep 0.05
    done
    # All shims of the network answer at its address: the other one must not be the reason.
    for i in 1 2 3 4 5 6 7 8; do
        isola exec client ping -c1 -W5 web
    done
    isola rm -f web client >/dev/null
    isola network rm kept
}

@test "what a workload has written into its own resolv.conf stays when it joins a network" {
    isola network create other >/dev/null
    isola run -d --name client $IMAGE sleep 100 >/dev/null
    isola exec client sh -c 'echo nameserver 192.0.2.1 >/etc/resolv.conf'
    isola network connect other client
    equals "nameserver 192.0.2.1" "$(isola exec client cat /etc/resolv.conf)"
    # However large it has made it: that must not keep others from changing its networks.
    isola network disconnect other client
    isola exec client dd if=/dev/zero of=/etc/hosts bs=1M count=2 2>/dev/null
    isola network connect other client
    equals 2097152 "$(isola exec client stat -c %s /etc/hosts)"
    isola rm -f client >/dev/null
    isola network rm other
}
