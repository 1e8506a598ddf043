package ws

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A Session is a client of one session that outlives its connections: when one is lost it
// makes another, which goes on at the very position, asks again for what may not have
// arrived, in ways that do nothing twice, and nobody who waits notices more than a delay. Its
// methods may be called from any goroutine.
//
// One goroutine reads for all: it begins in [Open] or [Create] and has ended when Close
// returns. A [Command] that nobody reads holds it up, and with it everything else this
// client is told, once a megabyte of output waits: read each to its end, or close it.
type Session struct {
	stream *stream
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended

	mu       sync.Mutex
	changed  chan struct{}       // closed and replaced when any of this has changed
	up       bool                // there is a connection, and it has been told what it must be told
	conn     *Client             // that one; nil while not up
	window   int                 // bytes of input the server holds for each run
	commands []*Command          // unfinished, in the order they were asked for
	numbered map[uint64]*Command // those whose number is known, until they are done with
	answers  map[string]*answered
	refs     uint64
	err      error // why it has ended
}

var errClosed = errors.New("the client is closed")

// Open attaches to a session. The server is an address such as http://127.0.0.1:4477, with
// or without a path. It fails at once when the server cannot be reached, with [ErrLost], or
// refuses, with a [RefusedError]; ctx is for this call alone.
func Open(ctx context.Context, server, id string, opts *SessionOptions) (*Session, error) {
	if id == "" {
		return nil, &RefusedError{Status: 404, Code: "CONTEXT_NOT_FOUND", Message: "the id of the session is empty"}
	}
	return start(ctx, server, id, nil, opts)
}

// CreateOptions say what session to make.
type CreateOptions struct {
	SessionOptions

	Cwd  string // made where it is missing; "": the server's
	Name string

	// Ephemeral ends the session when this client closes it, and half a minute after a
	// connection that broke and did not come back.
	Ephemeral bool
}

// Create makes a session and attaches to it, like [Open].
func Create(ctx context.Context, server string, opts *CreateOptions) (*Session, error) {
	if opts == nil {
		opts = &CreateOptions{}
	}
	q := url.Values{}
	for name, value := range map[string]string{"cwd": opts.Cwd, "name": opts.Name} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if opts.Ephemeral {
		q.Set("ephemeral", "1")
	}
	return start(ctx, server, "", q, &opts.SessionOptions)
}

func start(ctx context.Context, server, id string, create url.Values, opts *SessionOptions) (*Session, error) {
	st, err := newStream(server, id, opts)
	if err != nil {
		return nil, err
	}
	st.create = create
	s := &Session{
		stream: st, done: make(chan struct{}), changed: make(chan struct{}),
		numbered: map[uint64]*Command{}, answers: map[string]*answered{},
	}
	st.down = s.down
	attached, err := st.next(ctx)
	if err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.read(attached)
	return s, nil
}

// ID is the session's id.
func (s *Session) ID() string { return s.stream.sessionID() }

// Position is where to go on after this client: all before it has been taken in.
func (s *Session) Position() uint64 { return s.stream.position() }

// farewellLimit is how long a server may take to answer a goodbye.
const farewellLimit = time.Second

// Close lets go of the session, which goes on unless it is ephemeral, and waits for the
// goroutine to end. Commands fail that have not ended.
func (s *Session) Close() error {
	s.mu.Lock()
	if s.err == nil {
		s.err = errClosed
		s.signalLocked()
	}
	s.mu.Unlock()
	// The end of the context is that of the connection, and of the wait for a goodbye.
	late := time.AfterFunc(farewellLimit, s.cancel)
	s.stream.close()
	late.Stop()
	s.cancel()
	<-s.done
	return nil
}

// Done returns a channel that is closed once this client has come to its end: by Close, or
// for the reason that Err then returns.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err tells why the client has ended: [ErrSessionClosed], [ErrLost] or a [RefusedError]. It is
// nil before that and after Close.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.err, errClosed) {
		return nil
	}
	return s.err
}

// read is the goroutine.
func (s *Session) read(m Message) {
	defer close(s.done)
	for {
		s.take(&m)
		var err error
		if m, err = s.stream.next(s.ctx); err != nil {
			s.fail(err)
			return
		}
	}
}

// down notes that there is no connection.
func (s *Session) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.conn = false, nil
	s.signalLocked()
}

func (s *Session) fail(err error) {
	s.stream.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	for _, c := range s.commands {
		c.failLocked(s.err)
	}
	s.commands = nil
	s.signalLocked()
}

func (s *Session) signalLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// take deals with a message.
func (s *Session) take(m *Message) {
	if s.stream.opts.Event != nil {
		s.stream.opts.Event(*m)
	}
	switch {
	case m.Type == TypeAttached:
		s.resume(m)
	case m.IsOutput():
		s.output(m)
	default:
		s.event(m)
	}
}

// event deals with what is neither output nor a new connection.
func (s *Session) event(m *Message) {
	if answered := s.note(m); answered != nil {
		answered.pump()
	}
}

// note is event but for what is to be sent after it: the rest of an input.
func (s *Session) note(m *Message) (answered *input) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.signalLocked()
	switch m.Type {
	case TypeRunQueued, TypeRunStarted:
		if c := s.commandLocked(m.RunID); c != nil {
			c.told = true
		}
		if m.Type == TypeRunStarted {
			s.learnLocked(m.RunID, m.Number)
		}
	case TypeRunFinished:
		s.finishLocked(m)
	case TypeStdinAck:
		if c := s.commandLocked(m.RunID); c != nil && c.in.ackedLocked(m.Bytes) {
			return c.in
		}
	case TypeGap:
		s.gapLocked(m)
	case TypeOK, TypePong, TypeCompletions, TypeError:
		s.answerLocked(m)
	}
	return nil
}

// gapLocked deals with a gap, in which runs may have started and ended.
func (s *Session) gapLocked(gap *Message) {
	if gap.Run != nil {
		s.learnLocked(gap.Run.RunID, gap.Run.Number)
	}
	for _, c := range s.numbered {
		c.gapLocked(gap.From, gap.To)
	}
	for i := range gap.Finished {
		end := &gap.Finished[i]
		if c := s.commandLocked(end.RunID); c != nil && c.number == 0 {
			c.gapLocked(gap.From, gap.To)
		}
		s.finishLocked(end)
	}
	// One run is on at a time: what had started and is not on any more has ended in the gap.
	for _, c := range s.numbered {
		if gap.Run == nil || gap.Run.RunID != c.id {
			c.failLocked(errForgotten)
			s.forgetLocked(c)
		}
	}
}

var errForgotten = errors.New("how the run ended is no longer kept by the server")

// learnLocked notes by which number output will name a run.
func (s *Session) learnLocked(id string, number uint64) {
	if c := s.commandLocked(id); c != nil {
		c.told, c.number = true, number
		s.numbered[number] = c
	}
}

func (s *Session) commandLocked(id string) *Command {
	for _, c := range s.commands {
		if c.id == id {
			return c
		}
	}
	return nil
}

func (s *Session) finishLocked(m *Message) {
	c := s.commandLocked(m.RunID)
	if c == nil {
		return
	}
	c.end = &Result{
		RunID: m.RunID, Reason: m.Reason, ExitCode: m.ExitCode, Signal: m.Signal, Cwd: m.Cwd, Message: m.Message,
		Duration: time.Duration(m.DurationMS) * time.Millisecond,
	}
	s.forgetLocked(c)
}

func (s *Session) forgetLocked(c *Command) {
	delete(s.numbered, c.number)
	for i, o := range s.commands {
		if o == c {
			s.commands = append(s.commands[:i:i], s.commands[i+1:]...)
		}
	}
}

// The refs of what this client sends say what it was.
const (
	refRun   = "run "
	refStdin = "stdin "
	refClose = "close "
)

func (s *Session) answerLocked(m *Message) {
	if a := s.answers[m.Ref]; a != nil {
		answer := *m // the reader goes on with its own
		a.message, a.err = &answer, m.Err()
		return
	}
	kind, id, _ := strings.Cut(m.Ref, " ")
	c := s.commandLocked(id)
	if c == nil {
		return
	}
	switch kind + " " {
	case refRun:
		if m.Type == TypeError {
			c.failLocked(m.Err())
			s.forgetLocked(c)
		}
	case refStdin:
		if m.Type == TypeError {
			c.in.failLocked(m.Err())
		}
	case refClose:
		c.in.closed = true
	}
}

// resume tells a new connection what it must know: the runs that may not have been asked for,
// and the input that may not have arrived.
func (s *Session) resume(m *Message) {
	conn := s.stream.current()
	s.mu.Lock()
	s.window = m.StdinWindow
	if m.Run != nil {
		s.learnLocked(m.Run.RunID, m.Run.Number)
	}
	for _, a := range s.answers {
		if a.message == nil {
			a.err = errCut
		}
	}
	s.signalLocked()
	for i := 0; i < len(s.commands); i++ { // what is asked for meanwhile comes after these
		c := s.commands[i]
		c.in.restartLocked()
		if c.told {
			continue
		}
		s.mu.Unlock()
		_ = conn.send(s.ctx, c.request)
		s.mu.Lock()
	}
	s.up, s.conn = true, conn
	feeding := append([]*Command(nil), s.commands...)
	s.signalLocked()
	s.mu.Unlock()
	for _, c := range feeding {
		c.in.pump()
	}
}

// send sends on the connection there is. What cannot be sent is sent again on the next one,
// or its sender learns that there is a next one.
func (s *Session) send(m outgoing) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn != nil {
		// Not with the caller's context: its end would be that of the connection.
		_ = conn.send(s.ctx, m)
	}
}
