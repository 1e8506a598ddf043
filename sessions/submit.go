package sessions

import (
	"slices"
	"time"

	"github.com/google/uuid"
)

// Submit queues a run behind those submitted before it and returns it at once. Where the
// session remembers a run of the same ID and code, that one is returned and created is
// false. It fails with [ErrInvalid], [ErrTooLarge], [ErrRunExists] (same ID, other code),
// [ErrQueueFull] or [ErrClosed].
func (s *Session) Submit(req RunRequest) (run *Run, created bool, err error) {
	if err := req.check(s.m.cfg.MaxCode, s.m.cfg.MaxEnv); err != nil {
		return nil, false, err
	}
	if req.ID == "" {
		req.ID = uuid.NewString()
	}
	run, created, err = s.enqueue(req)
	if created {
		s.launch()
	}
	return run, created, err
}

func (s *Session) enqueue(req RunRequest) (run *Run, created bool, err error) {
	sum := codeSum(req.Code)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.byID[req.ID]; old != nil {
		if old.sum != sum {
			return nil, false, failf(ErrRunExists, "run_id %q was used in this session for other code: choose another", req.ID)
		}
		return old, false, nil
	}
	if s.isEnding {
		return nil, false, failf(ErrClosed, "the session is being closed and takes no more runs")
	}
	if len(s.queue) >= s.m.cfg.MaxQueue {
		return nil, false, failf(ErrQueueFull, "%d runs wait in this session, which is the limit: wait for one to end", len(s.queue))
	}
	if waiting := s.waitingLocked(); waiting > 0 && waiting+req.size() > maxWaiting {
		return nil, false, failf(ErrQueueFull, "%d bytes of code and input wait in this session, and at most %d may: wait for a run to end", waiting, maxWaiting)
	}
	r := s.newRunLocked(req, sum)
	ahead := len(s.queue)
	if s.current != nil {
		ahead++
	}
	if ahead > 0 && req.OnQueued != nil {
		req.OnQueued(ahead)
	}
	s.queue = append(s.queue, r)
	s.rememberLocked(r)
	s.active = r.queued
	return r, true, nil
}

// maxWaiting bounds what the runs that wait in a session hold in memory. One may always wait.
const maxWaiting = 4 * MaxCode

func (s *Session) waitingLocked() (size int) {
	for _, r := range s.queue {
		size += r.req.size()
	}
	return size
}

func (s *Session) newRunLocked(req RunRequest, sum [32]byte) *Run {
	s.next++
	code, cut := shown(req.Code)
	_, end := s.journal.bounds()
	r := &Run{
		s: s, req: req, sum: sum, from: end, queued: time.Now(), tethered: req.Tethered, timeout: req.Timeout,
		started: make(chan struct{}), done: make(chan struct{}),
		info: RunInfo{ID: req.ID, Number: s.next, State: RunQueued, Code: code, CodeTruncated: cut, By: req.By, Cwd: s.cwd, First: end},
	}
	if limit := s.m.cfg.RunTimeout; limit > 0 && (r.timeout == 0 || r.timeout > limit) {
		r.timeout = limit
	}
	switch req.Stdin {
	case OpenStdin:
		r.stdin = newStdin(nil, false, s.m.cfg.Observer)
	case TextStdin:
		r.stdin = newStdin(req.StdinText, true, s.m.cfg.Observer)
	}
	return r
}

// rememberLocked adds a run to the history, and forgets the oldest that have ended.
func (s *Session) rememberLocked(r *Run) {
	s.runs = append(s.runs, r)
	s.byID[r.req.ID] = r
	for len(s.runs) > s.m.cfg.RunHistory {
		i := slices.IndexFunc(s.runs, func(r *Run) bool { return r.info.State == RunDone })
		if i < 0 {
			return
		}
		delete(s.byID, s.runs[i].req.ID)
		if i == 0 { // as nearly always: the others need not move
			s.runs[0] = nil
			s.runs = s.runs[1:]
		} else {
			s.runs = slices.Delete(s.runs, i, i+1)
		}
	}
}

// Run returns a run that the session remembers, or fails with [ErrRunNotFound].
func (s *Session) Run(id string) (*Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.byID[id]; r != nil {
		return r, nil
	}
	return nil, failf(ErrRunNotFound, "this session knows no run %q", cut(id))
}

// Current returns the run that is on, or nil.
func (s *Session) Current() *Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state, _ := s.stateLocked(); state == Idle {
		return nil
	}
	return s.current
}

// Runs returns the runs that the session remembers, newest first.
func (s *Session) Runs() []*Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Run, 0, len(s.runs))
	for i := len(s.runs) - 1; i >= 0; i-- {
		out = append(out, s.runs[i])
	}
	return out
}
