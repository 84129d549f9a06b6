#!/usr/bin/env bats
# Networks in namespaces of the test's own: HOST plays the machine, OUTSIDE a neighbour on its wire.

setup() {
    if [ "$(id -u)" != 0 ]; then
        skip "needs root"
    fi
    BUILD=${ISOLA_BUILD:-build}
    NETTOOL=$BUILD/tests/cli/helpers/nettool
    DIR=$(mktemp -d /tmp/isola-net-XXXXXX)
    export ISOLA_ROOT=$DIR/root ISOLA_RUN=$DIR/run
    HOST=isola-t-h$$
    OUT=isola-t-o$$
    PIDS=()
    ip netns add "$HOST"
    ip netns add "$OUT"
    ip -n "$HOST" link set lo up
    ip -n "$OUT" link set lo up
    ip -n "$HOST" link add up0 type veth peer name up0 netns "$OUT"
    ip -n "$HOST" addr add 203.0.113.1/24 dev up0
    ip -n "$OUT" addr add 203.0.113.2/24 dev up0
    ip -n "$HOST" addr add 2001:db8::1/64 dev up0 nodad
    ip -n "$OUT" addr add 2001:db8::2/64 dev up0 nodad
    ip -n "$HOST" link set up0 up
    ip -n "$OUT" link set up0 up
}

teardown() {
    for pid in "${PIDS[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    ip netns pids "$HOST" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    # The killed were shells: what they had started has this test's environment.
    grep -slz "^ISOLA_ROOT=$DIR/root\$" /proc/[0-9]*/environ | cut -d/ -f3 |
        xargs -r kill -9 2>/dev/null || true
    ip netns del "$HOST" 2>/dev/null || true
    ip netns del "$OUT" 2>/dev/null || true
    rm -rf "$DIR"
}

host() { ip netns exec "$HOST" "$@"; }
outside() { ip netns exec "$OUT" "$@"; }
net() { host "$NETTOOL" "$@"; }

# workload VAR: a process with a network namespace of its own
workload() {
    unshare -n sleep 600 3>&- &
    PIDS+=($!)
    printf -v "$1" %s $!
    local i
    for i in $(seq 50); do
        [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ] && return
        sleep 0.02
    done
    return 1
}

inside() {
    local pid=$1
    shift
    nsenter -t "$pid" -n "$@"
}

# serve PID PORT TEXT [tcp|udp][4|6]: answers each connection with TEXT and the peer's address
serve() {
    local kind=${4:-tcp} listen first=true
    case $kind in
        tcp) listen="TCP-LISTEN:$2,fork,reuseaddr" ;;
        tcp6) listen="TCP6-LISTEN:$2,fork,reuseaddr,ipv6only=1" ;;
        udp) listen="UDP-RECVFROM:$2,fork,reuseaddr" first="read x" ;;
    esac
    inside "$1" socat "$listen" SYSTEM:"$first; echo $3 \$SOCAT_PEERADDR" 3>&- 2>/dev/null &
    PIDS+=($!)
    local i
    for i in $(seq 50); do
        inside "$1" ss -lntuH "sport = :$2" | grep -q . && return
        sleep 0.02
    done
    return 1
}

# What answers at an address; fails when nothing does.
tcp() { timeout 5 socat -t1 -T3 - "TCP:$1,connect-timeout=2" </dev/null 2>/dev/null; }
udp() { echo x | timeout 5 socat -t2 -T2 - "UDP:$1" 2>/dev/null | head -1; }
export -f tcp udp

@test "two workloads on the default bridge reach each other and the host, not by name" {
    workload A
    workload B
    net attach aaaaaaaaaaaa a "$A"
    net attach bbbbbbbbbbbb b "$B"
    inside "$A" busybox ping -c1 -W2 10.88.0.3
    inside "$B" busybox ping -c1 -W2 10.88.0.2
    inside "$A" busybox ping -c1 -W2 10.88.0.1
    serve "$A" 80 one
    [ "$(inside "$B" bash -c 'tcp 10.88.0.2:80')" = "one 10.88.0.3" ]
    [ "$(inside "$A" ip -br addr show lo | grep -c 127.0.0.1)" = 1 ]
}

@test "a workload reaches outside with the host's address" {
    workload A
    net attach aaaaaaaaaaaa a "$A"
    outside socat TCP-LISTEN:7000,fork,reuseaddr SYSTEM:'echo from $SOCAT_PEERADDR' 3>&- &
    PIDS+=($!)
    sleep 0.2
    [ "$(inside "$A" bash -c 'tcp 203.0.113.2:7000')" = "from 203.0.113.1" ]
}

@test "a published TCP port answers outside, on the host, on localhost and to other workloads" {
    workload A
    workload B
    net -p 8080:80 attach aaaaaaaaaaaa a "$A"
    net attach bbbbbbbbbbbb b "$B"
    serve "$A" 80 web
    [ "$(outside bash -c 'tcp 203.0.113.1:8080')" = "web 203.0.113.2" ]
    [[ "$(host bash -c 'tcp 203.0.113.1:8080')" = web* ]]
    [[ "$(host bash -c 'tcp 127.0.0.1:8080')" = web* ]]
    [[ "$(host bash -c 'tcp 127.0.0.5:8080')" = web* ]]
    [[ "$(inside "$B" bash -c 'tcp 203.0.113.1:8080')" = web* ]]
    [[ "$(inside "$A" bash -c 'tcp 203.0.113.1:8080')" = web* ]]
    [ "$(net ports aaaaaaaaaaaa)" = "0.0.0.0:8080->80/tcp" ]
}

@test "published UDP ports, ranges and ports of one address answer" {
    workload A
    net -p 5300:53/udp -p 9000-9002:80-82 -p 203.0.113.1:7070:80 attach aaaaaaaaaaaa a "$A"
    serve "$A" 53 dgram udp
    serve "$A" 80 p80
    serve "$A" 82 p82
    [ "$(outside bash -c 'udp 203.0.113.1:5300')" = "dgram 203.0.113.2" ]
    [[ "$(host bash -c 'udp 127.0.0.1:5300')" = dgram* ]]
    [[ "$(outside bash -c 'tcp 203.0.113.1:9000')" = p80* ]]
    [[ "$(outside bash -c 'tcp 203.0.113.1:9002')" = p82* ]]
    [[ "$(outside bash -c 'tcp 203.0.113.1:7070')" = p80* ]]
    run host bash -c 'tcp 127.0.0.1:7070'
    [ "$status" != 0 ]
    [[ "$(net ports aaaaaaaaaaaa)" = *"0.0.0.0:9000-9002->80-82/tcp"* ]]
}

@test "a port published on 127.0.0.1 does not answer a neighbour who forges that address" {
    workload A
    net -p 127.0.0.1:8080:80 attach aaaaaaaaaaaa a "$A"
    serve "$A" 80 web
    [[ "$(host bash -c 'tcp 127.0.0.1:8080')" = web* ]]
    run outside bash -c 'tcp 203.0.113.1:8080'
    [ "$status" != 0 ]
    # The neighbour routes 127/8 to the host.
    outside sysctl -qw net.ipv4.conf.up0.route_localnet=1
    outside ip addr del 127.0.0.1/8 dev lo
    outside ip route flush table local 127.0.0.0/8 2>/dev/null || true
    outside ip route add 127.0.0.1 via 203.0.113.1 src 203.0.113.2
    run outside bash -c 'tcp 127.0.0.1:8080'
    [ "$status" != 0 ]
}

@test "a workload cannot reach what the host has on localhost" {
    workload A
    net -p 8080:80 attach aaaaaaaaaaaa a "$A"
    host socat TCP-LISTEN:6000,bind=127.0.0.1,fork,reuseaddr SYSTEM:'echo secret' 3>&- &
    PIDS+=($!)
    sleep 0.2
    [ "$(host bash -c 'tcp 127.0.0.1:6000')" = secret ]
    [ "$(host bash -c 'cat /proc/sys/net/ipv4/conf/isola-*/route_localnet')" = 1 ]
    inside "$A" sysctl -qw net.ipv4.conf.all.route_localnet=1
    inside "$A" ip addr del 127.0.0.1/8 dev lo
    inside "$A" ip route add 127.0.0.1 via 10.88.0.1 src 10.88.0.2
    run inside "$A" bash -c 'tcp 127.0.0.1:6000'
    [ "$status" != 0 ]
    # It is our guard that keeps it out.
    host nft flush chain inet "$(host nft list tables | cut -d' ' -f3)" guard
    [ "$(inside "$A" bash -c 'tcp 127.0.0.1:6000')" = secret ]
}

@test "taken ports and addresses are refused with the holder's name" {
    workload A
    workload B
    net -p 8080:80 --ip 10.88.0.9 attach aaaaaaaaaaaa web "$A"
    run net -p 8080:80 attach bbbbbbbbbbbb b "$B"
    [ "$status" != 0 ]
    [[ "$output" = *"port 8080/tcp on 0.0.0.0 is already published by 'web'"* ]]
    run net -p 127.0.0.1:8080:80 attach bbbbbbbbbbbb b "$B"
    [[ "$output" = *"already published by 'web'"* ]]
    run net --ip 10.88.0.9 attach bbbbbbbbbbbb b "$B"
    [[ "$output" = *"address 10.88.0.9 of network 'bridge' is taken by 'web'"* ]]
    run net --ip 10.88.0.1 attach bbbbbbbbbbbb b "$B"
    [ "$status" != 0 ]
    host socat TCP-LISTEN:8081,fork,reuseaddr SYSTEM:'echo own' 3>&- &
    PIDS+=($!)
    sleep 0.2
    run net -p 8081:80 attach bbbbbbbbbbbb b "$B"
    [[ "$output" = *"publish port 8081/tcp on 0.0.0.0: Address already in use"* ]]
    net drop bbbbbbbbbbbb
    # Another protocol and another port of the host are free.
    net -p 8080:80/udp -p 8082:80 attach cccccccccccc c "$B"
}

@test "ports that nobody chose are free ones of the host" {
    workload A
    net -p 80 -P --expose 90-91 attach aaaaaaaaaaaa a "$A"
    serve "$A" 90 p90
    run net ports aaaaaaaaaaaa
    [[ "$output" =~ 0.0.0.0:([0-9]+)"->90/tcp" ]] || [[ "$output" =~ 0.0.0.0:([0-9]+)-[0-9]+"->90-91/tcp" ]]
    port=${BASH_REMATCH[1]}
    [[ "$(outside bash -c "tcp 203.0.113.1:$port")" = p90* ]]
}

@test "networks keep to themselves, but published ports are open to all" {
    net create one
    net create two
    workload A
    workload B
    net -n one -p 8080:80 attach aaaaaaaaaaaa a "$A"
    net -n two attach bbbbbbbbbbbb b "$B"
    serve "$A" 80 web
    ip_a=$(net show aaaaaaaaaaaa | jq -r '.Networks.one.IPAddress')
    run inside "$B" bash -c "tcp $ip_a:80"
    [ "$status" != 0 ]
    [[ "$(inside "$B" bash -c 'tcp 203.0.113.1:8080')" = web* ]]
    # Nor does a neighbour who has a route.
    outside ip route add "${ip_a%.*}.0/24" via 203.0.113.1
    run outside bash -c "tcp $ip_a:80"
    [ "$status" != 0 ]
}

@test "an internal network has no way out and no way in" {
    net --internal create inner
    workload A
    workload B
    net -n inner -p 8080:80 attach aaaaaaaaaaaa a "$A"
    net -n inner attach bbbbbbbbbbbb b "$B"
    serve "$A" 80 web
    ip_a=$(net show aaaaaaaaaaaa | jq -r '.Networks.inner.IPAddress')
    [[ "$(inside "$B" bash -c "tcp $ip_a:80")" = web* ]]
    [ -z "$(inside "$A" ip route show default)" ]
    inside "$A" ip route add default via "${ip_a%.*}.1"
    run inside "$A" busybox ping -c1 -W1 203.0.113.2
    [ "$status" != 0 ]
    run outside bash -c 'tcp 203.0.113.1:8080'
    [ "$status" != 0 ]
}

@test "IPv6: addresses, NAT, published ports" {
    net --ipv6 create six
    workload A
    workload B
    net -n six -p 8080:80 attach aaaaaaaaaaaa a "$A"
    net -n six --ip6 "$(net show aaaaaaaaaaaa | jq -r '.Networks.six.IPv6Gateway')77" \
        attach bbbbbbbbbbbb b "$B"
    ip6=$(net show aaaaaaaaaaaa | jq -r '.Networks.six.GlobalIPv6Address')
    serve "$A" 80 web6 tcp6
    [[ "$(inside "$B" bash -c "tcp [$ip6]:80")" = web6* ]]
    [[ "$(outside bash -c 'tcp [2001:db8::1]:8080')" = web6* ]]
    [[ "$(host bash -c 'tcp [2001:db8::1]:8080')" = web6* ]]
    [[ "$(inside "$B" bash -c 'tcp [2001:db8::1]:8080')" = web6* ]]
    outside socat TCP6-LISTEN:7000,fork,reuseaddr SYSTEM:'echo from $SOCAT_PEERADDR' 3>&- &
    PIDS+=($!)
    sleep 0.2
    [[ "$(inside "$A" bash -c 'tcp [2001:db8::2]:7000')" = "from "*2001:0db8*0001* ]]
    # ::1 is the shim's to serve (run_network.bats): where there is none it is refused at once.
    run timeout 1 ip netns exec "$HOST" socat - TCP:[::1]:8080
    [[ "$output" = *"Connection refused"* ]]
    workload C
    net -n six -p [::1]:8081:80 attach cccccccccccc c "$C"
    run timeout 1 ip netns exec "$HOST" socat - TCP:[2001:db8::1]:8081
    [[ "$output" = *"Connection refused"* ]]
    run host bash -c 'nft list ruleset | grep 8081'
    [ "$status" = 1 ]
    workload D
    run net -p [2001:db8::1]:8082:80 attach dddddddddddd d "$D"
    [[ "$output" = *"no IPv6"* ]]
    # A host that takes its route from advertisements goes on doing so.
    [ "$(host cat /proc/sys/net/ipv6/conf/up0/accept_ra)" = 2 ]
}

@test "a host firewall that drops forwarded packets is obeyed until it lets a port through" {
    workload A
    net -p 8080:80 attach aaaaaaaaaaaa a "$A"
    serve "$A" 80 web
    [[ "$(outside bash -c 'tcp 203.0.113.1:8080')" = web* ]]
    host nft add table inet admin
    host nft add chain inet admin forward '{ type filter hook forward priority 0; policy drop; }'
    run outside bash -c 'tcp 203.0.113.1:8080'
    [ "$status" != 0 ]
    run net doctor
    [[ "$output" = *"'inet admin forward' drops forwarded packets"* ]]
    host nft add rule inet admin forward ct state established,related accept
    host nft add rule inet admin forward meta l4proto tcp ct status dnat \
        ct original proto-dst 8080 accept
    [[ "$(outside bash -c 'tcp 203.0.113.1:8080')" = web* ]]
    # Our table says nothing about the admin's, and the other way round.
    host nft list ruleset | grep -q 'table inet admin'
    host nft list ruleset | grep -q 'table inet isola-'
}

@test "after 'nft flush ruleset' the next start or a repair brings everything back" {
    workload A
    workload B
    net -p 8080:80 attach aaaaaaaaaaaa a "$A"
    serve "$A" 80 web
    host nft flush ruleset
    run outside bash -c 'tcp 203.0.113.1:8080'
    [ "$status" != 0 ]
    run net check aaaaaaaaaaaa
    [[ "$output" = *"is missing"* ]]
    net attach bbbbbbbbbbbb b "$B"
    [[ "$(outside bash -c 'tcp 203.0.113.1:8080')" = web* ]]
    host nft flush ruleset
    net --repair check aaaaaaaaaaaa bbbbbbbbbbbb
    [[ "$(outside bash -c 'tcp 203.0.113.1:8080')" = web* ]]
    [ -z "$(net check aaaaaaaaaaaa bbbbbbbbbbbb)" ]
}

@test "names, aliases and short ids resolve on a user-defined network only" {
    net create one
    net create two
    workload A
    workload B
    workload C
    net -n one --alias db --alias store attach aaaaaaaaaaaa0123 a.first "$A"
    net -n one attach bbbbbbbbbbbb b "$B"
    net -n two attach cccccccccccc c "$C"
    printf 'nameserver 203.0.113.2\n' >"$DIR/resolv"
    NETTOOL_RESOLV=$DIR/resolv host "$NETTOOL" dns bbbbbbbbbbbb 3>&- >"$DIR/dns.log" &
    PIDS+=($!)
    for i in $(seq 50); do grep -q ready "$DIR/dns.log" && break; sleep 0.02; done
    ip_a=$(net show aaaaaaaaaaaa0123 | jq -r '.Networks.one.IPAddress')
    gw=$(net show bbbbbbbbbbbb | jq -r '.Networks.one.Gateway')
    for name in a.first db STORE aaaaaaaaaaaa db.one; do
        [ "$(inside "$B" dig +short +time=1 +tries=1 "@$gw" "$name")" = "$ip_a" ]
        [ "$(inside "$B" dig +short +tcp +time=1 +tries=1 "@$gw" "$name")" = "$ip_a" ]
    done
    [ "$(inside "$B" dig +short +time=1 "@$gw" -x "$ip_a")" = a.first.one. ]
    [ -z "$(inside "$B" dig +short +time=1 +tries=1 "@$gw" db AAAA)" ]
    # What leaves is gone at once.
    net detach aaaaaaaaaaaa0123
    outside socat -u UDP-LISTEN:53,fork,reuseaddr OPEN:"$DIR/asked",creat,append 3>&- &
    PIDS+=($!)
    sleep 0.2
    run inside "$B" dig +short +time=1 +tries=1 "@$gw" db
    [[ "$output" != *"$ip_a"* ]]
    run inside "$B" dig +short +time=1 +tries=1 "@$gw" c
    [ -s "$DIR/asked" ] # of two's names one knows nothing: the question went out
    run net files bbbbbbbbbbbb
    [[ "$output" = *"nameserver $gw"* ]]
}

@test "a responder hands other questions on and their answers back" {
    net create one
    workload A
    net -n one attach aaaaaaaaaaaa a "$A"
    cat >"$DIR/server.py" <<'PY'
import socket, struct, sys, threading
def answer(q):
    end = q.index(b"\0", 12) + 5
    head = q[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
    return head + q[12:end] + b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([192, 0, 2, 7])
t = socket.socket(); t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
t.bind(("203.0.113.2", 53)); t.listen()
def tcp():
    while True:
        c, _ = t.accept()
        n = struct.unpack(">H", c.recv(2))[0]
        a = answer(c.recv(n)); c.sendall(struct.pack(">H", len(a)) + a); c.close()
threading.Thread(target=tcp, daemon=True).start()
u = socket.socket(type=socket.SOCK_DGRAM); u.bind(("203.0.113.2", 53))
print("ready", flush=True)
while True:
    q, a = u.recvfrom(4096)
    u.sendto(b"\0\0" + answer(q)[2:], a)   # a forged one first: another id
    u.sendto(answer(q), a)
PY
    outside python3 "$DIR/server.py" 3>&- >"$DIR/server.log" &
    PIDS+=($!)
    # The first server is dead: nobody listens.
    printf 'nameserver 203.0.113.1\nnameserver 203.0.113.2\n' >"$DIR/resolv"
    NETTOOL_RESOLV=$DIR/resolv host "$NETTOOL" dns aaaaaaaaaaaa 3>&- >"$DIR/dns.log" &
    PIDS+=($!)
    for i in $(seq 100); do cat "$DIR/dns.log" "$DIR/server.log" | grep -c ready | grep -q 2 && break; sleep 0.02; done
    gw=$(net show aaaaaaaaaaaa | jq -r '.Networks.one.Gateway')
    [ "$(inside "$A" dig +short +time=3 +tries=1 "@$gw" example.org)" = 192.0.2.7 ]
    [ "$(inside "$A" dig +short +tcp +time=3 +tries=1 "@$gw" example.org)" = 192.0.2.7 ]
    # Not for those who merely have a route to the bridge's address.
    outside ip route add "$gw" via 203.0.113.1
    run outside dig +short +time=1 +tries=1 "@$gw" example.org
    [[ "$output" != *192.0.2.7* ]]
}

@test "a running workload joins and leaves networks" {
    net create one
    net create two
    workload A
    workload B
    net -n one -p 8080:80 attach aaaaaaaaaaaa a "$A"
    net -n two attach bbbbbbbbbbbb b "$B"
    serve "$A" 80 web
    net connect aaaaaaaaaaaa two "$A"
    ip_two=$(net show aaaaaaaaaaaa | jq -r '.Networks.two.IPAddress')
    [[ "$(inside "$B" bash -c "tcp $ip_two:80")" = web* ]]
    run net connect aaaaaaaaaaaa two "$A"
    [ "$status" != 0 ]
    net disconnect aaaaaaaaaaaa one "$A"
    [ "$(inside "$A" ip -br link | grep -c eth)" = 1 ]
    # Its ports lead to what is left.
    [[ "$(inside "$A" ip route show default)" = "default via ${ip_two%.*}.1 "* ]]
    [[ "$(outside bash -c 'tcp 203.0.113.1:8080')" = web* ]]
    run net disconnect aaaaaaaaaaaa one "$A"
    [[ "$output" = *"not in network 'one'"* ]]
}

@test "a subnet that the host has is neither chosen nor accepted" {
    host ip addr add 10.88.5.1/24 dev lo
    host ip route add 10.90.0.0/24 via 203.0.113.2
    workload A
    net attach aaaaaaaaaaaa a "$A"
    [ "$(net show aaaaaaaaaaaa | jq -r '.Networks.bridge.IPAddress')" = 10.89.0.2 ]
    net create one
    net -n one attach bbbbbbbbbbbb b "$A" || true
    [[ "$(net show bbbbbbbbbbbb | jq -r '.Networks.one.IPAddress')" = 10.90.1.* ]]
    run net --subnet 10.90.0.128/25 create two
    [[ "$output" = *"overlaps 10.90.0.0/24, which this host uses"* ]]
    run net --subnet 10.90.1.0/25 create two
    [[ "$output" = *"overlaps 10.90.1.0/24 of network 'one'"* ]]
}

@test "kill -9 in the middle of attach at many points leaves nothing that a repair does not find" {
    net create one
    workload A
    for n in $(seq 1 24); do
        # Dies at its n-th sendto(), which is where all changes of the kernel are made.
        host strace -f -qq -o /dev/null -e trace=sendto,rename,renameat \
            -e inject=sendto,renameat:signal=KILL:when="$n" \
            "$NETTOOL" -n one -p 8080:80 attach "id$n" "w$n" "$A" >/dev/null 2>&1 || true
        net --repair check >/dev/null
        [ -z "$(net check)" ]
        [ -z "$(host ip -br link show type veth | grep -v '^up0')" ]
        [ -z "$(inside "$A" ip -br link | grep eth)" ]
        net drop "id$n"
    done
    net -n one -p 8080:80 attach aaaaaaaaaaaa a "$A"
    [ -z "$(net check aaaaaaaaaaaa)" ]
}

@test "eight attaches at once on a host where nothing exists yet" {
    net create one
    for n in 1 2 3 4 5 6 7 8; do workload "W$n"; done
    for n in 1 2 3 4 5 6 7 8; do
        pid=W$n
        net -n one -p "808$n:80" attach "id$n" "w$n" "${!pid}" &
        jobs[$n]=$!
    done
    for n in 1 2 3 4 5 6 7 8; do wait "${jobs[$n]}"; done
    [ -z "$(net check id1 id2 id3 id4 id5 id6 id7 id8)" ]
    for n in 2 8; do inside "$W1" busybox ping -c1 -W2 "$(net show "id$n" | jq -r .Networks.one.IPAddress)"; done
}

@test "the 200th attach costs no more than twice the 20th" {
    net --keep -p 80 cycle 200 >"$DIR/cycle"
    early=$(sed -n 15,45p "$DIR/cycle" | jq .attach_cpu_ms | sort -n | sed -n 8p)
    late=$(sed -n 170,200p "$DIR/cycle" | jq .attach_cpu_ms | sort -n | sed -n 8p)
    echo "early $early late $late"
    [ "$(jq -n "$late < 2 * $early + 0.5")" = true ]
}

@test "removed networks leave no bridge, no element and no file" {
    net create one
    workload A
    net -n one attach aaaaaaaaaaaa a "$A"
    run net remove one
    [[ "$output" = *"network 'one' is used by 'a'"* ]]
    net detach aaaaaaaaaaaa
    net remove one
    [ -z "$(host ip -br link show type bridge)" ]
    [ -z "$(host nft list ruleset | grep elements)" ]
    [ "$(ls "$DIR/run/networks")" = lock ]
    run net remove bridge
    [ "$status" != 0 ]
}

# as_user CMD...: an ordinary user in HOST, with a /dev/net/tun that users may open
as_user() {
    host unshare -m bash -c 'mknod -m 666 "$0/tun" c 10 200 2>/dev/null || chmod 666 "$0/tun"
        mkdir -p /dev/net && { [ -e /dev/net/tun ] || : >/dev/net/tun; }
        mount --bind "$0/tun" /dev/net/tun
        exec setpriv --reuid 61234 --regid 61234 --clear-groups -- "$@"' "$DIR" "$@"
}

@test "an ordinary user's workload: outside, published ports, an end" {
    command -v pasta >/dev/null || skip "pasta (package passt) is not installed"
    host ip route add default via 203.0.113.2
    chmod 777 "$DIR"
    cat >"$DIR/user.sh" <<'SH'
set -eu
nettool=$1
unshare -r -n sleep 60 3>&- >/dev/null 2>&1 & pid=$!
trap 'kill -9 $pid $serve 2>/dev/null' EXIT
serve=$pid
sleep 0.3
gone() { for _ in $(seq 50); do grep -qs "State:.[RSD]" "/proc/$1/status" || return 0; sleep 0.05; done; return 1; }
into() { nsenter -t "$pid" -U --preserve-credentials -n "$@"; }
"$nettool" -p 127.0.0.1:8080:80 -p 5300:53/udp attach aaaaaaaaaaaa a "$pid"
into ip -br addr show eth0 | grep -q 203.0.113.1
nsenter -t "$pid" -U --preserve-credentials -n \
    socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:'echo web' 3>&- >/dev/null 2>&1 & serve=$!
sleep 0.3
[ "$(timeout 3 socat -T1 - TCP:127.0.0.1:8080 </dev/null | head -1)" = web ]
[ "$(into timeout 3 socat -T1 - TCP:203.0.113.2:7000 </dev/null | head -1)" = out ]
if "$nettool" --ip 10.88.0.9 attach bbbbbbbbbbbb b "$pid" 2>"$ISOLA_RUN/err"; then exit 1; fi
grep -q 'needs root' "$ISOLA_RUN/err"
if "$nettool" create one 2>/dev/null; then exit 1; fi
pasta=$(cat "$ISOLA_RUN/networks/aaaaaaaaaaaa.pasta")
[ -d "/proc/$pasta" ]
"$nettool" detach aaaaaaaaaaaa
gone "$pasta"
[ ! -e "$ISOLA_RUN/networks/aaaaaaaaaaaa.pasta" ]
# What a crash leaves is found and ended.
"$nettool" attach cccccccccccc c "$pid" || "$nettool" reattach cccccccccccc "$pid"
pasta=$(cat "$ISOLA_RUN/networks/cccccccccccc.pasta")
"$nettool" drop cccccccccccc
"$nettool" check | grep -q 'pasta of cccccccccccc'
"$nettool" --repair check >/dev/null
gone "$pasta"
[ -z "$("$nettool" check)" ]
echo all good
SH
    outside socat TCP-LISTEN:7000,fork,reuseaddr SYSTEM:'echo out' 3>&- &
    PIDS+=($!)
    run as_user bash -x "$DIR/user.sh" "$NETTOOL"
    echo "$output"
    [ "$status" = 0 ]
    [[ "$output" = *"all good"* ]]
}
