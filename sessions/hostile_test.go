package sessions_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// A hostile is code that would break a driver that takes things for granted, how its run
// ends, and what may be different in the next run because state is kept. Zero values: it
// exits with 0, prints nothing, and leaves neither a mark on the next run nor a dead shell.
type hostile struct {
	name    string
	code    string
	pause   time.Duration // between it and the next run
	timeout time.Duration

	reason sessions.Reason
	exit   int
	signal string
	stdout string // exact
	stderr string // a pattern for all of it

	nextOut  string   // pattern for the stdout of the next run, "^alive\n$"
	nextErr  string   // pattern for its stderr, "^err\n$"
	restarts []string // cause and what was restored, of each up to the next run's end
	cwd      string   // where the session is afterwards, or "any"; the directory it was in
}

// The session's state before: something of most kinds, so that what is lost shows.
const hostileBefore = `\builtin cd -- sub
kept=$'one\ntwo \'three\''
export EXPORTED=yes
list=(a "b c")
keptf() { answer=$1; }
shopt -s nocaseglob
umask 027`

// The run after it must do exactly this.
const hostileNext = `\builtin echo alive
\builtin echo err >&2
(\builtin exit 3)`

// Written without keywords, and with the same quoting the driver uses, for the sake of
// those who redefine words.
const hostileCheck = `\builtin test "$kept" = $'one\ntwo \'three\'' &&
\builtin test "$EXPORTED" = yes &&
\builtin test "${list[1]}" = "b c" &&
keptf "it's called" &&
\builtin test "$answer" = "it's called" &&
\builtin test "${BASHOPTS/nocaseglob}" != "$BASHOPTS"`

// idleEnough is when the engine looks at an idle session: what is hostile must not break
// that either.
const idleEnough = 40 * time.Millisecond

// privateDir is bash code that sets dir to the session's private directory.
const privateDir = `dir=$(trap -p EXIT); dir=${dir#*"1<>'\\''"}; dir=${dir%%"/c'"*}; [[ $dir == /*/tandem-* ]] || exit 99; `

func TestHostile(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	names := map[string]bool{}
	for _, table := range [][]hostile{
		hostileSyntax, hostileDescriptors, hostileFunctions, hostileAliases, hostileBuiltins, hostileOptions,
		hostilePrompts, hostileTraps, hostileLimits, hostileVariables, hostileSignals, hostileExits,
		hostileExecs, hostileProcesses, hostileStreams, hostileFiles,
	} {
		for _, h := range table {
			if names[h.name] {
				t.Fatalf("%q is there twice", h.name)
			}
			names[h.name] = true
			t.Run(h.name, func(t *testing.T) {
				t.Parallel()
				h.test(t, m)
			})
		}
	}
}

func (h hostile) test(t *testing.T, m *sessions.Manager) {
	s := sessionstest.Session(t, m)
	sub := filepath.Join(s.Info().Cwd, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if r := sessionstest.Run(t, s, hostileBefore); r.Code() != 0 {
		t.Fatalf("before: %d, %q", r.Code(), r.Stderr)
	}
	sessionstest.Checkpoint(t, s)

	got := sessionstest.RunRequest(t, s, sessions.RunRequest{Code: h.code, Timeout: h.timeout})
	if want := orExited(h.reason); got.Reason != want || got.Code() != h.exit || got.Signal != h.signal {
		t.Errorf("ended as %s %d %s, want %s %d %s", got.Reason, got.Code(), got.Signal, want, h.exit, h.signal)
	}
	if got.Stdout != h.stdout {
		t.Errorf("stdout %s, want %s", brief(got.Stdout), brief(h.stdout))
	}
	matches(t, "stderr", got.Stderr, h.stderr, `^$`)
	time.Sleep(h.pause) // what happens to the idle shell is the point of it

	next := sessionstest.Run(t, s, hostileNext)
	if next.Reason != sessions.ReasonExited || next.Code() != 3 {
		t.Errorf("next run ended as %s %d %s, want exited 3", next.Reason, next.Code(), next.Signal)
	}
	matches(t, "next stdout", next.Stdout, h.nextOut, `^alive\n$`)
	matches(t, "next stderr", next.Stderr, h.nextErr, `^err\n$`)
	time.Sleep(idleEnough)
	if h.checkState(t, s, sub, "afterwards"); time.Since(next.StartedAt) > 5*time.Second {
		t.Errorf("the session had to be waited for, %v", time.Since(next.StartedAt))
	}
	if got := sessionstest.Restarts(t, s); !slices.Equal(got, h.restarts) {
		t.Errorf("shell restarted %q, want %q", got, h.restarts)
	}

	// Whatever it was must also survive the shell.
	sessionstest.Run(t, s, `\builtin exit 4`)
	h.checkState(t, s, sub, "after an exit")
}

func (h hostile) checkState(t *testing.T, s *sessions.Session, sub, when string) {
	t.Helper()
	if r := sessionstest.Run(t, s, hostileCheck); r.Reason != sessions.ReasonExited || r.Code() != 0 {
		t.Errorf("state %s: %s %d, %s", when, r.Reason, r.Code(), brief(r.Stderr))
	}
	want := sub
	if h.cwd != "" {
		want = h.cwd
	}
	if got := s.Info().Cwd; got != want && want != "any" {
		t.Errorf("directory %s: %s, want %s", when, got, want)
	}
}

func orExited(r sessions.Reason) sessions.Reason {
	if r == "" {
		return sessions.ReasonExited
	}
	return r
}

func matches(t *testing.T, what, got, pattern, byDefault string) {
	t.Helper()
	if pattern == "" {
		pattern = byDefault
	}
	if !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("%s %s, want %s", what, brief(got), pattern)
	}
}

// brief quotes s, without its middle where it is long.
func brief(s string) string {
	if len(s) > 800 {
		s = s[:400] + " … " + s[len(s)-400:]
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\n", `\n`), "\x00", `\0`)
}

// What restarts of a shell are reported as.
var (
	restartExit           = []string{"exit/exit"}
	restartExitCheckpoint = []string{"exit/checkpoint"} // the user's EXIT trap took the place of ours
	restartExec           = []string{"exec/checkpoint"}
	restartSignal         = []string{"signal/checkpoint"}
	restartSignalExit     = []string{"signal/exit"} // bash runs the EXIT trap for most signals
	restartLost           = []string{"lost/checkpoint"}
)

var hostileSyntax = []hostile{
	{name: "open double quote", code: `echo "open`, exit: 2, stderr: "unexpected EOF"},
	{name: "open single quote", code: `echo 'open`, exit: 2, stderr: "unexpected EOF"},
	{name: "open backtick", code: "echo `open", exit: 2, stderr: "unexpected EOF"},
	{name: "open substitution", code: `echo $(open`, exit: 2, stderr: "unexpected EOF"},
	{name: "open arithmetic", code: `echo $((1+`, exit: 2, stderr: "unexpected EOF"},
	{name: "open expansion", code: `${`, exit: 2, stderr: "unexpected EOF"},
	{name: "open subshell", code: `( echo open`, exit: 2, stderr: "unexpected end of file"},
	{name: "open group", code: `{ echo open`, exit: 2, stderr: "unexpected end of file"},
	{name: "open if", code: "if true; then echo open", exit: 2, stderr: "unexpected end of file"},
	{name: "open while", code: "while true; do", exit: 2, stderr: "unexpected end of file"},
	{name: "open case", code: "case x in", exit: 2, stderr: "unexpected end of file"},
	{name: "open function", code: "f() {", exit: 2, stderr: "unexpected end of file"},
	{name: "open array", code: "x=(1 2", exit: 1, stderr: "unexpected EOF"},
	{name: "open test", code: "[[ x", exit: 2, stderr: "unexpected token"},
	{name: "open heredoc", code: "cat <<END\nopen", stdout: "open\n", stderr: "here-document"},
	{name: "open heredoc in a substitution", code: "x=$(cat <<END\nopen\n); echo $x", exit: 2, stderr: "unexpected EOF"},
	{name: "open pipe", code: "echo x |", exit: 2, stderr: "unexpected end of file"},
	{name: "open line", code: `echo x \`, stdout: "x \\\n"},
	{name: "stray fi", code: "fi", exit: 2, stderr: "near unexpected token `fi'"},
	{name: "stray done", code: "done", exit: 2, stderr: "near unexpected token `done'"},
	{name: "stray esac", code: "esac", exit: 2, stderr: "near unexpected token `esac'"},
	{name: "stray brace", code: "}", exit: 2, stderr: "near unexpected token `}'"},
	{name: "stray parenthesis", code: ")", exit: 2, stderr: `near unexpected token .\)'`},
	{name: "stray semicolons", code: ";;", exit: 2, stderr: "near unexpected token `;;'"},
	{name: "stray fi in the middle", code: "echo one\nfi\necho two", exit: 2, stdout: "one\n", stderr: "near unexpected token `fi'"},
	{name: "quotes that close the driver's", code: `echo "'"; echo ''"'"''; echo '; exit 9; '`, stdout: "'\n'\n; exit 9; \n"},
	{name: "eval within eval", code: `eval 'eval "eval \"echo x"'`, exit: 2, stderr: "unexpected EOF"},
	{name: "comment without newline", code: "echo x # it's", stdout: "x\n"},
	{name: "carriage returns", code: "echo x\r\n", stdout: "x\r\n"},
	{name: "invalid UTF-8 code", code: "echo \xff\xfe", stdout: "\xff\xfe\n"},
	{name: "return", code: "return 4; echo not", exit: 4},
	{name: "return in a loop", code: "while :; do return 6; done", exit: 6},
	{name: "break and continue", code: "break; continue 2; echo x", stdout: "x\n", stderr: "^bash: break: only.*\nbash: continue: only.*\n$"},
	{name: "local", code: "local x=1", exit: 1, stderr: "can only be used in a function"},
	{name: "unset variable", code: "echo ${nosuch:?gone}; echo not", exit: 1, stderr: "nosuch: gone"},
}

// What bash says when it cannot undo a redirection.
const badDescriptors = `^(bash: 1\d: Bad file descriptor\n)*(exit\n)?$` // bash says exit when it has lost its commands

var hostileDescriptors = []hostile{
	{name: "close stdout and stderr", code: "exec 1>&- 2>&-"},
	{name: "close all three", code: "exec 1>&- 2>&- 0<&-; echo gone", exit: 1},
	{name: "output elsewhere", code: "exec >/dev/null 2>&1; echo gone"},
	{name: "stderr to stdout", code: "exec 2>&1; echo both >&2", stdout: "both\n"},
	{name: "stdin elsewhere", code: "exec 0</dev/null; cat"},
	{name: "stdin from a file that ends", code: "echo line > f; exec <f; read -r x; echo $x; read -r x", stdout: "line\n", exit: 1},
	{name: "close 3 to 255", code: `for i in {3..255}; do eval "exec $i>&-"; done; echo closed`, stdout: "closed\n", stderr: badDescriptors, restarts: restartExit},
	{name: "close 3 to 255 with a child", code: `for i in {3..255}; do eval "exec $i>&-"; done; sleep 30 & echo closed`, stdout: "closed\n", stderr: badDescriptors, restarts: restartExit},
	{name: "close 0 to 255", code: `for i in {0..255}; do eval "exec $i>&-"; done`, restarts: restartExit},
	{name: "read the shell's own descriptors", code: `for i in {10..20}; do timeout 0.05 cat <&$i >/dev/null; done 2>/dev/null; true`},
	{name: "write to no descriptor", code: "echo x >&77", exit: 1, stderr: "77: Bad file descriptor"},
	{name: "descriptor 3", code: "echo x >&3", exit: 1, stderr: "3: Bad file descriptor"},
	{name: "keep a descriptor", code: "exec 3>f 4<f; echo x >&3; cat <&4", stdout: "x\n"},
	{name: "write into the control pipe", code: privateDir + `echo garbage >$dir/c; printf 'E\0\0\0X9\0' >$dir/c`},
}

var hostileFunctions = []hostile{
	{name: "function printf", code: "printf() { echo fake; }; printf x", stdout: "fake\n"},
	{name: "function echo", code: "echo() { :; }; echo x"},
	{name: "function eval", code: "eval() { builtin echo fake; }; eval x", stdout: "fake\n"},
	{name: "function .", code: ".() { builtin echo fake; }; . x", stdout: "fake\n"},
	{name: "function source", code: "source() { builtin echo fake; }; source x", stdout: "fake\n"},
	{name: "function set", code: "set() { builtin echo fake; }; set -e", stdout: "fake\n"},
	{name: "function trap", code: "trap() { builtin echo fake; }; trap x EXIT", stdout: "fake\n"},
	{name: "function cd", code: "cd() { builtin echo fake; }; cd /", stdout: "fake\n"},
	{name: "function exit", code: "exit() { builtin echo fake; }; exit 3", stdout: "fake\n"},
	{name: "function [", code: "[() { builtin echo fake; }; [ x ]", stdout: "fake\n"},
	{name: "function return", code: "return() { builtin echo fake; }; return 3", stdout: "fake\n"},
	{name: "function :", code: ":() { builtin echo fake; }; :", stdout: "fake\n"},
	{name: "function command", code: "command() { builtin echo fake; }; command ls", stdout: "fake\n"},
	{name: "function test", code: "test() { false; }; test x", exit: 1},
	{name: "functions of the state's words", code: "for f in declare shopt umask alias complete enable local unset export pushd readonly typeset; do eval \"$f() { builtin echo fake; }\"; done; declare", stdout: "fake\n"},
	{name: "function builtin", code: "builtin() { :; }; echo x", stdout: "x\n"},
	{name: "function that ends the shell", code: "command_not_found_handle() { exit 9; }; nosuch", exit: 9},
}

var hostileAliases = []hostile{
	{name: "alias of builtins", code: "alias builtin=false eval=false .=false source=false printf=false set=false return=false trap=false declare=false; echo x", stdout: "x\n"},
	{name: "alias of if", code: "alias if='echo if'\nif x", stdout: "if x\n"},
	{name: "alias of loops", code: "alias while=false for=false until=false do=false done=false select=false"},
	{name: "alias of branches", code: "alias then=false elif=false else=false fi=false case=false in=false esac=false"},
	{name: "alias of !", code: "alias '!=echo not'\n! true", stdout: "not true\n"},
	{name: "alias of {", code: "alias '{=false'"},
	{name: "alias of }", code: "alias '}=false'"},
	{name: "alias of [[", code: "alias '[[=false' ']]=false'"},
	{name: "alias of function and time", code: "alias function=false time=false coproc=false"},
	{name: "alias with a trailing space", code: "alias builtin='builtin ' echo='echo aliased'\nbuiltin echo x", stdout: "aliased x\n"},
	{name: "no aliases", code: "shopt -u expand_aliases; alias keptf=false"},
}

var hostileBuiltins = []hostile{
	{name: "disable printf", code: "enable -n printf; echo x", stdout: "x\n"},
	{name: "disable eval", code: "enable -n eval; echo x", stdout: "x\n"},
	{name: "disable set and return", code: "enable -n set return : trap; echo x", stdout: "x\n"},
	{name: "disable the state's words", code: "enable -n declare shopt umask alias complete; echo x", stdout: "x\n"},
	{name: "disable .", code: "enable -n .; echo x", stdout: "x\n"},
	{name: "hash of builtins", code: "hash -p /bin/false builtin; hash -p /bin/false printf; hash -p /nonexistent ls; ls", exit: 127, stderr: "/nonexistent"},
}

const trace = `(?m)^\++ `

var hostileOptions = []hostile{
	{name: "set -e", code: "set -e; echo x", stdout: "x\n", restarts: restartExit},
	{name: "set -u", code: "set -u; echo $nosuch; echo not", exit: 1, stderr: "nosuch: unbound variable"},
	{name: "set -x", code: "set -x; echo x", stdout: "x\n", stderr: `^\++ echo x\n$`, nextErr: `^\++ builtin echo alive\n\++ builtin echo err\nerr\n\++ builtin exit 3\n$`},
	{name: "set -v", code: "set -v\necho x", stdout: "x\n", stderr: "^echo x\n$", nextErr: `^\\builtin echo alive\n\\builtin echo err >&2\nerr\n\(\\builtin exit 3\)\n?$`},
	{name: "set -x at an exit", code: "set -x; exit 5", exit: 5, stderr: `^\++ exit 5\n$`, nextErr: trace, restarts: restartExit},
	{name: "set -f", code: "set -f; echo *", stdout: "*\n"},
	{name: "set -C", code: "set -C; echo x >f; echo y >f", exit: 1, stderr: "cannot overwrite existing file"},
	{name: "set -k", code: "set -k; echo x A=1", stdout: "x\n"},
	{name: "set -t", code: "set -t; echo x", stdout: "x\n", restarts: restartExit},
	{name: "set -n", code: "set -n; echo x", stdout: "x\n"},
	{name: "set -m", code: "set -m; sleep 0.01 & wait; echo x", stdout: "x\n", stderr: `^\[1\]\+  Done +sleep 0.01\n$`},
	{name: "set -a", code: "set -a; A=1; echo x", stdout: "x\n"},
	{name: "set -b", code: "set -b; sleep 0.01 & wait; echo x", stdout: "x\n"},
	{name: "set +h", code: "set +h; set +B; set -P; set -p; echo {a,b}", stdout: "{a,b}\n"},
	{name: "set -H", code: "set -H; echo x!!", stdout: "x!!\n"},
	{name: "set -T and -E", code: "set -TE -o pipefail; echo x", stdout: "x\n"},
	{name: "editing", code: "set -o vi; set -o emacs; echo x", stdout: "x\n"},
	{name: "history", code: "history -s foo; set -o history; history", stdout: "    1  foo\n"},
	{name: "ignoreeof", code: "set -o ignoreeof; IGNOREEOF=1000; echo x", stdout: "x\n"},
	{name: "posix", code: "set -o posix; echo x", stdout: "x\n"},
	{name: "POSIXLY_CORRECT", code: "POSIXLY_CORRECT=1; echo x", stdout: "x\n"},
	{name: "posix and a failing special builtin", code: "set -o posix; export 1x=2; echo x", stdout: "x\n", stderr: "not a valid identifier"},
	{name: "failglob", code: "shopt -s failglob; echo nosuch*; echo not", exit: 1, stderr: "no match"},
	{name: "odd shopts", code: "shopt -s nullglob extglob compat31 lastpipe execfail xpg_echo localvar_unset inherit_errexit checkjobs huponexit nocasematch dotglob login_shell; shopt -u sourcepath interactive_comments checkwinsize; echo a | read v; echo $v", stdout: "a\n"},
	{name: "extdebug", code: "shopt -s extdebug; echo x", stdout: "x\n"},
}

var hostilePrompts = []hostile{
	{name: "PROMPT_COMMAND prints", code: "PROMPT_COMMAND='echo prompt; echo prompt >&2'; echo x", stdout: "x\n"},
	{name: "PROMPT_COMMAND fails", code: "PROMPT_COMMAND='nosuch; echo $nosuch; return 3; ('; echo x", stdout: "x\n"},
	{name: "PROMPT_COMMAND moves", code: "PROMPT_COMMAND='cd /'; echo x", stdout: "x\n", cwd: "/"},
	{name: "PROMPT_COMMAND sets", code: "PROMPT_COMMAND='set -u; trap : DEBUG; IFS=; exec 5>&1'; echo x", stdout: "x\n"},
	{name: "PROMPT_COMMAND exits", code: "PROMPT_COMMAND=('echo a' 'exit 9'); echo x", stdout: "x\n", restarts: restartExit},
	{name: "PS1 and PS2 run commands", code: `PS1='$(echo ps1 >&2)' PS2='${nosuch?}' PS0='$(echo ps0)'; echo x`, stdout: "x\n"},
	{name: "PS4 runs a command", code: `PS4='$(echo ps4)+ '; set -x; echo x`, stdout: "x\n", stderr: `^p*ps4\+ echo x\n$`, nextErr: "ps4"},
	{name: "PS4 fails", code: `PS4='${nosuch?}'; set -x; echo x`, stdout: "x\n", stderr: "nosuch: parameter not set", nextErr: "\nerr\n"},
	{name: "empty PS4", code: `PS4=; set -x; echo x`, stdout: "x\n", stderr: "^echo x\n$", nextErr: "^builtin echo alive\nbuiltin echo err\nerr\nbuiltin exit 3\n$"},
	{name: "BASH_XTRACEFD", code: "exec 7>trace; BASH_XTRACEFD=7; set -x; echo x", stdout: "x\n"},
}

var hostileTraps = []hostile{
	{name: "EXIT trap", code: "trap 'echo bye' EXIT"},
	{name: "EXIT trap runs", code: "trap 'echo bye; echo bye >&2' EXIT; exit 4", exit: 4, stdout: "bye\n", stderr: "^bye\n$", restarts: restartExitCheckpoint},
	{name: "EXIT trap chooses the code", code: "trap 'exit 9' EXIT; exit 4", exit: 9, restarts: restartExitCheckpoint},
	{name: "EXIT trap after set -e", code: "set -e; trap 'echo bye; echo bye >&2' EXIT; echo x; false; echo not", exit: 1, stdout: "x\nbye\n", stderr: "^bye\n$", restarts: restartExitCheckpoint},
	{name: "EXIT trap kills", code: "trap 'kill -9 $$' EXIT; exit 4", reason: sessions.ReasonShellExited, exit: 137, signal: "SIGKILL", restarts: restartSignal},
	{name: "EXIT trap does not end", code: "trap 'while :; do :; done' EXIT; exit 4", timeout: 200 * time.Millisecond, reason: sessions.ReasonTimedOut, exit: 124, restarts: restartExitCheckpoint},
	{name: "EXIT trap taken off", code: "trap - EXIT"},
	{name: "EXIT trap taken off and exit", code: "trap - EXIT; exit 4", exit: 4, restarts: restartExitCheckpoint},
	{name: "DEBUG trap", code: "trap 'echo dbg' DEBUG; echo x", stdout: "dbg\nx\n", nextOut: `^dbg\nalive\ndbg\n$`},
	{name: "DEBUG trap with functrace", code: "set -T; trap 'echo dbg' DEBUG; echo x", stdout: "dbg\nx\n", nextOut: "^dbg\nalive\ndbg\n(dbg\n)+$"},
	{name: "DEBUG trap fails", code: "trap false DEBUG; echo x", stdout: "x\n"},
	{name: "DEBUG trap with extdebug skips everything", code: "shopt -s extdebug; trap false DEBUG; echo x", reason: sessions.ReasonShellExited, exit: 137, signal: "SIGKILL", restarts: restartLost},
	{name: "DEBUG trap changes $_ and $?", code: "trap ': odd; (exit 77)' DEBUG; (exit 5)", exit: 5},
	{name: "ERR trap", code: "trap 'echo failed' ERR; false", exit: 1, stdout: "failed\n", nextOut: "^alive\nfailed\n$"},
	{name: "RETURN trap", code: "trap 'echo returned' RETURN; echo x", stdout: "x\n"},
	{name: "RETURN trap with functrace", code: "set -T; trap 'echo returned' RETURN; f() { :; }; f", stdout: "returned\n"},
	{name: "signals trapped", code: "trap 'echo got' INT TERM USR1 CHLD; kill -USR1 $$; kill -TERM $$; kill -INT $$; echo x", stdout: "got\ngot\ngot\nx\n", nextOut: "^alive\n(got\n)*$"},
	{name: "signals ignored", code: "trap '' INT TERM HUP PIPE QUIT USR1 CHLD TSTP; kill -TERM $$; kill -PIPE $$; echo x", stdout: "x\n"},
	{name: "every signal trapped", code: "for i in {1..31}; do trap 'echo got' $i; done 2>/dev/null; echo x", stdout: "x\n", nextOut: "^alive\n(got\n)*$"},
}

var hostileLimits = []hostile{
	{name: "ulimit -n 12", code: "ulimit -n 12; echo x", stdout: "x\n"},
	{name: "ulimit -Sn 5", code: "ulimit -Sn 5; echo x", stdout: "x\n"},
	{name: "ulimit -n 3", code: "ulimit -n 3; echo x", stdout: "x\n", reason: sessions.ReasonShellExited, exit: 137, signal: "SIGKILL", restarts: restartLost},
	{name: "ulimit -f 1", code: "ulimit -f 1; echo x", stdout: "x\n", pause: 50 * time.Millisecond},
	{name: "ulimit -f 0", code: "ulimit -f 0; echo x", stdout: "x\n", pause: 50 * time.Millisecond},
	{name: "ulimit -f 1 exceeded", code: "ulimit -c 0; ulimit -f 1; printf '%9999s' >f", reason: sessions.ReasonShellExited, exit: 153, signal: "SIGXFSZ", restarts: restartSignalExit},
	{name: "ulimit -v", code: "ulimit -v 100000; echo x", stdout: "x\n"},
	{name: "ulimit -s", code: "ulimit -s 256; echo x", stdout: "x\n"},
	{name: "recursion with FUNCNEST", code: "r() { r; }; FUNCNEST=50; r; echo not", exit: 1, stderr: "maximum function nesting level exceeded"},
	{name: "recursion without end", code: "ulimit -c 0; ulimit -s 300; r() { r; }; r", reason: sessions.ReasonShellExited, exit: 139, signal: "SIGSEGV", restarts: restartSignal},
	{name: "FUNCNEST 1", code: "FUNCNEST=1; f() { echo x; }; f", stdout: "x\n"},
	{name: "idle longer than TMOUT", code: "TMOUT=1; echo x", stdout: "x\n", pause: 1200 * time.Millisecond},
	{name: "read with TMOUT", code: "TMOUT=1; read -r x <> <(sleep 30)", exit: 142},
}

var hostileVariables = []hostile{
	{name: "unset PWD and HOME", code: "unset PWD OLDPWD HOME; cd", exit: 1, stderr: "HOME not set"},
	{name: "odd PWD", code: "PWD=/odd; echo $PWD", stdout: "/odd\n"},
	{name: "relative PWD", code: "PWD=odd; echo $PWD", stdout: "odd\n"},
	{name: "unset PATH", code: "unset PATH; echo x", stdout: "x\n"},
	{name: "odd PATH", code: "PATH=/nonexistent; ls", exit: 127, stderr: "ls: command not found|No such file"},
	{name: "unset IFS", code: "unset IFS; echo x", stdout: "x\n"},
	{name: "odd IFS", code: `IFS='0123456789/.\evapr -'; echo x`, stdout: "x\n"},
	{name: "unset everything", code: "unset $(compgen -v | grep -vx 'kept\\|EXPORTED\\|list') 2>/dev/null; echo x", stdout: "x\n"},
	{name: "readonly of the shell's own", code: "readonly PATH PWD OLDPWD IFS PS1 PS2 PS4 OPTIND BASH_ENV TMOUT=9 HISTFILE PROMPT_COMMAND; echo x", stdout: "x\n"},
	{name: "readonly PWD and cd", code: "readonly PWD; cd ..; echo $?", stdout: "1\n", stderr: "PWD: readonly variable", cwd: "any"},
	{name: "readonly of everything", code: "declare -r $(compgen -v | grep -vx '_\\|answer'); echo x", stdout: "x\n"},
	{name: "exported everything", code: "export $(compgen -v | grep -vx '_') 2>/dev/null; echo x", stdout: "x\n"},
	{name: "integer everything", code: "declare -i OPTIND PPID SECONDS RANDOM LINENO EUID; echo x", stdout: "x\n", stderr: ".*"},
	{name: "3 MB exported", code: "export BIG=$(printf '%3000000s'); echo ${#BIG}; /bin/true", stdout: "3000000\n", exit: 126, stderr: "Argument list too long"},
	{name: "3 MB not exported", code: "BIG=$(printf '%3000000s'); echo ${#BIG}", stdout: "3000000\n"},
	{name: "odd LC_ALL", code: "export LC_ALL=odd; echo x", stdout: "x\n", stderr: "cannot change locale"},
	{name: "no locale", code: "export LC_ALL=C LANG= LANGUAGE=de; echo x", stdout: "x\n"},
	{name: "BASH_ENV and ENV", code: "export BASH_ENV=/nonexistent ENV='$(exit 3)' BASHOPTS SHELLOPTS; echo x", stdout: "x\n"},
	{name: "names of the driver's kind", code: "export TAG=1 STATUS=2 DIR=3 name=4 c=5 i=6; echo x", stdout: "x\n"},
	{name: "self reference", code: "declare -n ref=ref2 ref2=ref; echo $ref; true", stdout: "\n", stderr: ".*"},
	{name: "positional parameters", code: "set -- a 'b c' ''; shift; echo \"$#$1\"", stdout: "2b c\n"},
	{name: "another $0", code: "BASH_ARGV0=foo; echo $0", stdout: "foo\n"},
	{name: "assign to readonly", code: "BASH_VERSINFO=x; echo not", exit: 1, stderr: "readonly variable"},
	{name: "getopts half way", code: "set -- -abc; getopts abc o; echo $o$OPTIND", stdout: "a1\n"},
}

var hostileSignals = []hostile{
	{name: "kill -9", code: "echo x; kill -9 $$; echo not", stdout: "x\n", reason: sessions.ReasonShellExited, exit: 137, signal: "SIGKILL", restarts: restartSignal},
	{name: "kill -9 by a child", code: "bash -c 'kill -9 $PPID'; echo not", reason: sessions.ReasonShellExited, exit: 137, signal: "SIGKILL", restarts: restartSignal},
	{name: "kill -9 of the group", code: "echo x; kill -9 0; echo not", stdout: "x\n", reason: sessions.ReasonShellExited, exit: 137, signal: "SIGKILL", restarts: restartSignal},
	{name: "kill -9 by a later child", code: "{ sleep 0.05; kill -9 $$; } & echo x", stdout: "x\n", pause: 150 * time.Millisecond, restarts: restartSignal},
	{name: "kill -TERM", code: "kill -TERM $$; kill -TERM 0; echo x", stdout: "x\n"},
	{name: "kill -INT", code: "kill -INT $$; echo not", exit: 130},
	{name: "kill -QUIT and -TSTP", code: "kill -QUIT $$; kill -TSTP $$; kill -TTIN $$; kill -TTOU $$; echo x", stdout: "x\n"},
	{name: "kill -HUP", code: "kill -HUP $$; sleep 5", reason: sessions.ReasonShellExited, exit: 129, signal: "SIGHUP", restarts: restartSignalExit},
	{name: "kill -PIPE", code: "kill -PIPE $$; sleep 5", reason: sessions.ReasonShellExited, exit: 141, signal: "SIGPIPE", restarts: restartSignalExit},
	{name: "kill -USR1", code: "kill -USR1 $$; sleep 5", reason: sessions.ReasonShellExited, exit: 138, signal: "SIGUSR1", restarts: restartSignalExit},
	{name: "kill -ABRT", code: "ulimit -c 0; kill -ABRT $$; sleep 5", reason: sessions.ReasonShellExited, exit: 134, signal: "SIGABRT", restarts: restartSignalExit},
	{name: "kill -STOP", code: "kill -STOP $$; echo x", timeout: 100 * time.Millisecond, reason: sessions.ReasonTimedOut, exit: 124},
	{name: "suspend", code: "suspend; echo x", stdout: "x\n", stderr: "cannot suspend"},
	{name: "INT and TERM ignored and busy", code: "trap '' INT TERM; while :; do :; done", timeout: 100 * time.Millisecond, reason: sessions.ReasonTimedOut, exit: 124, restarts: restartSignal},
}

var hostileExits = []hostile{
	{name: "exit", code: "exit 5", exit: 5, restarts: restartExit},
	{name: "exit of the last status", code: "(exit 6); exit", exit: 6, restarts: restartExit},
	{name: "exit beyond a byte", code: "exit 300", exit: 44, restarts: restartExit},
	{name: "exit with no number", code: "exit abc", exit: 2, stderr: "numeric argument required", restarts: restartExit},
	{name: "exit with two", code: "exit 1 2", exit: 1, stderr: "too many arguments"},
	{name: "logout", code: "logout", exit: 1, stderr: "not login shell"},
	{name: "exit in a function", code: "f() { local kept=no EXPORTED=no; exit 5; }; f", exit: 5, restarts: restartExit},
	{name: "exit in a function's function", code: `die() { echo "$1" >&2; exit 5; }; f() { local kept=no list; die sorry; }; f`, exit: 5, stderr: "^sorry\n$", restarts: restartExit},
	{name: "exit in a subshell", code: "(exit 5)", exit: 5},
	{name: "exit in a pipeline", code: "exit 5 | cat; true | exit 6", exit: 6},
	{name: "exit in a substitution", code: "x=$(exit 5)", exit: 5},
	{name: "exit in a signal trap", code: "trap 'exit 5' USR1; kill -USR1 $$; echo not", exit: 5, restarts: restartExit},
	{name: "exit in a DEBUG trap", code: "trap 'exit 5' DEBUG; echo not", exit: 5, restarts: restartExit},
	{name: "exit in an eval in a loop in a group", code: "for i in 1 2; do { eval 'exit 5'; } done", exit: 5, restarts: restartExit},
	{name: "exit in a sourced file", code: "echo 'exit 5' >f; . ./f", exit: 5, restarts: restartExit},
	{name: "exit with jobs", code: "shopt -s checkjobs; sleep 30 & exit 5", exit: 5, restarts: restartExit},
	{name: "exit with output that nobody has read", code: "head -c 200000 /dev/zero; exit 5", exit: 5, stdout: strings.Repeat("\x00", 200000), restarts: restartExit},
	{name: "set -e fails", code: "set -e; echo x; false; echo not", exit: 1, stdout: "x\n", restarts: restartExit},
	{name: "set -e fails in a function", code: "set -e; f() { local kept=no; false; }; f; echo not", exit: 1, restarts: restartExit},
	{name: "set -e and a missing command", code: "set -e; nosuch; echo not", exit: 127, stderr: "nosuch: command not found", restarts: restartExit},
	{name: "set -eu and an unset variable", code: "set -eu; echo $nosuch; echo not", exit: 1, stderr: "^bash: nosuch: unbound variable\n$", restarts: restartExit},
	{name: "set -e and a condition", code: "set -e; if false; then :; fi; ! true; false || echo x; set +e", stdout: "x\n"},
}

var hostileExecs = []hostile{
	{name: "exec true", code: "exec true", restarts: restartExec},
	{name: "exec false", code: "echo x; exec false", exit: 1, stdout: "x\n", restarts: restartExec},
	{name: "exec with output", code: "exec sh -c 'echo new; echo err >&2; exit 4'", exit: 4, stdout: "new\n", stderr: "^err\n$", restarts: restartExec},
	{name: "exec of nothing", code: "exec nosuch; echo not", exit: 127, stderr: "exec: nosuch: not found", restarts: restartExit},
	{name: "exec of nothing with execfail", code: "shopt -s execfail; exec nosuch; echo x", stdout: "x\n", stderr: "exec: nosuch: not found"},
	{name: "exec of a directory", code: "exec /; echo not", exit: 126, stderr: "Is a directory", restarts: restartExitCheckpoint},
	{name: "exec with an empty environment", code: "exec -c env", restarts: restartExec},
	{name: "exec that is killed", code: "exec sh -c 'kill -9 $$'", reason: sessions.ReasonShellExited, exit: 137, signal: "SIGKILL", restarts: restartExec},
	{name: "exec that leaves a child", code: "sleep 30 & exec true", restarts: restartExec},
	{name: "exec of a descriptor by name", code: "exec {fd}>f; echo x >&$fd; exec {fd}>&-; cat f", stdout: "x\n"},
}

var hostileProcesses = []hostile{
	{name: "coproc", code: "coproc cat; echo x", stdout: "x\n"},
	{name: "coproc with a name", code: "coproc C { sleep 30; }; echo x", stdout: "x\n"},
	{name: "process substitution left open", code: "exec 5< <(sleep 30); echo x", stdout: "x\n"},
	{name: "output through a substitution", code: "exec > >(sleep 30)"},
	{name: "background job", code: "sleep 30 & echo x", stdout: "x\n"},
	{name: "background job with set -m", code: "set -m; sleep 30 & echo x", stdout: "x\n", stderr: `^(\[1\] [0-9]+\n)?$`},
	{name: "disown", code: "sleep 30 & disown; echo x", stdout: "x\n"},
	{name: "setsid", code: "setsid sleep 30 & echo x", stdout: "x\n"},
	{name: "nohup", code: "nohup sleep 30 >/dev/null 2>&1 & echo x", stdout: "x\n"},
	{name: "double fork", code: "( sleep 30 & ); ( (sleep 30 &) & ); echo x", stdout: "x\n"},
	{name: "substitution with a child that stays", code: "x=$(sleep 30 >&2 & echo x); echo $x", stdout: "x\n"},
	{name: "wait with nothing", code: "wait; wait -n; wait 999999", exit: 127, stderr: "not a child of this shell"},
	{name: "children ignored", code: "trap '' CHLD; sleep 0.01 & wait; /bin/true; echo $?", stdout: "0\n"},
	{name: "stopped child", code: "sleep 30 & kill -STOP $!; echo x", stdout: "x\n"},
	{name: "children of every kind at an exit", code: "sleep 30 & setsid sleep 30 & coproc sleep 30; exit 5", exit: 5, restarts: restartExit},
}

var hostileStreams = []hostile{
	{name: "binary", code: `printf '\0\1\377\200'; printf 'e\0\377' >&2`, stdout: "\x00\x01\xff\x80", stderr: "^e\x00.$"},
	{name: "no newline", code: "printf x; printf e >&2", stdout: "x", stderr: "^e$"},
	{name: "what looks like a report", code: `printf 'E1\0000\0hBs\0\0/\0'; printf '\nK\0\0'`, stdout: "E1\x000\x00hBs\x00\x00/\x00\nK\x00\x00"},
	{name: "much on both", code: `head -c 2000000 /dev/zero & head -c 300000 /dev/zero >&2; wait`, stdout: strings.Repeat("\x00", 2000000), stderr: `^\x00{1000}`},
	{name: "reads stdin", code: `read -r x; echo "$? [$x]"; cat; mapfile a; echo ${#a[@]}`, stdout: "1 []\n0\n"},
	{name: "select", code: "select x in a; do echo $x; done", exit: 1, stdout: "\n", stderr: `^1\) a\n#\? $`},
	{name: "no terminal", code: "stty sane", exit: 1, stderr: "Inappropriate ioctl"},
	{name: "no /dev/tty", code: "echo x >/dev/tty", exit: 1, stderr: "No such device or address"},
	{name: "stdout by its name", code: "echo x >/dev/stdout; echo y >/proc/self/fd/1; echo e >/dev/stderr", stdout: "x\ny\n", stderr: "^e\n$"},
	{name: "history of nothing", code: "fc -l; history"},
	{name: "key bindings", code: `bind -x '"a": exit' 2>/dev/null; complete -W 'a b' foo; complete -F nosuch bar; echo x`, stdout: "x\n"},
}

var hostileFiles = []hostile{
	{name: "deleted directory", code: `mkdir gone; cd gone; rmdir "$OLDPWD/gone"; echo x`, stdout: "x\n", cwd: "any"},
	{name: "directory without access", code: "mkdir locked; cd locked; chmod 0 .; echo x", stdout: "x\n", cwd: "any"},
	{name: "umask 777", code: "umask 777; echo x >f; echo y", stdout: "y\n"},
	{name: "private directory deleted", code: privateDir + `rm -rf -- "$dir"; echo x`, stdout: "x\n", reason: sessions.ReasonShellExited, exit: 137, signal: "SIGKILL", restarts: restartLost},
	{name: "directory stack", code: "pushd / >/dev/null; popd >/dev/null; pushd -n /usr >/dev/null; dirs +1", stdout: "/usr\n"},
}

// A child of the shell that an interrupt has made take itself for the shell may wait for
// commands beside it. After the interrupt it must not get any: it would run them with a state
// of its own.
func TestCommandsAreForTheShell(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "n=0")
	// Commands come where bash has put its own stdin for as long as the run has another.
	const thieves = `fd=10; until [ -p /proc/$$/fd/$fd ]; do fd=$((fd+1)); done
for i in {1..3}; do bash --norc --noediting -i <&$fd & done; echo go; sleep 60`
	for i := range 3 {
		run := sessionstest.Submit(t, s, sessions.RunRequest{Code: thieves})
		sessionstest.AwaitOutput(t, run, "go\n")
		if err := s.Interrupt(run.ID(), false); err != nil {
			t.Fatal(err)
		}
		if got := sessionstest.Wait(t, run); got.Reason != sessions.ReasonInterrupted {
			t.Errorf("ended as %s %d", got.Reason, got.Code())
		}
		for range 5 {
			if got := sessionstest.Run(t, s, "n=$((n+1)); (exit 18)"); got.Code() != 18 {
				t.Errorf("after interrupt %d: exit code %d, %s", i, got.Code(), got.Reason)
			}
		}
	}
	if got := sessionstest.Run(t, s, "echo $n").Stdout; got != "15\n" {
		t.Errorf("%q of 15 runs were run by the shell", got)
	}
	if got := sessionstest.Restarts(t, s); len(got) > 0 {
		t.Errorf("shell restarted: %q", got)
	}
}

// Somebody may write to the shell's own stdout, where quick runs report.
func TestNoiseAmongReports(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	// Bash has put its own stdout next to its stdin for as long as the run has others.
	const noise = `fd=10; until [ -p /proc/$$/fd/$fd ]; do fd=$((fd+1)); done
{ { while :; do printf '%s'; done; } >&3 & } 3>/proc/$$/fd/$((fd+1)); echo $!`
	for _, what := range []string{"noise", `\1`, `noise\1E`, `\0\0\0`, `\1E1\0`} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			writer := strings.TrimSpace(sessionstest.Run(t, s, fmt.Sprintf(noise, what)).Stdout)
			for i := range 20 {
				got := sessionstest.Run(t, s, fmt.Sprintf("echo %d; (exit %d)", i, i))
				if got.Stdout != fmt.Sprintf("%d\n", i) || got.Stderr != "" || got.Code() != i {
					t.Errorf("run %d: %q, %q, exit code %d", i, got.Stdout, got.Stderr, got.Code())
				}
			}
			if got := sessionstest.Run(t, s, "kill "+writer); got.Code() != 0 {
				t.Errorf("the writer was not there: %q", got.Stderr)
			}
			if got := sessionstest.Restarts(t, s); len(got) > 0 {
				t.Errorf("shell restarted: %q", got)
			}
		})
	}
}

// What bash has kept of its own somewhere else while code runs can be closed there, as daemons do
// with all that they find open: the report must not end up in the run's output for that.
func TestDescriptorsOfTheShellClosed(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, code := range []string{
		`for p in /proc/$$/fd/*; do fd=${p##*/}; if ((fd > 2)); then exec {fd}>&-; fi; done`,
		`exec 11>&-`, `exec 12>&-`, `exec 3>&12-`, `ulimit -n 2 2>/dev/null`,
	} {
		t.Run(strings.ReplaceAll(code, "/", "|"), func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, "kept=here")
			sessionstest.Checkpoint(t, s)
			if r := sessionstest.Run(t, s, code+" 2>/dev/null; echo b; (exit 4)"); r.Stdout != "b\n" {
				t.Errorf("stdout %q", r.Stdout)
			}
			if r := sessionstest.Run(t, s, "echo $kept"); r.Stdout != "here\n" {
				t.Errorf("afterwards %q", r.Stdout)
			}
		})
	}
}

// Something of another kind lies where the driver keeps its files. Nothing of it is to be waited for
// or written through.
func TestOtherFilesInThePrivateDirectory(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for name, make := range map[string]string{
		"fifo": `mkfifo "$1"`, "link": `ln -s /dev/null "$1"`, "directory": `mkdir "$1"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			code := `dir=$(dirname $(readlink /proc/$$/fd/1)); make() { rm -f "$1"; ` + make + `; }
for f in go cd env unenv0 unenv1 restore0; do make "$dir/$f"; done`
			if r := sessionstest.Run(t, s, code); r.Code() != 0 {
				t.Fatalf("%d %q", r.Code(), r.Stderr)
			}
			for range 2 {
				r := sessionstest.RunRequest(t, s, sessions.RunRequest{Code: "echo $x; (exit 4)", Env: map[string]string{"x": "given"}, Cwd: "/"})
				if r.Stdout != "given\n" || r.Code() != 4 {
					t.Errorf("%s %d %q %q", r.Reason, r.Code(), r.Stdout, r.Stderr)
				}
			}
			if r := sessionstest.Run(t, s, "exit 5"); r.Code() != 5 {
				t.Errorf("exit: %s %d", r.Reason, r.Code())
			}
			if r := sessionstest.Run(t, s, "type -t make"); r.Stdout != "function\n" {
				t.Errorf("afterwards %q %q", r.Stdout, r.Stderr)
			}
		})
	}
}

// A shell that cannot be given another place to take its commands from goes on without.
func TestInterruptWithoutExec(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for name, code := range map[string]string{
		"function": "exec() { echo mine; }",
		"disabled": "enable -n exec",
		"alias":    "shopt -s expand_aliases; alias exec=false",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, code)
			for range 3 {
				run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo go; sleep 60"})
				sessionstest.AwaitOutput(t, run, "go\n")
				if err := s.Interrupt(run.ID(), false); err != nil {
					t.Fatal(err)
				}
				if got := sessionstest.Wait(t, run); got.Reason != sessions.ReasonInterrupted || got.Stdout != "go\n" {
					t.Errorf("ended as %s %d with %q", got.Reason, got.Code(), got.Stdout)
				}
				if got := sessionstest.Run(t, s, "(exit 18)"); got.Code() != 18 || got.Stdout+got.Stderr != "" {
					t.Errorf("after it: exit code %d, %q %q", got.Code(), got.Stdout, got.Stderr)
				}
			}
			if got := sessionstest.Restarts(t, s); len(got) > 0 {
				t.Errorf("shell restarted: %q", got)
			}
		})
	}
}

// Traps of the user's run while the driver's own lines do, too. One that returns must not keep
// it from running code.
func TestTrapsThatReturn(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, trap := range []string{"trap 'return 4' RETURN", "trap return RETURN", "trap 'return 4' DEBUG", "set -T; trap return RETURN"} {
		for _, idle := range []bool{false, true} {
			t.Run(fmt.Sprint(trap, " ", idle), func(t *testing.T) {
				t.Parallel()
				s := sessionstest.Session(t, m)
				sessionstest.Run(t, s, "n=0; "+trap)
				for i := range 4 {
					sessionstest.Run(t, s, "(exit 18)")
					if idle {
						sessionstest.Checkpoint(t, s)
						sessionstest.Run(t, s, "(exit 18)")
					}
					if got := sessionstest.Run(t, s, `echo $?; n=$((n+1))`); got.Stdout != "18\n" {
						t.Errorf("%d: %q %q, exit code %d", i, got.Stdout, got.Stderr, got.Code())
					}
				}
				if got := sessionstest.Run(t, s, "echo $n"); got.Stdout != "4\n" {
					t.Errorf("%q of 4 runs", got.Stdout)
				}
			})
		}
	}
}

// A DEBUG trap runs between the words by which an interrupted shell reports, too.
func TestInterruptWithDebugTrap(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	const work = "sh -c 'echo go; exec sleep 60'" // see TestInterruptSetsATrapOffOnce
	for _, c := range [][2]string{
		{"trap : DEBUG", work},
		{":", "trap : DEBUG; " + work},
		{"set -T; trap : DEBUG", work},
		{"trap 'echo x >/dev/null' DEBUG", "echo go; while :; do :; done"},
	} {
		t.Run(c[0]+c[1], func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, c[0])
			for range 3 {
				run := sessionstest.Submit(t, s, sessions.RunRequest{Code: c[1]})
				sessionstest.AwaitOutput(t, run, "go\n")
				if err := s.Interrupt(run.ID(), false); err != nil {
					t.Fatal(err)
				}
				if got := sessionstest.Wait(t, run); got.Reason != sessions.ReasonInterrupted || got.Code() != 130 {
					t.Errorf("ended as %s %d", got.Reason, got.Code())
				}
				if got := sessionstest.Run(t, s, "echo $?").Stdout; got != "130\n" {
					t.Errorf("afterwards $? is %q", got)
				}
			}
		})
	}
}

// An idle shell tells its state whatever it has disabled.
func TestDisabledAndIdle(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{Logger: warnings(t)})
	for _, name := range []string{".", ":", "eval", "printf", "test", "set", ". : eval printf set test"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, "n=5; enable -n "+name)
			time.Sleep(100 * time.Millisecond) // the checkpoint is being taken
			if got := sessionstest.Run(t, s, "echo $n"); got.Stdout != "5\n" || got.Duration > 2*time.Second {
				t.Errorf("%q after %v", got.Stdout, got.Duration)
			}
			if got := sessionstest.Restarts(t, s); len(got) > 0 {
				t.Errorf("shell restarted: %q", got)
			}
		})
	}
}
