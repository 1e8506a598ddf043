package sessions

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// call is the command line that runs one of the driver's files, run one that runs a file in
// the session's directory.
func (sh *shell) call(file string, args ...string) string {
	return source(filepath.Join(sh.lib, file), args...)
}

func (sh *shell) run(file string) string { return source(filepath.Join(sh.dir, file)) }

func source(path string, args ...string) string {
	line := `\builtin . ` + quote(path)
	for _, a := range args {
		line += " " + a
	}
	return line + "\n"
}

// lines are those that run the file "go" of a run and have its end reported.
//
// The first ends with the report E, which printf makes, or where that has been disabled, the
// file report. An interrupt, an unset variable under set -u and the like make the shell leave
// the rest of the line out; then $? is not 0, and the second line reports T. The status is the
// last word of what comes after the code, and so in $_: rescue looks there where a function
// stands in for builtin.
//
// Where enable is disabled itself, and eval or . too, nothing can be run any more: such a shell
// is given up.
//
// tamed says that the first line is to take off what tame would: for options and a TMOUT that
// must be gone before the shell reads the next line. The second runs well under all of them.
func (sh *shell) lines(number uint64, tamed bool) string {
	n := strconv.FormatUint(number, 10)
	ctl := " " + sh.control
	report := ` || \builtin . ` + quote(filepath.Join(sh.lib, "report"))
	off := " && ((1))\n"
	if tamed {
		off = ` && \builtin eval ` + quote(tame+`; \builtin :`) + ` "$_"` + "\n"
	}
	return able + sh.goes + ` && ((1)); ` +
		`\builtin printf '\1%s\0%s\0%s\0%s\0%s\0%s\0%s\0' E` + n +
		` "$SHELLOPTS" "${TMOUT-}" "w${PS1:+p}${PROMPT_COMMAND:+c}" "${DIRSTACK-}" "${BASHPID-}" "$?"` + ctl +
		report + " E" + n + ` "$_" "$SHELLOPTS" "$_"` + ctl + off +
		`\builtin test 0 = "$?" -a "$? $_"` + report + " T" + n + ` "${_%% *}" "$SHELLOPTS" "$_"` + ctl + "\n"
}

// able enables what is needed to be told anything, and shows whether it is.
const able = `\builtin enable . : eval printf test || \builtin eval '\builtin . /dev/null' || \builtin exec false; `

// quickLine does the same in little more than half the time, in a shell in which no code can
// have meddled with what the driver is made of: see meddling. It neither enables anything nor
// falls back on anything, looks for no prompts of the user's, and reports on the shell's own
// stdout, which nothing else writes to then. quickGuard is its second line, which is said where
// the report is not there at once, or could be lost. It does not tell whether a history
// is kept: code that speaks of one is not run by it.
//
// runs is the command that runs the code: a script, with what keeps set -e from ending the shell
// there, or a plain command by itself.
func (sh *shell) quickLine(number uint64, runs string) string {
	return runs + `; \builtin printf '\1E` + strconv.FormatUint(number, 10) +
		`\0-%s\0%s\0w\0%s\0%s\0%s\0' "$-" "${TMOUT-}" "${DIRSTACK-}" "${BASHPID-}" "$?"` + "\n"
}

func (sh *shell) quickGuard(number uint64) string {
	return `\builtin test 0 = "$?" -a "$? $_" || ` + sh.report("T", number, `"${_%% *}"`, `"$_"`)
}

// goes runs the script of a run that is in a session's directory.
func goes(dir string) string { return `\builtin . ` + quote(filepath.Join(dir, codeName)) }

// tame takes off what most of the driver's lines must not run under, once a report has shown
// some of it: options of the user's, or a TMOUT. They are back in the next run.
const tame = `\builtin set +evxET +o history; \builtin eval "${TMOUT:+TMOUT=0}"`

// report is the command line that makes the shell report; status is a word of shell. A last
// word beyond what report takes is for rescue.
func (sh *shell) report(kind string, number uint64, status, last string) string {
	return sh.call("report", kind+strconv.FormatUint(number, 10), status, `"$SHELLOPTS"`, last, sh.control)
}

// control redirects to the control FIFO. It is opened for reading too, and so without waiting
// for a reader: a shell whose server is gone is to go on to its own end.
func control(dir string) string { return "1<>" + quote(filepath.Join(dir, "c")) }

// rescue gives a shell its builtins back in which a function stands in for one that the
// driver is made of, or that has them disabled, and has it report. In POSIX mode, which an
// assignment switches on, a function cannot stand in for unset. The status that the lines of
// the run had is the last word in $_.
func (sh *shell) rescue(number uint64) string {
	return "POSIXLY_CORRECT=$_\n" +
		"\\unset -f builtin . : enable eval printf set unset\n" +
		"\\enable builtin . : enable eval printf set unset\n" +
		strings.TrimSpace(sh.report("T", number, `"${POSIXLY_CORRECT##* }"`, "")) + "; \\unset POSIXLY_CORRECT\n"
}

// A handover is what a run needs from the shell beside its code.
type handover struct {
	stdin, stdout, stderr string // paths
	env                   map[string]string
	status                int      // what $? is at the start
	opts                  []string // of driverOptions, those the user has on
	tmout                 string
	prompt                bool   // there may be prompts of the user's
	rearm                 bool   // the user has taken our EXIT trap off
	debug                 []byte // the DEBUG trap, as debugTrap prints it
	returns               bool   // there may be a RETURN trap
}

// redirects is where the code reads and writes.
func (h handover) redirects() string {
	return " 0<" + quote(h.stdin) + h.outputs()
}

// outputs is redirects for code that does not read.
func (h handover) outputs() string { return " 1>" + quote(h.stdout) + " 2>" + quote(h.stderr) }

// bare reports whether there is nothing to be done before the code of a quick run but to redirect
// it, and no RETURN trap that a script would set off: $? is what it is to be by itself. $_ is not.
func (h handover) bare() bool {
	return h.status == 0 && len(h.env) == 0 && len(h.debug) == 0 && !h.rearm && !h.returns
}

// before is what is said before the lines of the run. Sourcing takes a DEBUG trap off for as
// long as it goes on, unless functrace is on, and then puts it back where no other is set. So
// it is taken off before that, and set anew where the code begins.
func (h handover) before() string {
	switch {
	case slices.Contains(h.opts, "functrace"):
		return "\\builtin set -T\n"
	case len(h.debug) > 0:
		return "\\builtin trap - DEBUG\n"
	}
	return ""
}

// mark marks in the shell's own output where what a DEBUG trap has written, or set -x, ends and a
// run begins, markPrompt where a user's prompts end, if there are any.
const mark = `\builtin printf '\0'; \builtin printf '\0' >&2; `
const markPrompt = `\builtin eval "${PS1:+\\builtin printf '\\0' >&2}"; \builtin eval "${PROMPT_COMMAND:+\\builtin printf '\\0'}"; `

// script is the file "go" of a run, which begins in its first line, so that line numbers
// are right. Top level of it is the driver's: set -e is off there, so a run that merely ends
// non-zero cannot end the shell, and "&&" keeps a set -e that the code turns on from ending
// it when the code has returned. (It would switch set -e off within the code too were the
// command eval and not builtin.)
func (sh *shell) script(code string, h handover) []byte {
	b := make([]byte, 0, len(code)+512)
	if h.rearm {
		b = append(b, strings.TrimSpace(sh.armExit())+"; "...)
	}
	switch {
	case len(h.debug)+len(h.opts) > 0:
		b = append(b, mark...)
	case h.prompt:
		b = append(b, markPrompt...)
	}
	if names := sortedNames(h.env); len(names) > 0 {
		b = fmt.Appendf(b, "\\builtin declare -p %s >%s 2>/dev/null || \\builtin :; ", strings.Join(names, " "), quote(filepath.Join(sh.dir, "env")))
	}
	if h.status == 0 {
		b = append(b, `\builtin : bash; `...)
	} else {
		b = append(b, sh.setStatus(h)+" || "...)
	}
	b = appendQuoted(append(b, `\builtin eval -- `...), sh.prefix(h)+code)
	return append(append(b, h.redirects()...), " && ((1))\n"...)
}

// setStatus is a command that makes $? what it is to be, and $_ what it is otherwise. Where a
// file is sourced a RETURN trap runs, and one that returns would leave the code out.
func (sh *shell) setStatus(h handover) string {
	if h.returns {
		return fmt.Sprintf(`\builtin : bash; (\builtin exit %d)`, h.status)
	}
	return fmt.Sprintf(`\builtin . %s %d bash`, quote(filepath.Join(sh.lib, "status")), h.status)
}

// prefix gives the user's options back and sets the run's own environment, unseen even
// under set -x. $? and $_ are the same after it: a failure to the left of && does not end
// the shell under set -e, and what eval does is followed by its last word.
func (sh *shell) prefix(h handover) string {
	var cmds strings.Builder
	for _, name := range sortedNames(h.env) {
		cmds.WriteString(`\builtin export ` + name + "=" + quote(h.env[name]) + "\n")
	}
	if _, lent := h.env["TMOUT"]; h.tmout != "" && !lent {
		cmds.WriteString("TMOUT=" + quote(h.tmout) + "\n")
	}
	if len(h.debug) > 0 {
		cmds.WriteString(`\builtin ` + string(h.debug))
	}
	for _, o := range h.opts {
		if o != "functrace" { // it is on already
			cmds.WriteString(`\builtin set -o ` + o + "; ") // the next line would be recorded in the history
		}
	}
	if cmds.Len() == 0 {
		return ""
	}
	last, failing := `\builtin :`, ""
	if h.status != 0 {
		last, failing = sh.setStatus(h)+` && \builtin :`, ` && \builtin :`
	}
	return `\builtin eval ` + quote(cmds.String()+last) + " bash >/dev/null 2>&1" + failing + "\n"
}

// unenv is the script that undoes the run's own environment, and leaves no complaint and a $? of 0
// whatever of it is readonly.
func (sh *shell) unenv(env map[string]string) string {
	return `\builtin unset -v ` + strings.Join(sortedNames(env), " ") + " 2>/dev/null\n\\builtin . " + quote(filepath.Join(sh.dir, "env")) + " 2>/dev/null\n\\builtin :\n"
}

// restoreScripts are the files that bring a checkpoint back, in order, to a shell that is in
// dir, where the one that it was taken of need not have been.
func restoreScripts(c *checkpoint, as restoreMode, dir string) []string {
	const own = `\builtin unset -v PATH TERM OLDPWD SHLVL HOSTNAME` + "\n"
	stack := `\builtin set -- ` + string(c.dirs) + "\n" +
		`while (( $# )); do \builtin pushd -n -- "${!#}" >/dev/null; \builtin set -- "${@:1:$#-1}"; done` + "\n"
	after := "\n\\enable builtin . : cd declare enable eval printf set trap unset\n\\builtin set +evxtET +o history\n" +
		`\builtin eval ${PWD+` + quote("PWD="+quote(dir)) + "}\n"
	traps := string(c.traps) + string(c.debug)
	if as == restoreTame {
		traps = ""
		after += "\\builtin unset -v PROMPT_COMMAND\n"
	}
	return []string{own + stack + string(c.vars) + after + string(c.params) + "\n", string(c.functions), string(c.aliases), traps}
}

// debugTrap prints the DEBUG trap, which no file that is sourced would see.
const debugTrap = `\builtin trap -p DEBUG`

// armExit sets the trap by which a shell that exits tells its state. A child that an interrupt
// has made take itself for the shell has the trap too: it says that it leaves and no more, since
// it dies of that, and half a state would spoil the next report.
func (sh *shell) armExit() string {
	line := func(s string) string { return strings.TrimSpace(s) + "; " }
	return `\builtin trap ` + quote("{ "+line(sh.call("report", "X", `"$?"`, `"$SHELLOPTS"`, sh.control))+
		"(($$ == ${BASHPID-$$})) && { "+debugTrap+" "+line(sh.control)+line(sh.call("exit", sh.control))+"}; } >/dev/null 2>&1") + " EXIT\n"
}
