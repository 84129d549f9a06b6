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
    # The new worker knows the workload's files, too.
    equals 2 "$(isola exec client cat /etc/hosts | grep -c "$(isola exec client hostname)")"
    isola network disconnect kept client
    equals 1 "$(isola exec client cat /etc/hosts | grep -c "$(isola exec client hostname)")"
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

# A program of loopback6.py: on the host, and in the network of workload $1.
ask6() {
    nsenter --net="/proc/$NETNS_PID/ns/net" timeout 60 python3 "$BATS_TEST_DIRNAME/loopback6.py" "$@"
}

serve6() {
    nsenter --net="/proc/$(inspect "$1" '{{.State.Pid}}')/ns/net" \
        python3 "$BATS_TEST_DIRNAME/loopback6.py" "${@:2}" >"serve.$1" 3>&- &
    SERVERS+=($!)
    wait_until "grep -q ready serve.$1"
}

# They keep the network of their workload alive.
end_servers() {
    kill "${SERVERS[@]}"
    wait "${SERVERS[@]}" 2>/dev/null || true
    SERVERS=()
}

listeners6() {
    nsenter --net="/proc/$NETNS_PID/ns/net" ss -Hlnp6 "sport = :$1" | grep -c '\[::1\]'
}

@test "a published port answers on [::1]: both halves of a connection, datagrams, and after the worker's death" {
    SERVERS=()
    id=$(isola run -d --name web -p 8080:80 -p 8080:80/udp -p 127.0.0.1:8082:80 $IMAGE sleep 1000)
    serve6 web serve 80
    ask6 ask 8080 10
    ask6 ask 8080 8000000
    equals HELLO "$(ask6 udp 8080 hello)"
    run -1 ask6 ask 8082 10 # published elsewhere
    worker=$(jq .worker_pid "$ISOLA_RUN/workloads/$id/status.json")
    kill -9 "$worker"
    wait_until 'test "$(jq .worker_pid "$ISOLA_RUN/workloads/$id/status.json")" != '"$worker"
    ask6 ask 8080 8000000
    equals AGAIN "$(ask6 udp 8080 again)"
    end_servers
    # It is another's as soon as the workload has ended.
    isola restart -t 0 web
    equals 2 "$(listeners6 8080)"
    isola rm -f web
    run -1 listeners6 8080
    isola run -d --name other -p 8080:80 $IMAGE sleep 1000
    isola rm -f other
}

@test "-p [::1]:PORT serves [::1] alone, and there the host goes first" {
    SERVERS=()
    isola run -d --name web -p '[::1]:8081:80' $IMAGE sleep 1000
    contains "$(isola port web)" "80/tcp -> [::1]:8081"
    serve6 web serve 80
    ask6 ask 8081 10
    run nsenter --net="/proc/$NETNS_PID/ns/net" python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8081), 2)'
    contains "$output" refused
    nsenter --net="/proc/$NETNS_PID/ns/net" python3 -c 'import socket, time
s = socket.create_server(("::1", 8083), family=socket.AF_INET6); print("ready", flush=True); time.sleep(600)' >host 3>&- &
    SERVERS+=($!)
    wait_until 'grep -q ready host'
    run -125 isola run -d --name late -p '[::1]:8083:80' $IMAGE sleep 1000
    contains "$output" "8083"
    end_servers
    isola rm -f web
    isola rm -f late || true
}

@test "where a workload has IPv6 as well, [::1] reaches a server that has IPv4 alone" {
    SERVERS=()
    isola network create --ipv6 six >/dev/null
    isola run -d --name web --network six -p 8080:80 -p 8080:80/udp $IMAGE sleep 1000
    serve6 web serve 80
    ask6 ask 8080 1000
    equals HELLO "$(ask6 udp 8080 hello)"
    end_servers
    run -1 ask6 ask 8080 10
    isola rm -f web
    isola network rm six
}

@test "who is slow on [::1] holds nobody else up, and the end of the workload not at all" {
    SERVERS=()
    isola run -d --name web -p 8080:80 $IMAGE sleep 1000
    serve6 web echo 80
    ask6 crowd 8080 100
    # More than there is room for wait for their turn.
    run ask6 crowd 8080 200
    [ "$status" -ne 0 ]
    ask6 crowd 8080 10
    # Nor does it read after the end: that is waited for by the shim, not by us.
    ask6 hold 8080 >hold 3>&- &
    wait_until 'grep -q full hold'
    start=$SECONDS
    isola stop -t 0 web
    [ $((SECONDS - start)) -lt 4 ]
    end_servers
    wait_until 'test -z "$(live_shims)"'
    isola rm web
}

@test "nothing listens for a workload without a published port or without a bridge" {
    isola run -d --name a $IMAGE sleep 1000
    isola run -d --name b --network none $IMAGE sleep 1000
    for name in a b; do
        [ ! -e "$ISOLA_RUN/workloads/$(inspect $name '{{.Id}}')/proxy" ]
    done
    equals "" "$(nsenter --net="/proc/$NETNS_PID/ns/net" ss -Hltn | grep -F '[::1]')"
    isola rm -f a b
}
