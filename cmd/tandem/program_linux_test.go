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
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program is the built program at work, in surroundings where everything it starts and
// writes can be found again.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string
	mark   string // a variable of its environment, which every process of it inherits
	tmp    string // where it puts temporary files
	stderr *output
	exited chan struct{} // closed when cmd has ended
}

// buildProgram builds it as "make build" does.
func buildProgram(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "tandem")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// startProgram starts argv with "serve" and a free port behind it, and waits until it says
// where it listens. At the end of the test everything of it is gone, whatever happened.
func startProgram(t *testing.T, argv ...string) *program {
	t.Helper()
	return startProgramOn(t, "127.0.0.1:0", argv...)
}

// startProgramOn starts it on an address.
func startProgramOn(t *testing.T, address string, argv ...string) *program {
	t.Helper()
	p := &program{t: t, tmp: t.TempDir(), stderr: new(output), exited: make(chan struct{})}
	p.mark = "PROGRAM_TEST=" + strconv.Itoa(os.Getpid()) + "/" + t.Name()
	argv = append(argv, "serve", "--listen", address, "--env-pass", "PROGRAM_TEST,GO*")
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), p.mark, "TMPDIR="+p.tmp)
	p.cmd.Stderr = p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A pipe of our own: StdoutPipe would be closed by Wait, under the reader.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	p.cmd.Stdout = w
	err = p.cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(r).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "tandem listening on ")
	if !ok {
		t.Fatalf("said %q, %v: %s", line, err, p.stderr)
	}
	p.url = url
	return p
}

// kill ends whatever carries the mark.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
	for _, pr := range p.processes() {
		_ = syscall.Kill(pr.pid, syscall.SIGKILL)
	}
	if p.t.Failed() {
		p.t.Logf("stderr of the program:\n%s", p.stderr)
	}
}

type marked struct {
	pid     int
	command string
}

// processes finds every process that carries the mark, the program itself among them.
func (p *program) processes() []marked {
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		p.t.Fatal(err)
	}
	var found []marked
	for _, name := range environs {
		env, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00"+p.mark+"\x00")) {
			continue
		}
		dir := filepath.Dir(name)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		found = append(found, marked{pid, string(bytes.ReplaceAll(command, []byte{0}, []byte{' '}))})
	}
	return found
}

// eventually asks until the answer is no complaint. Processes end when the kernel gets to
// it: there is nothing that could be waited for.
func (p *program) eventually(what string, complaint func() string) {
	p.t.Helper()
	var last string
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if last = complaint(); last == "" {
			return
		}
	}
	p.t.Fatalf("%s: %s", what, last)
}

// ended waits for the end of the program itself and returns its exit code, or -1 if a
// signal ended it.
func (p *program) ended(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("still there after %v", limit)
		return 0
	}
}

func (p *program) session() string {
	p.t.Helper()
	status, body := request(p.t, "POST", p.url+"/session", "{}", nil)
	var answer struct {
		ID string `json:"session_id"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.ID == "" {
		p.t.Fatalf("POST /session: %d %s", status, body)
	}
	return answer.ID
}

// event is what these tests look at in an event of a run.
type event struct {
	Type, Text string
	Error      struct{ EName, EValue string }
}

// run starts code in a session and returns once its first line of output is there, with a
// function that waits for the event that ends the run.
func (p *program) run(id, code string) (first string, end func() event) {
	p.t.Helper()
	body, err := json.Marshal(map[string]string{"code": code})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), deadline)
	req, err := http.NewRequestWithContext(ctx, "POST", p.url+"/session/"+id+"/run", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { cancel(); _ = res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	next := func() (e event, err error) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return e, json.Unmarshal([]byte(data), &e)
			}
		}
		return e, errors.Join(lines.Err(), io.ErrUnexpectedEOF)
	}
	await := func(types ...string) event {
		p.t.Helper()
		for {
			e, err := next()
			if err != nil {
				p.t.Fatalf("waiting for %s: %v", types, err)
			}
			for _, typ := range types {
				if e.Type == typ {
					return e
				}
			}
		}
	}
	return await("stdout").Text, func() event { p.t.Helper(); return await("execution_complete", "error") }
}

// busy gives a session everything that is hard to end: a command in the foreground that
// ignores the polite signals, jobs, and a daemon that left the session's process group.
func (p *program) busy() (end func() event) {
	p.t.Helper()
	id := p.session()
	_, end = p.run(id, `
		sleep 1000 &
		nohup sleep 1001 >/dev/null 2>&1 &
		(setsid bash -c 'trap "" TERM HUP INT; sleep 1002 & wait' >/dev/null 2>&1 &)
		echo started
		bash -c 'trap "" TERM HUP INT; while :; do sleep 0.1; done'`)
	return end
}

func (p *program) nothingIsLeft() {
	p.t.Helper()
	p.eventually("processes left behind", func() string {
		if left := p.processes(); len(left) > 0 {
			return fmt.Sprint(left)
		}
		return ""
	})
	p.eventually("files left behind", func() string {
		left, err := os.ReadDir(p.tmp)
		if err != nil || len(left) > 0 {
			return fmt.Sprint(left, err)
		}
		return ""
	})
}

func TestProgram(t *testing.T) {
	t.Parallel()
	bin := buildProgram(t)
	for name, test := range map[string]func(t *testing.T, bin string){
		"SIGTERM":              testTerminated,
		"SIGKILL":              testKilled,
		"second signal":        testSecondSignal,
		"SIGINT ignored":       testInterruptIgnoredAtStart,
		"SIGHUP ignored":       testHangupIgnoredAtStart,
		"logs to a dead pipe":  testDeadPipe,
		"old bash on the PATH": testOldBash,
		"tour of the README":   testTour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, bin)
		})
	}
}

func (p *program) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

func testTerminated(t *testing.T, bin string) {
	p := startProgram(t, bin)
	end := p.busy()
	p.signal(syscall.SIGTERM)
	if e := end(); e.Type != "error" || e.Error.EName != "SessionClosed" {
		t.Errorf("the run ended as %+v, want SessionClosed", e)
	}
	if code := p.ended(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	if left := p.processes(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	p.nothingIsLeft()
}

// Without cgroups a daemon may outlive a killed server, so this one leaves out what busy
// has of that kind: no shell and nothing in the foreground may.
func testKilled(t *testing.T, bin string) {
	p := startProgram(t, bin)
	for range 3 {
		_, _ = p.run(p.session(), `echo started; bash -c 'trap "" TERM HUP INT; while :; do sleep 0.1; done'`)
		_ = p.session() // an idle shell
	}
	p.signal(syscall.SIGKILL)
	p.ended(deadline)
	p.nothingIsLeft()
}

func testSecondSignal(t *testing.T, bin string) {
	p := startProgram(t, bin)
	_ = p.busy()
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGINT)
	// The orderly end may be over before the second one is seen.
	if code := p.ended(10 * time.Second); code != exitRuntime && code != exitOK {
		t.Errorf("exit code %d, want 1, or 0 if the end was faster", code)
	}
	p.nothingIsLeft() // the guardian's doing
}

// started runs bin as a script would that ignores sig: with nohup, or with "&".
func ignoring(sig, bin string) []string {
	return []string{"bash", "-c", `trap "" ` + sig + `; exec "$@"`, "bash", bin}
}

func testInterruptIgnoredAtStart(t *testing.T, bin string) {
	p := startProgram(t, ignoring("INT", bin)...)
	id := p.session()
	_, end := p.run(id, "bash -c 'echo started; exec sleep 1000'")
	p.signal(syscall.SIGINT) // no effect on the server, as whoever ignored it wanted
	if status, body := request(t, "POST", p.url+"/session/"+id+"/interrupt", "{}", nil); status != http.StatusOK {
		t.Errorf("interrupt: %d %s", status, body)
	}
	if e := end(); e.Error.EName != "CommandInterrupted" || e.Error.EValue != "130" {
		t.Errorf("the run ended as %+v, want CommandInterrupted 130", e)
	}
	p.signal(syscall.SIGTERM)
	if code := p.ended(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	p.nothingIsLeft()
}

func testHangupIgnoredAtStart(t *testing.T, bin string) {
	p := startProgram(t, ignoring("HUP", bin)...)
	p.signal(syscall.SIGHUP)
	// A shell of such a server does not ignore it: it would print "ignored" if it did.
	_, end := p.run(p.session(), `echo started; bash -c 'kill -HUP $$; echo ignored'`)
	if e := end(); e.Error.EValue != "129" {
		t.Errorf("the run ended as %+v, want exit code 129", e)
	}
	p.signal(syscall.SIGTERM)
	if code := p.ended(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	p.nothingIsLeft()
}

// Whoever reads the log may be gone before the server ends: Ctrl-C ends a "tee" as well.
func testDeadPipe(t *testing.T, bin string) {
	p := startProgram(t, "bash", "-c", `exec "$@" 2> >(exec true)`, "bash", bin)
	_ = p.session()
	p.signal(syscall.SIGTERM)
	if code := p.ended(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	p.nothingIsLeft()
}

func testOldBash(t *testing.T, bin string) {
	cmd := exec.CommandContext(t.Context(), bin, "serve", "--listen", "127.0.0.1:0")
	cmd.Env = []string{"PATH=" + filepath.Dir(standIn(t, "echo 3.2"))}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitUsage || !bytes.Contains(out, []byte("is bash 3.2")) {
		t.Errorf("%v: %s", err, out)
	}
}

// testTour pastes the tour of the README into a shell, as a reader would, and looks for
// what it promises.
func testTour(t *testing.T, bin string) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok1 := strings.Cut(string(readme), "\n## A tour")
	_, rest, ok2 := strings.Cut(rest, "\n```sh\n")
	script, _, ok3 := strings.Cut(rest, "\n```\n")
	if !ok1 || !ok2 || !ok3 {
		t.Fatal("the README has no tour")
	}
	p := startProgram(t, bin)
	const printed = "http://127.0.0.1:4477"
	if !strings.Contains(script, printed) {
		t.Fatalf("the tour does not use %s", printed)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash")
	cmd.Env = append(os.Environ(), p.mark)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(script, printed, p.url))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := strings.Split(string(out), "\n")
	for line := range strings.SplitSeq(script, "\n") {
		want, ok := strings.CutPrefix(line, "#> ")
		if !ok {
			continue
		}
		i := slices.IndexFunc(lines, func(l string) bool { return looksLike(l, want) })
		if i < 0 {
			t.Fatalf("the tour printed no line like\n%s\nafter what was found before; all of it:\n%s", want, out)
		}
		lines = lines[i+1:]
	}
}

// looksLike reports whether want, in which "…" stands for anything, is line.
func looksLike(line, want string) bool {
	parts := strings.Split(want, "…")
	if !strings.HasPrefix(line, parts[0]) {
		return false
	}
	for _, part := range parts {
		i := strings.Index(line, part)
		if i < 0 {
			return false
		}
		line = line[i+len(part):]
	}
	return line == "" || parts[len(parts)-1] == ""
}
