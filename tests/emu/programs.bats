# Debian's arm64 programs under isola-emu-aarch64.
# shellcheck disable=SC2154

setup() {
    emu=$ISOLA_BUILD/src/main/isola-emu-aarch64
    ISOLA_ARM64=${ISOLA_ARM64:-$ISOLA_BUILD/arm64}
    root=$ISOLA_ARM64/root
    [ -e "$root/bin/bash" ] || skip "$(cat "$ISOLA_ARM64/missing" 2>/dev/null || echo "apt reaches no mirror")"
    bb=$root/bin/busybox
    T=$(mktemp -d /var/tmp/isola-emu.XXXXXX)
}

teardown() {
    rm -rf "${T:-/nonexistent}"
}

guest() {
    timeout 60 "$emu" -L "$root" "$@"
}

@test "a static program says what it says, and ends with its code" {
    run timeout 20 "$emu" "$bb" echo hello world
    [ "$status" = 0 ]
    [ "$output" = "hello world" ]
    run timeout 20 "$emu" "$bb" sh -c 'echo out; echo err >&2; exit 7'
    [ "$status" = 7 ]
    [ "$output" = "out
err" ]
}

@test "a shell script of arithmetic, strings, pipes, forks and files has native output" {
    cat >"$T/script" <<'SH'
i=0; s=0; while [ $i -lt 3000 ]; do i=$((i+1)); s=$((s+i*i%7)); done; echo $s
seq 1 1000 | sort -rn | head -n 3
awk 'BEGIN{for(i=0;i<5000;i++){s+=i*1.5; t=t (i%10)} print s, length(t)}'
printf '%08.3f %s %x\n' 3.14159 abc 48879
for f in a b c; do echo $f | tr a-z A-Z; done
x=abcdef; echo ${x#ab} ${x%ef} ${#x}
seq 1 20000 | gzip | gunzip | md5sum
seq 1 20000 | sha256sum; seq 1 20000 | sha1sum; seq 1 20000 | cksum
date -u -d @1000000000
echo file >out; cat out; ls -l out | cut -c 1-10; rm out
(exit 3); echo $?; false || echo no; trap 'echo bye' EXIT
SH
    cd "$T"
    # Its applets are programs of their own: found by the name of the shell, which is foreign.
    mkdir bin native
    for name in seq sort head awk tr gzip gunzip md5sum sha256sum sha1sum cksum date cat ls cut rm; do
        ln -s "$bb" bin/$name
        ln -s "$(command -v busybox)" native/$name
    done
    native=$(command -v busybox) timeout=$(command -v timeout)
    PATH=$T/native $native sh script >native.out 2>&1
    PATH=$T/bin $timeout 60 "$emu" "$bb" sh script >ours.out 2>&1
    diff native.out ours.out
    PATH=$T/bin $timeout 100 "$emu" --interpret "$bb" sh script >interpreted.out 2>&1
    diff native.out interpreted.out
}

@test "dynamic programs find their interpreter and libraries below -L" {
    run guest "$root/bin/bash" -c 'for i in 1 2 3; do echo $((i*i)); done; echo a | { read x; echo $x$x; }'
    [ "$output" = "1
4
9
aa" ]
    ISOLA_LD_PREFIX=$root run timeout 20 "$emu" "$root/bin/bash" -c 'echo $BASH_VERSINFO'
    [ "$status" = 0 ]
}

@test "perl computes, sorts, matches and prints as natively" {
    cat >"$T/p.pl" <<'PL'
my $s = 0; $s += $_ * 0.5 for 1 .. 100000; print "$s\n";
print join(",", sort { $a <=> $b } map { ($_ * 7919) % 1009 } 1 .. 50), "\n";
my $t = "the quick brown fox" x 100; my $n = () = $t =~ /\b[a-z]{5}\b/g; print "$n\n";
printf "%.12g %.6f %e %s\n", 1/3, sqrt(2), 12345.678, join " ", map { sin($_) + exp($_ / 7) + log($_) + $_ ** 0.3 } 1 .. 20;
print 2**62, " ", -7 % 3, " ", int(-7 / 2), " ", 0xffffffff * 3, " ", 1e308 * 10, " ", 9**9**9 - 9**9**9, "\n";
my %h; $h{$_ % 101} .= chr(65 + $_ % 26) for 1 .. 5000; print join(";", map { "$_=" . length $h{$_} } sort keys %h), "\n";
print unpack("H*", pack("w/a* d> f< N v q", "abc", 1.5, -2.25, 7, 8, -9)), "\n";
PL
    perl "$T/p.pl" >"$T/native"
    guest "$root/usr/bin/perl" "$T/p.pl" >"$T/ours"
    diff "$T/native" "$T/ours"
}

@test "python has the same numbers, hashes, json and decimals as natively" {
    cat >"$T/p.py" <<'PY'
import hashlib, json, math, re, struct, zlib, decimal, fractions
print(sum(i * i for i in range(10000)), 2 ** 200 % 1000007, 3 ** 500)
print(json.loads(json.dumps({"a": [1, 2.5, None]})), [math.sin(x) * math.exp(x / 9) for x in range(20)], round(2.5), 7 // -2)
print(hashlib.sha256(b"x" * 1000).hexdigest(), hashlib.md5(b"y").hexdigest(), re.sub("a+", "b", "caaat"), struct.pack("<d", math.pi).hex())
print(zlib.crc32(b"abc" * 99), decimal.Decimal(2).sqrt(), fractions.Fraction(0.1), float("nan") == float("nan"), math.inf - math.inf)
print(sorted((x * 7919) % 1009 / 7 for x in range(40)), [int(x) for x in (1e18, -1.5, 2 ** 53 + 1.0)], complex(1, 2) ** 3)
PY
    python3 "$T/p.py" >"$T/native"
    guest "$root/usr/bin/python3.11" "$T/p.py" >"$T/ours"
    diff "$T/native" "$T/ours"
}

@test "sqlite and xz work on data" {
    run guest "$root/usr/bin/sqlite3" "$T/db" '
        create table t(a integer primary key, b text, c real);
        with recursive n(x) as (select 1 union all select x + 1 from n where x < 2000)
            insert into t select x, printf("%05d", x * 7 % 2000), x / 3.0 from n;
        create index i on t(b); select count(*), sum(a), round(sum(c), 3) from t; select a from t where b = "00007";
        pragma integrity_check;'
    [ "$status" = 0 ]
    [ "$output" = "2000|2001000|667000.0
1
ok" ]
    seq 1 100000 >"$T/numbers"
    guest "$root/usr/bin/xz" -1 -k "$T/numbers"
    xz -dc "$T/numbers.xz" | cmp - "$T/numbers"
}

@test "signals reach handlers, and calls go on or end as the program asked" {
    run guest "$root/usr/bin/perl" -e '
        $| = 1; $SIG{ALRM} = sub { print "rang\n" }; alarm 1; my $n = sleep 10; print "slept short\n" if $n < 5;
        $SIG{USR1} = sub { print "usr1\n" }; kill "USR1", $$; $SIG{CHLD} = sub { print "child\n" };
        my $p = fork; exit 5 if !$p; waitpid $p, 0; print $? >> 8, "\n";
        $SIG{SEGV} = sub { print "caught\n"; exit 9 }; kill "SEGV", $$; sleep 1'
    [ "$status" = 9 ]
    [ "$output" = "rang
slept short
usr1
child
5
caught" ]
    run guest "$root/bin/bash" -c 'kill -TERM $$; sleep 5'
    [ "$status" = 143 ]
    # Each at a random instruction of a loop.
    run guest "$root/usr/bin/perl" -MTime::HiRes=setitimer,ITIMER_REAL -e 1
    run guest "$root/bin/bash" -c 'n=0; trap "n=\$((n+1))" USR1; (for i in 1 2 3 4 5 6 7 8 9 10; do kill -USR1 $$; done) & 
        i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; wait; [ $n -ge 1 ] && echo $i'
    [ "$output" = 3000 ]
}

@test "what a program starts is run by the same translator, and native programs natively" {
    printf '#!%s\necho script of $0 with $1\n' "$root/bin/bash" >"$T/script"
    chmod +x "$T/script"
    run guest "$root/bin/bash" -c "exec $T/script one"
    [ "$output" = "script of $T/script with one" ]
    run guest "$root/bin/bash" -c "$root/bin/busybox uname -m; /bin/busybox uname -m; $bb echo \$0 | $bb cat; nosuchprogram"
    [ "$status" = 127 ]
    [ "${lines[0]}" = aarch64 ]
    [ "${lines[1]}" = "$(uname -m)" ]
}

@test "a pointer to nowhere is an error of the call, and a jump to nowhere the end, said" {
    run guest "$root/usr/bin/perl" -e 'print syscall(64, 1, 16, 10), " $!\n"; print syscall(63, 0, 16, 10), "\n"' </dev/zero
    [ "$status" = 0 ]
    [ "${lines[0]}" = "-1 Bad address" ]
    run guest "$root/usr/bin/perl" -e 'unpack("p", pack("Q", 16))'
    [ "$status" = 139 ]
    [[ "$output" == *"ended by signal 11 at 0x"*"address 0x10"* ]]
}

@test "options: the name, traced calls, counters; unknown ones are refused" {
    run timeout 20 "$emu" --argv0 sh "$bb" -c 'echo $0'
    [ "$output" = sh ]
    run timeout 20 "$emu" --strace "$bb" true
    [[ "$output" == *"exit_group[94](0x0"* ]]
    run timeout 20 "$emu" --counters "$bb" true
    [[ "$output" == *" blocks, "*" bytes of host code"* ]]
    run "$emu" --nonsense x
    [ "$status" = 125 ]
    [[ "$output" == *"--nonsense: unknown"* ]]
    run "$emu"
    [ "$status" = 125 ]
    [[ "$output" == Usage:* ]]
}

@test "files that are no program for AArch64 are refused with the header's field" {
    run "$emu" /bin/true
    [ "$status" = 126 ]
    [[ "$output" == *"e_machine: is not for AArch64"* ]]
    run "$emu" /etc/passwd
    [ "$status" = 126 ]
    [[ "$output" == *"is no ELF file"* ]]
    run "$emu" /no/such/file
    [ "$status" = 127 ]
    [[ "$output" == *"No such file"* ]]
    head -c 100 "$bb" >"$T/short"
    run "$emu" "$T/short"
    [ "$status" = 126 ]
    [[ "$output" == *"e_phoff"* ]]
    run timeout 20 "$emu" "$root/bin/bash" -c true
    [ "$status" = 127 ]
    [[ "$output" == *"ld-linux-aarch64"*"the interpreter of"* ]]
}

@test "a compiler at run time: its code is made, changed and thrown away while it runs" {
    run guest "$root/usr/bin/luajit" -e 'local s = 0 for i = 1, 1e7 do s = s + i % 7 end
        local t = {} for i = 1, 20000 do t[#t + 1] = ("%d:%s"):format(i, tostring(i):reverse()) end
        local n = 0 for w in table.concat(t, " "):gmatch("%d+:(%d)") do n = n + tonumber(w) end
        for i = 1, 200 do local f = loadstring("local a = ... for k = 1, 200 do a = a + k * " .. i .. " end return a") s = s + f(i) end
        print(s, n, require("jit").status())'
    [ "$status" = 0 ]
    [[ "$output" == "434030097"*"90000"*"true"* ]]
}
