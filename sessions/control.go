package sessions

import (
	"slices"
	"time"
)

// runningLocked returns the current run if runID is "" or names it.
func (s *Session) runningLocked(runID string) (*Run, error) {
	r := s.current
	switch {
	case runID == "" && (r == nil || r.info.State != RunRunning):
		return nil, failf(ErrRunNotRunning, "nothing is running in this session")
	case runID == "":
		return r, nil
	}
	r = s.byID[runID]
	if r == nil {
		return nil, failf(ErrRunNotRunning, "run %q is not running: this session knows no run of that id", cut(runID))
	}
	if r.info.State != RunRunning {
		return nil, failf(ErrRunNotRunning, "run %q is not running: it is %s", runID, r.info.State)
	}
	return r, nil
}

// nextLocked is the run that is about to start, nil where none is or another must end before it.
func (s *Session) nextLocked() *Run {
	switch {
	case s.current != nil && s.current.info.State == RunQueued:
		return s.current
	case s.current == nil && len(s.queue) > 0:
		return s.queue[0]
	}
	return nil
}

// Interrupt interrupts the run, "" meaning the one that is on, as Ctrl-C would, and returns
// without waiting for it to end. One that is about to start is interrupted once its code has
// begun, so that a run and its interrupt can be sent in one breath. With force, TERM follows
// after a second and KILL after one more, to what the run started, and the shell itself is ended
// last. It fails with [ErrRunNotRunning].
func (s *Session) Interrupt(runID string, force bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.runningLocked(runID)
	if next := s.nextLocked(); err != nil && next != nil && (runID == "" || runID == next.ID()) {
		r, err = next, nil
	}
	if err != nil {
		return err
	}
	s.active = time.Now()
	r.interrupts++
	r.force = r.force || force
	s.rouse()
	return nil
}

// Signal sends a signal, by name with or without SIG, to what the run started and never to
// the shell. It fails with [ErrInvalid] or [ErrRunNotRunning].
func (s *Session) Signal(runID, name string) error {
	sig, err := parseSignal(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	r, err := s.runningLocked(runID)
	if err == nil {
		s.active = time.Now()
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.m.log.Debug("signal", "session", s.id, "run", r.ID(), "signal", sig)
	s.ofRun(r).signalAll(sig, s.shellPid())
	return nil
}

// Cancel takes the run out of the queue, or ends it as a forced Interrupt does. It fails
// with [ErrRunNotFound], or [ErrRunNotRunning] when the run has ended.
func (s *Session) Cancel(runID string) error {
	s.mu.Lock()
	r := s.byID[runID]
	ended := r != nil && r.info.State == RunDone
	s.mu.Unlock()
	switch {
	case r == nil:
		return failf(ErrRunNotFound, "this session knows no run %q", cut(runID))
	case ended:
		return failf(ErrRunNotRunning, "run %q has ended already", runID)
	}
	s.cancel(r, func() bool { return true })
	return nil
}

// cancel cancels a run if it has not ended and, asked under the lock, it still should be.
func (s *Session) cancel(r *Run, stillLocked func() bool) {
	s.mu.Lock()
	if stillLocked() {
		s.active = time.Now()
		s.cancelLocked(r)
	}
	over := r.info.State == RunDone && r.info.StartedAt.IsZero()
	s.mu.Unlock()
	if over {
		s.logEnd(r)
	}
}

func (s *Session) cancelLocked(r *Run) {
	switch r.info.State {
	case RunQueued:
		if i := slices.Index(s.queue, r); i >= 0 {
			s.queue = slices.Delete(s.queue, i, i+1)
			s.finishLocked(r, outcome{reason: ReasonCanceled})
			return
		}
		fallthrough // it is between the queue and the shell
	case RunRunning:
		r.canceled = true
		s.rouse()
	}
}
