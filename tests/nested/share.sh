#!/bin/bash
# Directories, files and volumes that the host shares with workloads in machines, by Linux' own
# virtio-fs driver, in L1. Usage: share.sh BUILD
set -u
build=$(cd "$1" && pwd)
. "$(dirname "$0")/nested.bash"
nested_begin
nested_engine isola isola-shim isola-init isola-vmm isola-fs isola-guest isola-files isola-image
# An image with a VOLUME that has something in it.
mkdir -p "$work/image/bin" "$work/image/data"
cp "$(command -v busybox)" "$work/image/bin/"
for name in sh cat; do ln -s busybox "$work/image/bin/$name"; done
echo "from the image" >"$work/image/data/word"
tar c -C "$work/image" . | "$isola" import -c "VOLUME /data" - with-volume >/dev/null
cat >"$job/job" <<'SH'
#!/bin/sh
. /host/engine.sh
vm="--isolation vm --network none"
dir=/var/tmp/shared
mkdir -p $dir/below
echo "from the host" >$dir/word
echo "one file" >/var/tmp/single
plan 18

isola run --rm $vm -v $dir:/s $image sh -c '
cat /s/word
echo "from the guest" >/s/made && mv /s/made /s/below/renamed
ln -s below/renamed /s/link && cat /s/link
mkdir /s/d && rmdir /s/d && [ ! -e /s/d ] && echo gone
touch /s/moded && chown 12:34 /s/moded && chmod 4751 /s/moded
head -c 5000000 /dev/urandom >/s/big && md5sum </s/big
' >/tmp/out 2>/tmp/said || cat /tmp/said
is "the guest reads the host's files, makes, renames, links and removes" \
    "$(printf 'from the host\nfrom the guest\ngone')" "$(head -n 3 /tmp/out)"
is "what it made is there for the host" "from the guest" "$(cat $dir/below/renamed)"
is "a link is a link" below/renamed "$(readlink $dir/link)"
is "owner and mode are those of the guest" "4751 12 34" "$(stat -c '%a %u %g' $dir/moded)"
is "five million bytes arrive" "5000000 $(tail -n 1 /tmp/out)" "$(stat -c %s $dir/big) $(md5sum <$dir/big)"

isola run --rm $vm -v $dir:/s:ro $image sh -c 'cat /s/word; echo x >/s/word; rm /s/word' >/tmp/out 2>&1
is "a read-only share is read" "from the host" "$(head -n 1 /tmp/out)"
is "and refuses to be written" 2 "$(grep -c 'Read-only file system' /tmp/out)"
is "so that nothing changed" "from the host" "$(cat $dir/word)"

out=$(isola run --rm $vm --mount type=bind,source=/var/tmp/single,target=/etc/single $image \
    sh -c 'cat /etc/single; echo changed >/etc/single' 2>&1)
is "a single file is shared, both ways" "one file changed" "$out $(cat /var/tmp/single)"

out=$(isola run --name volume $vm -v $dir:/data/inside:ro with-volume \
    sh -c 'cat /data/word /data/inside/word; echo more >/data/more' 2>&1)
is "a VOLUME of the image has its first content, and a mount in it" \
    "$(printf 'from the image\nfrom the host')" "$out"
is "and is a volume of the host" more "$(cat $ISOLA_ROOT/volumes/*/_data/more)"
is "cp of a stopped machine sees it, too" more "$(isola cp volume:/data/more - | tar xO)"
isola rm -v volume >/dev/null 2>&1

# A container and a machine with one volume, at the same time.
isola run -d --name box --network none -v pool:/v $image \
    sh -c 'while [ ! -e /v/asked ]; do sleep 0.1; done; cat /v/asked >/v/answered; sleep 1000' >/dev/null
out=$(isola run --rm $vm -v pool:/v $image \
    sh -c 'echo question >/v/new; mv /v/new /v/asked; n=0; while [ ! -s /v/answered ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done; cat /v/answered' 2>&1)
is "a container and a machine talk through a volume" question "$out"
isola rm -f -t 0 box >/dev/null 2>&1

many=
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    mkdir -p /var/tmp/m/$i
    echo $i >/var/tmp/m/$i/n
    many="$many -v /var/tmp/m/$i:/m/$i"
done
out=$(isola run --rm $vm $many $image sh -c 'cat /m/*/n | wc -l; ls /sys/bus/pci/devices | wc -l' 2>&1)
is "a machine with more shares than places in memory has them on PCI" "12 18" "$(echo $out)"

# The server of the share dies.
isola run -d --name lost $vm -v $dir:/s $image sh -c 'cat /s/word; sleep 1000' >/dev/null
n=0
while [ "$(isola logs lost 2>/dev/null)" != "from the host" ] && [ $n -lt 200 ]; do
    sleep 0.1
    n=$((n + 1))
done
server=
for p in /proc/[0-9]*; do
    [ "$(tr '\0' ' ' <$p/cmdline | cut -d ' ' -f 1)" = /isola-fs ] && server="$server ${p#/proc/}"
done
is "one process serves one share, with rights on files alone" "1 000000000000001b" \
    "$(echo $server | wc -w) $(sed -n 's/^CapPrm:.//p' /proc/${server# }/status)"
kill -9 $server
out=$(timeout 30 isola wait lost 2>&1)
is "a machine whose server was killed ends" 126 "$out"
is "the log says what died" 1 "$(isola logs lost 2>&1 | grep -c "isola-fs, the server of share 'share0', ended")"
isola rm lost >/dev/null 2>&1
is "nothing is left of it" 0 "$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -c '^/isola-\(fs\|vmm\)')"
tap_end
SH
nested_engine_run --timeout 600
