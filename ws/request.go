package ws

import (
	"context"
	"errors"
	"strconv"
)

// An answered is a request that waits for its answer.
type answered struct {
	message *Message
	err     error
}

// errCut is that a connection was lost between a request and its answer.
var errCut = errors.New("the connection was lost before the answer came")

// request sends a message and waits for its answer. One that may be repeated is sent again
// when a connection was lost before the answer.
func (s *Session) request(ctx context.Context, m outgoing, repeat bool) (*Message, error) {
	for {
		answer, err := s.requestOnce(ctx, m)
		if !repeat || !errors.Is(err, errCut) {
			return answer, err
		}
	}
}

func (s *Session) requestOnce(ctx context.Context, m outgoing) (*Message, error) {
	a, ref := s.expect()
	defer s.forget(ref)
	if err := s.wait(ctx, func() bool { return s.up }); err != nil {
		return nil, err
	}
	s.mu.Lock()
	a.err = nil // of connections before
	s.mu.Unlock()
	m.Ref = ref
	s.send(m)
	if err := s.wait(ctx, func() bool { return a.message != nil || a.err != nil }); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.message, a.err
}

// expect notes that an answer with the ref is to come. Until forget, nothing that comes before
// it waits for its reader.
func (s *Session) expect() (a *answered, ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs++
	a, ref = &answered{}, strconv.FormatUint(s.refs, 10)
	s.answers[ref] = a
	s.signalLocked()
	return a, ref
}

func (s *Session) forget(ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.answers, ref)
}

// wait returns when cond, which is called with the lock held, is true. It fails when ctx or
// the client ends before that.
func (s *Session) wait(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		ok, err, changed := cond(), s.err, s.changed
		s.mu.Unlock()
		if ok || err != nil {
			return errUnless(ok, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func errUnless(ok bool, err error) error {
	if ok {
		return nil
	}
	return err
}

// Interrupt interrupts a run, whoever asked for it, "" being the one that is on; force as for
// [Command.Interrupt]. It fails with a [RefusedError], RUN_NOT_RUNNING, when that is not on.
func (s *Session) Interrupt(ctx context.Context, runID string, force bool) error {
	_, err := s.request(ctx, outgoing{Type: typeInterrupt, RunID: runID, Force: force}, runID != "")
	return err
}

// Input gives text to a run's stdin, whoever asked for it, and returns once the server has it.
// It fails with a [RefusedError], NO_STDIN, when the run reads nothing. Unlike what is written
// to [Command.Stdin], text that was on its way when a connection was lost may have arrived or
// not, and Input fails then.
func (s *Session) Input(ctx context.Context, runID, text string) error {
	// Only a refusal is answered, and it comes before the answer to what is sent next.
	refused, ref := s.expect()
	defer s.forget(ref)
	if err := s.wait(ctx, func() bool { return s.up }); err != nil {
		return err
	}
	s.mu.Lock()
	refused.err = nil // of connections before
	s.mu.Unlock()
	s.send(outgoing{Type: typeStdin, Ref: ref, RunID: runID, Text: &text})
	if _, err := s.requestOnce(ctx, outgoing{Type: typePing}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return refused.err
}

// CloseInput ends a run's stdin, whoever asked for it.
func (s *Session) CloseInput(ctx context.Context, runID string) error {
	_, err := s.request(ctx, outgoing{Type: typeStdinClose, RunID: runID}, false)
	return err
}

// Complete returns what Tab would do to line with the cursor at point, in characters; -1 is
// the end of the line. It fails with a [RefusedError] while a run is on.
func (s *Session) Complete(ctx context.Context, line string, point int) (Completions, error) {
	m := outgoing{Type: typeComplete, Line: &line}
	if point >= 0 {
		m.Point = &point
	}
	a, err := s.request(ctx, m, true)
	if err != nil {
		return Completions{}, err
	}
	return Completions{Line: a.Line, Point: a.Point, Start: a.Start, End: a.Stop, Items: a.Items, Truncated: a.More}, nil
}

// Completions are what bash offers.
type Completions struct {
	Line       string // after one Tab
	Point      int    // the cursor in it, in characters
	Start, End int    // what of the line asked about an item takes the place of
	Items      []string
	Truncated  bool // there are more
}

// Ping returns when the server has answered.
func (s *Session) Ping(ctx context.Context) error {
	_, err := s.request(ctx, outgoing{Type: typePing}, true)
	return err
}
