package sessions_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

func TestRefusedInput(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"empty code":         submit(s, sessions.RunRequest{Code: " \n"}),
		"NUL in code":        submit(s, sessions.RunRequest{Code: "echo\x00"}),
		"negative time":      submit(s, sessions.RunRequest{Code: "true", Timeout: -1}),
		"env name":           submit(s, sessions.RunRequest{Code: "true", Env: map[string]string{"A=B": ""}}),
		"empty env name":     submit(s, sessions.RunRequest{Code: "true", Env: map[string]string{"": ""}}),
		"env value":          submit(s, sessions.RunRequest{Code: "true", Env: map[string]string{"A": "\x00"}}),
		"run id":             submit(s, sessions.RunRequest{Code: "true", ID: "a b"}),
		"long run id":        submit(s, sessions.RunRequest{Code: "true", ID: strings.Repeat("x", 129)}),
		"NUL in cwd":         submit(s, sessions.RunRequest{Code: "true", Cwd: "/\x00"}),
		"name":               s.Rename("a\nb"),
		"session env":        create(m, sessions.Options{Env: map[string]string{"1A": ""}}),
		"cwd is a file":      create(m, sessions.Options{Cwd: file}),
		"cwd in a file":      create(m, sessions.Options{Cwd: file + "/x"}),
		"NUL in its cwd":     create(m, sessions.Options{Cwd: "\x00"}),
		"unset in its cwd":   create(m, sessions.Options{Cwd: t.TempDir() + "/${NO_SUCH}x"}),
		"after and tail":     attach(s, sessions.AttachOptions{After: new(uint64), Tail: new(uint64)}),
		"beyond the end":     attach(s, sessions.AttachOptions{After: ptr(uint64(1))}),
		"signal":             s.Signal("", "SIGNOPE"),
		"number as a signal": s.Signal("", "9"),
	} {
		var e *sessions.Error
		if !errors.Is(err, sessions.ErrInvalid) || !errors.As(err, &e) || len(e.Message) < 10 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"code": submit(s, sessions.RunRequest{Code: strings.Repeat("x", sessions.MaxCode+1)}),
		"env":  submit(s, sessions.RunRequest{Code: "true", Env: map[string]string{"A": strings.Repeat("x", sessions.MaxEnv)}}),
	} {
		if !errors.Is(err, sessions.ErrTooLarge) {
			t.Errorf("too large %s: %v", name, err)
		}
	}
	if res := sessionstest.Run(t, s, "echo undisturbed"); res.Stdout != "undisturbed\n" || res.Number != 1 {
		t.Errorf("afterwards: %+v", res)
	}
}

func TestDirectoryNamedLikeAVariable(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	parent, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "$HOME ${x} $$")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := m.Create(sessions.Options{Cwd: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, cwd := range []string{"", "/", dir} {
		want := cmp.Or(cwd, dir)
		if r := sessionstest.RunRequest(t, s, sessions.RunRequest{Code: "pwd", Cwd: cwd}); r.Stdout != want+"\n" {
			t.Errorf("in %q: %+v", cwd, r)
		}
	}
	s, err = m.Create(sessions.Options{Cwd: parent + "/$made/${X}", Env: map[string]string{"made": "a", "X": "b"}})
	if err != nil || s.Info().Cwd != parent+"/a/b" {
		t.Errorf("%+v, %v", s.Info(), err)
	}
}

func ptr[T any](v T) *T { return &v }

func submit(s *sessions.Session, req sessions.RunRequest) error {
	_, _, err := s.Submit(req)
	return err
}

func create(m *sessions.Manager, o sessions.Options) error {
	_, err := m.Create(o)
	return err
}

func attach(s *sessions.Session, o sessions.AttachOptions) error {
	r, _, err := s.Attach(o)
	if err == nil {
		r.Close()
	}
	return err
}

func TestLimits(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{MaxSessions: 1, MaxQueue: 2, MaxClients: 1})
	s := sessionstest.Session(t, m)
	if err := create(m, sessions.Options{}); !errors.Is(err, sessions.ErrTooMany) {
		t.Errorf("session: %v", err)
	}
	first, _, err := s.Attach(sessions.AttachOptions{Client: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := attach(s, sessions.AttachOptions{Client: true}); !errors.Is(err, sessions.ErrTooMany) {
		t.Errorf("client: %v", err)
	}
	if err := attach(s, sessions.AttachOptions{}); err != nil {
		t.Errorf("reader of a run: %v", err)
	}
	first.Close()
	if err := attach(s, sessions.AttachOptions{Client: true}); err != nil {
		t.Errorf("client after one has left: %v", err)
	}
	on := sessionstest.Submit(t, s, sessions.RunRequest{Code: "read x", Stdin: sessions.OpenStdin})
	<-on.Started()
	var ahead []int
	for range 2 {
		sessionstest.Submit(t, s, sessions.RunRequest{Code: "true", OnQueued: func(n int) { ahead = append(ahead, n) }})
	}
	if fmt.Sprint(ahead) != "[1 2]" {
		t.Errorf("ahead: %v", ahead)
	}
	if err := submit(s, sessions.RunRequest{Code: "true"}); !errors.Is(err, sessions.ErrQueueFull) {
		t.Errorf("queue: %v", err)
	}
	if err := on.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Runs() {
		sessionstest.Wait(t, r)
	}
	if err := m.Delete(s.ID()); err != nil {
		t.Fatal(err)
	}
	if err := create(m, sessions.Options{}); err != nil {
		t.Errorf("session after one is gone: %v", err)
	}
}

func TestSameRunIDAttaches(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	req := sessions.RunRequest{ID: "mine", Code: "n=$((n+1)); echo $n"}
	for range 3 {
		run, created, err := s.Submit(req)
		if err != nil {
			t.Fatal(err)
		}
		if res := sessionstest.Wait(t, run); res.Stdout != "1\n" || created != (res.Number == 1 && len(s.Runs()) == 1 && created) {
			t.Errorf("created %v: %q", created, res.Stdout)
		}
	}
	if err := submit(s, sessions.RunRequest{ID: "mine", Code: "echo other"}); !errors.Is(err, sessions.ErrRunExists) {
		t.Errorf("other code: %v", err)
	}
	if n := len(s.Runs()); n != 1 {
		t.Errorf("%d runs", n)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{RunHistory: 3}))
	for i := range 10 {
		sessionstest.RunRequest(t, s, sessions.RunRequest{ID: fmt.Sprint(i), Code: "true"})
	}
	sessionstest.Await(t, "history of 3", func() bool { return len(s.Runs()) <= 3 })
	if _, err := s.Run("0"); !errors.Is(err, sessions.ErrRunNotFound) {
		t.Errorf("forgotten run: %v", err)
	}
	if r, err := s.Run("9"); err != nil || r.Info().Reason != sessions.ReasonExited {
		t.Errorf("last run: %v", err)
	}
}

func TestStdinWindow(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "read -r line; echo $line; wc -c", Stdin: sessions.OpenStdin})
	if err := run.WriteStdin(t.Context(), []byte("go\n")); err != nil { // before it has started
		t.Fatal(err)
	}
	sessionstest.AwaitOutput(t, run, "go\n")
	blocked := sessionstest.Submit(t, s, sessions.RunRequest{Code: "cat | wc -c", Stdin: sessions.OpenStdin}) // waits in the queue
	if err := blocked.WriteStdin(t.Context(), make([]byte, sessions.StdinWindow)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := blocked.WriteStdin(ctx, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beyond the window: %v", err)
	}
	if err := run.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	if err := run.CloseStdin(); !errors.Is(err, sessions.ErrNoStdin) {
		t.Errorf("closed twice: %v", err)
	}
	if err := run.WriteStdin(t.Context(), []byte("x")); !errors.Is(err, sessions.ErrNoStdin) {
		t.Errorf("written after its end: %v", err)
	}
	if err := blocked.WriteStdin(t.Context(), []byte("x")); err != nil { // goes on once the run reads
		t.Fatal(err)
	}
	if err := blocked.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	if res, want := sessionstest.Wait(t, blocked), fmt.Sprintln(sessions.StdinWindow+1); strings.TrimSpace(res.Stdout)+"\n" != want {
		t.Errorf("%q bytes arrived, want %q", res.Stdout, want)
	}
	if n, changed := blocked.StdinTaken(); n != sessions.StdinWindow+1 {
		t.Errorf("%d bytes taken", n)
	} else {
		<-changed
	}
}

// TestFloodIsBounded has a command print far more than is kept: a lossless reader gets all
// of it, a viewer that sleeps meanwhile a gap, and what is kept stays within its bound.
func TestFloodIsBounded(t *testing.T) {
	t.Parallel()
	const retention = 1 << 20
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{Retention: retention, StallTimeout: time.Hour}))
	viewer, _, err := s.Attach(sessions.AttachOptions{Viewer: true})
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Close()
	reader, _, err := s.Attach(sessions.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "for ((i = 0; i < 40; i++)); do printf '%0250000d' $i; done"})
	var got bytes.Buffer
	pos := uint64(0)
	for finished := false; !finished; {
		entries, err := reader.Next(nil, 64<<10)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			<-reader.Ready()
		}
		for _, e := range entries {
			if e.Pos != pos || e.Kind == sessions.Gap {
				t.Fatalf("kind %d at %d, want %d", e.Kind, e.Pos, pos)
			}
			pos = e.End()
			got.Write(e.Data)
			finished = finished || e.Kind == sessions.RunFinished
			reader.Took(pos)
		}
	}
	var want strings.Builder
	for i := range 40 {
		fmt.Fprintf(&want, "%0250000d", i)
	}
	if got.String() != want.String() {
		t.Errorf("%d bytes came, want %d", got.Len(), want.Len())
	}
	entries, err := viewer.Next(nil, 1)
	if err != nil || len(entries) != 1 || entries[0].Kind != sessions.Gap {
		t.Fatalf("the viewer got %v, %v", entries, err)
	}
	if g := entries[0].Gap; run.Info().Last-g.To > retention {
		t.Errorf("%d bytes are kept, at most %d should be", run.Info().Last-g.To, retention)
	}
}

// TestStalledReaderDoesNotHoldTheCommand has a lossless reader stop reading altogether.
func TestStalledReaderDoesNotHoldTheCommand(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{Retention: sessions.MinRetention, StallTimeout: 500 * time.Millisecond}))
	reader, _, err := s.Attach(sessions.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	res := sessionstest.Submit(t, s, sessions.RunRequest{Code: "head -c 4000000 /dev/zero"})
	select {
	case <-res.Done():
	case <-time.After(sessionstest.Patience):
		t.Fatal("the command is held for ever")
	}
	if _, err := reader.Next(nil, 1); !errors.Is(err, sessions.ErrStalled) {
		t.Errorf("the reader: %v", err)
	}
}

// TestInterruptedFloodEndsAtOnce has nobody read what is to be interrupted.
func TestInterruptedFloodEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{Retention: sessions.MinRetention, StallTimeout: time.Hour}))
	reader, _, err := s.Attach(sessions.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "yes"})
	sessionstest.AwaitOutput(t, run, "y\ny\n")
	start := time.Now()
	if err := s.Interrupt("", false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-run.Done():
	case <-time.After(sessionstest.Patience):
		t.Fatal("it goes on")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestPrivateDirectoryDeleted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{Dir: dir}))
	sessionstest.Run(t, s, "x=kept; f() { echo $x; }")
	sessionstest.Run(t, s, "sleep 1.1") // a state that old is saved before the next run
	sessionstest.Run(t, s, "true")
	if err := os.RemoveAll(filepath.Join(dir, func() string { es, _ := os.ReadDir(dir); return es[0].Name() }(), "1")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if res := sessionstest.Run(t, s, "f"); res.Stdout != "kept\n" || res.Code() != 0 {
			t.Errorf("afterwards %s %d %q %q", res.Reason, res.Code(), res.Stdout, res.Stderr)
		}
	}
}

// Any file of the private directory can be deleted, also amid runs that follow each other.
func TestPrivateFileDeleted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"go", "c", "1", "2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{Dir: dir}))
			found, err := filepath.Glob(filepath.Join(dir, "*", "1"))
			if err != nil || len(found) != 1 {
				t.Fatalf("%q, %v", found, err)
			}
			sessionstest.Run(t, s, "x=kept")
			sessionstest.Checkpoint(t, s)
			for range 10 {
				sessionstest.Run(t, s, "true")
			}
			if err := os.Remove(filepath.Join(found[0], name)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if r := sessionstest.Run(t, s, "echo $x; echo err >&2; (exit 3)"); r.Stdout != "kept\n" || r.Stderr != "err\n" || r.Code() != 3 {
					t.Errorf("%s %d %q %q", r.Reason, r.Code(), r.Stdout, r.Stderr)
				}
			}
		})
	}
}

// A reader that says how far it wants to be behind holds a command back by then, and not
// only when half of the retention is full.
func TestLagHoldsACommandBack(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	const lag = 64 << 10
	r, snap, err := s.Attach(sessions.AttachOptions{Lag: lag})
	if err != nil {
		t.Fatal(err)
	}
	run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "head -c 3000000 /dev/zero; echo; echo end"})
	var end uint64
	sessionstest.Await(t, "the command to be held back", func() bool {
		before := end
		_, end = tail(t, s)
		return end > snap.Pos+lag && end == before
	})
	// A pipe is read by 64 KiB, and each read is only then known to be too much.
	if ahead := end - snap.Pos; ahead > lag+256<<10 {
		t.Errorf("the command is %d bytes ahead, with a lag of %d", ahead, lag)
	}
	r.Close()
	if res := sessionstest.Wait(t, run); res.Code() != 0 {
		t.Errorf("exit code %d", res.Code())
	}
}

// tail is where the journal begins and ends.
func tail(t *testing.T, s *sessions.Session) (oldest, end uint64) {
	t.Helper()
	r, snap, err := s.Attach(sessions.AttachOptions{Viewer: true})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	return snap.Oldest, snap.Pos
}

// Input that says where it belongs can be sent again, by two at a time even, and none of it is
// there twice or missing.
func TestStdinAt(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "read -r go; cat", Stdin: sessions.OpenStdin})
	put := func(offset uint64, text string) error { return run.WriteStdinAt(t.Context(), offset, []byte(text)) }
	for _, p := range []struct {
		at   uint64
		text string
	}{{0, "go\n"}, {0, "go\nab"}, {3, "ab"}, {4, "bc"}, {1, "o"}} {
		if err := put(p.at, p.text); err != nil {
			t.Fatalf("%q at %d: %v", p.text, p.at, err)
		}
	}
	if err := put(7, "x"); !errors.Is(err, sessions.ErrInvalid) {
		t.Errorf("beyond what has arrived: %v", err)
	}
	text := strings.Repeat("0123456789", sessions.StdinWindow/4)
	var both sync.WaitGroup
	for _, size := range []int{1000, 4096} {
		both.Go(func() {
			for at := 0; at < len(text); at += size {
				if err := put(uint64(6+at), text[at:min(at+size, len(text))]); err != nil {
					t.Errorf("at %d: %v", at, err)
					return
				}
			}
		})
	}
	both.Wait()
	if err := run.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	if err := put(6, text[:50]); err != nil {
		t.Errorf("again, after its end: %v", err)
	}
	if err := put(uint64(6+len(text)), "x"); !errors.Is(err, sessions.ErrNoStdin) {
		t.Errorf("more, after its end: %v", err)
	}
	if res := sessionstest.Wait(t, run); res.Stdout != "abc"+text {
		t.Errorf("%d bytes arrived, want %d", len(res.Stdout), 3+len(text))
	}
}

// Output that is taken where it is read, and output that the reader is made ready for, are one
// stream in which nothing is missing.
func TestDeliveredOutputIsWhole(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	r, _, err := s.Attach(sessions.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var mu sync.Mutex // as the contract of Next wants it
	var delivered int
	got := map[sessions.Kind][]byte{}
	finished := make(chan struct{})
	takeLocked := func() {
		entries, err := r.Next(nil, 1<<20)
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			if e.Kind == sessions.RunFinished {
				close(finished)
			}
			got[e.Kind] = append(got[e.Kind], e.Data...)
		}
	}
	r.Deliver(func() bool {
		if !mu.TryLock() {
			return false
		}
		defer mu.Unlock()
		delivered++
		takeLocked()
		return true
	})
	code := `for i in {1..2000}; do echo "$i"; echo "$i" >&2; done; seq 1 20000; echo end >&2`
	if err := submit(s, sessions.RunRequest{Code: code}); err != nil {
		t.Fatal(err)
	}
	for patience := time.After(20 * time.Second); ; {
		select {
		case <-r.Ready():
			mu.Lock()
			takeLocked()
			mu.Unlock()
			continue
		case <-finished:
		case <-patience:
			t.Fatal("no end")
		}
		break
	}
	mu.Lock()
	defer mu.Unlock()
	var short, long strings.Builder
	for i := range 2000 {
		fmt.Fprintln(&short, i+1)
	}
	for i := range 20000 {
		fmt.Fprintln(&long, i+1)
	}
	if string(got[sessions.Stdout]) != short.String()+long.String() || string(got[sessions.Stderr]) != short.String()+"end\n" {
		t.Errorf("%d and %d bytes", len(got[sessions.Stdout]), len(got[sessions.Stderr]))
	}
	if delivered == 0 {
		t.Error("nothing was taken where it was read")
	}
}
