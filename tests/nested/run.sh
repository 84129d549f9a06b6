#!/bin/bash
# `isola run --isolation vm` for real: workloads in machines, with Debian's kernel, in L1.
# Usage: run.sh BUILD
set -u
build=$(cd "$1" && pwd)
. "$(dirname "$0")/nested.bash"
nested_begin
nested_engine isola isola-shim isola-init isola-vmm isola-guest isola-files
# `commit` makes an image; its libraries and a terminal come from outside.
PATH=$PATH:/usr/sbin "$lab" copy "$job" "$build/src/main/isola-image" "$(command -v script)"
cat >"$job/job" <<'SH'
#!/bin/sh
. /host/engine.sh
vm="--isolation vm"
kernel=$(isola kernel ls -q)
plan 71
out=$(echo abc | isola run --rm -i $vm --network none --kernel "$kernel" $image sh -c 'cat; cat /proc/sys/kernel/random/boot_id; echo err >&2; exit 7' 2>/tmp/err)
is "the exit code is the command's" 7 $?
is "standard input and output are joined" abc "$(echo "$out" | head -n 1)"
is "its kernel is its own" "36 no" "$(echo "$out" | sed -n 2p | wc -c | awk '{print $1 - 1}') \
$([ "$(echo "$out" | sed -n 2p)" = "$(cat /proc/sys/kernel/random/boot_id)" ] && echo yes || echo no)"
is "standard error is apart" err "$(cat /tmp/err)"
out=$(isola run --rm $vm --network none $image /no/such/program 2>&1)
is "a missing program is 127, named" "127 1" "$? $(echo "$out" | grep -c /no/such/program)"

isola run --rm --name quick $vm --network none $image sh -c 'exit 4'
is "--rm has removed it when run returns, though its machine is still taken apart" "4 0 nothing to repair" "$? $(isola ps -aq | wc -l) $(isola system check)"
isola run --rm --name quick $vm --network none $image true
is "and its name is free" 0 $?
claim "a moment later nothing of it is left" within 5 sh -c '[ -z "$(ls $ISOLA_RUN/workloads; ls $ISOLA_RUN/containers)" ]'
isola run -d --name one $vm --network none $image sleep 1000 >/dev/null &
isola run -d --name two $vm --network none $image sleep 1000 >/dev/null
wait $!
is "two machines start at once" "0 one two" "$? $(isola exec one echo one) $(isola exec two echo two)"
isola rm -f one two >/dev/null

# Options: one machine has many.
echo 'FILED=yes' >/tmp/env
out=$(isola run --rm $vm --network none --init --read-only --tmpfs /t:size=1m --user nobody --group-add 55 \
    --ulimit nofile=100:200 --sysctl net.ipv4.ip_forward=1 --sysctl kernel.shmmax=12345 --sysctl vm.max_map_count=262144 \
    --cap-drop ALL --cap-add NET_ADMIN --env-file /tmp/env -e ASKED=too --shm-size 3m --workdir /t/w --hostname named \
    --cpus 0.5 --cpuset-cpus 0 --cpu-shares 100 --pids-limit 20 --oom-score-adj 100 --add-host other:1.2.3.4 --dns 9.9.9.9 \
    --stop-signal USR1 --log-opt max-size=1m --entrypoint sh $image -c '
tr "\0" " " </proc/1/cmdline | head -n 1 | cut -c 1-9
touch /x 2>&1 | grep -c Read-only; touch /t/x && id -u; id -G
ulimit -n; ulimit -Hn
cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/sys/vm/max_map_count
grep CapBnd /proc/self/status | cut -f 2
echo $FILED $ASKED; df /dev/shm | awk "NR == 2 { print \$2 }"; pwd; hostname
cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max /proc/self/oom_score_adj
grep other /etc/hosts | cut -f 1; cat /etc/resolv.conf' 2>&1)
is "--init is process 1" "/dev/init" "$(echo "$out" | sed -n 1p)"
is "--read-only, --tmpfs, --user and --group-add" "1 65534 65534 55" "$(echo $(echo "$out" | sed -n 2,4p))"
is "--ulimit" "100 200" "$(echo $(echo "$out" | sed -n 5,6p))"
is "--sysctl sets what it likes, for the kernel is its own" "1 12345 262144" "$(echo $(echo "$out" | sed -n 7,9p))"
is "--cap-drop and --cap-add" 0000000000001000 "$(echo "$out" | sed -n 10p)"
is "--env-file, -e, --shm-size, --workdir, --hostname" "yes too 3072 /t/w named" "$(echo $(echo "$out" | sed -n 11,14p))"
is "shares of CPUs count once, outside; the rest is inside" "max 100000 20 100" "$(echo $(echo "$out" | sed -n 15,17p))"
is "--add-host and --dns" "1.2.3.4 nameserver 9.9.9.9" "$(echo $(echo "$out" | sed -n 18,19p))"
for option in "--device /dev/null" "--pid host" "--ipc host" "--uts host" "--userns auto" "--network host" "--memory-swap 1g" "--kernel /nowhere" "--security-opt apparmor=x"; do
    isola run --rm $vm $option $image true 2>&1 | grep -q -e "${option%% *}" && echo "$option"
done >/tmp/out
is "what has no meaning is refused by name" 9 "$(wc -l </tmp/out)"
is "--kernel is the vm wall's" 1 "$(isola run --rm --kernel "$kernel" $image true 2>&1 | grep -c 'needs --isolation vm')"

# Terminals.
out=$( (sleep 4; printf 'stty size; tty; exit 6\n'; sleep 2) | script -qec "stty rows 22 cols 77; isola run --rm -it $vm --network none $image sh; echo run=\$?" /dev/null | tr -d '\r')
is "-it has a terminal of the size of ours" "1 1 1" \
    "$(echo "$out" | grep -c '^22 77') $(echo "$out" | grep -c '^/dev/pts/0') $(echo "$out" | grep -c '^run=6')"

isola run -dit --name seen $vm --network none $image sh >/dev/null
out=$( (sleep 1; printf 'stty size\n'; sleep 1; printf '\030'; sleep 1) | script -qec "stty rows 33 cols 99; isola attach --detach-keys ctrl-x seen; echo attach=\$?" /dev/null | tr -d '\r')
is "attach has the size of ours, and its keys detach" "1 1 running" "$(echo "$out" | grep -c '^33 99') $(echo "$out" | grep -c 'attach=0') $(isola ps --format '{{.State}}')"
isola rm -f seen >/dev/null
isola run --name full $vm --kernel "$kernel" --network none -m 100m $image sh -c 'x=$(head -c 90000000 /dev/zero | tr "\0" a); echo ${#x}' >/tmp/out 2>&1
is "a workload that has no memory left is told from one that was killed" "137 1" "$? $(isola logs full 2>&1 | grep -c 'ran out of memory')"
is "inspect has that and the kernel it was asked for" "true $kernel" "$(isola inspect -f '{{.State.OOMKilled}} {{.HostConfig.Kernel}}' full)"
isola rm full >/dev/null
isola network create back >/dev/null
isola run -d --name web $vm --network back -p 8080:80 -m 256m -h webhost -e A=b --init \
    --health-cmd 'test -e /index.html' --health-interval 1s $image \
    sh -c 'echo hi >/index.html; trap "exit 3" TERM; httpd -f -v -p 80 -h / & wait' >/tmp/out 2>&1
is "a web server starts detached" 0 $?; sed 's/^/# /' /tmp/out
claim "its published port answers" within 10 wget -q -O /tmp/page http://127.0.0.1:8080/
is "with its page" hi "$(cat /tmp/page)"
is "a container finds it by name" hi "$(isola run --rm --network back $image wget -q -O - http://web/ 2>&1)"
is "exec works" "in webhost b" "$(isola exec web sh -c 'echo in $(hostname) $A' 2>&1)"
isola exec web sh -c 'exit 9'
is "with exit codes" 9 $?
is "and standard input" xyz "$(echo xyz | isola exec -i web cat 2>&1)"
is "and -u, -e and -w" "7:8 /etc c" "$(isola exec -u 7:8 -w /etc -e A=c web sh -c 'echo $(id -u):$(id -g) $(pwd) $A' 2>&1)"
isola exec web sh -c 'echo new:x:77:78::/home/new:/bin/sh >>/etc/passwd; rm /etc/shells; mkdir /made; ln -s a /made/link'
is "and -u with a name that only the machine knows" "77 78 /home/new" "$(isola exec -u new web sh -c 'echo $(id -u) $(id -g) $HOME' 2>&1)"
is "a name that nobody has is said" 1 "$(isola exec -u nobody2 web true 2>&1 | grep -c "'nobody2' is not in /etc/passwd")"
is "exec -d holds nothing of ours" 0 "$(timeout 20 isola exec -d web sleep 1000 | cat; echo $?)"
out=$( (sleep 2; printf 'stty size; exit 5\n'; sleep 2) | script -qec "stty rows 44 cols 88; isola exec -it web sh; echo exec=\$?" /dev/null | tr -d '\r')
is "exec -it has one, too" "1 1" "$(echo "$out" | grep -c '^44 88') $(echo "$out" | grep -c '^exec=5')"
is "top shows what runs inside" "1 1" "$(isola top web | grep -c '[0-9]  *httpd -f') $(isola top web | grep -c ' sleep 1000')"
is "stats: the limit is the machine's, the processes are those inside" "256MiB yes" \
    "$(isola stats --no-stream --format '{{.MemUsage}}' web | sed 's/.* //') \
$([ "$(isola stats --no-stream --format '{{.PIDs}}' web)" -ge 3 ] && echo yes)"
memory=$(isola exec web sh -c 'sed -n "s/MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo')
is "--memory is the machine's memory" yes "$([ "$memory" -gt 180000 ] && [ "$memory" -lt 262144 ] && echo yes || echo "$memory")"
is "devices are on PCI, which this kernel has a driver for" "6 0" \
    "$(isola exec web sh -c 'echo $(ls /sys/bus/pci/drivers/virtio-pci | grep -c :) $(ls /sys/bus/platform/drivers/virtio-mmio 2>/dev/null | grep -c LNRO)')"
is "drivers are loaded for devices that are there, and for no others" "1 0" \
    "$(isola exec web sh -c 'echo $(grep -c ^virtio_net /proc/modules) $(grep -c -e ^virtio_mmio -e ^virtio_console /proc/modules)')"
claim "what nobody waits for is loaded later" within 10 isola exec web grep -q ^virtio_balloon /proc/modules
is "ps shows it, healthy" "web running 1" "$(isola ps --format '{{.Names}} {{.State}}') $(isola ps | grep -c '(healthy)')"
claim "logs have what it said" sh -c 'isola logs web 2>&1 | grep -q response:200'

# Files of a machine that runs.
is "diff shows what changed, and nothing that was mounted" "$(printf 'C /etc\nC /etc/passwd\nD /etc/shells\nA /index.html\nA /made\nA /made/link')" \
    "$(isola diff web 2>&1)"
isola cp web:/etc/passwd /tmp/passwd && isola cp web:/made /tmp/made
is "cp brings files and directories" "1 a" "$(grep -c ^new: /tmp/passwd) $(readlink /tmp/made/link)"
mkdir -p /tmp/tree/sub && echo one >/tmp/tree/sub/f && chmod 700 /tmp/tree/sub
isola cp /tmp/tree web:/srv && tar c -C /tmp tree | isola cp - web:/made
is "and takes them, and archives" "one 700 0 one" "$(isola exec web sh -c 'cat /srv/sub/f; stat -c "%a %u" /srv/sub; cat /made/tree/sub/f' | tr '\n' ' ' | sed 's/ $//')"
isola exec web sh -c 'ln -s link2 /made/link1; ln -s /etc/group /made/link2'
is "-L follows links inside, and archives go out" "root:x:0: passwd" "$(isola cp -L web:/made/link1 /tmp/group && head -n 1 /tmp/group) $(isola cp web:/etc/passwd - | tar t)"
is "what is not there is said" "1 1 1" "$(isola cp web:/nowhere /tmp 2>&1 | grep -c "'web:/nowhere': No such file") \
$(isola cp /tmp/tree/sub/f web:/no/where 2>&1 | grep -c "'/no': No such file") $(isola cp web:/etc/passwd /no/where 2>&1 | grep -c "'/no': No such file")"
is "export is its root, without what is mounted" "1 0" "$(isola export web >/tmp/tar; tar tf /tmp/tar | grep -c '^srv/sub/f$') $(tar tf /tmp/tar | grep -c '^proc/.')"
isola commit -m done web web:new >/tmp/out 2>&1
is "commit makes an image of it" "0 one 1 gone" "$? $(isola run --rm --network none web:new sh -c 'cat /srv/sub/f; grep -c ^new: /etc/passwd; [ -e /etc/shells ] || echo gone' 2>&1 | tr '\n' ' ' | sed 's/ $//')"
is "and it goes on" 3 "$(isola exec web sh -c 'echo $((1 + 2))' 2>&1)"

isola pause web >/dev/null
is "a paused machine says so" "paused 1 1 1" "$(isola ps --format '{{.State}}') $(isola exec web true 2>&1 | grep -c paused) \
$(isola cp web:/etc/passwd /tmp 2>&1 | grep -c 'paused, and its machine') $(isola top web 2>&1 | grep -c 'paused, and its machine')"
isola unpause web >/dev/null
is "and goes on where it was" 5 "$(isola exec web sh -c 'echo $((2 + 3))' 2>&1)"
is "memory and networks of a running one are refused with the remedy" "1 1" \
    "$(isola update --memory 300m web 2>&1 | grep -c 'stop it, update it') $(isola network disconnect back web 2>&1 | grep -c 'stop it, change its networks')"
isola update --cpus 0.7 web >/dev/null
is "--cpus can be changed" "70000 100000" "$(cat /sys/fs/cgroup/isola/*/cpu.max)"
isola rename web web2 && is "rename and port" "0.0.0.0:8080" "$(isola port web2 80 | head -n 1)"
isola rename web2 web

isola stop -t 10 web >/dev/null
is "stop is a signal inside" "exited 3" "$(isola inspect -f '{{.State.Status}} {{.State.ExitCode}}' web)"
# Its files when it does not run: the machine, without the workload.
echo stopped >/tmp/word
isola cp /tmp/word web:/word
is "diff of a stopped one" "1 1" "$(isola diff web >/tmp/out 2>&1; grep -c '^A /word$' /tmp/out) $(grep -c '^A /srv/sub/f$' /tmp/out)"
is "cp from a stopped one, and its state stays" "stopped exited 3" "$(isola cp web:/word - | tar xO) $(isola inspect -f '{{.State.Status}} {{.State.ExitCode}}' web)"
isola cp web:/etc/passwd /tmp/killed >/dev/null 2>&1 &
within 20 pidof isola-vmm
kill -9 $!
isola update --memory 200m web >/dev/null
isola start web >/dev/null
is "a start comes after a cp that was killed; its disk outlived the stop" "hi stopped" "$(isola exec web cat /index.html /word 2>&1 | tr '\n' ' ' | sed 's/ $//')"

isola exec web sh -c 'echo kept >/kept'
isola kill web >/dev/null
isola start web >/dev/null
is "what was written before a kill is there" kept "$(isola exec web cat /kept 2>&1)"
kill -9 $(pidof isola-vmm)
isola wait web >/tmp/out
is "kill -9 of the monitor is 137, and said" "137 1" "$(cat /tmp/out) $(isola inspect -f '{{.State.Error}}' web | grep -c 'isola-vmm, the virtual machine, was killed')"
isola rm web >/dev/null

isola run --rm --name here $vm --network none $image sleep 1000 2>/tmp/err &
within 20 isola exec here true
kill -9 $(pidof isola-vmm)
wait $!
is "who is attached hears it" "137 1" "$? $(grep -c "'here' ended: its isola-vmm, the virtual machine, was killed" /tmp/err)"

# Its kernel dies, and with it the agent.
isola run -d --name fallen $vm --network none --privileged $image sh -c 'mount -t proc proc /mnt 2>/dev/null || { mkdir /mnt; mount -t proc proc /mnt; }; echo c >/mnt/sysrq-trigger; sleep 1000' >/dev/null
is "a crash of the kernel is 126, with what it said in the log" "126 1" "$(isola wait fallen) $(isola logs fallen 2>&1 | grep -c 'Kernel panic - not syncing: sysrq')"
is "inspect says what it was" 1 "$(isola inspect -f '{{.State.Error}}' fallen | grep -c 'its virtual machine met a triple fault')"
isola rm fallen >/dev/null

isola run -d --name again $vm --network none --restart on-failure:1 $image sh -c 'echo run >>/runs; exit 3' >/dev/null
claim "--restart starts it once more" within 40 sh -c "isola inspect -f '{{.RestartCount}} {{.State.Status}}' again | grep -q '1 exited'"
is "on the same disk" "run run" "$(isola cp again:/runs - | tar xO | tr '\n' ' ' | sed 's/ $//')"
isola rm again >/dev/null
isola network rm back >/dev/null

# What older programs left.
touch $ISOLA_ROOT/machines/initrd-1-2.cpio $ISOLA_ROOT/machines/.initrd-1-2.cpio.999999
is "system check finds old initial file systems and half-made ones" 2 "$(isola system check 2>&1 | grep -c 'left over: .*/machines/')"
isola system check --repair >/dev/null 2>&1
is "nothing is left to repair" "nothing to repair" "$(isola system check)"
is "no process, tap or group is left" "0 0 0" \
    "$(ps | grep -c 'isola-[vs]') $(ip link | grep -c tap) $(ls -d /sys/fs/cgroup/isola/*/ 2>/dev/null | wc -l)"
is "the kernels have nothing to complain about" "" "$(dmesg | grep -e 'BUG: ' -e Oops -e 'general protection')"
tap_end
SH
nested_engine_run --timeout 600
