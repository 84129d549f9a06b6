#!/bin/sh
# No assertion of a bats file is lost: a line `[ a ] && [ b ]` does not end a test when a is false (set -e looks at
# the last command of such a list alone).
cd "$1" || exit 1
echo 1..1
if bad=$(git ls-files -co --exclude-standard '*.bats' | xargs grep -nE '^ +(! )?\[\[? .* \]\]? && (! )?\['); then
    echo "$bad" | sed 's/^/# /'
    echo "not ok 1 - a line of a bats file has one assertion"
    exit 1
fi
echo "ok 1 - a line of a bats file has one assertion"
