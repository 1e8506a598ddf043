package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func runTests() map[string]func(*testing.T, shell) {
	return map[string]func(*testing.T, shell){
		"run: exit codes":         testRunExitCodes,
		"run: every byte":         testRunBytes,
		"run: live":               testRunLive,
		"run: code on stdin":      testRunCodeOnStdin,
		"run: surroundings":       testRunSurroundings,
		"run: JSON":               testRunJSON,
		"run: detached":           testRunDetached,
		"run: once by its id":     testRunOnce,
		"run: Ctrl-C":             testRunInterrupted,
		"run: Ctrl-C by force":    testRunForced,
		"run: SIGTERM":            testRunTerminated,
		"run: closed stdout":      testRunClosedStdout,
		"run: full disk":          testRunFullDisk,
		"run: unreadable stdin":   testRunUnreadableStdin,
		"run: cut connections":    testRunCut,
		"run: killed server":      testRunServerKilled,
		"run: stopped server":     testRunServerStopped,
		"run: deleted session":    testRunSessionDeleted,
		"run: session of its own": testRunEphemeral,
		"run: too large":          testRunTooLarge,
	}
}

func testRunExitCodes(t *testing.T, s shell) {
	id := s.session(t)
	for _, c := range []struct {
		code string
		want done
	}{
		{"true", done{}},
		{"exit 7", done{code: 7}},
		{"echo a; echo b >&2; (exit 255)", done{"a\n", "b\n", 255}},
		{"kill -9 $$", done{code: 137}},
		{"bash -c 'kill -TERM $$'", done{code: 143}},
		{"no-such-command-here 2>/dev/null", done{code: 127}},
		{"echo 'two  spaces'", done{stdout: "two  spaces\n"}},
	} {
		for _, in := range [][]string{nil, {"-s", id}} {
			if d := s.call(t, slices.Concat([]string{"run"}, in, []string{"--", c.code})...); d != c.want {
				t.Errorf("%s: %+v, want %+v", c.code, d, c.want)
			}
		}
	}
	d := s.call(t, "run", "--timeout", "50ms", "--", "echo on; sleep 1000")
	if oneLineOf(t, d, "run", "the run was ended by its timeout"); d.code != 124 || d.stdout != "on\n" {
		t.Errorf("%+v", d)
	}
	if d := s.call(t, "run", "--timeout", "1us", "--", "sleep 1000"); d.code != 124 {
		t.Errorf("a timeout of less than a millisecond: %+v", d)
	}
	// Without "--" too; arguments are joined as ssh does.
	if got := s.must(t, "run", "echo", "a  b", "c"); got != "a b c\n" {
		t.Errorf("%q", got)
	}
}

// noise is n bytes that look like chance.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func testRunBytes(t *testing.T, s shell) {
	const size = 100 << 20
	data := noise(size)
	d := s.feed(t, bytes.NewReader(data), "run", "--", "tee >(sha256sum >&2); wait")
	if d.code != 0 || len(d.stdout) != size || d.stdout != string(data) {
		t.Errorf("exit code %d, %d bytes, want %d", d.code, len(d.stdout), size)
	}
	if !strings.HasPrefix(d.stderr, sum(data)) {
		t.Errorf("%s arrived, %s was sent", d.stderr, sum(data))
	}
	data = data[:3<<20]
	if d := s.feed(t, bytes.NewReader(data), "run", "--", "cat >&2; echo done"); d != (done{"done\n", string(data), 0}) {
		t.Errorf("stdout %q, %d bytes of stderr", d.stdout, len(d.stderr))
	}
}

func testRunLive(t *testing.T, s shell) {
	cmd := s.command(t, "run", "--", `echo first; read x; echo "got $x"; cat; echo end`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	line := s.startLive(t, cmd)
	if got := line(); got != "first" {
		t.Errorf("%q", got)
	}
	for _, word := range []string{"one", "two"} {
		_, _ = io.WriteString(stdin, word+"\n")
		if got := line(); got != word && got != "got "+word {
			t.Errorf("%q", got)
		}
	}
	_ = stdin.Close()
	if got := line(); got != "end" {
		t.Errorf("%q", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func testRunCodeOnStdin(t *testing.T, s shell) {
	code := "f() {\n  echo \"in f: $1\"\n}\nf x\ncat; read y || echo nothing to read\nexit 9\n"
	if d := s.feed(t, strings.NewReader(code), "run"); d != (done{"in f: x\nnothing to read\n", "", 9}) {
		t.Errorf("%+v", d)
	}
	d := s.feed(t, strings.NewReader("echo \xff"), "run")
	if oneLineOf(t, d, "run", "not UTF-8"); d.code != 2 {
		t.Errorf("%+v", d)
	}
	if d := s.feed(t, strings.NewReader("not code"), "run", "-n", "--", "cat; echo read nothing"); d != (done{stdout: "read nothing\n"}) {
		t.Errorf("%+v", d)
	}
}

func testRunSurroundings(t *testing.T, s shell) {
	dir := t.TempDir()
	id := s.session(t)
	if got := s.must(t, "run", "-s", id, "--cwd", dir, "--env", "A=1", "--env", "B=two words=x", "--", `pwd; echo "$A,$B"`); got != dir+"\n1,two words=x\n" {
		t.Errorf("%q", got)
	}
	if got := s.must(t, "run", "-s", id, "--", `pwd; echo "${A-unset}"; x=kept`); got != dir+"\nunset\n" {
		t.Errorf("%q", got)
	}
	if got := s.must(t, "run", "--session", id, "--", "echo $x"); got != "kept\n" {
		t.Errorf("%q", got)
	}
}

func testRunJSON(t *testing.T, s shell) {
	dir := t.TempDir()
	d := s.call(t, "run", "--json", "--cwd", dir, "--", `printf 'a\377<b>\n'; echo ü >&2; exit 3`)
	got := unmarshal[runResult](t, d.stdout)
	if d.code != 3 || d.stderr != "" || strings.Count(d.stdout, "\n") != 1 || *got.ExitCode != 3 || got.Reason != "exited" || got.Stdout != "a\ufffd<b>\n" ||
		got.Stderr != "ü\n" || got.StderrBase64 != "" || got.Cwd != dir || got.RunID == "" || got.SessionID == "" {
		t.Errorf("%+v", d)
	}
	if exact, err := base64.StdEncoding.DecodeString(got.StdoutBase64); err != nil || string(exact) != "a\xff<b>\n" {
		t.Errorf("%q %v", exact, err)
	}
	d = s.call(t, "run", "--json", "--timeout", "20ms", "--", "sleep 1000")
	if got := unmarshal[runResult](t, d.stdout); d.code != 124 || d.stderr != "" || got.Reason != "timed_out" {
		t.Errorf("%+v", d)
	}
	d = s.call(t, "run", "--json", "--cwd", "/nope", "--", "true")
	if got := unmarshal[runResult](t, d.stdout); d.code != 125 || d.stderr != "" || got.Reason != "refused" || got.ExitCode != nil || !strings.Contains(got.Detail, "/nope") {
		t.Errorf("%+v", d)
	}
}

func testRunDetached(t *testing.T, s shell) {
	id := s.session(t)
	run := s.must(t, "run", "-s", id, "-d", "--env", "A=5", "--", "echo out; cat; exit $A")
	if d := s.call(t, "wait", id, strings.TrimSpace(run)); d != (done{code: 5}) {
		t.Errorf("%+v", d)
	}
	if got := s.must(t, "logs", id, strings.TrimSpace(run)); got != "out\n" {
		t.Errorf("%q", got)
	}
	// Without a session one is made, which stays.
	ids := strings.Fields(s.must(t, "run", "-d", "--", "echo alone"))
	if len(ids) != 2 {
		t.Fatalf("%q", ids)
	}
	s.must(t, "wait", ids[0], ids[1])
	if got := s.must(t, "logs", ids[0]); got != "alone\n" {
		t.Errorf("%q", got)
	}
	s.must(t, "rm", ids[0])
	made := unmarshal[map[string]string](t, s.must(t, "run", "-d", "--json", "-s", id, "--", "true"))
	if made["session_id"] != id || made["run_id"] == "" {
		t.Errorf("%v", made)
	}
}

func testRunOnce(t *testing.T, s shell) {
	id := s.session(t)
	for range 2 {
		if d := s.call(t, "run", "-s", id, "--run-id", "only", "--", "echo $((++n)); (exit 4)"); d.code != 4 {
			t.Errorf("%+v", d)
		}
	}
	if got := s.must(t, "logs", id); got != "1\n" {
		t.Errorf("%q", got)
	}
	d := s.call(t, "run", "-s", id, "--run-id", "only", "--", "echo other")
	if oneLineOf(t, d, "run", "only"); d.code != 125 {
		t.Errorf("%+v", d)
	}
}

// What a terminal sends with Ctrl-C.
func testRunInterrupted(t *testing.T, s shell) {
	id := s.session(t)
	cmd := s.command(t, "run", "-s", id, "--", "x=5; echo on; sleep 1000; echo not reached")
	line := s.startLive(t, cmd)
	line()
	_ = cmd.Process.Signal(syscall.SIGINT)
	if got := line(); got != "" {
		t.Errorf("%q", got)
	}
	_ = cmd.Wait()
	if code := exitCode(t, cmd); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if got := s.must(t, "run", "-s", id, "--", "echo $x"); got != "5\n" {
		t.Errorf("%q", got)
	}
}

func testRunForced(t *testing.T, s shell) {
	cmd := s.command(t, "run", "--", `bash -c 'trap "echo no" INT; trap "" TERM; echo on; while :; do sleep 0.02; done'`)
	line := s.startLive(t, cmd)
	line()
	_ = cmd.Process.Signal(syscall.SIGINT)
	if got := line(); got != "no" {
		t.Errorf("%q", got)
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	for line() != "" {
	}
	_ = cmd.Wait()
	if code := exitCode(t, cmd); code != 130 && code != 137 {
		t.Errorf("exit code %d", code)
	}
}

func testRunTerminated(t *testing.T, s shell) {
	id := s.session(t)
	cmd := s.command(t, "run", "-s", id, "--", "echo on; sleep 1000")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	line := s.startLive(t, cmd)
	line()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	for line() != "" {
	}
	_ = cmd.Wait()
	if code := exitCode(t, cmd); code != 125 || stderr.String() != "tandem run: the run has no exit code: canceled\n" {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
	if runs := unmarshal[[]runInfo](t, s.must(t, "ls", id, "--json")); runs[0].Reason != "canceled" {
		t.Errorf("%+v", runs)
	}
}

func testRunClosedStdout(t *testing.T, s shell) {
	id := s.session(t)
	cmd := s.command(t, "run", "-s", id, "--", "yes")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 2)); err != nil {
		t.Error(err)
	}
	_ = out.Close() // as "head -1" does
	_ = cmd.Wait()
	if code := exitCode(t, cmd); code != 141 || stderr.String() != "" {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
	if d := s.call(t, "wait", id); d.code != 125 {
		t.Errorf("the run: %+v", d)
	}
}

func testRunFullDisk(t *testing.T, s shell) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := s.command(t, "run", "--", "echo x; sleep 1000")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = full, &stderr
	_ = cmd.Run()
	d := done{"", stderr.String(), exitCode(t, cmd)}
	if oneLineOf(t, d, "run", "no space left on device"); d.code != 1 {
		t.Errorf("%+v", d)
	}
}

func testRunUnreadableStdin(t *testing.T, s shell) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	d := s.feed(t, dir, "run", "--", "cat; echo end")
	if oneLineOf(t, d, "run", "is a directory"); d.stdout != "end\n" || d.code != 0 {
		t.Errorf("%+v", d)
	}
}

// A cutter is a proxy whose connections do not last: each is cut after some bytes, in whichever
// direction they go, politely or not.
type cutter struct {
	ln      net.Listener
	to      string
	most    int // bytes in one direction; 0: not by number
	cuts    int
	open    []net.Conn
	mu      sync.Mutex
	chance  *rand.Rand
	serving sync.WaitGroup
}

func newCutter(t *testing.T, to string, most int) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{ln: ln, to: strings.TrimPrefix(to, "http://"), most: most, chance: rand.New(rand.NewPCG(3, 4))}
	c.serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c.serving.Go(func() { c.serve(nc) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); c.cut(); c.serving.Wait() })
	return c
}

func (c *cutter) url() string { return "http://" + c.ln.Addr().String() }

// cut cuts all connections there are.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range c.open {
		_ = nc.Close()
	}
	c.open = nil
}

func (c *cutter) serve(client net.Conn) {
	server, err := net.Dial("tcp", c.to)
	if err != nil {
		_ = client.Close()
		return
	}
	c.mu.Lock()
	c.open = append(c.open, client, server)
	limits := [2]int64{1 << 60, 1 << 60}
	hard := false
	if c.most > 0 {
		limits = [2]int64{int64(c.chance.IntN(c.most)), int64(c.chance.IntN(c.most))}
		hard = c.chance.IntN(2) == 0
	}
	c.mu.Unlock()
	var both sync.WaitGroup
	end := func() {
		if hard {
			_ = client.(*net.TCPConn).SetLinger(0)
			_ = server.(*net.TCPConn).SetLinger(0)
		}
		_, _ = client.Close(), server.Close()
	}
	both.Go(func() { _, _ = io.CopyN(server, client, limits[0]); end() })
	both.Go(func() { _, _ = io.CopyN(client, server, limits[1]); end() })
	both.Wait()
	c.mu.Lock()
	c.cuts++
	c.mu.Unlock()
}

func (c *cutter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts
}

func testRunCut(t *testing.T, s shell) {
	data := noise(12 << 20)
	proxy := newCutter(t, s.server.url, 1<<20)
	id := s.session(t)
	there := shell{s.bin, s.server, []string{"TANDEM_URL=" + proxy.url()}}
	var d done
	for range 50 { // the request that finds the session may be cut itself
		if d = there.feed(t, bytes.NewReader(data), "run", "-s", id, "--", `n=$((n+1)); tee >(sha256sum >&2); wait; exit 6`); d.code != 255 {
			break
		}
	}
	if d.code != 6 || d.stdout != string(data) || !strings.HasPrefix(d.stderr, sum(data)) {
		t.Errorf("exit code %d, %d of %d bytes, stderr %.300q", d.code, len(d.stdout), len(data), d.stderr)
	}
	if n := proxy.count(); n < 5 {
		t.Errorf("only %d cuts", n)
	}
	if got := s.must(t, "run", "-s", id, "--", "echo $n"); got != "1\n" {
		t.Errorf("it ran %s times", strings.TrimSpace(got))
	}
}

func testRunServerKilled(t *testing.T, s shell) {
	mortal := shell{bin: s.bin, server: startProgram(t, s.bin)}
	id := strings.TrimSpace(mortal.must(t, "new"))
	cmd := mortal.command(t, "run", "-s", id, "--run-id", "on", "--patience", "100ms", "--", "echo on; sleep 1000")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	line := mortal.startLive(t, cmd)
	line()
	logs, logLine := mortal.live(t, "logs", id, "-f", "--patience", "100ms")
	logLine()
	waiting := mortal.command(t, "wait", id, "on", "--patience", "100ms")
	if err := waiting.Start(); err != nil {
		t.Fatal(err)
	}
	mortal.server.signal(syscall.SIGKILL)
	for line()+logLine() != "" {
	}
	_, _, _ = cmd.Wait(), logs.Wait(), waiting.Wait()
	d := done{"", stderr.String(), exitCode(t, cmd)}
	if oneLineOf(t, d, "run", "no connection to the server at "+mortal.server.url+": connect: connection refused"); d.code != 255 {
		t.Errorf("%+v", d)
	}
	if a, b := exitCode(t, logs), exitCode(t, waiting); a != 255 || b != 255 {
		t.Errorf("logs ended with %d, wait with %d", a, b)
	}
	mortal.server.nothingIsLeft()
}

// Whoever wants to go can, also when the server does not answer.
func testRunServerStopped(t *testing.T, s shell) {
	stuck := shell{bin: s.bin, server: startProgram(t, s.bin)}
	cmd := stuck.command(t, "run", "--", "echo on; sleep 1000")
	line := stuck.startLive(t, cmd)
	line()
	stuck.server.stop()
	for range 3 {
		_ = cmd.Process.Signal(syscall.SIGINT)
		time.Sleep(20 * time.Millisecond) // signals are not counted: two at once are one
	}
	start := time.Now()
	_ = cmd.Wait()
	if code, took := exitCode(t, cmd), time.Since(start); code != 255 || took > 10*time.Second {
		t.Errorf("exit code %d after %s", code, took)
	}
	stuck.server.signal(syscall.SIGCONT)
}

func testRunSessionDeleted(t *testing.T, s shell) {
	id := s.session(t)
	cmd := s.command(t, "run", "-s", id, "--", "echo on; sleep 1000")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	line := s.startLive(t, cmd)
	line()
	s.must(t, "rm", id)
	line()
	_ = cmd.Wait()
	d := done{"", stderr.String(), exitCode(t, cmd)}
	if oneLineOf(t, d, "run", "the run has no exit code: session closed"); d.code != 125 {
		t.Errorf("%+v", d)
	}
}

// A session that was made for a run alone goes with it. One whose client was killed has half a
// minute for it to come back; that somebody counts it is for the tests of that.
func testRunEphemeral(t *testing.T, s shell) {
	mark := filepath.Join(t.TempDir(), "pid")
	cmd := s.command(t, "run", "--json", "--", "echo $$ > "+mark+"; sleep 0.01")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	made := unmarshal[runResult](t, out.String())
	if slices.Contains(s.sessions(t), made.SessionID) {
		t.Error("the session is still there")
	}
	cmd = s.command(t, "run", "--", "echo $BASHPID; sleep 1000")
	line := s.startLive(t, cmd)
	shellPID := line()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	var id string
	s.server.eventually("the session is left", func() string {
		for _, i := range unmarshal[[]sessionInfo](t, s.must(t, "ls", "--json")) {
			if i.Run != nil && i.Run.Code == "echo $BASHPID; sleep 1000" && i.Clients == 0 {
				id = i.ID
				return ""
			}
		}
		return "somebody is still there"
	})
	s.must(t, "rm", id)
	if _, err := os.Stat("/proc/" + shellPID); err == nil {
		t.Error("its shell is still there")
	}
}

func testRunTooLarge(t *testing.T, s shell) {
	d := s.feed(t, strings.NewReader(strings.Repeat("#", 17<<20)), "run")
	if oneLineOf(t, d, "run", "at most"); d.code != 2 && d.code != 125 {
		t.Errorf("%+v", d)
	}
	// Small enough as code, and too large as a message: control characters take six bytes.
	d = s.feed(t, strings.NewReader(strings.Repeat("\x01", 15<<20)), "run", "-s", s.session(t))
	if oneLineOf(t, d, "run", "too large"); d.code != 125 {
		t.Errorf("exit code %d, %s", d.code, fmt.Sprintf("%.300s", d.stderr))
	}
}

// stop stops the program until it is told to go on.
func (p *program) stop() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	p.eventually("it is not stopped", func() string {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err == nil && strings.Contains(string(stat), ") T ") {
			return ""
		}
		return fmt.Sprint(string(stat), err)
	})
}
