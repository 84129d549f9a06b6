#!/bin/bash
# The bash completion, loaded in a shell that is not interactive, offers what there is.
# Usage: completion.sh SOURCE ISOLA ISOLA-IMAGE BUSYBOX-ARCHIVE
set -u
source=$1 isola=$2 image=$3 archive=$4
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export ISOLA_ROOT=$dir/root ISOLA_RUN=$dir/run
PATH=$(dirname "$isola"):$PATH
# shellcheck source=/dev/null
. "$source/completion/isola.bash"

number=0
failed=0

# offers CLAIM WANTED-WORDS WORD...: WANTED-WORDS are among the candidates for the last WORD; a word
# with "!" before it is not.
offers() {
    local claim=$1 wanted=$2 word missing=
    shift 2
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMP_LINE="$*"
    COMP_LINE=${COMP_LINE// : /:} # readline splits words there
    COMP_POINT=${#COMP_LINE}
    COMPREPLY=()
    _isola
    for word in $wanted; do
        case $word in
        !*) [[ " ${COMPREPLY[*]} " == *" ${word#!} "* ]] && missing+=" $word" ;;
        *) [[ " ${COMPREPLY[*]} " == *" $word "* ]] || missing+=" $word" ;;
        esac
    done
    number=$((number + 1))
    if [ -z "$missing" ]; then
        echo "ok $number - $claim"
    else
        echo "# wanted:$missing; got: ${COMPREPLY[*]}"
        echo "not ok $number - $claim"
        failed=1
    fi
}

"$image" load -q -i "$archive" >/dev/null
"$isola" create --name complete-web -v complete-vol:/data isola/busybox >/dev/null
"$isola" create --name complete-db isola/busybox >/dev/null

commands=$("$isola" --help | sed -n '/^Commands:$/,/^$/s/^  \([a-z]*\) .*/\1/p')
# shellcheck disable=SC2086 # a list of words
offers "all commands are offered" "$commands volume !reap" isola ""
offers "the beginning of a command is finished" "restart rename !ps" isola re
offers "the commands of a group are offered" "create inspect ls prune rm !run" isola volume ""
options=$("$isola" run --help | sed -n 's/^  .\{4\}\(--[a-z0-9-]*\).*/\1/p')
offers "all options of run are offered" "$options" isola run --
offers "workloads are offered where one is asked for" "complete-web complete-db" isola logs -n 3 ""
offers "workloads are offered after another" "complete-db" isola rm complete-web complete-d
offers "images are offered where one is asked for" "isola/busybox:latest" isola run --rm -e A=b ""
offers "images behind a colon are finished from there" "latest !isola/busybox:latest" \
    isola run isola/busybox : l
offers "networks are offered as the value of --network" "bridge host none" isola run --network ""
offers "volumes are offered to volume rm" "complete-vol !complete-web" isola volume rm ""
offers "files are offered where one is asked for" "$dir/root" isola run --env-file "$dir/r"
offers "options of the workload's own command are not ours" "!--detach" isola run isola/busybox ls --
unset ISOLA_ROOT
offers "names come from the directory that --root names" "complete-web" \
    isola --root "$dir/root" --run-dir "$dir/run" start ""
echo "1..$number"
exit "$failed"
