#!/bin/sh
# mandoc has nothing to say about any man page.
cd "$1/man" || exit 1
count=0
bad=0
for page in *.[1-8]; do
    count=$((count + 1))
    said=$(mandoc -Tlint -Wwarning "$page" 2>&1)
    if [ -z "$said" ]; then
        echo "ok $count - mandoc finds nothing in $page"
    else
        echo "$said" | sed 's/^/# /'
        echo "not ok $count - mandoc finds nothing in $page"
        bad=1
    fi
done
echo "1..$count"
[ "$count" -gt 0 ] && exit "$bad"
