package sessions_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// A kept is one kind of state: code that makes it, code that shows it, and what is shown.
type kept struct {
	name, set, show, want string
}

var keptState = []kept{
	{"plain variable", `plain=$'one\ntwo \'q\' "d" \\ $x '$'\t\xff'`, `printf %s "$plain"`, "one\ntwo 'q' \"d\" \\ $x \t\xff"},
	{"empty variable", `empty=`, `declare -p empty`, "declare -- empty=\"\"\n"},
	{"declared variable", `declare declared`, `declare -p declared; echo ${declared-unset}`, "declare -- declared\nunset\n"},
	{"exported variable", `export EXPORTED=$'a b\nc'`, `bash -c 'printf %s "$EXPORTED"'`, "a b\nc"},
	{"name exported without a value", `export LATER`, `LATER=x; bash -c 'echo $LATER'; unset -v LATER; export LATER`, "x\n"},
	{"array", `array=(a 'b c' [7]=$'\n')`, `echo "${!array[@]} ${#array[7]} ${array[1]}"`, "0 1 7 1 b c\n"},
	{"empty array", `declare -a none=()`, `declare -p none`, "declare -a none=()\n"},
	{"associative array", `declare -A assoc=(["k 1"]=v ["]'\"\$"]=$'x\ny')`, `printf '%s|' "${assoc[k 1]}" "${assoc["]'\"\$"]}"`, "v|x\ny|"},
	{"integer", `declare -i int=3+4`, `declare -p int; (int=int*2; echo $int)`, "declare -i int=\"7\"\n14\n"},
	{"array of integers", `declare -ai ints=(1+1 2)`, `declare -p ints`, "declare -ai ints=([0]=\"2\" [1]=\"2\")\n"},
	{"readonly variable", `readonly ro="a b"`, `(ro=2) 2>/dev/null; echo $? $ro`, "1 a b\n"},
	{"readonly array", `declare -ar roa=(1 2)`, `(roa=x) 2>/dev/null; echo $? ${roa[1]}`, "1 2\n"},
	{"reference", `target=t; declare -n ref=target`, `(ref=new; echo $target); echo $ref`, "new\nt\n"},
	{"lowercase variable", `declare -l low=ABC`, `(low=XY; echo $low); echo $low`, "xy\nabc\n"},
	{"uppercase variable", `declare -u up=abc`, `declare -p up`, "declare -u up=\"ABC\"\n"},
	{"large variable", `large=$(printf '%0100000d' 7)`, `echo ${#large} ${large: -3}`, "100000 007\n"},
	{"variable of a name the shell has", `OPTIND=5 IFS=: PS4='> '`, `printf '%s|' "$OPTIND" "$IFS" "$PS4"`, "5|:|> |"},
	{"unset variable of the environment", `unset HOME`, `echo ${HOME-unset}`, "unset\n"},
	{"PATH", `PATH=$PATH:/nonexistent`, `echo ${PATH##*:}`, "/nonexistent\n"},
	{"function", "f() { cat <<END\n'here' $1\nEND\n}\nf-g() ( echo sub )", `f 1; f-g`, "'here' 1\nsub\n"},
	{"exported function", `fx() { echo "fx $1"; }; export -f fx`, `bash -c 'fx 2'`, "fx 2\n"},
	{"readonly function", `fro() { echo fro; }; readonly -f fro`, `(fro() { :; }) 2>/dev/null; echo $?; fro`, "1\nfro\n"},
	{"function of a builtin's name", `cd() { builtin cd "$@" && seen=$PWD; }`, `declare -F cd`, "cd\n"},
	{"alias", `alias greet='echo "it'\''s"' g2='greet '`, `greet`, "it's\n"},
	{"shopt", `shopt -s extglob globstar; shopt -u sourcepath`, `shopt -p extglob globstar sourcepath; :`, "shopt -s extglob\nshopt -s globstar\nshopt -u sourcepath\n"},
	{"set -o", `set -o pipefail; set -C`, `echo "$-" | tr -dc C; [[ -o pipefail ]] && echo " pipefail"`, "C pipefail\n"},
	{"trap", `trap 'echo "usr1"' USR1; trap '' USR2`, `kill -USR1 $$; kill -USR2 $$; trap -p USR2`, "usr1\ntrap -- '' SIGUSR2\n"},
	{"ERR trap", `trap 'case $loud in 1) echo failed ;; esac' ERR`, `loud=1; false; loud=0`, "failed\n"},
	{"DEBUG trap", `trap 'case $loud in 2) echo "$BASH_COMMAND" ;; esac' DEBUG`, `loud=2; echo x; loud=0`, "echo x\nx\nloud=0\n"},
	{"umask", `umask 027`, `umask`, "0027\n"},
	{"positional parameters", `set -- a 'b c' '' $'\n'`, `echo "$# $2"`, "4 b c\n"},
	{"completion", `complete -W 'a b' foo`, `complete -p foo`, "complete -W 'a b' foo\n"},
	{"disabled builtin", `enable -n ulimit`, `enable -n`, "enable -n ulimit\n"},
	{"directory stack", `builtin cd /; builtin pushd /usr >/dev/null; builtin pushd /tmp >/dev/null`, `dirs; echo $OLDPWD`, "/tmp /usr /\n/usr\n"},
}

// aRoute is a way from one run to the next, and what the journal tells of it.
type aRoute struct {
	name     string
	code     string
	reason   sessions.Reason
	exit     int
	restarts []string
}

var routes = []aRoute{
	{name: "next run", code: "true", reason: sessions.ReasonExited},
	{name: "interrupted", code: "kill -INT $$", reason: sessions.ReasonExited, exit: 130},
	{name: "exit", code: "exit 7", reason: sessions.ReasonExited, exit: 7, restarts: restartExit},
	{name: "exit in a function", code: "leave() { local plain=no array ref=x -; set -- x; ( : ); exit 7; }; outer() { local target=no int; leave; }; outer", reason: sessions.ReasonExited, exit: 7, restarts: restartExit},
	{name: "set -e", code: "set -e; false", reason: sessions.ReasonExited, exit: 1, restarts: restartExit},
	{name: "exec", code: "exec true", reason: sessions.ReasonExited, restarts: restartExec},
	{name: "exec of a bash", code: "exec bash -c 'exit 6'", reason: sessions.ReasonExited, exit: 6, restarts: restartExec},
	{name: "killed", code: "kill -9 $$", reason: sessions.ReasonShellExited, exit: 137, restarts: restartSignal},
	{name: "killed while idle", code: "{ sleep 0.1; kill -9 $$; } & wait", reason: sessions.ReasonShellExited, exit: 137, restarts: restartSignal},
	{name: "exit twice", code: "exit 7", reason: sessions.ReasonExited, exit: 7, restarts: restartExit},
}

func TestStateIsKept(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, route := range routes {
		t.Run(route.name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			for _, k := range keptState {
				if r := sessionstest.Run(t, s, k.set); r.Code() != 0 || r.Stderr != "" {
					t.Fatalf("%s: set: %d %q", k.name, r.Code(), r.Stderr)
				}
			}
			showKept(t, s, "at once")
			sessionstest.Checkpoint(t, s)
			r := sessionstest.Run(t, s, route.code)
			if r.Reason != route.reason || r.Code() != route.exit {
				t.Errorf("ended as %s %d, want %s %d", r.Reason, r.Code(), route.reason, route.exit)
			}
			showKept(t, s, "afterwards")
			if got := sessionstest.Restarts(t, s); !slices.Equal(got, route.restarts) {
				t.Errorf("restarts %q, want %q", got, route.restarts)
			}
			if r := sessionstest.Run(t, s, "echo $-"); strings.Contains(r.Stdout, "e") {
				t.Errorf("set -e is on: %s", r.Stdout)
			}
			sessionstest.Run(t, s, "exit 1") // what was restored can be restored again
			showKept(t, s, "after one more exit")
		})
	}
}

func showKept(t *testing.T, s *sessions.Session, when string) {
	t.Helper()
	for _, k := range keptState {
		if r := sessionstest.Run(t, s, k.show); r.Stdout != k.want || r.Stderr != "" {
			t.Errorf("%s %s: %q (%q), want %q", k.name, when, r.Stdout, r.Stderr, k.want)
		}
	}
	if got := s.Info().Cwd; got != "/tmp" {
		t.Errorf("directory %s: %s", when, got)
	}
}

// What a run sets before it exits is kept too, even where no checkpoint has seen it.
func TestExitKeepsWhatTheSameRunSet(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, c := range []struct {
		name, first, code, show, want string

		saved bool // what first did is in a checkpoint before code runs
	}{
		{name: "at top level", first: ":", code: `x=1; f() { echo f; }; alias a='echo a'; cd /usr; umask 077; exit 3`, show: `echo $x; f; pwd; umask`, want: "1\nf\n/usr\n0077\n"},
		{name: "in a function", first: ":", code: `f() { x=1; declare -g y=2; cd /usr; exit 3; }; f`, show: `echo $x $y; pwd`, want: "1 2\n/usr\n"},
		{name: "behind a local variable", first: "x=5", code: `f() { local x=1; exit 3; }; f`, show: `echo $x`, want: "5\n"},
		{name: "behind a local variable, in the same run", first: ":", code: `x=6; f() { local x=1; exit 3; }; f`, show: `echo $x`, want: "6\n"},
		{name: "behind two local variables", first: "x=5 y=6", code: `f() { local x=1 y; g; }; g() { local x=2; exit 3; }; f`, show: `echo $x $y`, want: "5 6\n"},
		{name: "set from behind a local variable", first: "x=5", code: `f() { local x=1; declare -g x=7; exit 3; }; f`, show: `echo $x`, want: "7\n"},
		{name: "local variables of callers", first: ":", code: `f() { local x=1; local -A h=([k]=v); local -r r=1; g; }; g() { exit 3; }; f`, show: `echo "[${x-}${h-}]"`, want: "[]\n"},
		{name: "exported local variable", first: "export x=5", code: `f() { local -x x=1; exit 3; }; f`, show: `bash -c 'echo $x'`, want: "5\n"},
		{name: "behind a local reference", first: "x=G", code: `f() { local -n r=x; exit 3; }; f`, show: `declare -p x; echo "${r-}"`, want: "declare -- x=\"G\"\n\n"},
		{name: "behind a caller's reference", first: "export x=G", code: `f() { declare -n r=$1; g; }; g() { exit 3; }; f x`, show: `declare -p x`, want: "declare -x x=\"G\"\n"},
		{name: "behind references of one name", first: "x=G y=H; declare -n r=x", code: `f() { local -n r=y; exit 3; }; f`, show: `echo $x $y $r ${!r}`, want: "G H G x\n"},
		{name: "what a reference has an element of", first: "a=(a b c); declare -A h=([k]=v [l]=w); declare -n e=a[1] m=h[k]", code: `f() { exit 3; }; f`, show: `echo ${a[*]} ${h[k]}${h[l]} ${!e} ${!m}`, want: "a b c vw a[1] h[k]\n"},
		{name: "a reference to nothing", first: "declare -n z=nosuch", code: `f() { exit 3; }; f`, show: `declare -p z`, want: "declare -n z=\"nosuch\"\n"},
		{name: "a reference without a name", first: "declare -n z", code: `f() { exit 3; }; f`, show: `declare -p z`, want: "declare -n z\n"},
		{name: "with an ERR trap", first: "trap 'echo err >>log' ERR; set -E; y=G IFS=vn-", code: `f() { local x=1 y=2; local -r r=1; exit 3; }; f`, show: `cat log 2>/dev/null; echo $y`, want: "G\n"},
		{name: "under set -u", first: "set -u; zz=G", code: `g() { local nn; exit 3; }; f() { local zz=2; g; }; f`, show: `declare -p zz; echo ${-//[^u]/}`, want: "declare -- zz=\"G\"\nu\n"},
		{name: "a variable that is local alone", first: ":", code: `f() { local loc=1; exit 3; }; f`, show: `declare -p loc 2>/dev/null || compgen -v _tandem || echo none`, want: "none\n"},
		{name: "parameters of a function", first: "set -- a b", code: `f() { exit 3; }; f x`, show: `echo $*`, want: "a b\n", saved: true},
		{name: "set -e in a function", first: "x=5", code: `set -e; f() { local x=1; false; }; f`, show: `echo $x`, want: "5\n"},
		{name: "after unset", first: "x=5", code: `unset x; exit 3`, show: `echo ${x-unset}`, want: "unset\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, c.first)
			if c.saved {
				sessionstest.Checkpoint(t, s)
			}
			if r := sessionstest.Run(t, s, c.code); r.Reason != sessions.ReasonExited || r.Stderr != "" {
				t.Errorf("%s, %q", r.Reason, r.Stderr)
			}
			if r := sessionstest.Run(t, s, c.show); r.Stdout != c.want {
				t.Errorf("got %q, want %q", r.Stdout, c.want)
			}
		})
	}
}

func TestStatusIsKept(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	for _, c := range []struct {
		code string
		want int
	}{
		{"(exit 5)", 5}, {"true", 0}, {"nosuch 2>/dev/null", 127}, {"return 4", 4}, {"exit 7", 7},
		{"kill -9 $$", 137}, {"exec false", 1}, {"kill -INT $$", 130}, {"(", 2}, {"set -e; false", 1},
		// And with what the driver takes off and gives back.
		{"set -x; (exit 5)", 5}, {"(exit 6)", 6}, {"set +x -v; (exit 7)", 7}, {"set +v; TMOUT=100; (exit 8)", 8},
		{"unset TMOUT; set -E; trap 'echo trapped' ERR; (exit 9)", 9}, {"trap - ERR; set +E -o history; (exit 10)", 10},
		{"set +o history; set -e; ! true", 1}, {"true", 0},
	} {
		sessionstest.Run(t, s, c.code)
		if r := sessionstest.Run(t, s, "echo $? $_"); r.Stdout != fmt.Sprintln(c.want, "bash") {
			t.Errorf("after %q, $? and $_ are %q, want %d and bash", c.code, r.Stdout, c.want)
		}
	}
}

func TestJobsAreKept(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	for _, c := range []struct{ code, want string }{
		{"mkfifo gate; { read -r x <gate; exit 7; } & job=$!", ""},
		{"[[ $! == $job ]] && jobs -p | grep -cx $job", "1\n"},
		{"jobs", "[1]+  Running                 { read -r x < gate; exit 7; } &\n"},
		{"echo >gate; wait $!; echo $?", "7\n"},
		{"jobs; sleep 60 & kill %1; wait %1 2>/dev/null; echo $?", "143\n"},
	} {
		if r := sessionstest.Run(t, s, c.code); r.Stdout != c.want {
			t.Errorf("%s: %q (%q), want %q", c.code, r.Stdout, r.Stderr, c.want)
		}
	}
}

// changing are variables that differ between any two shells, or from line to line.
const changing = "BASHPID|BASH_ARGC|BASH_ARGV|BASH_ARGV0|BASH_COMMAND|BASH_LINENO|BASH_SOURCE|BASH_SUBSHELL|COLUMNS|COMP_WORDBREAKS|DIRSTACK|EPOCHREALTIME|EPOCHSECONDS|FUNCNAME|GROUPS|" +
	"HISTCMD|HISTFILE|HISTFILESIZE|HISTSIZE|LINENO|LINES|OLDPWD|PIPESTATUS|PPID|PS1|PS2|RANDOM|SECONDS|SHELLOPTS|SRANDOM|_"

// A new session shows nothing but what a plain interactive bash shows.
func TestNothingOfTheDriverShows(t *testing.T) {
	t.Parallel()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8", "TERM=dumb"}
	m := sessionstest.New(t, sessions.Config{Env: env})
	s := sessionstest.Session(t, m)
	const show = `declare -p | grep -vE '^declare -[^ ]+ (` + changing + `)(=|$)'
compgen -v | grep -vxE '` + changing + `'
compgen -A export | grep -vx OLDPWD
declare -F; declare -f; alias; complete -p; bind -p 2>/dev/null
shopt; set -o | grep -vE '^(monitor|histexpand|history|emacs) '
umask; dirs; jobs; history; ulimit -a | grep -v real-time; echo $# "$*"; echo $0
trap -p | grep -v EXIT; enable; hash; type -a . eval printf`

	plain := exec.Command("bash", "--noprofile", "--norc", "--noediting", "-i")
	plain.Dir, plain.Env = s.Info().Cwd, append(env, "PWD="+s.Info().Cwd)
	plain.Stdin = strings.NewReader("set +o history; history -c\neval " + singleQuoted(show) + "\n")
	want, err := plain.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at first", "after an exit", "after kill -9"} {
		got := sessionstest.Run(t, s, show)
		if d := lineDiff(string(want), got.Stdout); d != "" {
			t.Errorf("%s (- plain bash, + session):\n%s", when, d)
		}
		if got.Stderr != "" {
			t.Errorf("%s: stderr %q", when, got.Stderr)
		}
		sessionstest.Checkpoint(t, s)
		if when == "at first" {
			sessionstest.Run(t, s, "exit")
		} else {
			sessionstest.Run(t, s, "kill -9 $$")
		}
	}
}

func singleQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// lineDiff lists the lines that only one of the two has.
func lineDiff(a, b string) string {
	var d strings.Builder
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range as {
		if !slices.Contains(bs, l) {
			fmt.Fprintf(&d, "- %s\n", l)
		}
	}
	for _, l := range bs {
		if !slices.Contains(as, l) {
			fmt.Fprintf(&d, "+ %s\n", l)
		}
	}
	return d.String()
}

// Nor do its paths and words turn up later, in what a user sees of the shell's own doing.
func TestDriverDoesNotShowLater(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, c := range []struct {
		name string
		runs []string
		want string // pattern for all of the output
	}{
		{"$_", []string{"echo a b", "echo $_", "(exit 3)", "echo $_"}, `^a b\n\w*\n\w*\n$`},
		{"history", []string{"set -o history", "echo a", "history"}, `^a\n[^\\]*$`},
		{"error messages", []string{"nosuch", "(nosuch)", "cd /nonexistent", "f() { nosuch; }; f"}, `^(bash: (nosuch: command not found|cd: /nonexistent: No such file or directory)\n){4}$`},
		{"ERR trap", []string{`trap 'echo "err: $BASH_COMMAND" >>log' ERR`, "true", "(exit 3)", "true", "cat log"}, `^err: \( exit 3 \)\n$`},
		{"set -x at an exit", []string{"set -x", "exit 3", "set +x"}, `^\++ exit 3\n\++ set \+x\n$`},
		{"traps at an exit", []string{"trap 'echo dbg' DEBUG; trap 'echo ret' RETURN; set -T", "exit 3"}, `^(dbg\n)*$`},
		{"readonly TMOUT at an exit", []string{"readonly TMOUT=5", "exit 3"}, `^$`},
		{"CHLD trap", []string{"trap 'echo chld' CHLD", "true", "exit 3", "true"}, `^$`},
		{"descriptors", []string{"for i in {3..9}; do { true >&$i; } 2>/dev/null && echo $i; done"}, `^$`},
		{"environment of children", []string{"env | grep -i tandem | grep -v PWD"}, `^$`},
		{"arguments", []string{"echo $# $0"}, `^0 bash\n$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			for _, code := range c.runs {
				sessionstest.Run(t, s, code)
				sessionstest.Checkpoint(t, s)
			}
			var out strings.Builder
			for _, e := range sessionstest.Entries(t, s) {
				// What Checkpoint itself runs is not looked at: every second run.
				if e.Kind.Output() && e.Run%2 == 1 {
					out.Write(e.Data)
				}
			}
			matches(t, "output", out.String(), c.want, "")
		})
	}
}

// What set -x shows of the driver's lines is not among the last words of a run that comes at once
// and ends the shell.
func TestDriverIsNotTraced(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	for range 20 {
		first := sessionstest.Submit(t, s, sessions.RunRequest{Code: "set -ex"})
		second := sessionstest.Submit(t, s, sessions.RunRequest{Code: "false"})
		sessionstest.Wait(t, first)
		if r := sessionstest.Wait(t, second); strings.TrimLeft(r.Stderr, "+") != " false\n" {
			t.Fatalf("%q", r.Stderr)
		}
		sessionstest.Run(t, s, "set +x")
	}
}

// The environment given with a run holds for the run alone, whatever it does with it.
func TestRunEnvironment(t *testing.T) {
	t.Parallel()
	const show = `declare -p PLAIN EXPORTED FRESH 2>/dev/null; :`
	const before = "declare -- PLAIN=\"p\"\ndeclare -x EXPORTED=\"e\"\n"
	value := "it's\n\"two\" $lines \xff"
	m := sessionstest.New(t, sessions.Config{})
	for _, c := range []struct{ name, code, want string }{
		{"exported", `printf %s "$PLAIN"; bash -c 'printf %s "$EXPORTED$FRESH"'`, value + value + value},
		{"changed", `PLAIN=x; EXPORTED=y; FRESH=z; export -n EXPORTED`, ""},
		{"unset", `unset PLAIN EXPORTED FRESH`, ""},
		{"made an array", `unset PLAIN; declare -a PLAIN=(1 2)`, ""},
		{"exit", `PLAIN=x; exit 3`, ""},
		{"exit in a function", `f() { local PLAIN=x; exit 3; }; f`, ""},
		{"set -e", `set -e; false`, ""},
		{"exec", `exec true`, ""},
		{"killed", `kill -9 $$`, ""},
		{"interrupted", `kill -INT $$`, ""},
		{"syntax error", `echo "`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, "PLAIN=p; export EXPORTED=e")
			sessionstest.Checkpoint(t, s)
			env := map[string]string{"PLAIN": value, "EXPORTED": value, "FRESH": value}
			if r := sessionstest.RunRequest(t, s, sessions.RunRequest{Code: c.code, Env: env}); r.Stdout != c.want {
				t.Errorf("printed %q, want %q", r.Stdout, c.want)
			}
			if r := sessionstest.Run(t, s, show); r.Stdout != before {
				t.Errorf("afterwards %q, want %q", r.Stdout, before)
			}
			// Nor may it be in what is saved after it.
			sessionstest.RunRequest(t, s, sessions.RunRequest{Code: ":", Env: env})
			sessionstest.Checkpoint(t, s)
			sessionstest.Run(t, s, "kill -9 $$")
			if r := sessionstest.Run(t, s, show); r.Stdout != before {
				t.Errorf("after a restart %q, want %q", r.Stdout, before)
			}
		})
	}
}

// It is taken back before the next run begins, also where that comes at once and has one of its own.
func TestRunEnvironmentInQuickSuccession(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "export MINE=mine")
	for _, end := range []string{":", "exit 3", "exec true"} {
		for _, names := range [][]string{{"A"}, {"B", "MINE"}, {"A"}, {"C"}, {"A", "B"}, {"MINE"}} {
			var runs []*sessions.Run
			for _, name := range names {
				runs = append(runs, sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo $A$B$C$MINE", Env: map[string]string{name: "secret"}}))
			}
			for _, run := range runs {
				sessionstest.Wait(t, run)
			}
			sessionstest.RunRequest(t, s, sessions.RunRequest{Code: end, Env: map[string]string{"MINE": "secret", "D": "secret"}})
			if r := sessionstest.Run(t, s, `echo "$(compgen -v | grep -x '[A-D]')" $MINE`); r.Stdout != " mine\n" {
				t.Fatalf("after %s: %q", end, r.Stdout)
			}
		}
	}
}

// Nor is it there again where the shell that was given it back dies before a checkpoint without it.
func TestRunEnvironmentAfterTwoDeaths(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, ":")
	sessionstest.Checkpoint(t, s)
	exits := sessionstest.Submit(t, s, sessions.RunRequest{Code: "exit 3", Env: map[string]string{"SECRET": "x"}})
	dies := sessionstest.Submit(t, s, sessions.RunRequest{Code: "k=kil; ${k}l -9 $$"})
	shows := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo [$SECRET]"})
	sessionstest.Wait(t, exits)
	sessionstest.Wait(t, dies)
	if r := sessionstest.Wait(t, shows); r.Stdout != "[]\n" {
		t.Errorf("%q", r.Stdout)
	}
}

// A shell that does not even come to read that it is to tell its state is given up.
func TestPromptThatNeverEnds(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "PROMPT_COMMAND='while :; do :; done'")
	sessionstest.Await(t, "another shell", func() bool { return len(sessionstest.Restarts(t, s)) > 0 })
	if r := sessionstest.Run(t, s, "echo here"); r.Stdout != "here\n" {
		t.Errorf("%q", r.Stdout)
	}
}

// TMOUT, which the driver keeps away from the idle shell, is no exception.
func TestRunEnvironmentTMOUT(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	for _, before := range []string{"", "7"} {
		if before != "" {
			sessionstest.Run(t, s, "TMOUT="+before)
		}
		if r := sessionstest.RunRequest(t, s, sessions.RunRequest{Code: "echo $TMOUT", Env: map[string]string{"TMOUT": "1"}}); r.Stdout != "1\n" {
			t.Errorf("in the run: %q", r.Stdout)
		}
		sessionstest.Checkpoint(t, s)
		for range 2 {
			if r := sessionstest.Run(t, s, "echo $TMOUT"); r.Stdout != before+"\n" {
				t.Errorf("afterwards %q, want %q", r.Stdout, before)
			}
		}
	}
}

func TestRunDirectory(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	home := s.Info().Cwd
	for _, dir := range []string{"a b", "-", "$x", "~", "it's", "sub/sub"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sessionstest.Run(t, s, `HOME=$PWD/sub TARGET="$PWD/a b"`)
	for _, c := range []struct{ cwd, want string }{
		{home + "/a b", "/a b"}, {"../it's", "/it's"}, {"../-", "/-"}, {"~", "/sub"}, {"~/sub", "/sub/sub"},
		{"$TARGET", "/a b"}, {"${TARGET}/../sub", "/sub"}, {home, ""}, {"$HOME/..", ""},
	} {
		r := sessionstest.RunRequest(t, s, sessions.RunRequest{Code: `printf %s "$PWD"`, Cwd: c.cwd})
		if want := home + c.want; r.Stdout != want || r.Cwd != want || s.Info().Cwd != want {
			t.Errorf("cwd %q: code was in %q, run in %q, session is in %q; want %q (%s %s)", c.cwd, r.Stdout, r.Cwd, s.Info().Cwd, want, r.Reason, r.Detail)
		}
	}
	for _, cwd := range []string{"nosuch", home + "/nosuch", "$nosuch/nosuch", "$(echo sub)", "`echo sub`", "sub; cd ."} {
		r := sessionstest.RunRequest(t, s, sessions.RunRequest{Code: "echo not", Cwd: cwd})
		if r.Reason != sessions.ReasonRefused || r.Detail == "" || r.Code() != -1 || r.Stdout != "" || !r.StartedAt.IsZero() {
			t.Errorf("cwd %q: %+v", cwd, r)
		}
		if got := s.Info().Cwd; got != home {
			t.Errorf("after cwd %q the session is in %q", cwd, got)
		}
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	large := bytes.Repeat([]byte("0123456789abcdef"), 200<<10)
	for _, c := range []struct {
		name, code string
		stdin      sessions.Stdin
		text, want string
	}{
		{"none", "cat; read -r x || echo end", sessions.NoStdin, "", "end\n"},
		{"empty text", "cat; read -r x || echo end", sessions.TextStdin, "", "end\n"},
		{"text", "read -r x; echo $x; cat", sessions.TextStdin, "one\ntwo\x00\xff", "one\ntwo\x00\xff"},
		{"text nobody reads", "echo x", sessions.TextStdin, string(large), "x\n"},
		{"the next run has its own", "cat", sessions.NoStdin, "", ""},
		{"part of a text", "head -c 16", sessions.TextStdin, string(large), "0123456789abcdef"},
		{"the next run has its own again", "cat", sessions.TextStdin, "mine", "mine"},
		{"large text", "cat", sessions.TextStdin, string(large), string(large)},
		{"closed by the code", "exec <&-; echo x", sessions.TextStdin, string(large), "x\n"},
		{"read by a subshell and a background job", "{ head -c 3; } <&0; cat & wait; cat", sessions.TextStdin, "abc", "abc"},
		{"with an exit", "read -r x; echo $x; exit", sessions.TextStdin, "a\nb\n", "a\n"},
		{"with exec", "exec cat", sessions.TextStdin, string(large), string(large)},
		{"not asked for after that", "cat", sessions.NoStdin, "", ""},
	} {
		r := sessionstest.RunRequest(t, s, sessions.RunRequest{Code: c.code, Stdin: c.stdin, StdinText: []byte(c.text)})
		if r.Stdout != c.want || r.Reason != sessions.ReasonExited {
			t.Errorf("%s: %s, %s, want %s", c.name, r.Reason, brief(r.Stdout), brief(c.want))
		}
	}
}

func TestStdinStream(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), sessionstest.Patience)
	defer cancel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	r := sessionstest.Submit(t, s, sessions.RunRequest{Code: `while read -r x; do echo "<$x>"; done; echo end`, Stdin: sessions.OpenStdin})
	write := func(p string) {
		t.Helper()
		if err := r.WriteStdin(ctx, []byte(p)); err != nil {
			t.Fatalf("write %q: %v", p, err)
		}
	}
	write("before it starts\n")
	sessionstest.AwaitOutput(t, r, "<before it starts>")
	write("in two ")
	write("pieces\n")
	sessionstest.AwaitOutput(t, r, "<in two pieces>") // so it need not be closed to be read
	if !r.StdinOpen() {
		t.Error("stdin is not open")
	}
	if err := r.CloseStdin(); err != nil {
		t.Errorf("close: %v", err)
	}
	if got := sessionstest.Wait(t, r); got.Stdout != "<before it starts>\n<in two pieces>\nend\n" {
		t.Errorf("got %q", got.Stdout)
	}
	if r.StdinOpen() || r.CloseStdin() == nil || r.WriteStdin(ctx, []byte("x")) == nil {
		t.Error("stdin is open after the end")
	}
}

// What a background job writes after its run has ended has that run's number, and comes
// after its end, also while another run is on, which does not get it.
func TestLateOutputIsOfItsRun(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	first := sessionstest.Submit(t, s, sessions.RunRequest{Code: `mkfifo go1 go2 done1 done2
job() { read -r x <go$1; echo "late out"; echo "late err" >&2; echo >done$1; }
job 1 & setsid bash -c "$(declare -f job); job 2" &
echo first`})
	early := sessionstest.Wait(t, first)
	second := sessionstest.Wait(t, sessionstest.Submit(t, s, sessions.RunRequest{
		Code: "for i in 1 2; do echo >go$i; read -r x <done$i; done; echo second",
	}))
	if early.Stdout != "first\n" || second.Stdout != "second\n" || second.Stderr != "" {
		t.Errorf("first run %q, second run %q %q", early.Stdout, second.Stdout, second.Stderr)
	}
	sessionstest.AwaitOutput(t, first, "late out")
	late := map[sessions.Kind]string{}
	sessionstest.Await(t, "the late output", func() bool {
		clear(late)
		for _, e := range sessionstest.Entries(t, s) {
			if e.Kind.Output() && e.Pos > early.Last && e.Run == early.Number {
				late[e.Kind] += string(e.Data)
			}
		}
		return len(late[sessions.Stdout]) >= 18 && len(late[sessions.Stderr]) >= 18
	})
	if late[sessions.Stdout] != "late out\nlate out\n" || late[sessions.Stderr] != "late err\nlate err\n" {
		t.Errorf("late output of the first run: %q", late)
	}
}

// An idle shell that dies is replaced before anybody asks, and the journal says so.
func TestIdleShellDies(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	pid := strings.TrimSpace(sessionstest.Run(t, s, "kept=1; echo $$").Stdout)
	sessionstest.Checkpoint(t, s)
	if out, err := exec.Command("kill", "-9", pid).CombinedOutput(); err != nil {
		t.Fatalf("kill: %v %s", err, out)
	}
	sessionstest.Await(t, "another shell", func() bool { return len(sessionstest.Restarts(t, s)) > 0 })
	if got := sessionstest.Restarts(t, s); !slices.Equal(got, restartSignal) {
		t.Errorf("restarts %q", got)
	}
	if r := sessionstest.Run(t, s, "echo $kept"); r.Stdout != "1\n" {
		t.Errorf("kept %q", r.Stdout)
	}
}

// A run that is given to a shell at the very moment it dies is run by the next one.
func TestShellDiesUnderANewRun(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, code := range []string{
		`for i in {0..255}; do eval "exec $i>&-"; done`, `PROMPT_COMMAND='exit 9'`, `set -t`, `{ kill -9 $$; } &`,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			for i := range 5 {
				s := sessionstest.Session(t, m)
				dying := sessionstest.Submit(t, s, sessions.RunRequest{Code: code})
				next := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo next; (exit 3)"})
				sessionstest.Wait(t, dying)
				if r := sessionstest.Wait(t, next); r.Stdout != "next\n" || r.Code() != 3 {
					// Being killed while it is on is a fair end for the last of them.
					if killed := r.Reason == sessions.ReasonShellExited && code == `{ kill -9 $$; } &`; !killed {
						t.Errorf("%d: next run %s %d %q", i, r.Reason, r.Code(), r.Stdout)
					}
				}
			}
		})
	}
}

// A shell that dies before it has read its run has not begun it, whatever it is told afterwards.
func TestShellDiesBeforeItReadsARun(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	for i := range 50 {
		pid, err := strconv.Atoi(strings.TrimSpace(sessionstest.Run(t, s, "echo $$").Stdout))
		if err != nil {
			t.Fatal(err)
		}
		shows := func(file, text string) func() bool {
			return func() bool {
				b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
				return strings.Contains(string(b), text)
			}
		}
		sessionstest.Await(t, "shell that reads", shows("syscall", "0 0x0 "))
		_ = unix.Kill(pid, unix.SIGSTOP)
		sessionstest.Await(t, "shell that stands still", shows("status", "State:\tT"))
		run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo begun"})
		<-run.Started()
		time.Sleep(8500*time.Microsecond + time.Duration(i%20)*100*time.Microsecond) // the moment is what is varied
		_ = unix.Kill(pid, unix.SIGKILL)
		if got := sessionstest.Wait(t, run); got.Code() != 0 || got.Stdout != "begun\n" {
			t.Errorf("%d: %s %d %q", i, got.Reason, got.Code(), got.Stdout)
		}
	}
}

// TMOUT would end an idle shell; the user has it back whenever code runs.
func TestTMOUT(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "TMOUT=1")
	time.Sleep(1200 * time.Millisecond) // longer than it
	for _, c := range []struct{ code, want string }{
		{"echo $TMOUT", "1\n"}, {"exit 3", ""}, {"echo $TMOUT; TMOUT=2", "1\n"}, {"echo $TMOUT; unset TMOUT", "2\n"},
		{"echo ${TMOUT-unset}; export TMOUT=3", "unset\n"}, {"declare -p TMOUT", "declare -x TMOUT=\"3\"\n"},
	} {
		if r := sessionstest.Run(t, s, c.code); r.Stdout != c.want {
			t.Errorf("%s: %q, want %q", c.code, r.Stdout, c.want)
		}
	}
	if got := sessionstest.Restarts(t, s); len(got) != 1 {
		t.Errorf("restarts %q, want that of the exit alone", got)
	}
}

// With its history on, a session remembers what the user put there, and no line of the
// driver's.
func TestHistoryIsTheUsers(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "set -o history; history -s replaced") // it takes the place of the line it is in
	sessionstest.Run(t, s, "history -s second")
	sessionstest.Run(t, s, "set +o history")
	sessionstest.Run(t, s, "set -o history; history -s third")
	r := sessionstest.Run(t, s, "history; shopt -o history")
	if want := "    1  second\n    2  third\nhistory        \ton\n"; r.Stdout != want {
		t.Errorf("%q, want %q", r.Stdout, want)
	}
}

// The directory that a shell is restored in is of the same moment as the rest of its state, and
// where a session was created that nothing was saved of since; $PWD says so.
func TestRestoredDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "it's a \"place\"")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := sessionstest.New(t, sessions.Config{Warm: 1})
	s, err := m.Create(sessions.Options{Cwd: dir})
	if err != nil {
		t.Fatal(err)
	}
	killed := func(want string) {
		t.Helper()
		sessionstest.Run(t, s, "kill -9 $$")
		if r := sessionstest.Run(t, s, `echo "$PWD"; pwd`); r.Stdout != want+"\n"+want+"\n" {
			t.Errorf("%q, want %s twice", r.Stdout, want)
		}
	}
	killed(dir)
	sessionstest.Run(t, s, "mkdir sub && cd sub")
	sessionstest.Checkpoint(t, s)
	killed(filepath.Join(dir, "sub"))
}

// A shell that has neither eval nor the means to enable it again can run nothing: it is given
// up, and its successor does not inherit that.
func TestDisabledEnable(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "x=kept")
	sessionstest.Checkpoint(t, s)
	sessionstest.Run(t, s, "enable -n enable eval")
	time.Sleep(2 * idleEnough)     // its state is saved
	sessionstest.Run(t, s, "true") // finds out
	for range 2 {
		if r := sessionstest.Run(t, s, "echo $x; (exit 3)"); r.Stdout != "kept\n" || r.Code() != 3 {
			t.Errorf("%s %d %q %q", r.Reason, r.Code(), r.Stdout, r.Stderr)
		}
	}
}

// A command before the prompt never runs under the user's set -e, where it could end the shell.
func TestPromptCommandUnderErrexit(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "PROMPT_COMMAND=false; set -e; v=kept")
	for range 3 {
		if r := sessionstest.Run(t, s, `echo "$v" $$; [[ $- == *e* ]]`); !strings.HasPrefix(r.Stdout, "kept ") || r.Code() != 0 {
			t.Errorf("%s %d %q %q", r.Reason, r.Code(), r.Stdout, r.Stderr)
		}
	}
	if got := sessionstest.Restarts(t, s); len(got) > 0 {
		t.Errorf("the shell was restarted: %v", got)
	}
}

func TestCheckpointWithoutBASHPID(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "unset BASHPID; v=kept")
	time.Sleep(2 * idleEnough) // its state is saved
	sessionstest.Run(t, s, "kill -9 $$")
	if r := sessionstest.Run(t, s, "echo $v"); r.Stdout != "kept\n" {
		t.Errorf("%q", r.Stdout)
	}
}

// A DEBUG trap goes on from run to run, however fast they follow, and so does its end.
func TestDebugTrapIsKept(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	steps := []struct{ code, want string }{
		{"trap 'echo \"<$BASH_COMMAND>\"' DEBUG; echo a", "<echo a>\na\n"},
		{"echo b; echo c", "<echo b>\nb\n<echo c>\nc\n"},
		{"(exit 4)", ""},
		{"echo $?", "<echo $?>\n4\n"},
		{"set -x", "<set -x>\n"},
		{"trap - DEBUG; echo d", "<trap - DEBUG>\nd\n"},
		{"set +x; echo e", "e\n"},
		{"trap 'echo 2' DEBUG; exit 3", "2\n"},
		{"echo f", "2\nf\n"},
		{"trap - DEBUG; exit 3", "2\n"},
		{"echo g; trap -p DEBUG", "g\n"},
	}
	var runs []*sessions.Run
	for _, step := range steps {
		runs = append(runs, sessionstest.Submit(t, s, sessions.RunRequest{Code: step.code}))
	}
	for i, step := range steps {
		if r := sessionstest.Wait(t, runs[i]); r.Stdout != step.want {
			t.Errorf("%q: %q, want %q", step.code, r.Stdout, step.want)
		}
	}
}

// What runs right before one that ends the shell without a word have done is kept, however
// fast it follows them.
func TestStateOfQuickRunsIsKept(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, end := range []string{"exec true", "kill -9 $$", "trap 'echo bye' EXIT"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			var last *sessions.Run
			for _, code := range []string{"cd /usr", "export A=1", "f() { :; }", end, "b=2", "exit", `echo "$A $b $PWD"; declare -F f`} {
				last = sessionstest.Submit(t, s, sessions.RunRequest{Code: code})
			}
			if r := sessionstest.Wait(t, last); r.Stdout != "1 2 /usr\nf\n" {
				t.Errorf("printed %q", r.Stdout)
			}
		})
	}
}

// What a run ends with is told exactly, whatever else the code leaves behind for the lines that
// tell it to look at.
func TestStatusIsExact(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	for code, want := range map[string]int{
		"true":                                0,
		"false":                               1,
		"(exit 18)":                           18,
		"return 5":                            5,
		": 7":                                 0,
		": 0 7; (exit 9)":                     9,
		"read -r _ <<< 3; (exit 4)":           4,
		"for _ in 5 6; do :; done":            0,
		"unset _; (exit 6)":                   6,
		"set -u; echo $nope":                  1,
		"set -u; echo ${nope?no 0 such}":      1,
		"set +u; echo $((1/0))":               1,
		"if":                                  2,
		"nosuchcommand":                       127,
		"/":                                   126,
		"cd /nonexistent":                     1,
		"bash -c 'kill -9 $$'":                137,
		"f() { return 33; }; f":               33,
		"false | true":                        0,
		"set -o pipefail; (exit 3) | true":    3,
		"echo x >&-":                          1,
		"set -x; (exit 12)":                   12,
		"set +x -v; (exit 13)":                13,
		"set +v -o posix; (exit 14)":          14,
		"set +o posix; IFS=01; (exit 15)":     15,
		"IFS=; (exit 16)":                     16,
		"unset IFS BASHPID; (exit 17)":        17,
		"$(echo export) TMOUT=100; (exit 22)": 22,
		"unset TMOUT DIRSTACK; (exit 19)":     19,
		"PS1='$ '; (exit 20)":                 20,
		"PS1=; : $'1\\x01E1\\n2'; (exit 21)":  21,
	} {
		for range 2 {
			if got := sessionstest.Run(t, s, code); got.Code() != want || got.Reason != sessions.ReasonExited {
				t.Errorf("%q ended as %s %d, want %d", code, got.Reason, got.Code(), want)
			}
		}
		sessionstest.Run(t, s, "set +xvu +o posix +o pipefail; unset IFS; PS1=")
	}
	if got := sessionstest.Restarts(t, s); len(got) > 0 {
		t.Errorf("shell restarted: %q", got)
	}
}

// Code can take away what the driver is made of without saying so. That may cost the result of
// the next run, but never the session.
func TestDisabledUnseen(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, name := range []string{".", ":", "eval", "printf", "test", ". : eval printf test"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, "kept=yes; take=ena; take+=ble")
			sessionstest.Run(t, s, "$take -n "+strings.ReplaceAll(name, "eval", "ev''al"))
			sessionstest.Run(t, s, "true;")
			for range 2 {
				if got := sessionstest.Run(t, s, "echo $kept; (exit 3)"); got.Stdout != "yes\n" || got.Code() != 3 {
					t.Errorf("afterwards %q, %d", got.Stdout, got.Code())
				}
			}
		})
	}
}

// An exit whose own EXIT trap takes the place of ours loses nothing of the runs before.
func TestExitTrapAtOnce(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, code := range []string{"trap 'echo bye' EXIT; exit 3", "set -e; trap 'echo bye' EXIT; (exit 3)"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			for _, before := range []string{"n=5", "v=1; cd /"} {
				sessionstest.Submit(t, s, sessions.RunRequest{Code: before})
			}
			if got := sessionstest.Run(t, s, code); got.Stdout != "bye\n" || got.Code() != 3 {
				t.Errorf("%q, %d", got.Stdout, got.Code())
			}
			if got := sessionstest.Run(t, s, `echo "$v $n" $PWD`); got.Stdout != "1 5 /\n" {
				t.Errorf("left of the state: %q", got.Stdout)
			}
		})
	}
}
