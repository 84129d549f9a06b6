#!/bin/sh
# Debian's iasl judges our ACPI tables: it takes each apart and compiles what it got again, without an
# error, a warning or a remark, to the same bytes; only its own name as the table's maker and with it the
# checksum (bytes 29 to 36, and 10) are others. Usage: acpi.sh ACPI_DUMP
set -eu
dump=$1
command -v iasl >/dev/null || {
    echo "1..0 # SKIP iasl is not installed"
    exit 0
}
work=$(mktemp -d /tmp/isola-acpi-XXXXXX)
trap 'rm -rf "$work"' EXIT
number=0
not() {
    sed 's/^/# /' "$1"
    echo "not ok $number - $2"
}
# judge NAME DIR: one table of a board
judge() {
    number=$((number + 1))
    table=$2/$1.aml
    claim="$(basename "$2"): $1 is the same when iasl has read and compiled it"
    if ! iasl -d -p "$2/$1" "$table" >"$2/$1.log" 2>&1 ||
        grep -iE 'error|warning|could not|invalid|bad ' "$2/$1.log" >"$2/$1.bad"; then
        not "$2/$1.log" "$claim"
    elif ! iasl -oa -p "$2/new/$1" "$2/$1.dsl" >"$2/$1.log" 2>&1 ||
        ! grep -qE '0 Errors, 0 Warnings, 0 Remarks' "$2/$1.log"; then
        not "$2/$1.log" "$claim"
    elif cmp -l "$table" "$2/new/$1.aml" 2>&1 | awk '$1 != 10 && ($1 < 29 || $1 > 36)' >"$2/$1.log" &&
        [ -s "$2/$1.log" ]; then
        not "$2/$1.log" "$claim"
    else
        echo "ok $number - $claim"
    fi
}
for board in "1 plain" "1 pci" "1 bare" "2 pci" "255 plain" "256 pci" "600 pci"; do
    dir=$work/$(echo "$board" | tr ' ' -)
    mkdir -p "$dir/new"
    # shellcheck disable=SC2086
    "$dump" $board "$dir" >"$dir/list"
    for table in $(sed -n '2,$p' "$dir/list"); do
        judge "$table" "$dir"
    done
done
echo "1..$number"
