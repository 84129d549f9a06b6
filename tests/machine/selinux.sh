#!/bin/bash
# isola-oci and isola where SELinux is enforced: Debian's own kernel with a policy of our own.
# Usage: selinux.sh BUILD KERNEL-DIR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/machine.bash"
machine_need secilc gcc
machine_begin "$@"
machine_bundles
secilc -o "$new/policy" -f /dev/null -c 33 "$here/selinux.cil"
# What busybox cannot ask: labels of files, and that of the session's keyring.
cat >"$work/look.c" <<'C'
#include <linux/keyctl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char label[256] = "";
        ssize_t n = getxattr(argv[i], "security.selinux", label, sizeof(label) - 1);
        (void)printf("%s %s\n", argv[i], n < 0 ? "none" : label);
    }
    char label[256] = "";
    long n = syscall(SYS_keyctl, KEYCTL_GET_SECURITY, KEY_SPEC_SESSION_KEYRING, label, sizeof(label));
    return argc == 1 && printf("%s\n", n < 0 ? "none" : label) < 0;
}
C
gcc -static -o "$new/bundle/rootfs/bin/look" "$work/look.c"

box=system_u:system_r:box_t:s0:c1,c2
files=system_u:object_r:box_file_t:s0:c1,c2
free=".process.noNewPrivileges=false"
bundle own "$(words 'busybox cat /proc/self/attr/current; echo; echo x >/dev/shm/x && echo written; echo x >/x || echo kept') |
    .root.readonly=false | $free | .process.selinuxLabel=\"$box\" | .linux.mountLabel=\"$files\""
bundle unlabelled "$(words '(echo x >/dev/shm/x) || echo kept') | $free | .process.selinuxLabel=\"$box\""
bundle mounts "$(words 'look /dev /dev/shm /dev/mqueue /dev/pts /mnt /proc/acpi /proc') |
    .linux.mountLabel=\"$files\" | .linux.maskedPaths=[\"/proc/acpi\"] |
    .mounts+=[{destination:\"/mnt\",type:\"overlay\",source:\"overlay\",
        options:[\"lowerdir=/lower\",\"upperdir=/layers/upper\",\"workdir=/layers/work\"]}]"
bundle idle "$(words 'exec busybox sleep 100') | $free | .process.selinuxLabel=\"$box\" | .linux.mountLabel=\"$files\""
bundle held "$(words 'exit 0') | .process.noNewPrivileges=true | .process.selinuxLabel=\"$box\""
bundle keys "$(words 'look') | $free | .process.selinuxLabel=\"$box\""
bundle wrong "$(words 'exit 0') | .process.selinuxLabel=\"system_u:system_r:nobody_t:s0\""
bundle wrong_mount "$(words 'exit 0') | .linux.mountLabel=\"system_u:object_r:nothing_t:s0\""
mkdir -p "$new/lower/part"
machine_modules overlay
machine_cases >"$new/cases" <<'SH'
oci() { isola-oci --root /run/oci "$@"; }
lines() { tr '\n' ' '; }
box=system_u:system_r:box_t:s0:c1,c2
files=system_u:object_r:box_file_t:s0:c1,c2
mount -t selinuxfs selinuxfs /sys/fs/selinux
dd if=/policy of=/sys/fs/selinux/load bs=1M 2>/dev/null
echo 1 >/sys/fs/selinux/enforce
mkdir -p /layers
mount -t tmpfs layers /layers
mkdir /layers/upper /layers/work
echo "1..12"
is "the policy is enforced" "1 system_u:system_r:host_t:s0-s0:c1.c3" "$(cat /sys/fs/selinux/enforce) $(cat /proc/self/attr/current | tr -d '\0')"
out=$(oci run -b /own one 2>/dev/null | tr -d '\0' | lines)
is "process label and mount label are the container's, and hold it" \
    "$box written kept " "$out"
out=$(oci run -b /unlabelled two 2>&1 | tail -n 1)
is "without the mount label its own tmpfs is not its own" kept "$out"
out=$(oci run -b /mounts three 2>&1 | grep -v '^/proc ' | sed "s/ $files/ good/" | lines)
is "tmpfs, queues, terminals, overlays and masks have the mount label" \
    "/dev good /dev/shm good /dev/mqueue good /dev/pts good /mnt good /proc/acpi good " "$out"
out=$(oci run -b /mounts three 2>&1 | grep '^/proc ')
is "/proc keeps that of the policy" "/proc system_u:object_r:host_file_t:s0" "$out"
oci run -d -b /idle four </dev/null >/dev/null 2>&1
out=$(oci exec four /bin/busybox cat /proc/self/attr/current 2>&1 | tr -d '\0')
is "exec has the label, too" "$box" "$out"
out=$(oci exec --process-label system_u:system_r:box_t:s0:c3 four /bin/busybox cat /proc/self/attr/current 2>&1 | tr -d '\0')
is "or the one that it asks for" system_u:system_r:box_t:s0:c3 "$out"
oci delete --force four
out=$(oci run -b /keys five 2>&1)
is "the session's keyring has it" "$box" "$out"
out=$(oci run -b /held six 2>&1)
is "what no-new-privileges forbids is said" 1 "$(echo "$out" | grep -c 'noNewPrivileges.*nnp_transition')"
out=$(oci create -b /wrong seven 2>&1 </dev/null)
is "a label that the policy does not know is named before anything runs" 1 \
    "$(echo "$out" | grep -c 'selinuxLabel = "system_u:system_r:nobody_t:s0": the policy.*does not know')"
out=$(oci create -b /wrong_mount eight 2>&1 </dev/null)
is "so is one for mounts" 1 "$(echo "$out" | grep -c 'system_u:object_r:nothing_t:s0.*Invalid')"
is "and nothing is left of them" "0 0" "$(ls /run/oci | wc -l) $(find /sys/fs/cgroup -name seven -o -name eight | wc -l)"
SH
machine_append="cgroup_no_v1=all selinux=1 security=selinux" machine_run 512 240
