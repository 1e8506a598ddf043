package sessions_test

import (
	"strings"
	"testing"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// TestPlainWordsAreNothingSpecial: code of plain words, which takes a way of its own to the
// shell, does what it does with a comment, which does not.
func TestPlainWordsAreNothingSpecial(t *testing.T) {
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
		{"cat", "read x", "local x", "break", "continue 2", "suspend -x", "logout x", "fg", "jobs", "caller"},
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
		{"if", "then x", "fi", "time\n", "echo $_", "echo $?"},
		{"/etc", "/etc/passwd", "./x", "~nobody x", "= x", "%1", "+x", "@", "echo $ *nope* ?x? %s"},
	} {
		plain, commented := sessionstest.Session(t, m), sessionstest.Session(t, m)
		home := strings.NewReplacer(plain.Info().Cwd, "HOME", commented.Info().Cwd, "HOME", " #", "")
		for _, code := range runs {
			got, want := sessionstest.Run(t, plain, code), sessionstest.Run(t, commented, code+" #")
			if got.Code() != want.Code() || got.Reason != want.Reason || home.Replace(got.Stdout) != home.Replace(want.Stdout) || home.Replace(got.Stderr) != home.Replace(want.Stderr) {
				t.Errorf("%q of %q: %s %d %q %q, with a comment %s %d %q %q", code, runs,
					got.Reason, got.Code(), got.Stdout, got.Stderr, want.Reason, want.Code(), want.Stdout, want.Stderr)
			}
		}
	}
}
