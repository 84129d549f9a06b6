# Sourced by jobs of nested_engine, in L1.
. /lab/tap
dmesg -n 1
mkdir -p /var/lib /var/tmp /etc
echo "root:x:0:0:root:/:/bin/sh" >/etc/passwd
tar x -C /var/tmp -f /host/root.tar 2>/dev/null
export ISOLA_ROOT=/var/tmp/root ISOLA_RUN=/run/isola
image=isola/busybox
within() { # SECONDS COMMAND...
    limit=$1
    shift
    for _ in $(seq $((limit * 5))); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    return 1
}
# A job that hangs says where, before the laboratory ends it.
(
    sleep 450
    echo "# still at work after 450 s:"
    ps -o pid,ppid,stat,args | grep -v '\]$' | sed 's/^/# /'
    for p in $(pidof isola isola-shim isola-vmm isola-fs script); do
        echo "# $p $(tr '\0' ' ' <"/proc/$p/cmdline")"
        for thread in /proc/"$p"/task/*; do
            echo "#   $(cat "$thread/wchan") $(cat "$thread/syscall")"
        done
        ls -l "/proc/$p/fd" | sed 's/^.*:.. /#     /'
    done
    isola ps -a | sed 's/^/# /'
) &
