package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"tandem/sessions"
)

// outputWindow is how much of a command's output waits for its reader.
const outputWindow = 1 << 20

// A Command is a run that was asked for through a [Session]. Its methods may be called from
// any goroutine, but for those that read: one goroutine at a time.
type Command struct {
	s       *Session
	id      string
	request outgoing
	in      *input

	// Guarded by s.mu.
	told     bool // the server has it
	number   uint64
	output   []Output
	size     int // of output, in bytes
	lost     uint64
	unwanted bool    // nobody reads any more
	end      *Result // once it has ended
	err      error   // once that will not be learned
}

// An Output is a piece of what a command has put out, or the news that some of it is lost.
type Output struct {
	Stream string // TypeStdout or TypeStderr; "" where something is lost
	Data   []byte
	Pos    uint64 // in the session's journal
	Lost   uint64 // so many positions, of any run, are no longer kept
}

// A Result is how a run has ended.
type Result struct {
	RunID    string
	Reason   string // exited, interrupted, timed_out, canceled, shell_exited, session_closed, refused
	ExitCode *int   // nil where there is none: canceled, refused, session_closed
	Signal   string // that ended the shell
	Duration time.Duration
	Cwd      string // of the session, afterwards
	Message  string // refused: why
	Lost     uint64 // positions that were no longer kept: some of its output may be missing

	Stdout, Stderr []byte // of Wait
}

// Run asks for a run and returns without waiting for it. Without an ID it is given one that
// is its own, and is made once however often the connection is lost. With the ID of a run
// that is there already it is that one, from here on: one that has ended is its result, without
// its output, and input counts from the first byte that anybody gave it.
//
// ctx is for this call alone.
func (s *Session) Run(ctx context.Context, r Run) (*Command, error) {
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	r.Ref = refRun + r.ID
	c := &Command{s: s, id: r.ID, request: r.message()}
	c.in = &input{c: c, open: r.Stdin == sessions.OpenStdin}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(r.Code) > sessions.MaxCode || len(r.Text) > sessions.MaxCode {
		// The server would end the connection over it, and with that every command's.
		return nil, &RefusedError{Code: "TOO_LARGE", Message: fmt.Sprintf("code and text of stdin may have %d bytes each", sessions.MaxCode)}
	}
	s.mu.Lock()
	if err := s.askableLocked(r.ID); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	s.commands = append(s.commands, c)
	conn := s.conn // nil: resume asks
	s.mu.Unlock()
	if conn != nil {
		_ = conn.send(s.ctx, c.request)
	}
	return c, nil
}

func (s *Session) askableLocked(id string) error {
	if s.err == nil && s.commandLocked(id) != nil {
		return &RefusedError{Code: "RUN_EXISTS", Message: "run " + id + " has been asked for here and has not ended: give each its own id"}
	}
	return s.err
}

// ID is the run's id, by which any client can name it.
func (c *Command) ID() string { return c.id }

// Started returns when the command is running, or has ended. It fails when it was refused.
func (c *Command) Started(ctx context.Context) error {
	if err := c.s.wait(ctx, func() bool { return c.number > 0 || c.end != nil || c.err != nil }); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.err
}

// Next returns the next piece of output, and io.EOF when the command has ended and there is
// no more; Wait then returns at once. What a background job of it puts out later is not
// part of it. The piece is the caller's.
func (c *Command) Next(ctx context.Context) (Output, error) {
	if err := c.s.wait(ctx, c.readableLocked); err != nil {
		return Output{}, err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(c.output) == 0 {
		if c.err != nil {
			return Output{}, c.err
		}
		return Output{}, io.EOF
	}
	o := c.output[0]
	c.output[0] = Output{}
	if c.output = c.output[1:]; len(c.output) == 0 {
		c.output = nil
	}
	c.size -= len(o.Data)
	c.s.signalLocked()
	return o, nil
}

func (c *Command) readableLocked() bool { return len(c.output) > 0 || c.end != nil || c.err != nil }

// Copy writes the command's output to stdout and stderr as it comes, nil discarding it, and
// returns how it ended. When a writer fails the rest is discarded and the error is returned;
// the command goes on.
func (c *Command) Copy(ctx context.Context, stdout, stderr io.Writer) (Result, error) {
	for {
		o, err := c.Next(ctx)
		if errors.Is(err, io.EOF) {
			return c.result(), nil
		}
		if err != nil {
			return Result{}, err
		}
		w := stdout
		if o.Stream == TypeStderr {
			w = stderr
		}
		if w == nil || len(o.Data) == 0 {
			continue
		}
		if _, err := w.Write(o.Data); err != nil {
			c.Close()
			return Result{}, err
		}
	}
}

// Wait waits for the command to end and returns how it did, with all of the output that Next
// has not returned: for a command with much of it, use Copy. It fails when ctx ends, and
// goes on when it is called again, without what was read.
func (c *Command) Wait(ctx context.Context) (Result, error) {
	var stdout, stderr collector
	res, err := c.Copy(ctx, &stdout, &stderr)
	res.Stdout, res.Stderr = stdout, stderr
	return res, err
}

type collector []byte

func (b *collector) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func (c *Command) result() Result {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	res := *c.end
	res.Lost = c.lost
	return res
}

// Close says that nobody reads the command's output any more. The command goes on.
func (c *Command) Close() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.unwanted, c.output, c.size = true, nil, 0
	c.s.signalLocked()
}

// Interrupt interrupts the command, as Ctrl-C would; with force, it is ended with SIGTERM after
// a second and with SIGKILL after another, and the shell last. It fails with a [RefusedError],
// RUN_NOT_RUNNING, when the command is not running, and never reaches another run. When the
// connection is lost before the answer it is asked for again, and may reach the command twice.
func (c *Command) Interrupt(ctx context.Context, force bool) error {
	_, err := c.s.request(ctx, outgoing{Type: typeInterrupt, RunID: c.id, Force: force}, true)
	return err
}

// Signal sends a signal, like SIGTERM, to what the command has started. Whether it was sent
// is not known when the connection is lost before the answer: it then fails.
func (c *Command) Signal(ctx context.Context, signal string) error {
	_, err := c.s.request(ctx, outgoing{Type: typeSignal, RunID: c.id, Signal: signal}, false)
	return err
}

// Cancel takes the command out of the queue, or ends it like an interrupt with force.
func (c *Command) Cancel(ctx context.Context) error {
	_, err := c.s.request(ctx, outgoing{Type: typeCancel, RunID: c.id}, true)
	return err
}

// Stdin is the command's input, for a run with sessions.OpenStdin. Write blocks while the
// command has two megabytes to read that it has not read. What was written arrives once and
// in order, whatever becomes of connections. Nobody else may write to the same run.
func (c *Command) Stdin() io.WriteCloser { return c.in }

func (c *Command) failLocked(err error) {
	if c.end == nil && c.err == nil {
		c.err = err
	}
}

func (c *Command) gapLocked(from, to uint64) {
	c.lost += to - from
	if !c.unwanted {
		c.output = append(c.output, Output{Pos: from, Lost: to - from})
	}
}

// output hands output to the command it belongs to. It waits while that has enough, unless
// somebody waits for an answer, which can only come after it.
func (s *Session) output(m *Message) {
	s.mu.Lock()
	c := s.numbered[m.Number]
	if m.RunID != "" {
		c = s.commandLocked(m.RunID)
	}
	s.mu.Unlock()
	if c == nil {
		return
	}
	room := func() bool { return c.size < outputWindow || c.unwanted || len(s.answers) > 0 }
	if s.wait(s.ctx, room) != nil {
		return // the client has come to its end
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.unwanted {
		c.output = append(c.output, Output{Stream: m.Type, Data: append([]byte(nil), m.Data...), Pos: m.Pos})
		c.size += len(m.Data)
		s.signalLocked()
	}
}
