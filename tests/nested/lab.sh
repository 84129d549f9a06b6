#!/bin/bash
# What tests/nested/lab promises to those who test in it. Usage: lab.sh BUILD
set -u
build=$(cd "$1" && pwd)
. "$(dirname "$0")/nested.bash"
nested_begin

plan 11
cat >"$job/job" <<'SH'
#!/bin/sh
echo "first"
cat /host/word
date -u +%s >/out/now
head -c 3000000 /dev/urandom >/out/much
md5sum </out/much >/out/sum
touch /host/x 2>/dev/null || echo "read-only"
printf 'no newline'
exit 7
SH
chmod +x "$job/job"
echo "word of the folder" >"$job/word"
ram() { stat -c "%y %b" "$build/nested/smp1/RAM"; }
before=$(ram)
out=$("$lab" run --out "$work/out.tar" "$build/nested" "$job" 2>"$work/said")
is "the job's exit code is the lab's" 7 $?
is "its output is printed whole, and nothing else" "$(printf 'first\nword of the folder\nread-only\nno newline')" "$out"
mkdir "$work/back"
tar x -C "$work/back" -f "$work/out.tar"
is "what it leaves in /out comes back" "$(cat "$work/back/sum")" "$(md5sum <"$work/back/much")"
now=$(date +%s)
then=$(cat "$work/back/now")
is "L1 knows the date" yes "$([ $((now - then)) -ge 0 ] && [ $((now - then)) -lt 60 ] && echo yes)"

printf '#!/bin/sh\ncat /host/word\nnproc\n' >"$job/job"
echo "another word" >"$job/word"
out=$("$lab" run "$build/nested" "$job" 2>&1)
is "a second run finds its own folder" "$(printf 'another word\n1')" "$out"
is "the saved machine is as it was" "$before" "$(ram)"

# The end of what does not end, and of what is ended: neither processes nor files stay behind.
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
left() { echo "$(pgrep -f "$TMPDIR" | wc -l) $(find "$TMPDIR" -mindepth 1 | wc -l)"; }
printf '#!/bin/sh\necho begun\nsleep 1000\n' >"$job/job"
begin() {
    "$lab" run "$build/nested" "$job" >"$work/begun" 2>&1 &
    pid=$!
    for _ in $(seq 300); do
        grep -q begun "$work/begun" && break
        sleep 0.1
    done
}
out=$("$lab" run --timeout 8 "$build/nested" "$job" 2>/dev/null)
is "a job that does not end is ended" "124 begun" "$? $out"
begin
is "while one runs there is a machine" 1 "$(pgrep -f "qemu.*$TMPDIR" | wc -l)"
kill -TERM $pid
wait $pid
is "a lab that is ended leaves nothing" "143 0 0" "$? $(left)"
begin
kill -KILL $pid
wait $pid 2>/dev/null
for _ in $(seq 50); do
    [ "$(pgrep -f "$TMPDIR" | wc -l)" = 0 ] && break
    sleep 0.1
done
is "the machine of one that is killed ends with it" 0 "$(pgrep -f "$TMPDIR" | wc -l)"
rm -rf "${TMPDIR:?}"/*
printf '#!/bin/sh\necho c >/proc/sysrq-trigger\n' >"$job/job"
"$lab" run "$build/nested" "$job" >"$work/out" 2>&1
is "a machine that crashes is not a job that fails" "125 0 0" "$? $(left)"
nested_end
