package sessions_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// A witness is an Observer that remembers how often it was told what, and all reports.
type witness struct {
	mu      sync.Mutex
	counts  map[string]int
	reports []sessions.RunReport
}

func (w *witness) add(what string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what] += n
}

func (w *witness) SessionCreated()                        { w.add("created", 1) }
func (w *witness) SessionEnded(r sessions.CloseReason)    { w.add("ended "+string(r), 1) }
func (w *witness) StepTaken(s sessions.Step)              { w.add("step "+string(s), 1) }
func (w *witness) ShellRestarted(c sessions.RestartCause) { w.add("restart "+string(c), 1) }
func (w *witness) OutputRead(k sessions.Kind, n int)      { w.add(fmt.Sprint("output ", k), n) }
func (w *witness) InputTaken(n int)                       { w.add("input", n) }
func (w *witness) ReaderAttached(by string, viewer bool)  { w.add(fmt.Sprint("reader ", by, viewer), 1) }
func (w *witness) ReaderDetached(by string, viewer bool) {
	w.add(fmt.Sprint("reader ", by, viewer), -1)
}
func (w *witness) GapTold(n uint64) { w.add("gaps", 1); w.add("gap positions", int(n)) }
func (w *witness) ReaderStalled()   { w.add("stalled", 1) }

func (w *witness) RunEnded(r sessions.RunReport) {
	w.add("run "+string(r.Info.Reason), 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, r)
}

func (w *witness) count(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[what]
}

// report returns what was told of a run that has ended.
func (w *witness) report(t *testing.T, r *sessions.Run) sessions.RunReport {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.reports, func(x sessions.RunReport) bool { return x.Info.ID == r.ID() })
	if i < 0 {
		t.Fatalf("nothing was told of run %s", r.ID())
	}
	return w.reports[i]
}

// observed returns a manager that tells the witness.
func observed(t *testing.T, cfg sessions.Config) (*sessions.Manager, *witness) {
	w := &witness{counts: map[string]int{}}
	cfg.Observer = w
	return sessionstest.New(t, cfg), w
}

func (w *witness) expect(t *testing.T, want map[string]int) {
	t.Helper()
	for what, n := range want {
		if got := w.count(what); got != n {
			t.Errorf("%s: %d, want %d", what, got, n)
		}
	}
}

// By the time that a client can see an end, it has been told.
func TestObserverIsToldBeforeClients(t *testing.T) {
	t.Parallel()
	m, w := observed(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	for i := range 50 {
		sessionstest.Run(t, s, "echo 12345; echo 123 >&2")
		w.expect(t, map[string]int{"run exited": i + 1, "output 1": 6 * (i + 1), "output 2": 4 * (i + 1)})
	}
	if err := m.Delete(s.ID()); err != nil {
		t.Fatal(err)
	}
	w.expect(t, map[string]int{"created": 1, "ended deleted": 1})
}

func TestRunReport(t *testing.T) {
	t.Parallel()
	m, w := observed(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	type key struct{}
	before := time.Now()
	run := sessionstest.Submit(t, s, sessions.RunRequest{
		Code: "cat; printf %1000s; printf %20s >&2; exit 7", Stdin: sessions.TextStdin, StdinText: []byte("input"), By: "ws",
		Context: context.WithValue(t.Context(), key{}, "value"),
	})
	sessionstest.Wait(t, run)
	r := w.report(t, run)
	if r.Stdout != 1005 || r.Stderr != 20 || r.Stdin != 5 || w.count("input") != 5 {
		t.Errorf("bytes: %d %d %d, %d of input", r.Stdout, r.Stderr, r.Stdin, w.count("input"))
	}
	if r.Context.Value(key{}) != "value" || r.Session != s.ID() || r.Info.By != "ws" || *r.Info.ExitCode != 7 {
		t.Errorf("%+v", r)
	}
	if len(r.Events) != 1 || r.Events[0].Cause != sessions.CauseExit || r.Events[0].Step != "" {
		t.Errorf("events: %+v, want the end of the shell", r.Events)
	}
	for _, pair := range [][2]time.Time{{before, r.Queued}, {r.Queued, r.Started()}, {r.Started(), r.Events[0].Time}, {r.Events[0].Time, r.Ended}, {r.Ended, time.Now()}} {
		if pair[1].Before(pair[0]) {
			t.Errorf("times are out of order: %+v", r)
		}
	}
	// Another run is another count, whatever was written meanwhile.
	next := sessionstest.Submit(t, s, sessions.RunRequest{Code: "printf xyz"})
	sessionstest.Wait(t, next)
	if r := w.report(t, next); r.Stdout != 3 || r.Stderr != 0 || r.Context != nil || len(r.Events) != 0 {
		t.Errorf("the next run: %+v", r)
	}
	w.expect(t, map[string]int{"restart exit": 1, "run exited": 2})
}

func TestObserverOfRunsThatWereEnded(t *testing.T) {
	t.Parallel()
	m, w := observed(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	on := sessionstest.Submit(t, s, sessions.RunRequest{Code: "trap '' INT TERM; echo on; while :; do :; done"})
	sessionstest.AwaitOutput(t, on, "on")
	queued := sessionstest.Submit(t, s, sessions.RunRequest{Code: "true"})
	if st := m.Stats(); st.Queued != 1 || st.Running != 1 || st.Idle != 0 || st.JournalBytes <= 0 || st.JournalLimit != sessions.DefaultMemory {
		t.Errorf("stats: %+v", st)
	}
	if err := s.Cancel(queued.ID()); err != nil {
		t.Fatal(err)
	}
	r := w.report(t, queued)
	if !r.Started().Equal(r.Ended) || r.Info.Reason != sessions.ReasonCanceled || r.Ended.Before(r.Queued) {
		t.Errorf("canceled in the queue: %+v", r)
	}
	if err := s.Interrupt("", true); err != nil {
		t.Fatal(err)
	}
	sessionstest.Wait(t, on)
	var events []string
	for _, e := range w.report(t, on).Events {
		events = append(events, string(e.Step)+string(e.Cause))
	}
	if got := strings.Join(events, " "); got != "int term kill shell signal" {
		t.Errorf("events: %s", got)
	}
	late := sessionstest.Submit(t, s, sessions.RunRequest{Code: "sleep 60", Timeout: 20 * time.Millisecond})
	sessionstest.Wait(t, late)
	last := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo on; sleep 60"})
	sessionstest.AwaitOutput(t, last, "on")
	if err := m.Delete(s.ID()); err != nil {
		t.Fatal(err)
	}
	w.expect(t, map[string]int{
		"run canceled": 1, "run interrupted": 1, "run timed_out": 1, "run session_closed": 1,
		"step int": 2, "step term": 1, "step kill": 1, "step shell": 1, "restart signal": 1,
	})
	if st := m.Stats(); st.Idle+st.Running+st.Queued != 0 {
		t.Errorf("afterwards: %+v", st)
	}
}

func TestObserverOfReaders(t *testing.T) {
	t.Parallel()
	m, w := observed(t, sessions.Config{Retention: sessions.MinRetention, StallTimeout: 200 * time.Millisecond})
	s, err := m.Create(sessions.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stuck, _, err := s.Attach(sessions.AttachOptions{Client: true, By: "ws"})
	if err != nil {
		t.Fatal(err)
	}
	<-sessionstest.Submit(t, s, sessions.RunRequest{Code: "head -c 2000000 /dev/zero"}).Done() // once stuck is cut off
	viewer, _, err := s.Attach(sessions.AttachOptions{After: new(uint64), Viewer: true, By: "rest"})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := viewer.Next(nil, 1)
	if err != nil || len(entries) != 1 || entries[0].Kind != sessions.Gap {
		t.Fatalf("%v, %v: want a gap", entries, err)
	}
	w.expect(t, map[string]int{
		"output 1": 2000000, "stalled": 1, "gaps": 1, "gap positions": int(entries[0].End()),
		"reader wsfalse": 1, "reader resttrue": 1,
	})
	for range 2 {
		viewer.Close()
		stuck.Close()
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.expect(t, map[string]int{"reader wsfalse": 0, "reader resttrue": 0, "ended shutdown": 1, "created": 1})
}
