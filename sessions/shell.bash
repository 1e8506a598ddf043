# The bash side of a session, cut at the "#:" lines into files, which all sessions share. @LIB@
# stands for their directory, quoted. What is called from elsewhere is in script.go.
#
# Every word that names a command is written \builtin NAME, so that neither an alias nor a
# function of the user's stands in for it, and keywords, which an alias can stand in for,
# are done without. A report begins with SOH, for what a trap of the user's may have written
# before it; a newline would be written by itself, and wake the reader twice. Nothing here may
# fail under the user's set -u, set -e, set -f or noclobber, set off an ERR trap, or leave a
# variable behind.

#: init
# Once per shell, before anything else.
PS1= PS2=
\builtin unset HISTFILE
\builtin set +H +m +o history
\builtin history -c

#: report
# report TAG STATUS OPTIONS, its stdout the control FIFO: tells how a run ended, and takes the
# options and the TMOUT of the user's off that the driver's own lines must not run under. The
# next run gets them back. What the driver cannot do without is enabled again for good.
# BASHPID tells the shell from a child that an interrupt has made take itself for the shell.
# Most runs end without this file: see lines in script.go.
\builtin set +evxET +o history
\builtin enable . : eval printf set test
\builtin printf '\1%s\0%s\0%s\0%s\0%s\0%s\0%s\0' "$1" "$3" "${TMOUT-}" "${PS1:+p}${PROMPT_COMMAND:+c}" "${DIRSTACK-}" "${BASHPID-}" "$2"
\builtin eval "${TMOUT:+TMOUT=0}" 2>/dev/null

#: status
# status N: makes $? what the user's last run left.
\builtin return "$1"

#: checkpoint
# Writes the shell's state to stdout in NUL-ended parts: the process; the EXIT trap; the functions it is
# called from (at an exit it may be called from within some); then scripts that restore, to
# be run in this order since functions and aliases could stand in for the words of what
# follows them: variables and options; traps; positional parameters; functions; aliases.
# Last, the directory stack.
\builtin enable alias complete declare printf shopt trap umask
\builtin printf '\1K\0%s\0' "${BASHPID-}"
\builtin trap -p EXIT || \builtin :
\builtin printf '\0'
\builtin printf '%s ' "${FUNCNAME[@]}"
\builtin printf '\0'
\builtin shopt -p || \builtin :
\builtin declare -p || \builtin :
\builtin set +o
\builtin umask -p
\builtin complete -p || \builtin :
\builtin enable -n || \builtin :
\builtin printf '\0'
\builtin trap -p || \builtin :
\builtin printf '\0'
\builtin printf '\\builtin set --'
\builtin printf ' %s' "${@@Q}"
\builtin printf '\0'
\builtin declare -f || \builtin :
\builtin declare -F || \builtin :
\builtin printf '\0'
\builtin alias -p || \builtin :
\builtin printf '\0'
\builtin printf ' %q' "${DIRSTACK[@]:1}"
\builtin printf '\0'

#: exit
# The state as it is when the shell is about to end, from the EXIT trap.
\builtin . @LIB@/uncover
\builtin . @LIB@/checkpoint

#: uncover
# Within a function, takes the local variables of all its callers away, so that the global
# ones show. Unset from a function that is called by the one a variable is local to, it
# shows what it had hidden; whether that is the global one shows in an attribute that only
# the global one is given, or what that refers to: so references come in a second pass. A
# readonly local stays. What fails does so before || or &&, for the user's ERR trap.
case ${FUNCNAME[2]-source} in source) \builtin return ;; esac
case $- in *u*) _tandem_u=-u ;; *) _tandem_u=+u ;; esac
\builtin set +u
_tandem_look() { \builtin test -R "$_tandem_name" && _tandem_is=n || _tandem_is=v; }
_tandem_uncover() { \builtin unset "-$_tandem_is" "$_tandem_name" || \builtin :; }
_tandem_names=(
	"${!a@}" "${!b@}" "${!c@}" "${!d@}" "${!e@}" "${!f@}" "${!g@}" "${!h@}" "${!i@}"
	"${!j@}" "${!k@}" "${!l@}" "${!m@}" "${!n@}" "${!o@}" "${!p@}" "${!q@}" "${!r@}"
	"${!s@}" "${!t@}" "${!u@}" "${!v@}" "${!w@}" "${!x@}" "${!y@}" "${!z@}" "${!A@}"
	"${!B@}" "${!C@}" "${!D@}" "${!E@}" "${!F@}" "${!G@}" "${!H@}" "${!I@}" "${!J@}"
	"${!K@}" "${!L@}" "${!M@}" "${!N@}" "${!O@}" "${!P@}" "${!Q@}" "${!R@}" "${!S@}"
	"${!T@}" "${!U@}" "${!V@}" "${!W@}" "${!X@}" "${!Y@}" "${!Z@}" "${!_@}"
)
for _tandem_pass in v n; do
for _tandem_name in "${_tandem_names[@]}"; do
	_tandem_look
	case $_tandem_is in $_tandem_pass) ;; *) \builtin continue ;; esac
	_tandem_frames=0
	for _tandem_frame in "${FUNCNAME[@]}"; do
		\builtin declare -gt "$_tandem_name" || \builtin :
		_tandem_var=$_tandem_name
		case $_tandem_is in n) \builtin eval "_tandem_var=\${!$_tandem_name}" ;; esac
		_tandem_var=${_tandem_var%%[[]*}
		case $_tandem_var in '') \builtin break ;; esac # it refers to nothing yet
		\builtin eval "_tandem_attrs=\${$_tandem_var@a}"
		case $_tandem_attrs in *t*) \builtin break ;; esac
		_tandem_uncover
		_tandem_frames=1
		_tandem_look
		case $_tandem_is$_tandem_pass in nv) \builtin continue 2 ;; esac
	done
	\builtin declare -g +t "$_tandem_name" || \builtin :
	\builtin eval "_tandem_attrs=\${$_tandem_name@a}"
	case $_tandem_frames/$_tandem_attrs${!_tandem_name+set} in
	0/*) ;; # it was global from the start
	1/) \builtin unset -v "$_tandem_name" || \builtin : ;; # there is none: the declaration was ours
	esac
done
done
\builtin unset -v _tandem_names _tandem_name _tandem_pass _tandem_is _tandem_frame _tandem_frames _tandem_var _tandem_attrs
\builtin set "$_tandem_u"
\builtin unset -v _tandem_u
\builtin unset -f _tandem_look _tandem_uncover
