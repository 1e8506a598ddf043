# The bash side of a session, cut at the "#:" lines into the files of the session's private
# directory. @DIR@ stands for that directory, quoted; @DIR@/c is the control FIFO.
#
# Every word that names a command is written \builtin NAME, so that neither an alias nor a
# function of the user's stands in for it. Nothing here may fail under the user's set -u,
# set -e, set -f or noclobber, or leave a variable behind.

#: init
# Once per shell, before anything else.
PS1= PS2=
\builtin unset HISTFILE
\builtin set +H +m +o history
\builtin history -c

#: report
# report TAG STATUS: tells how a run ended, and takes the user's set -e, -v, -x and TMOUT
# off, which the driver's own lines must not run under. The next run gets them back. A
# user's 'enable -n printf' is undone for the moment of the report.
\builtin printf '%s\0%s\0%s\0%s\0%s\0' "$1" "$2" "$-" "${TMOUT-}" "${PWD-}" >@DIR@/c || {
\builtin enable printf
\builtin printf '%s\0%s\0%s\0%s\0%s\0' "$1" "$2" "$-" "${TMOUT-}" "${PWD-}" >@DIR@/c
\builtin enable -n printf
}
\builtin set +evx
\builtin eval "${TMOUT:+TMOUT=0}"

#: status
# status N: makes $? what the user's last run left.
\builtin return "$1"

#: checkpoint
# Writes the shell's state in NUL-ended parts: the EXIT trap; the functions it is called
# from and their local variables (at an exit it may be called from within one); then
# scripts that restore, to be run in this order since functions and aliases could stand in
# for the words of what follows them: variables and options; traps; positional parameters;
# functions; aliases. Last, the directory stack.
{
\builtin printf 'K\0'
\builtin trap -p EXIT
\builtin printf '\0'
\builtin printf '%s ' "${FUNCNAME[@]}"
\builtin printf '\n'
\builtin local -p
\builtin printf '\0'
\builtin shopt -p
\builtin declare -p
\builtin set +o
\builtin umask -p
\builtin complete -p
\builtin enable -n
\builtin printf '\0'
\builtin trap -p
\builtin printf '\0'
\builtin printf '\\builtin set --'
\builtin printf ' %s' "${@@Q}"
\builtin printf '\0'
\builtin declare -f
\builtin declare -F
\builtin printf '\0'
\builtin alias -p
\builtin printf '\0'
\builtin printf ' %q' "${DIRSTACK[@]:1}"
\builtin printf '\0'
} >@DIR@/c 2>/dev/null

#: exit
# The EXIT trap: the state as it is when the shell is about to end.
\builtin . @DIR@/report X "$?"
\builtin . @DIR@/checkpoint
