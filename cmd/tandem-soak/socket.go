package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"tandem/ws"
)

// A journal is what a reader has of a session, with nothing missing and nothing twice: it
// refuses everything that does not begin where it ends.
type journal struct {
	begun    bool
	pos      uint64
	runs     map[string]*runLog
	byNumber map[uint64]*runLog
	started  []string // run ids, in order
	errors   []ws.Message
	queued   int
	restarts int
	closed   bool
	taken    atomic.Uint64 // bytes of stdin that the server has taken
}

// A runLog is what a journal has of a run.
type runLog struct {
	result
	started bool
}

func newJournal() *journal {
	return &journal{runs: map[string]*runLog{}, byNumber: map[uint64]*runLog{}}
}

// run is what there is of a run, whether it has begun or not.
func (j *journal) run(id string) *runLog {
	r := j.runs[id]
	if r == nil {
		r = &runLog{result: result{runID: id}}
		j.runs[id] = r
	}
	return r
}

// attached notes where a connection begins.
func (j *journal) attached(m *ws.Message) error {
	if j.begun && m.Pos != j.pos {
		return fmt.Errorf("resumed at %d, asked for %d", m.Pos, j.pos)
	}
	j.begun, j.pos = true, m.Pos
	return nil
}

// add takes one message.
func (j *journal) add(m *ws.Message) error {
	if m.Type == ws.TypeGap {
		return fmt.Errorf("a gap from %d to %d, after %d", m.From, m.To, j.pos)
	}
	if m.Placed {
		if m.Pos != j.pos {
			return fmt.Errorf("%s at %d, want %d", m.Type, m.Pos, j.pos)
		}
		j.pos = m.End()
	}
	switch m.Type {
	case ws.TypeStdout, ws.TypeStderr:
		return j.output(m)
	case ws.TypeRunStarted:
		r := j.run(m.RunID)
		if m.Placed {
			if r.started {
				return fmt.Errorf("run %s starts twice", m.RunID)
			}
			j.started = append(j.started, m.RunID)
		}
		r.started = true
		j.byNumber[m.Number] = r
	case ws.TypeRunFinished:
		return j.finished(m)
	case ws.TypeRunQueued:
		j.queued++
	case ws.TypeShellRestarted:
		j.restarts++
	case ws.TypeStdinAck:
		j.taken.Store(m.Bytes)
	case ws.TypeError:
		j.errors = append(j.errors, *m)
	case ws.TypeSessionClosed:
		j.closed = true
	}
	return nil
}

func (j *journal) output(m *ws.Message) error {
	r := j.byNumber[m.Number]
	if m.RunID != "" {
		r = j.runs[m.RunID]
	}
	if r == nil {
		return nil // of a run from before this journal, or of none
	}
	if m.Type == ws.TypeStdout {
		r.stdout = append(r.stdout, m.Data...)
	} else {
		r.stderr = append(r.stderr, m.Data...)
	}
	return nil
}

func (j *journal) finished(m *ws.Message) error {
	r := j.run(m.RunID)
	if r.ended && m.Placed {
		return fmt.Errorf("run %s ends twice", m.RunID)
	}
	r.ended, r.end = true, outcome{m.Reason, noCode}
	if m.ExitCode != nil {
		r.end.exit = *m.ExitCode
	}
	return nil
}

// A reader is a WebSocket client with its journal. The connection may be cut and resumed
// at random. Only one goroutine may read.
type reader struct {
	url, session, token string
	json, view          bool
	window              uint64
	rng                 *rand.Rand
	cutEvery            int           // a cut in so many messages on average; 0: none
	pause               time.Duration // up to so long between two messages
	cuts                int

	journal *journal
	c       *ws.Client
	wire    *wire
	acked   uint64
}

// connect attaches, where the journal ends if it has begun.
func (r *reader) connect(ctx context.Context) error {
	q := url.Values{}
	if r.journal.begun {
		q.Set("after", strconv.FormatUint(r.journal.pos, 10))
	}
	if r.view {
		q.Set("role", "view")
	}
	if r.window > 0 {
		q.Set("window", strconv.FormatUint(r.window, 10))
	}
	return r.dial(ctx, "/session/"+r.session+"/ws?"+q.Encode())
}

func (r *reader) dial(ctx context.Context, path string) error {
	w := &wire{}
	transport := &http.Transport{DialContext: w.dial, DisableKeepAlives: true}
	c, err := ws.Dial(ctx, r.url+path, &ws.DialOptions{Token: r.token, JSON: r.json, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		transport.CloseIdleConnections()
		return err
	}
	r.c, r.wire, r.acked = c, w, c.Attached.Pos
	return r.journal.attached(&c.Attached)
}

func (r *reader) close() {
	if r.c != nil {
		_ = r.c.CloseNow()
	}
}

// goodbye closes the connection in order.
func (r *reader) goodbye() error { return r.c.Close() }

// next takes one message, or cuts the connection and resumes it first.
func (r *reader) next(ctx context.Context) (ws.Message, error) {
	if r.pause > 0 {
		time.Sleep(time.Duration(r.rng.Int64N(int64(r.pause))))
	}
	if r.cutEvery > 0 && r.rng.IntN(r.cutEvery) == 0 {
		if err := r.cut(ctx); err != nil {
			return ws.Message{}, err
		}
	}
	m, err := r.c.Next(ctx)
	if err != nil {
		return m, err
	}
	if err := r.journal.add(&m); err != nil {
		return m, err
	}
	if r.window > 0 && r.journal.pos-r.acked > r.window/2 {
		r.acked = r.journal.pos
		// A connection that has ended shows where the next message is read.
		_ = r.c.Ack(ctx, r.acked)
	}
	return m, nil
}

// cut ends the connection the hard way and comes back for the rest.
func (r *reader) cut(ctx context.Context) error {
	r.cuts++
	r.wire.cut(r.rng)
	r.close()
	if err := r.connect(ctx); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return nil
}

// until reads until enough.
func (r *reader) until(ctx context.Context, what string, enough func() bool) error {
	for !enough() {
		if _, err := r.next(ctx); err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
	}
	return nil
}

// ended reads until a run has ended, and returns what there is of it.
func (r *reader) ended(ctx context.Context, run string) (*result, error) {
	l := r.journal.run(run)
	err := r.until(ctx, "the end of "+run, func() bool { return l.ended })
	return &l.result, err
}

// printed reads until a run has written a line of these words to stdout.
func (r *reader) printed(ctx context.Context, run, words string) error {
	l := r.journal.run(run)
	err := r.until(ctx, fmt.Sprintf("%q of %s", words, run), func() bool { return l.ended || bytes.Contains(l.stdout, []byte(words+"\n")) })
	if err == nil && l.ended {
		return fmt.Errorf("%s ended as %v before it said %q; stdout %q, stderr %q", run, l.end, words, near(l.stdout, 0), near(l.stderr, 0))
	}
	return err
}

func closedWith(err error, code websocket.StatusCode) bool {
	return err != nil && websocket.CloseStatus(err) == code
}
