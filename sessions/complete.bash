# The bash side of a completion, cut at the "#:" lines into files of the completion's own
# directory. The words in @ are put in by complete.go. The rules are those of shell.bash.

#: prompts
# Takes off what would run by itself at a prompt. It is the end of the script of variables,
# since the next prompt follows on that.
\builtin declare -g PS1= PS2= 2>/dev/null
\builtin eval "${PS0:+PS0=}" 2>/dev/null
\builtin eval "${TMOUT:+TMOUT=0}" 2>/dev/null

#: go
# Run once the variables are there and before the functions are. $_ tells whether the
# locale takes é for one character.
\builtin enable bind declare eval exec printf set test unset
\builtin set -o emacs +o history +H
\builtin unset -v HISTFILE
\builtin : é
\builtin test "${#_}" = 1 || \builtin declare -gx LC_ALL=C.UTF-8 2>/dev/null
\builtin bind 'set bell-style none'
\builtin bind 'set completion-query-items -1'
\builtin bind 'set page-completions off'
\builtin bind 'set show-all-if-ambiguous off'
\builtin bind -x '"\C-x\C-p": '@PROBE@
\builtin bind -x '"\C-x\C-a": '@SET@
\builtin bind -x '"\C-x\C-d": '@DUMP@
\builtin bind '"\C-x\C-f": end-of-line'
\builtin bind '"\C-x\C-b": complete'
\builtin bind '"\C-x\C-e": insert-completions'
\builtin bind '"\C-x\C-t": "\C-x\C-p\C-x\C-f\C-x\C-a\C-x\C-b\C-x\C-d\C-x\C-p\C-x\C-f\C-x\C-a\C-x\C-e\C-x\C-d"'

#: probe
# A line whose end is at 2 in characters and at 4 in bytes. All keys come from one macro, so
# that stdin is free to be nothing for what a completion starts.
\builtin exec </dev/null
READLINE_LINE=éé

#: set
\builtin printf '%s\0' "${READLINE_POINT-}" >&@FD@
\builtin test "${READLINE_POINT-}" = 2 && READLINE_POINT=@CHARS@ || READLINE_POINT=@BYTES@
READLINE_LINE=@LINE@

#: dump
\builtin printf '%s\0' "${READLINE_LINE:0:@MAX@}" "${READLINE_POINT-}" "${COMP_WORDBREAKS-}" >&@FD@
