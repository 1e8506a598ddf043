package sessions

import (
	"time"
)

// AttachOptions say where a reader begins and what it is. At most one of After, Tail and
// Oldest may be set; none means: only what comes from now on.
type AttachOptions struct {
	After  *uint64 // everything from this position on
	Tail   *uint64 // up to this many positions back
	Oldest bool    // everything that is kept
	Viewer bool    // never holds a command back; sees a Gap instead
	Lag    uint64  // hold commands back when so many positions were not read; 0: when half of the retention is full
	Client bool    // counts against MaxClients and in Info.Clients

	// Unhurried is for who has nothing to do with the start of a run: it is passed over where
	// the reader has read all before it, and does not make it ready.
	Unhurried bool
	By        string // which door asked, for the Observer: "rest" or "ws"
}

// A Snapshot is what a session was at the very moment a reader was added: nothing lies
// between it and the first entry the reader returns.
type Snapshot struct {
	Pos    uint64 // where the reader begins
	Oldest uint64
	End    uint64 // where the journal ended
	State  State
	Cwd    string
	Run    *RunInfo // the one running
}

// Attach adds a reader of the journal, which the caller must close. It fails with
// [ErrInvalid] for a position beyond the end, [ErrTooMany] or [ErrClosed].
func (s *Session) Attach(o AttachOptions) (*Reader, Snapshot, error) {
	if o.After != nil && (o.Tail != nil || o.Oldest) {
		return nil, Snapshot{}, failf(ErrInvalid, "after and tail exclude each other: give one of them")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.Client && s.clients >= s.m.cfg.MaxClients {
		return nil, Snapshot{}, failf(ErrTooMany, "%d clients are attached to this session, which is the limit", s.clients)
	}
	snap := Snapshot{Cwd: s.cwd}
	snap.State, snap.Run = s.stateLocked()
	r, err := s.journal.attach(o, func(oldest, end uint64) (uint64, error) {
		snap.Oldest, snap.End, snap.Pos = oldest, end, end
		switch {
		case o.After != nil && *o.After > end:
			return 0, failf(ErrInvalid, "position %d is beyond the end, %d: give one that was reached", *o.After, end)
		case o.After != nil:
			snap.Pos = *o.After
		case o.Oldest:
			snap.Pos = oldest
		case o.Tail != nil:
			snap.Pos = max(oldest, end-min(end, *o.Tail))
		}
		return snap.Pos, nil
	})
	if err != nil {
		return nil, Snapshot{}, err
	}
	if o.Client {
		s.clients++
		s.active = time.Now()
	}
	s.m.cfg.Observer.ReaderAttached(o.By, o.Viewer)
	r.onLeave = func() { s.detach(o) }
	return r, snap, nil
}

// detach is what leaving a reader does that Attach has added.
func (s *Session) detach(o AttachOptions) {
	s.m.cfg.Observer.ReaderDetached(o.By, o.Viewer)
	if !o.Client {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients--
	s.active = time.Now()
}

// gapInfo tells what a reader needs to know of positions that are gone.
func (s *Session) gapInfo(from, to uint64) *GapInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &GapInfo{To: to}
	for _, r := range s.runs {
		i := r.info
		switch {
		case i.State == RunDone && i.Last >= from && i.Last < to:
			g.Finished = append(g.Finished, i)
		case !i.StartedAt.IsZero() && i.First < to && (i.State == RunRunning || i.Last >= to):
			i.State = RunRunning
			g.Running = &i
		}
	}
	return g
}
