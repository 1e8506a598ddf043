package sessions_test

import (
	"os"
	"strings"
	"testing"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// TestPlainCommandsAreNothingSpecial: a builtin with plain words, which takes a way of its own to the
// shell, does what it does with a comment, which does not. So does what only looks like it.
func TestPlainCommandsAreNothingSpecial(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, runs := range [][]string{
		{"true", "false", "nosuch a b", "echo a b", "echo a\necho b", "\n\necho $LINENO\n", "true\n"},
		{"exit 3", "echo alive"},
		{"exit", "echo alive"},
		{"return 3\necho no", "echo alive"},
		{"set -e\nfalse\necho no", "echo alive"},
		{"set -e", "false", "echo $-"},
		{"set -u", "echo $nope\necho on", "echo alive"},
		{"set -x", "echo x", "set +x", "echo y"},
		{"f() { echo $1; return 4; }", "f x", "f y\ntrue", "f"},
		{"f() { set -e; echo $-; }", "f", "false", "echo alive"},
		{"f() { exit 7; }", "f", "echo alive"},
		{"f() { sleep 0.01 & }", "f", "wait"},
		{"f() { unset nope; echo ${nope?gone}; }", "f\necho on", "echo alive"},
		{"x=1", "echo $x", "x=2 env", "export Y=2", "set -- a b", "echo $2 $#", "shift 5"},
		{"cd /", "cd /nonexistent", "pwd", "cd -", "pushd /tmp", "popd"},
		{"cat", "read x", "local x", "break", "continue 2", "suspend -x", "logout x", "fg", "jobs"},
		{"kill -TERM $$", "kill -INT $$", "echo alive"},
		{"kill -KILL $$", "echo alive"},
		{"exec nosuch", "exec true", "echo alive"},
		{"trap 'echo bye' EXIT", "exit 2", "echo alive"},
		{"trap 'echo failed' ERR", "false", "true"},
		{"trap 'echo returned' RETURN", "true", "return"},
		{"trap 'echo $BASH_COMMAND' DEBUG", "true x"},
		{"false", "echo after", "true", "echo after"},
		{`f() { echo "$? $_"; }`, "f", "f x", "false", "f"},
		{`alias g='echo "$_"' bad=if`, "g", "bad"},
		{"f (  ) { exit 3; }", "f", "echo alive"},
		{"function f { return 3; }", "f", "f () { echo $FUNCNAME; }", "f"},
		{"x=return y=exit", "$x 3", "A=1 $x 3", "$y 3", "echo alive"},
		{"shopt -s autocd cdspell", "/etc", "cd /ect", "pwd"},
		{"shopt -s failglob nullglob", "echo nope*", "echo alive"},
		{"UID=5", "UID=5 env", "A=1 true", "A=1 B=2", "A+=$A", "echo $A$B"},
		{"IFS=/", "x=a/b", "echo $x", "true"},
		{"set -m", "sleep 0", "true", "set +m"},
		{"kill -HUP $$", "echo alive"},
		{"echo 'kill -SEGV $$' >k; chmod +x k", "./k", "sh k"},
		{"sh -c 'kill -TERM $$' & p=$!; sleep 0.1; :", "wait $p"},
		{"BASH_ALIASES[echo]='echo hi #'; :", "echo a", "BASH_ALIASES[true]='exit 3'; :", "true"},
		{"echo 'cd() { echo in $FUNCNAME; exit 3; }' >lib; :", "2>/dev/null . ./lib", "cd", "echo alive"},
		{`x='a[$(cat >/dev/null; echo 0)]'`, "let x", "printf -v $x a", "OPTIND=x", "HISTCMD=x", "unset $x", "export $x=1", "echo $a"},
		{"export 1 x", "unset UID", "printf %d x", "test 1 -eq x", "type nosuch cd", "shift -1", "let 1/0", "umask 9"},
		{"echo a\r", "true\r", "true\u00a0", "\ttrue \n\n", "true \v"},
		{"if", "then x", "fi", "time\n", "echo $_", "echo $?"},
		{"-x", "-- x", "-"},
		{"/etc", "/etc/passwd", "./x", "~nobody x", "= x", "%1", "+x", "@", "echo $ *nope* ?x? %s"},
	} {
		for _, primed := range []bool{false, true} {
			runBoth(t, m, runs, primed)
		}
	}
}

// Options that a session begins with are as little seen.
func TestPlainCommandsUnderOptions(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{Env: append(os.Environ(), "BASHOPTS=cdspell:autocd")})
	runBoth(t, m, []string{"cd /ect", "pwd", "/etc", "pwd"}, true)
}

// runBoth runs codes in one session and, with a comment, in another. What goes before each of
// them where they are primed leaves a $? of 0 and a shell that has nothing to complain of, which
// most of the plain ones need for their own way.
func runBoth(t *testing.T, m *sessions.Manager, codes []string, primed bool) {
	t.Helper()
	plain, commented := sessionstest.Session(t, m), sessionstest.Session(t, m)
	home := strings.NewReplacer(plain.Info().Cwd, "HOME", commented.Info().Cwd, "HOME", " #", "")
	for _, code := range codes {
		for _, s := range []*sessions.Session{plain, commented} {
			for n := 0; primed && n < 2; n++ {
				sessionstest.Run(t, s, "true;")
			}
		}
		got, want := sessionstest.Run(t, plain, code), sessionstest.Run(t, commented, code+" #")
		if got.Code() != want.Code() || got.Reason != want.Reason || home.Replace(got.Stdout) != home.Replace(want.Stdout) || home.Replace(got.Stderr) != home.Replace(want.Stderr) {
			t.Errorf("%q of %q: %s %d %q %q, with a comment %s %d %q %q", code, codes,
				got.Reason, got.Code(), got.Stdout, got.Stderr, want.Reason, want.Code(), want.Stdout, want.Stderr)
		}
	}
}

// A run's own environment can have names that are readonly: that the shell cannot take them back
// is nothing to the next run.
func TestStatusAfterReadonlyEnv(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "true;")
	for _, code := range []string{"return", "f() { return; }", "f", "exit"} {
		sessionstest.RunRequest(t, s, sessions.RunRequest{Code: "true;", Env: map[string]string{"UID": "5", "PPID": "5"}})
		if got := sessionstest.Run(t, s, code); got.Code() != 0 || got.Stderr != "" {
			t.Errorf("%q: %d %q", code, got.Code(), got.Stderr)
		}
	}
}
