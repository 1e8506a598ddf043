package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A shell is where a person or a script calls the program, with a server that it finds.
type shell struct {
	bin    string
	server *program
	env    []string
}

// A done is what came of a call.
type done struct {
	stdout, stderr string
	code           int // 128 + signal where one ended it
}

// command prepares a call that ends with the test, whatever happens.
func (s shell) command(t *testing.T, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Env = append(os.Environ(), "TANDEM_URL="+s.server.url, s.server.mark)
	cmd.Env = append(cmd.Env, s.env...)
	return cmd
}

// call calls the program with nothing to read.
func (s shell) call(t *testing.T, args ...string) done {
	t.Helper()
	return s.feed(t, nil, args...)
}

// feed calls the program with something to read.
func (s shell) feed(t *testing.T, stdin io.Reader, args ...string) done {
	t.Helper()
	cmd := s.command(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	_ = cmd.Run()
	return done{stdout.String(), stderr.String(), exitCode(t, cmd)}
}

func exitCode(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	if cmd.ProcessState == nil {
		t.Fatalf("%s did not start", cmd)
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// must calls the program where nothing may fail, and returns what it printed.
func (s shell) must(t *testing.T, args ...string) string {
	t.Helper()
	d := s.call(t, args...)
	if d.code != 0 || d.stderr != "" {
		t.Fatalf("%q: exit code %d, stderr %q", args, d.code, d.stderr)
	}
	return d.stdout
}

// session makes a session, which ends with the test.
func (s shell) session(t *testing.T, args ...string) string {
	t.Helper()
	id := strings.TrimSpace(s.must(t, append([]string{"new"}, args...)...))
	t.Cleanup(func() { s.call(t, "rm", id) })
	return id
}

// sessions are the ids of the sessions there are.
func (s shell) sessions(t *testing.T) []string {
	t.Helper()
	return strings.Fields(s.must(t, "ls", "-q"))
}

func unmarshal[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

// TestCommandLine is the built program, used as people and scripts use it, with one server
// for all. Nothing is left at the end: no session, no process, no file.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	s := shell{bin: buildProgram(t)}
	s.server = startProgram(t, s.bin)
	t.Run("with one server", func(t *testing.T) {
		for _, tests := range []map[string]func(*testing.T, shell){commandTests(), runTests(), attachTests(), doctorTests()} {
			for name, test := range tests {
				t.Run(name, func(t *testing.T) { t.Parallel(); test(t, s) })
			}
		}
	})
	s.server.eventually("sessions left", func() string {
		if len(s.sessions(t)) == 0 {
			return ""
		}
		return s.must(t, "ls")
	})
	s.server.signal(syscall.SIGTERM)
	if code := s.server.ended(deadline); code != exitOK {
		t.Errorf("the server ended with %d", code)
	}
	s.server.nothingIsLeft()
}

func commandTests() map[string]func(*testing.T, shell) {
	return map[string]func(*testing.T, shell){
		"tables":          testTables,
		"mistakes":        testMistakes,
		"server there":    testWrongServer,
		"names":           testNames,
		"tokens":          testTokens,
		"other addresses": testAddresses,
		"wait":            testWait,
		"logs":            testLogs,
		"events":          testEvents,
		"interrupt":       testInterrupt,
		"remove":          testRemove,
		"completion":      testCompletion,
		"full disk":       testFullDisk,
		"idle reader":     testIdleReader,
	}
}

const idPattern = "[0-9a-f]{8}-[0-9a-f-]{27}"

func matches(t *testing.T, what, got, pattern string) {
	t.Helper()
	if !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(got) {
		t.Errorf("%s:\n%s\nwant something like\n%s", what, got, pattern)
	}
}

func testTables(t *testing.T, s shell) {
	dir := t.TempDir()
	id := s.session(t, "--name", "tables and more", "--cwd", dir, "--env", "GREETING=a=b c")
	if got := s.must(t, "run", "-s", id, "--", `echo "$GREETING"; pwd`); got != "a=b c\n"+dir+"\n" {
		t.Errorf("%q", got)
	}
	s.call(t, "run", "-s", id, "--", "echo two; exit 3")
	if table := s.must(t, "ls"); !regexp.MustCompile(`(?m)^ID +NAME +STATE +CLIENTS +QUEUED +ACTIVE +CWD +RUN\n`).MatchString(table) ||
		!regexp.MustCompile(`(?m)^`+id+` +tables and more +idle +0 +0 +\d+s ago +\S+ +-$`).MatchString(table) {
		t.Errorf("sessions:\n%s", table)
	}
	matches(t, "runs", s.must(t, "ls", id), `RUN +ID +STATE +END +EXIT +TOOK +BY +STARTED +CODE
2 +`+idPattern+` +finished +exited +3 +\d+m?s +ws +\d+s ago +echo two; exit 3
1 +`+idPattern+` +finished +exited +0 +\d+m?s +ws +\d+s ago +echo "\$GREETING"; pwd
`)
	all := unmarshal[[]sessionInfo](t, s.must(t, "ls", "--json"))
	if i := slices.IndexFunc(all, func(i sessionInfo) bool { return i.ID == id }); i < 0 || all[i].Name != "tables and more" || all[i].Cwd != dir {
		t.Errorf("%+v", all)
	}
	runs := unmarshal[[]runInfo](t, s.must(t, "ls", id, "--json"))
	if len(runs) != 2 || runs[0].Number != 2 || *runs[0].ExitCode != 3 || runs[1].Reason != "exited" {
		t.Errorf("%+v", runs)
	}
	if got := s.must(t, "ls", "-q", id); got != runs[0].RunID+"\n"+runs[1].RunID+"\n" {
		t.Errorf("%q", got)
	}
	made := unmarshal[map[string]string](t, s.must(t, "new", "--json"))
	if got := s.must(t, "rm", made["session_id"]); got != "" {
		t.Errorf("%q", got)
	}
}

// A mistake is one line that says what would be right, and an exit code that says whose it is.
func testMistakes(t *testing.T, s shell) {
	id := s.session(t)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"lss", 2, `unknown command "lss" (did you mean "ls"?): see 'tandem --help'`},
		{"help nope", 2, `unknown command "nope"`},
		{"help run x", 2, `unexpected argument "x": it takes one COMMAND, see 'tandem --help'`},
		{"new x", 2, `unexpected argument "x": flags only, see 'tandem new --help'`},
		{"new --env x", 2, `--env "x": give NAME=VALUE`},
		{"ls a b", 2, `unexpected argument "b": it takes SESSION, see 'tandem ls --help'`},
		{"ls -x", 2, "unknown shorthand flag: 'x' in -x: see 'tandem ls --help'"},
		{"ls nope", 125, `there is no session "nope"`},
		{"run", 2, "there is no code: give it after --, or on standard input"},
		{"run -- ", 2, "there is no code: give it after --, or on standard input"},
		{"run --timeout soon -- true", 2, `invalid argument "soon" for "--timeout" flag`},
		{"run --timeout -1s -- true", 2, "--timeout -1s: give how long the run may take, as 90s"},
		{"run --env =x -- true", 2, `--env "=x": give NAME=VALUE`},
		{"run --env 1=x -- true", 2, "1"},
		{"run --cwd /nope -- true", 125, `the run was refused: cwd "/nope" cannot be entered: give a directory that exists`},
		{"run -s nope -- true", 125, `there is no session "nope"`},
		{"run -d -s nope -- true", 125, `there is no session "nope"`},
		{"run -s ID --run-id a/b -- true", 2, "run_id"},
		{"run -d -s ID --run-id a/b -- true", 2, "run_id"},
		{"new --cwd /etc/passwd", 2, `cwd "/etc/passwd" cannot be made`},
		{"attach", 2, "too few arguments: it takes SESSION, see 'tandem attach --help'"},
		{"attach nope", 125, `there is no session "nope"`},
		{"interrupt", 2, "it takes SESSION"},
		{"interrupt nope", 125, `there is no session "nope"`},
		{"interrupt ID", 125, "nothing is running in this session"},
		{"signal ID", 2, "it takes SESSION and SIGNAL"},
		{"signal ID SIGNOPE", 2, `unknown signal "SIGNOPE": give a name such as SIGTERM`},
		{"signal ID 9", 2, `unknown signal "9"`},
		{"signal nope usr1", 125, `there is no session "nope"`},
		{"signal ID TERM", 125, "nothing is running in this session"},
		{"wait nope", 125, `there is no session "nope"`},
		{"wait ID nope", 125, `this session knows no run "nope"`},
		{"wait ID 7", 125, `this session knows no run "7"`},
		{"logs nope", 125, `there is no session "nope"`},
		{"logs ID nope", 125, `this session knows no run "nope"`},
		{"logs ID --cast --follow", 2, "--cast is of what there is"},
		{"logs ID 1 --tail 5", 2, "--tail counts what happens in the session"},
		{"logs ID --cast --cast-format v9", 2, `--cast-format "v9": give v3 or v2`},
		{"logs ID --cast-format v2", 2, "--cast-format is of a recording: give --cast too"},
		{"events ID --after 999999", 2, "position 999999 is beyond the end, 0: give one that was reached"},
		{"events nope", 125, `there is no session "nope"`},
		{"rm nope nope2", 125, `there is no session "nope"; there is no session "nope2"`},
		{"completion tcsh", 2, `"tcsh"`},
		{"completion", 2, "it takes SHELL"},
		{"ls --url nope", 2, `server address "nope": give one like http://127.0.0.1:4477 or unix:PATH`},
		{"ls --url unix:", 2, `server address "unix:": give one like`},
		{"ls --url http://127.0.0.1:99999", 2, `server address "http://127.0.0.1:99999": give one like http://127.0.0.1:4477 or unix:PATH`},
		{"ls --url http://127.0.0.1:0/x", 2, `server address "http://127.0.0.1:0/x": give one like`},
		{"ls --url http://[::1]:x/#token=secret", 2, `server address "http://[::1]:x/": give one like`},
		{"ls --token-file /nope", 2, "/nope"},
	} {
		args := strings.Split(strings.ReplaceAll(c.args, "ID", id), " ")
		d := s.call(t, args...)
		if d.code != c.code || d.stdout != "" {
			t.Errorf("%s: exit code %d, want %d; stdout %q, stderr %q", c.args, d.code, c.code, d.stdout, d.stderr)
		}
		oneLineOf(t, d, args[0], c.says)
	}
	d := shell{s.bin, s.server, []string{"TMPDIR=/nope"}}.call(t, "serve", "--listen", "127.0.0.1:0")
	if oneLineOf(t, d, "serve", "no such file or directory: set TMPDIR to a directory that this user may write to"); d.code != 2 || d.stdout != "" {
		t.Errorf("%+v", d)
	}
}

// What cannot be printed is told, and is a failure.
func testFullDisk(t *testing.T, s shell) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	id := s.session(t)
	s.must(t, "run", "-s", id, "--", "echo something")
	for _, args := range []string{
		"--help", "-h", "help", "help run", "serve --help", "run --help", "ls -h", "__complete ls", "--version", "version",
		"completion bash", "completion zsh", "completion fish", "systemd-unit", "systemd-unit socket",
		"ls", "ls -q", "ls --json", "ls ID", "logs ID", "logs ID --cast", "events ID", "events ID --json", "wait ID --json",
		"attach ID",
	} {
		cmd := s.command(t, strings.Fields(strings.ReplaceAll(args, "ID", id))...)
		cmd.Stdin = strings.NewReader("echo out\n")
		var stderr strings.Builder
		cmd.Stdout, cmd.Stderr = full, &stderr
		_ = cmd.Run()
		if code := exitCode(t, cmd); code != exitRuntime || !strings.HasSuffix(stderr.String(), ": no space left on device\n") {
			t.Errorf("%s: exit code %d, stderr %q", args, code, stderr.String())
		}
	}
}

// oneLineOf checks that stderr is one line of a command, with says in it.
func oneLineOf(t *testing.T, d done, command, says string) {
	t.Helper()
	if !strings.HasPrefix(d.stderr, "tandem") || strings.Count(d.stderr, "\n") != 1 || !strings.HasSuffix(d.stderr, "\n") || !strings.Contains(d.stderr, says) || strings.Contains(d.stderr, "goroutine") {
		t.Errorf("%s: stderr %q, want one line with %q", command, d.stderr, says)
	}
}

// Every command says in the same way that there is no server, or one of another kind.
func testWrongServer(t *testing.T, s shell) {
	commands := []string{"new", "ls", "run -- true", "run -d -- true", "run -s x -- true", "attach x", "interrupt x", "signal x TERM", "wait x", "logs x", "events x", "rm x"}
	other := otherServer(t)
	for _, c := range commands {
		args := strings.Fields(c)
		d := s.call(t, slices.Insert(slices.Clone(args), 1, "--url", "http://127.0.0.1:1")...)
		if d.code != 255 {
			t.Errorf("%s without a server: exit code %d", c, d.code)
		}
		oneLineOf(t, d, c, "no connection to the server at http://127.0.0.1:1: connect: connection refused")
		d = shell{s.bin, s.server, []string{"TANDEM_URL=" + other}}.call(t, args...)
		if d.code != 125 {
			t.Errorf("%s with another server: exit code %d", c, d.code)
		}
		oneLineOf(t, d, c, "the server at "+other+" answered with status 418: is it a tandem server?")
	}
	d := s.call(t, "ls", "--url", "unix:/nope")
	oneLineOf(t, d, "ls", "no connection to the server at unix:/nope: connect: no such file or directory")
	d = s.call(t, "run", "--url", strings.Replace(s.server.url, "http:", "https:", 1), "--", "true")
	if oneLineOf(t, d, "run", "server gave HTTP response to HTTPS client"); d.code != 255 {
		t.Errorf("exit code %d", d.code)
	}
}

// otherServer is a server that is none of ours.
func otherServer(t *testing.T) string {
	t.Helper()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "<html>hello</html>")
	}))
	t.Cleanup(other.Close)
	return other.URL
}

func testNames(t *testing.T, s shell) {
	one := s.session(t, "--name", "twin")
	two := s.session(t, "--name", "twin")
	three := s.session(t, "--name", "single")
	if got := s.must(t, "run", "-s", "single", "--", "echo by name"); got != "by name\n" {
		t.Errorf("%q", got)
	}
	d := s.call(t, "run", "-s", "twin", "--", "true")
	if oneLineOf(t, d, "run", `"twin" is what 2 sessions are called: give the id of one`); d.code != 2 {
		t.Errorf("exit code %d", d.code)
	}
	for _, id := range []string{one, two, three} {
		if got := s.must(t, "run", "-s", id[:18], "--", "echo by prefix"); got != "by prefix\n" {
			t.Errorf("%q", got)
		}
	}
	// A run is what its id, the beginning of its id, or its number says.
	s.must(t, "run", "-s", one, "--run-id", "make-1", "--", "echo first")
	s.must(t, "run", "-s", one, "--run-id", "make-2", "--", "echo second")
	for called, want := range map[string]string{"make-1": "first\n", "make-2": "second\n", "2": "first\n", "3": "second\n"} {
		if got := s.must(t, "logs", one, called); got != want {
			t.Errorf("logs of %q: %q, want %q", called, got, want)
		}
	}
	d = s.call(t, "logs", one, "make")
	if oneLineOf(t, d, "logs", `"make" is how the ids of 2 runs begin: give more of it, see 'tandem ls `); d.code != 2 {
		t.Errorf("exit code %d", d.code)
	}
}

func testTokens(t *testing.T, s shell) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("view looking-secret\ncontrol working-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := startProgram(t, "env", "TANDEM_TOKEN_FILE="+file, s.bin)
	with := func(env ...string) shell { return shell{s.bin, guarded, env} }
	d := with().call(t, "ls")
	if oneLineOf(t, d, "ls", "a token is needed: set TANDEM_TOKEN or give --token-file"); d.code != 125 {
		t.Errorf("exit code %d", d.code)
	}
	for _, args := range [][]string{{"ls"}, {"run", "--", "true"}, {"new"}} {
		d = with("TANDEM_TOKEN=wrong-secret").call(t, args...)
		if oneLineOf(t, d, args[0], "the token is wrong"); d.code != 125 || strings.Contains(d.stderr, "wrong-secret") {
			t.Errorf("exit code %d: %s", d.code, d.stderr)
		}
	}
	// The file's token that may control, whatever comes first; flag, variable, and link.
	control := with("TANDEM_TOKEN_FILE=" + file)
	id := strings.TrimSpace(control.must(t, "new"))
	control.must(t, "run", "-s", id, "--", "echo kept")
	if got := with().must(t, "logs", id, "--token-file", file); got != "kept\n" {
		t.Errorf("%q", got)
	}
	if got := with().must(t, "logs", id, "--url", guarded.url+"/#token=working-secret"); got != "kept\n" {
		t.Errorf("%q", got)
	}
	view := with("TANDEM_TOKEN=looking-secret")
	if got := view.must(t, "logs", id); got != "kept\n" {
		t.Errorf("%q", got)
	}
	view.must(t, "ls")
	for _, args := range [][]string{{"new"}, {"run", "--", "true"}, {"run", "-d", "-s", id, "--", "true"}, {"rm", id}, {"interrupt", id}} {
		d := view.call(t, args...)
		if oneLineOf(t, d, args[0], "this token is for viewing"); d.code != 125 {
			t.Errorf("%q: exit code %d", args, d.code)
		}
	}
	if d := view.call(t, "attach", id, "--view"); d.code != 0 {
		t.Errorf("%+v", d)
	}
	d = view.call(t, "run", "-s", id, "--", "true")
	if oneLineOf(t, d, "run", "role=view"); d.code != 125 {
		t.Errorf("%+v", d)
	}
	// A session that was made for nothing does not stay.
	if d := control.call(t, "run", "-d", "--run-id", "a/b", "--", "true"); d.code != 2 {
		t.Errorf("%+v", d)
	}
	if got := control.must(t, "ls", "-q"); got != id+"\n" {
		t.Errorf("%q", got)
	}
	control.must(t, "rm", id)
}

func testAddresses(t *testing.T, s shell) {
	cert, key := certify(t, t.TempDir(), 1)
	for name, args := range map[string]string{
		"unix": "--listen unix:" + filepath.Join(t.TempDir(), "socket"),
		"TLS":  "--tls-cert " + cert + " --tls-key " + key,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			there := shell{s.bin, startProgram(t, "bash", "-c", `exec "$0" "$@" `+args, s.bin), []string{"SSL_CERT_FILE=" + cert}}
			if got := there.must(t, "run", "--", "echo over "+name); got != "over "+name+"\n" {
				t.Errorf("%q", got)
			}
			id := strings.TrimSpace(there.must(t, "new"))
			there.must(t, "rm", id[:8])
		})
	}
}

func testWait(t *testing.T, s shell) {
	id := s.session(t)
	d := s.call(t, "wait", id)
	if oneLineOf(t, d, "wait", "nothing has run in this session"); d.code != 125 {
		t.Errorf("exit code %d", d.code)
	}
	run := strings.TrimSpace(s.must(t, "run", "-s", id, "-d", "--run-id", "five", "--", "(exit 5)"))
	if d := s.call(t, "wait", id, run, "--json"); d.code != 5 || d.stderr != "" || *unmarshal[runInfo](t, d.stdout).ExitCode != 5 {
		t.Errorf("%+v", d)
	}
	if d := s.call(t, "wait", id); d != (done{code: 5}) {
		t.Errorf("%+v", d)
	}
	run = strings.TrimSpace(s.must(t, "run", "-s", id, "-d", "--", "sleep 1000"))
	d = s.call(t, "wait", id, "--timeout", "10ms")
	if oneLineOf(t, d, "wait", "run "+run+" has not ended within 10ms: it goes on"); d.code != 124 {
		t.Errorf("%+v", d)
	}
	queued := strings.TrimSpace(s.must(t, "run", "-s", id, "-d", "--run-id", "queued", "--", "echo never"))
	if runs := unmarshal[[]runInfo](t, s.must(t, "ls", id, "--json")); runs[0].RunID != queued || runs[0].State != "queued" {
		t.Errorf("%+v", runs)
	}
	waiting := s.command(t, "wait", id) // the newest is the one that is queued
	var stderr bytes.Buffer
	waiting.Stderr = &stderr
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	request(t, "DELETE", s.server.url+"/session/"+id+"/run/queued", "", nil)
	_ = waiting.Wait()
	if code := exitCode(t, waiting); code != 125 || stderr.String() != "tandem wait: the run has no exit code: canceled\n" {
		t.Errorf("%d %s", code, stderr.String())
	}
	s.must(t, "interrupt", id)
	if d := s.call(t, "wait", id, run); d.code != 130 {
		t.Errorf("%+v", d)
	}
}

func testLogs(t *testing.T, s shell) {
	id := s.session(t)
	s.call(t, "run", "-s", id, "--", `printf 'a\377b\nno newline'; echo bad >&2`)
	s.must(t, "run", "-s", id, "--", "echo second")
	if d := s.call(t, "logs", id); d != (done{"a\xffb\nno newlinesecond\n", "bad\n", 0}) {
		t.Errorf("%+v", d)
	}
	if d := s.call(t, "logs", id, "1"); d != (done{"a\xffb\nno newline", "bad\n", 0}) {
		t.Errorf("%+v", d)
	}
	if got := s.must(t, "logs", id, "2"); got != "second\n" {
		t.Errorf("%q", got)
	}
	if got := s.must(t, "logs", id, "2", "-f"); got != "second\n" {
		t.Errorf("%q", got)
	}
	if got := s.must(t, "logs", id, "--tail", "8"); got != "second\n" {
		t.Errorf("%q", got)
	}
	for format, version := range map[string]any{"v3": 3.0, "v2": 2.0} {
		cast := s.must(t, "logs", id, "2", "--cast", "--cast-format", format)
		if first, _, _ := strings.Cut(cast, "\n"); unmarshal[map[string]any](t, first)["version"] != version || !strings.Contains(cast, "second") {
			t.Errorf("%s: %s", format, cast)
		}
	}
	if empty := s.session(t); s.must(t, "logs", empty) != "" {
		t.Error("a session in which nothing ran has put something out")
	}
	// What follows comes as it happens, and ends with the run, a signal, or the session.
	for name, end := range map[string]func(cmd *exec.Cmd){
		"the run":     func(*exec.Cmd) { s.must(t, "interrupt", id) },
		"a signal":    func(cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGINT) },
		"the session": func(*exec.Cmd) { s.must(t, "rm", id) },
	} {
		id = s.session(t)
		run := strings.TrimSpace(s.must(t, "run", "-s", id, "-d", "--", "echo started; sleep 1000"))
		args := []string{"logs", id, "-f"}
		if name == "the run" {
			args = append(args, run)
		}
		cmd, lines := s.live(t, args...)
		if line := lines(); line != "started" {
			t.Errorf("%s: %q", name, line)
		}
		end(cmd)
		_ = cmd.Wait()
		if code := exitCode(t, cmd); code != 0 {
			t.Errorf("ended by %s: exit code %d", name, code)
		}
	}
}

// Ctrl-C ends what prints also where nobody reads it.
func testIdleReader(t *testing.T, s shell) {
	id := s.session(t)
	s.must(t, "run", "-s", id, "--", "seq 10000")
	for range 100 { // events
		request(t, "POST", s.server.url+"/session/"+id+"/run", `{"code":"true"}`, asJSON)
	}
	for _, args := range [][]string{{"logs", id}, {"logs", id, "-f"}, {"events", id}, {"events", id, "--json"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		size, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 8192)
		if err != nil {
			t.Fatal(err)
		}
		cmd := s.command(t, args...)
		var stderr strings.Builder
		cmd.Stdout, cmd.Stderr = w, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		before := 0
		s.server.eventually("the pipe of "+args[0], func() string {
			n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
			full := n > size/2 && n == before // but for what does not fit
			if before = n; full {
				return ""
			}
			return fmt.Sprintf("there are %d of %d bytes in it, %v", n, size, err)
		})
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
		if code := exitCode(t, cmd); code != 0 || stderr.String() != "" {
			t.Errorf("%s: exit code %d, stderr %q", args, code, stderr.String())
		}
		_ = r.Close()
	}
}

// live starts a call and returns a function that waits for its next line of output, "" when
// there is no more.
func (s shell) live(t *testing.T, args ...string) (cmd *exec.Cmd, line func() string) {
	t.Helper()
	cmd = s.command(t, args...)
	return cmd, s.startLive(t, cmd)
}

func (s shell) startLive(t *testing.T, cmd *exec.Cmd) (line func() string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	return func() string {
		t.Helper()
		line, err := lines.ReadString('\n')
		if err != nil && (line != "" || !errors.Is(err, io.EOF)) {
			t.Errorf("%q, %v", line, err)
		}
		return strings.TrimSuffix(line, "\n")
	}
}

func testEvents(t *testing.T, s shell) {
	dir := t.TempDir()
	id := s.session(t, "--cwd", dir)
	s.call(t, "run", "-s", id, "--", "echo one; exit 4")
	cmd, line := s.live(t, "events", id)
	matches(t, "start", line(), `\d+-\d+-\d+ \d+:\d+:\d+  run 1 \(`+idPattern+`\) by ws in `+dir+`: echo one; exit 4`)
	matches(t, "end", line(), ` +run `+idPattern+` exited 4 after \d+ms`)
	matches(t, "shell", line(), ` +the shell was replaced \(exit\), with the state of: exit`)
	raw, lines := s.live(t, "events", id, "--json", "--after", "1")
	var types []string
	for len(types) < 4 {
		types = append(types, unmarshal[map[string]any](t, lines())["type"].(string))
	}
	if got := strings.Join(types, " "); got != "attached stdout run.finished shell.restarted" {
		t.Errorf("%s", got)
	}
	s.must(t, "rm", id)
	matches(t, "closed", line(), ` +the session was closed: \w+`)
	if err := errors.Join(cmd.Wait(), raw.Wait()); err != nil {
		t.Error(err)
	}
}

func testInterrupt(t *testing.T, s shell) {
	id := s.session(t)
	s.must(t, "run", "-s", id, "-d", "--run-id", "stubborn", "--", "trap '' INT TERM; echo on; while :; do sleep 0.05; done")
	cmd, line := s.live(t, "logs", id, "-f", "stubborn")
	line()
	d := s.call(t, "interrupt", id, "--run", "other")
	if oneLineOf(t, d, "interrupt", `"other"`); d.code != 125 {
		t.Errorf("%+v", d)
	}
	s.must(t, "interrupt", id, "--run", "1", "--force")
	if d := s.call(t, "wait", id, "stubborn"); d.code == 0 || d.code == 125 {
		t.Errorf("%+v", d)
	}
	_ = cmd.Wait()
	s.must(t, "run", "-s", id, "-d", "--run-id", "listening", "--", "bash -c 'trap \"echo got it; exit 6\" USR1; echo on; while :; do sleep 0.01; done'")
	cmd, line = s.live(t, "logs", id, "-f", "listening")
	line()
	s.must(t, "signal", id, "USR1")
	if got := line(); got != "got it" {
		t.Errorf("%q", got)
	}
	_ = cmd.Wait()
	if d := s.call(t, "wait", id, "listening"); d.code != 6 {
		t.Errorf("%+v", d)
	}
}

func testRemove(t *testing.T, s shell) {
	one, two := s.session(t), s.session(t)
	d := s.call(t, "rm", one, "nope", two)
	if oneLineOf(t, d, "rm", `there is no session "nope"`); d.code != 125 {
		t.Errorf("%+v", d)
	}
	if left := s.sessions(t); slices.Contains(left, one) || slices.Contains(left, two) {
		t.Errorf("still there: %v", left)
	}
}

// The scripts are for real shells; bash's is loaded by one and asked.
func testCompletion(t *testing.T, s shell) {
	id := s.session(t, "--name", "completed")
	s.must(t, "run", "-s", id, "--run-id", "finish-me", "--", "true")
	for shell, sign := range map[string]string{"bash": "complete -o default", "zsh": "#compdef tandem", "fish": "complete -c tandem"} {
		if script := s.must(t, "completion", shell); !strings.Contains(script, sign) {
			t.Errorf("%s: %.200s", shell, script)
		}
	}
	bash := func(words string) string {
		cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc")
		cmd.Env = append(os.Environ(), "TANDEM_URL="+s.server.url, "PATH="+filepath.Dir(s.bin)+":"+os.Getenv("PATH"))
		// What the package bash-completion gives a script, as far as ours needs it.
		cmd.Stdin = strings.NewReader(`
			_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}; prev=${words[cword-1]}; }
			__ltrim_colon_completions() { :; }
			source <(tandem completion bash) || exit
			COMP_WORDS=(` + words + `) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE="${COMP_WORDS[*]}" COMP_POINT=${#COMP_LINE} COMP_TYPE=9
			__start_tandem
			printf '%s\n' "${COMPREPLY[@]}"`)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return string(out)
	}
	for words, want := range map[string]string{
		"tandem att":                             "attach",
		"tandem run --time":                      "--timeout",
		"tandem attach " + id[:6]:                id,
		"tandem run -s " + id[:6]:                id,
		"tandem logs " + id + " fini":            "finish-me",
		"tandem interrupt --run fini " + id:      "",
		"tandem completion z":                    "zsh",
		"tandem signal " + id + " SIGUS":         "SIGUSR1",
		"tandem attach comp":                     "completed",
		"tandem --url http://127.0.0.1:1 attach": "",
	} {
		if got := bash(words); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", words, got, want)
		}
	}
}
