# Bash completion for isola. Commands, options and operands come from `isola --help` at run time, so
# that this file names none of them.

# Lines of --help of a command: _isola_help WORD...
_isola_help() {
    "${_isola_program[@]}" "$@" --help 2>/dev/null
}

# First words of the rows below a heading: _isola_rows HEADING <HELP
_isola_rows() {
    sed -n "/^$1:\$/,/^\$/s/^  \([a-z][a-z-]*\) .*/\1/p"
}

# What an option takes, as --help calls it; nothing for a flag: _isola_value OPTION <HELP
_isola_value() {
    case $1 in
    --*) sed -n "s/^  .\{4\}$1 \([^ ].*\)/\1/p" ;;
    *) sed -n "s/^  $1, --[a-z0-9-]* \([^ ].*\)/\1/p" ;;
    esac | sed 's/  .*//'
}

# The names of things: _isola_names KIND
_isola_names() {
    case $1 in
    workloads) "${_isola_program[@]}" ps -aq --format '{{.Names}}' ;;
    images) "${_isola_program[@]}" images --format '{{.Repository}}:{{.Tag}}' | grep -v '<none>' | sort -u ;;
    kernels) "${_isola_program[@]}" kernel ls -q ;;
    machines) "${_isola_program[@]}" machine ls -q ;;
    volumes) "${_isola_program[@]}" volume ls -q ;;
    networks)
        echo bridge host none
        "${_isola_program[@]}" network ls --format '{{.Name}}'
        ;;
    esac 2>/dev/null
}

# Candidates for a word that --help calls by a name: _isola_candidates GROUP METAVARIABLE WORD
_isola_candidates() {
    case $1:$2 in
    kernel:VERSION*) compgen -W "$(_isola_names kernels)" -- "$3" ;;
    *:KERNEL*) compgen -f -W "$(_isola_names kernels)" -- "$3" ;;
    *:MACHINE*) compgen -W "$(_isola_names machines)" -- "$3" ;;
    volume:NAME*) compgen -W "$(_isola_names volumes)" -- "$3" ;;
    network:NAME* | *:NETWORK*) compgen -W "$(_isola_names networks)" -- "$3" ;;
    *:NAME*) compgen -W "$(_isola_names workloads)" -- "$3" ;;
    *:IMAGE*) compgen -W "$(_isola_names images)" -- "$3" ;;
    *:SRC:DST*) compgen -d -W "$(_isola_names volumes)" -- "$3" ;;
    *:DIR*) compgen -d -- "$3" ;;
    *:SIGNAL*) compgen -W 'HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH' -- "$3" ;;
    *) compgen -f -- "$3" ;;
    esac
}

# Joins what readline split at ':' and '=': words[0..cword], the last one is to be completed.
_isola_words() {
    local i line=${COMP_LINE:0:COMP_POINT}
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        local word=${COMP_WORDS[i]}
        if ((i > 1)) && [[ $word == [:=]* || ${COMP_WORDS[i - 1]} == *[:=] ]] &&
            [[ $line == *"${words[-1]}$word"* && -n $word ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    cword=$((${#words[@]} - 1))
}

_isola() {
    local -a words _isola_program command=()
    local cword help groups group= value= i word cur count=0
    _isola_words
    cur=${words[cword]}
    _isola_program=("${words[0]}")
    COMPREPLY=()

    help=$(_isola_help)
    groups=" $(_isola_rows Groups <<<"$help" | tr '\n' ' ')"
    for ((i = 1; i < cword; i++)); do
        word=${words[i]}
        if [[ $word == -* && $count == 0 ]]; then
            value=
            [[ $word == *=* ]] || value=$(_isola_value "$word" <<<"$help")
            if [[ -n $value ]]; then
                # Where the state is matters for the names, too.
                ((i + 1 < cword && ${#command[@]} == 0)) && _isola_program+=("$word" "${words[i + 1]}")
                ((i += 1))
                ((i < cword)) && value=
            fi
        elif ((${#command[@]} == 0)) || [[ ${#command[@]} == 1 && -n $group && $count == 0 ]]; then
            command+=("$word")
            [[ ${#command[@]} == 1 && $groups == *" $word "* ]] && group=$word
            help=$(_isola_help "${command[@]}")
        else
            ((count += 1))
        fi
    done

    if [[ -n $value ]]; then
        mapfile -t COMPREPLY < <(_isola_candidates "$group" "$value" "$cur")
    elif [[ $cur == -* && $count == 0 ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  .\{4\}\(--[a-z0-9-]*\).*/\1/p' <<<"$help") --help" -- "$cur")
    elif grep -q '^Commands:$' <<<"$help"; then
        mapfile -t COMPREPLY < <(compgen -W "$(_isola_rows Commands <<<"$help") $(_isola_rows Groups <<<"$help")" -- "$cur")
    else
        # The operand at this place; the last one stands for all that follow.
        local -a operands
        read -ra operands < <(sed -n '1s/^Usage: //p' <<<"$help" | sed 's/ \[OPTIONS\]//; s/\[//g; s/\]//g')
        operands=("${operands[@]:1 + ${#command[@]}}")
        ((${#operands[@]} > 0)) || return 0
        ((count < ${#operands[@]})) || count=$((${#operands[@]} - 1))
        mapfile -t COMPREPLY < <(_isola_candidates "$group" "${operands[count]}" "$cur")
    fi
    # Readline replaces only what follows the last ':'.
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")
    fi
}

complete -o filenames -o nosort -F _isola isola
