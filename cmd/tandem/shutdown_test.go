package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tandem/sessions"
)

// A diary notes what happened, in order.
type diary struct {
	mu    sync.Mutex
	notes []string
}

func (d *diary) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, what)
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.notes)
}

// fakeManager and fakeSockets note that they were asked to end, and look around then.
type fakeManager struct {
	*diary
	onDrain func()
	err     error // of Close
}

func (m fakeManager) List() []*sessions.Session { return nil }

func (m fakeManager) Drain(context.Context) error {
	m.note("runs")
	m.onDrain()
	return nil
}

func (m fakeManager) Close(context.Context) error {
	m.note("sessions")
	return m.err
}

type fakeSockets struct {
	*diary
	hold chan struct{} // Close waits for it, or for the context
}

func (s fakeSockets) Close(ctx context.Context) error {
	s.note("sockets")
	select {
	case <-s.hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A listener knows whether it was closed. To dial it would not tell: another test's may
// have got the same port since.
type listener struct {
	net.Listener
	closed atomic.Bool
}

func (l *listener) Close() error {
	l.closed.Store(true)
	return l.Listener.Close()
}

// rig is a server around fakes, whose one handler answers until its request's context or
// the run behind it ends.
type rig struct {
	*diary
	*server
	signals chan os.Signal
	asked   chan struct{} // a request has arrived
	runEnds chan struct{}
	hold    chan struct{}
	err     chan error
	told    chan string // what systemd was
}

func newRig(t *testing.T, closeErr error) *rig {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &listener{Listener: inner}
	r := &rig{
		diary: new(diary), signals: make(chan os.Signal, 4), asked: make(chan struct{}, 4),
		runEnds: make(chan struct{}), hold: make(chan struct{}), err: make(chan error, 1), told: make(chan string, 8),
	}
	base, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	log := slog.New(slog.DiscardHandler)
	manager := fakeManager{diary: r.diary, err: closeErr, onDrain: func() {
		if r.ready.Load() {
			r.note("still ready")
		}
		if ln.closed.Load() != r.passed {
			r.note("wrong about the listener")
		}
		close(r.runEnds)
	}}
	r.server = &server{
		log: log, listener: ln, ready: new(atomic.Bool), streams: cancel,
		manager: manager, sockets: fakeSockets{r.diary, r.hold}, http: newHTTPServer(base, http.HandlerFunc(r.stream), log),
		reloads: newReloader(log), notify: func(state string) { r.told <- state },
	}
	return r
}

// stream is an event stream: of a run, which ends with it, or of a session, which does not.
func (r *rig) stream(w http.ResponseWriter, req *http.Request) {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	r.asked <- struct{}{}
	var run <-chan struct{}
	if req.URL.Path == "/run" {
		run = r.runEnds
	}
	select {
	case <-run:
		_, _ = io.WriteString(w, "the end of the run")
	case <-req.Context().Done():
	}
	r.note("stream " + req.URL.Path)
}

// ask opens a stream and returns what came of it, once it has ended.
func (r *rig) ask(t *testing.T, path string) <-chan string {
	t.Helper()
	got := make(chan string, 1)
	req, err := http.NewRequest("GET", "http://"+r.listener.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		got <- string(b)
	}()
	<-r.asked
	return got
}

func (r *rig) serve() {
	go func() { r.err <- r.server.serve(context.Background(), r.signals) }()
}

func TestShutdownOrder(t *testing.T) {
	t.Parallel()
	t.Run("own listener", func(t *testing.T) { testShutdownOrder(t, false) })
	t.Run("passed listener", func(t *testing.T) { testShutdownOrder(t, true) })
}

func testShutdownOrder(t *testing.T, passed bool) {
	t.Parallel()
	r := newRig(t, nil)
	r.passed = passed
	r.serve()
	close(r.hold)
	run := r.ask(t, "/run")
	events := r.ask(t, "/events")
	r.signals <- syscall.SIGTERM
	if err := <-r.err; err != nil {
		t.Fatalf("serve: %v", err)
	}
	if got := <-run; got != "the end of the run" {
		t.Errorf("the run's stream ended with %q", got)
	}
	<-events
	notes := r.all()
	// The run's stream ends on its own as soon as the run has: somewhere before sessions.
	i := slices.Index(notes, "stream /run")
	if i < 0 {
		t.Fatalf("the run's stream did not end: %q", notes)
	}
	if got, want := slices.Delete(notes, i, i+1), []string{"runs", "sockets", "stream /events", "sessions"}; !slices.Equal(got, want) || i == 0 || i > 3 {
		t.Errorf("order %q, want %q with the run's stream after runs", r.all(), want)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.serve()
	events := r.ask(t, "/events")
	r.signals <- syscall.SIGHUP
	r.signals <- syscall.SIGHUP // of the shell whose terminal was closed: no hurry
	r.signals <- syscall.SIGINT
	select {
	case err := <-r.err:
		if !errors.Is(err, errAtOnce) {
			t.Errorf("serve: %v, want %v", err, errAtOnce)
		}
	case <-time.After(time.Second):
		t.Error("a second signal was not enough")
	}
	// The program would be gone by now; here the rest must still come to its end.
	close(r.hold)
	<-events
}

func TestFailedEndIsReported(t *testing.T) {
	t.Parallel()
	left := errors.New("a process is left")
	r := newRig(t, left)
	close(r.hold)
	r.serve()
	r.signals <- syscall.SIGTERM
	if err := <-r.err; !errors.Is(err, left) {
		t.Errorf("serve: %v, want %v", err, left)
	}
}

func TestListenerFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	close(r.hold)
	r.passed = true // as in that it is closed when runs are ended
	_ = r.listener.Close()
	r.serve()
	if err := <-r.err; !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve: %v, want %v", err, net.ErrClosed)
	}
	if got, want := r.all(), []string{"runs", "sockets", "sessions"}; !slices.Equal(got, want) {
		t.Errorf("ended %q, want %q", got, want)
	}
}

// A stage that hangs is left behind at its limit, and those after it still have their turn.
func TestHangingStage(t *testing.T) {
	t.Parallel()
	var d diary
	hang := func(ctx context.Context) error { <-ctx.Done(); d.note("hung"); return ctx.Err() }
	next := func(context.Context) error { d.note("next"); return nil }
	err := shutDown(slog.New(slog.DiscardHandler), []stage{{"a", time.Millisecond, false, hang}, {"b", time.Second, true, next}})
	if got := d.all(); err != nil || !slices.Equal(got, []string{"hung", "next"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// Supervisors commonly kill after ten seconds: by then the last stage must be over.
func TestStagesFitInTenSeconds(t *testing.T) {
	t.Parallel()
	var sum time.Duration
	s := &server{manager: fakeManager{}, sockets: fakeSockets{}, passed: true}
	for _, st := range s.stages() {
		sum += st.limit
	}
	if sum >= 10*time.Second {
		t.Errorf("the stages may take %v in all", sum)
	}
}
