# TAP for the jobs of tests/nested: `. /lab/tap`. plan N first; then is CLAIM EXPECTED GOT.
tap_number=0
tap_bad=0
plan() { echo "1..$1"; }
tap_line() { # "" or "not ", claim
    tap_number=$((tap_number + 1))
    echo "${1}ok $tap_number - $2"
    [ -z "$1" ] || tap_bad=1
}
is() {
    if [ "$2" = "$3" ]; then
        tap_line "" "$1"
    else
        echo "# expected '$2', got '$3'"
        tap_line "not " "$1"
    fi
}
# claim CLAIM PROGRAM...: that it ends with 0. What it printed stands in front when it does not.
claim() {
    tap_claim=$1
    shift
    if "$@" >/tmp/claim 2>&1; then
        tap_line "" "$tap_claim"
    else
        echo "# $* ended with $?"
        tail -n 20 /tmp/claim | sed 's/^/# /'
        tap_line "not " "$tap_claim"
    fi
}
# Last of a job: its exit code says whether all was well.
tap_end() { exit $tap_bad; }
