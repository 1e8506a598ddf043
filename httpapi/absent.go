package httpapi

import (
	"slices"
	"sync"
	"time"

	"tandem/sessions"
)

// nearEnd is how far a command may be ahead of a stream whose client can come back: the less
// of the retention is taken by what the stream has not read, the more of what it has is kept,
// of which nobody knows how much has arrived when its connection breaks.
const nearEnd = 512 << 10

// An audience is the streams of runs whose clients can come back. While one whose connection
// broke may do so, its place in the journal is kept, and a command held back that is too far
// ahead of it, as if it were only slow. So a cut loses no output, however fast that comes. The
// zero value is ready.
type audience struct {
	mu   sync.Mutex
	runs map[*sessions.Run][]*follower
}

// A follower is one stream. It belongs to the goroutine of its request, which waits for its
// client too.
type follower struct {
	audience *audience
	run      *sessions.Run
	from     uint64           // where it began
	broken   bool             // guarded by audience.mu
	back     chan struct{}    // closed when its client is back, with a stream of its own
	place    *sessions.Reader // nil: none is kept
	patience time.Duration
}

// join adds a stream of a run that begins at from, where its reader is by now. goesOn says
// that its client has asked for this position. Whoever is waited for is taken to be back, and
// so is the client of an earlier stream that this one may go on: it can know before the
// server does that its connection broke.
func (a *audience) join(run *sessions.Run, from uint64, goesOn bool) *follower {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.runs[run] {
		if (f.broken || goesOn && from >= f.from) && !isClosed(f.back) {
			close(f.back)
		}
	}
	f := &follower{audience: a, run: run, from: from, back: make(chan struct{})}
	if a.runs == nil {
		a.runs = map[*sessions.Run][]*follower{}
	}
	a.runs[run] = append(a.runs[run], f)
	return f
}

// expect keeps the place of the stream, whose connection broke, for so long at most. It begins
// where the stream did, or as near to that as the journal still goes: what has been written
// may not have arrived.
func (f *follower) expect(s *sessions.Session, patience time.Duration) {
	f.audience.mu.Lock()
	f.broken = true
	f.audience.mu.Unlock()
	if isClosed(f.back) {
		return
	}
	// It fails where the session has ended.
	f.place, _, _ = s.Attach(sessions.AttachOptions{After: &f.from, By: door})
	f.patience = patience
}

// leave returns once no place is kept: the client is back, the run has ended, as it does
// with its session and with the server, or it took too long.
func (f *follower) leave() {
	if f == nil {
		return
	}
	if f.place != nil {
		f.await()
		f.place.Close()
	}
	a := f.audience
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs[f.run] = slices.DeleteFunc(a.runs[f.run], func(o *follower) bool { return o == f })
	if len(a.runs[f.run]) == 0 {
		delete(a.runs, f.run)
	}
}

func (f *follower) await() {
	timer := time.NewTimer(f.patience)
	defer timer.Stop()
	select {
	case <-f.back:
	case <-f.run.Done():
	case <-timer.C:
	}
}
