package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"tandem/ws"
)

// readStream reads a run's stream, a byte at a time.
func readStream(text string) (*result, error) {
	s := &runStream{events: newSSEReader(iotest.OneByteReader(strings.NewReader(text)))}
	err := s.all()
	return &s.result, err
}

func event(id int, data string) string { return fmt.Sprintf("id: %d\ndata: %s\n\n", id, data) }

const initEvent = "id: 0\ndata: {\"type\":\"init\",\"text\":\"s\",\"run_id\":\"r\",\"timestamp\":1}\n\n"

func TestRunStream(t *testing.T) {
	t.Parallel()
	raw := []byte("\xff\x00\r")
	got, err := readStream(initEvent +
		event(4, `{"type":"stdout","text":"one","timestamp":1}`) +
		event(5, `{"type":"stdout","text":"","timestamp":1}`) +
		event(8, `{"type":"stdout","text":"?","base64":"`+base64.StdEncoding.EncodeToString(raw)+`","newline":false,"timestamp":1}`) +
		event(8, `{"type":"ping","text":"pong","timestamp":1}`) +
		event(11, `{"type":"stderr","text":"\u0085","newline":false,"timestamp":1}`) +
		event(12, `{"type":"error","error":{"ename":"CommandExecError","evalue":"7","traceback":[]},"timestamp":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := "one\n\n" + string(raw); string(got.stdout) != want || string(got.stderr) != "\u0085" {
		t.Errorf("stdout %q, stderr %q", got.stdout, got.stderr)
	}
	if got.end != exited(7) || got.runID != "r" || got.truncated {
		t.Errorf("got %+v", got)
	}
}

func TestRunStreamRefuses(t *testing.T) {
	t.Parallel()
	end := event(9, `{"type":"execution_complete","exit_code":0,"timestamp":1}`)
	for name, text := range map[string]string{
		"end without init":  end,
		"no end":            initEvent,
		"two ends":          initEvent + end + end,
		"ids that go back":  initEvent + event(5, `{"type":"stdout","text":"","timestamp":1}`) + event(4, `{"type":"stdout","text":"","timestamp":1}`),
		"half an event":     initEvent + strings.TrimSuffix(end, "\n"),
		"unknown type":      initEvent + event(1, `{"type":"new","timestamp":1}`) + end,
		"no timestamp":      initEvent + event(1, `{"type":"stdout","text":""}`) + end,
		"0 told as error":   initEvent + event(1, `{"type":"error","error":{"ename":"CommandExecError","evalue":"0"},"timestamp":1}`),
		"unknown ename":     initEvent + event(1, `{"type":"error","error":{"ename":"New","evalue":"1"},"timestamp":1}`),
		"id that is none":   "id: x\ndata: {}\n\n",
		"base64 of nothing": initEvent + event(1, `{"type":"stdout","base64":"*","timestamp":1}`) + end,
	} {
		if got, err := readStream(text); err == nil {
			t.Errorf("%s: took it as %+v", name, got)
		}
	}
	if _, err := readStream(initEvent); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stream cut off is %v", err)
	}
}

func TestExpect(t *testing.T) {
	t.Parallel()
	p := payload{stdout: []byte("abc"), stderr: []byte("x"), exit: 3}
	good := result{stdout: []byte("abc"), stderr: []byte("x"), end: exited(3), ended: true}
	tally := newTally()
	if err := tally.expect(&good, p); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(r *result){
		"lost":      func(r *result) { r.stdout = []byte("ac") },
		"doubled":   func(r *result) { r.stdout = []byte("abcabc") },
		"mixed up":  func(r *result) { r.stdout, r.stderr = r.stderr, r.stdout },
		"no end":    func(r *result) { r.ended = false },
		"truncated": func(r *result) { r.truncated = true },
		"code":      func(r *result) { r.end = exited(4) },
		"reason":    func(r *result) { r.end.reason = "interrupted" },
	} {
		bad := good
		spoil(&bad)
		if tally.expect(&bad, p) == nil {
			t.Errorf("%s: not seen", name)
		}
	}
	if wrong, _ := difference([]byte("abXd"), []byte("abcdef")); wrong != 3 {
		t.Errorf("%d bytes wrong, want 3", wrong)
	}
}

func TestJournalRefuses(t *testing.T) {
	t.Parallel()
	j := newJournal()
	if err := j.attached(&ws.Message{Type: ws.TypeAttached, Pos: 10}); err != nil {
		t.Fatal(err)
	}
	take := func(m ws.Message) error { m.Placed = true; return j.add(&m) }
	if err := errors.Join(
		take(ws.Message{Type: ws.TypeRunStarted, Pos: 10, RunID: "r", Number: 3}),
		take(ws.Message{Type: ws.TypeStdout, Pos: 11, Number: 3, Data: []byte("ab")}),
	); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]ws.Message{
		"a byte twice": {Type: ws.TypeStdout, Pos: 12, Number: 3, Data: []byte("b")},
		"a byte lost":  {Type: ws.TypeStdout, Pos: 14, Number: 3, Data: []byte("d")},
		"a gap":        {Type: ws.TypeGap, From: 13, To: 20},
		"other start":  {Type: ws.TypeAttached, Pos: 12},
	} {
		if m.Type == ws.TypeAttached && j.attached(&m) == nil || m.Type != ws.TypeAttached && take(m) == nil {
			t.Errorf("%s: not seen", name)
		}
	}
	if got := string(j.run("r").stdout); got != "ab" || j.pos != 13 {
		t.Errorf("has %q, at %d", got, j.pos)
	}
}

// What a payload says is what bash makes of its code.
func TestPayload(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		p, err := newPayload(rng, t.TempDir(), "p", 100<<10)
		if err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "bash", "-c", p.code)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		r := &result{stdout: stdout.Bytes(), stderr: stderr.Bytes(), end: exited(cmd.ProcessState.ExitCode()), ended: true}
		if err := newTally().expect(r, p); err != nil {
			t.Errorf("payload %d: %v", i, err)
		}
	}
}

func TestSameSeedSameChoices(t *testing.T) {
	t.Parallel()
	names := func() (s string) {
		w := newWorker(&soak{cfg: config{seed: 5}, server: &server{}}, 3)
		for range 50 {
			s += pick(w.fork()).name + "\n"
		}
		return s
	}
	if a, b := names(), names(); a != b {
		t.Errorf("%s\n%s", a, b)
	}
}

// TestSoak drives a real server for a moment.
func TestSoak(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the server is made for Linux")
	}
	bin := filepath.Join(t.TempDir(), "tandem")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../tandem").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	var stdout, stderr bytes.Buffer
	if code := program([]string{"-bin", bin, "-for", "5s", "-workers", "4"}, &stdout, &stderr); code != 0 {
		t.Errorf("exit code %d\n%s\n%s", code, &stderr, &stdout)
	}
	if !strings.Contains(stdout.String(), "bytes lost or wrong") {
		t.Errorf("no report: %s", &stdout)
	}
}
