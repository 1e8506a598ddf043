package ws

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"tandem/sessions"
)

// keepMessage is the largest buffer that is kept for the next message, either way.
const keepMessage = 128 << 10

// goodbyeLimit is how long a peer may take to answer a goodbye.
const goodbyeLimit = 5 * time.Second

// A conn is one connection: what its two goroutines share, and below that what belongs to
// one of them.
type conn struct {
	h       *Handler
	ws      *websocket.Conn // reads, and closes
	nc      *socket         // what ws reads from; see round and deliver for who writes to it
	session *sessions.Session
	reader  *sessions.Reader
	view    bool
	after   *uint64 // where the client has said that it goes on; nil: it did not
	number  uint64  // in the order in which connections came
	binary  bool
	window  uint64 // 0: none

	// ctx ends when the connection is to end; its cause says why. It is not the request's,
	// which means nothing after the upgrade.
	ctx    context.Context
	cancel context.CancelCauseFunc

	outbox outbox
	moved  chan struct{} // signaled when acked has moved
	acked  atomic.Uint64
	handed atomic.Uint64 // the position after what was given to the socket
	heard  atomic.Int64  // when the peer was last known to be there, Unix nanoseconds
	busy   atomic.Bool   // the reader is acting on a message and hears nothing

	asked context.Context // the request's, for the values in it; what it asks for may outlive it

	// completions are the goroutines that wait for the engine's, each with one of completing.
	completions sync.WaitGroup
	completing  chan struct{}

	refMu sync.Mutex
	refs  map[string]*string // refs of unfinished runs this connection asked for, by run id

	in inbound

	writing sync.Mutex // guards out; the writer has it but while it waits for something to do
	out     outbound
}

// An inbound is what belongs to the reader's goroutine.
type inbound struct {
	message bytes.Buffer
	asked   []*sessions.Run // with open stdin, oldest first
	fed     []*sessions.Run // those the writer has been told to watch
}

func newConn(h *Handler) *conn {
	c := &conn{
		h:      h,
		outbox: outbox{filled: make(chan struct{}, 1), emptied: make(chan struct{}, 1)},
		moved:  make(chan struct{}, 1),
		refs:   map[string]*string{},

		completing: make(chan struct{}, maxCompletions),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.heard.Store(time.Now().UnixNano())
	c.out.limit = writeSize
	c.out.enc = Encoder{Server: h.cfg.Server, refOf: c.refOf}
	return c
}

func (c *conn) attach(s *sessions.Session, r *sessions.Reader, q query) {
	c.session, c.reader, c.view, c.after, c.window = s, r, q.view, q.after, q.window
	c.out.pos, c.out.ticked = r.Start(), r.Start()
	c.handed.Store(r.Start())
	c.acked.Store(r.Start())
}

// serve runs the connection to its end and tells why it ended, and whether the peer closed
// it by itself. All its goroutines have ended when it returns.
func (c *conn) serve(snap sessions.Snapshot) (cause error, clean bool) {
	role := roleControl
	if c.view {
		role = roleView
	}
	c.out.text(c.out.enc.Attached(c.session, snap, role))
	c.reader.Deliver(c.deliver)
	var writer sync.WaitGroup
	writer.Go(func() { c.end(c.write()) })
	err := c.read()
	c.end(err)
	c.completions.Wait()
	writer.Wait()
	cause = context.Cause(c.ctx)
	return cause, (cause == err || errors.Is(cause, errWrite)) && isGoodbye(err)
}

// isGoodbye reports whether a peer closed its connection on purpose. A browser's close()
// has no status of its own.
func isGoodbye(err error) bool {
	switch websocket.CloseStatus(err) {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
		return true
	}
	return false
}

// broken reports whether the connection is ending because it broke: its client may come back.
func (c *conn) broken() bool {
	cause := context.Cause(c.ctx)
	code, _ := closeOf(cause)
	return !c.view && (code == websocket.StatusInternalError && websocket.CloseStatus(cause) == -1 || errors.Is(cause, errDead))
}

// end ends the connection for whichever goroutine comes first, and returns for both when
// it is closed. Nothing is held back for it from here on, unless it broke.
func (c *conn) end(err error) {
	c.cancel(err)
	if !c.broken() {
		c.reader.Close()
	}
	if errors.Is(err, errWrite) {
		// The peer may have said goodbye before it left: let the reader see.
		_ = c.nc.SetReadDeadline(time.Now().Add(time.Second))
		return
	}
	code, reason := closeOf(context.Cause(c.ctx))
	// Before it answers the goodbye, the peer may have the rest of a message to send, however
	// long it said that is.
	_ = c.nc.SetReadDeadline(time.Now().Add(goodbyeLimit))
	// It fails where the peer does not answer the goodbye, and has closed then too.
	_ = c.ws.Close(code, reason)
}

// read takes messages until the connection ends, and returns why it did. What comes once
// it is ending is thrown away.
func (c *conn) read() error {
	for {
		kind, data, err := c.next()
		if err != nil {
			return err
		}
		c.hear()
		c.h.cfg.Received()
		if c.ctx.Err() != nil {
			continue
		}
		if kind == websocket.MessageText && !utf8.Valid(data) {
			return errNotUTF8
		}
		c.busy.Store(true)
		if kind == websocket.MessageText {
			c.handleText(data)
		} else {
			c.handleBinary(data)
		}
		c.hear()
		c.busy.Store(false)
	}
}

// next returns a message in a buffer that the next call reuses. Its context does not end:
// the library would cut the connection without a close code; the writer's end closes it.
func (c *conn) next() (websocket.MessageType, []byte, error) {
	if c.in.message.Cap() > keepMessage {
		c.in.message = bytes.Buffer{}
	}
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return 0, nil, err
	}
	c.in.message.Reset()
	if _, err := c.in.message.ReadFrom(hearing{r, c}); err != nil {
		return 0, nil, err
	}
	return kind, c.in.message.Bytes(), nil
}

// A hearing notes with each piece of a message that the peer is there: a pong cannot come
// in the middle of a long one.
type hearing struct {
	io.Reader
	c *conn
}

func (r hearing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.c.hear()
	return n, err
}

// hear notes that the peer is there.
func (c *conn) hear() { c.heard.Store(time.Now().UnixNano()) }

// onPong and onPing are called in the reader's goroutine. The library's own pong would
// have five seconds to be written; the writer's has what every answer has.
func (c *conn) onPong(context.Context, []byte) { c.hear() }

func (c *conn) onPing(_ context.Context, payload []byte) bool {
	c.hear()
	c.answer(answer{pong: append([]byte{}, payload...)})
	return false
}

// answer hands an answer to the writer. It blocks while the outbox is full: a client that
// does not read its answers is not read any further.
func (c *conn) answer(a answer) {
	for !c.outbox.put(a) {
		select {
		case <-c.outbox.emptied:
		case <-c.ctx.Done():
			return
		}
	}
}

func (c *conn) reply(message []byte) { c.answer(answer{text: message}) }

// fail answers a request with an error, and the connection stays.
func (c *conn) fail(ref *string, err error) {
	f, known := faultOf(err)
	if !known && c.ctx.Err() == nil {
		c.h.log.Error("websocket request failed", "session", c.session.ID(), "error", err)
	}
	c.reply(appendError(nil, ref, f))
}

// settle answers a request with ok, or with what went wrong.
func (c *conn) settle(ref *string, err error) {
	if err != nil {
		c.fail(ref, err)
		return
	}
	c.reply(appendOK(nil, ref))
}

func (c *conn) handleText(data []byte) {
	req, err := decodeRequest(data)
	if c.view && req.Type != "" && req.Type != typePing && req.Type != typeAck {
		c.fail(req.Ref, forbidden())
		return
	}
	if err != nil {
		c.fail(req.Ref, err)
		return
	}
	switch req.Type {
	case typeRun:
		c.run(req)
	case typeStdin:
		if err := c.stdin(req.RunID, req.Offset, req.Input); err != nil {
			c.fail(req.Ref, err)
		}
	case typeStdinClose:
		run, err := c.stdinRun(req.RunID)
		if err == nil {
			err = run.CloseStdin()
		}
		c.settle(req.Ref, err)
	case typeInterrupt:
		c.settle(req.Ref, c.session.Interrupt(req.RunID, req.Force))
	case typeSignal:
		c.settle(req.Ref, c.session.Signal(req.RunID, req.Signal))
	case typeCancel:
		c.settle(req.Ref, c.session.Cancel(req.RunID))
	case typeComplete:
		c.complete(req)
	case typeAck:
		if err := c.ack(req.Pos); err != nil {
			c.fail(req.Ref, err)
		}
	case typePing:
		c.reply(appendPong(nil, req.Ref))
	}
}

func (c *conn) handleBinary(data []byte) {
	if c.view {
		c.fail(nil, forbidden())
		return
	}
	p, err := decodeStdin(data)
	if err == nil {
		err = c.stdin("", nil, p)
	}
	if err != nil {
		c.fail(nil, err)
	}
}

// run submits a run. Its ref is registered before the engine has heard of it, so that it
// is there when the first event of the run comes by.
func (c *conn) run(req request) {
	id := req.RunID
	if id == "" {
		id = uuid.NewString()
	}
	_, err := c.session.Run(id)
	fresh := err != nil
	if fresh {
		c.setRef(id, req.Ref)
	}
	run, created, err := c.session.Submit(sessions.RunRequest{
		ID: id, Code: req.Code, Cwd: req.Cwd, Env: req.Env, Timeout: req.Timeout,
		Stdin: req.Stdin, StdinText: stdinText(req), By: door, Context: c.asked,
		OnQueued: func(ahead int) { c.outbox.putNow(answer{text: appendQueued(nil, id, req.Ref, ahead)}) },
	})
	if fresh && !created {
		c.setRef(id, nil)
	}
	if err != nil {
		c.fail(req.Ref, err)
		return
	}
	if req.Stdin == sessions.OpenStdin {
		c.in.asked = append(unfinished(c.in.asked), run)
	}
	if !created {
		c.answer(answer{again: run, ref: req.Ref})
	}
}

// complete asks for completions beside everything else: one may take seconds, and what
// comes after it, an interrupt perhaps, is not to wait.
func (c *conn) complete(req request) {
	select {
	case c.completing <- struct{}{}:
	default:
		c.fail(req.Ref, &sessions.Error{Kind: sessions.ErrTooMany, Message: "too many completions are on: wait for an answer"})
		return
	}
	c.completions.Go(func() {
		defer func() { <-c.completing }()
		found, err := c.session.Complete(c.ctx, req.Line, req.Point)
		switch {
		case c.ctx.Err() != nil:
		case err != nil:
			c.fail(req.Ref, err)
		default:
			c.reply(appendCompletions(nil, req.Ref, found))
		}
	})
}

func stdinText(req request) []byte {
	if req.Stdin == sessions.TextStdin {
		return []byte(req.Text)
	}
	return nil
}

func (c *conn) setRef(runID string, ref *string) {
	c.refMu.Lock()
	defer c.refMu.Unlock()
	if ref == nil {
		delete(c.refs, runID)
		return
	}
	c.refs[runID] = ref
}

// claimRef gives a run its ref, unless it has one.
func (c *conn) claimRef(runID string, ref *string) bool {
	c.refMu.Lock()
	defer c.refMu.Unlock()
	if c.refs[runID] != nil {
		return false
	}
	c.refs[runID] = ref
	return true
}

// refOf is what the encoder asks.
func (c *conn) refOf(runID string, last bool) *string {
	c.refMu.Lock()
	defer c.refMu.Unlock()
	ref := c.refs[runID]
	if last {
		delete(c.refs, runID)
	}
	return ref
}

// stdin writes to a run's stdin. It blocks while the run has more than a window of it to
// read, and only this connection's messages wait for that.
func (c *conn) stdin(runID string, offset *uint64, p []byte) error {
	run, err := c.stdinRun(runID)
	if err != nil {
		return err
	}
	if !slices.Contains(c.in.fed, run) {
		c.in.fed = append(unfinished(c.in.fed), run)
		c.answer(answer{feed: run})
	}
	if offset != nil {
		return run.WriteStdinAt(c.ctx, *offset, p)
	}
	return run.WriteStdin(c.ctx, p)
}

// stdinRun finds the run that stdin is for: the one named; else the newest unfinished one
// this connection asked for with open stdin, even when it has closed that since, because
// what was meant for it must not reach another; else the one that is on.
func (c *conn) stdinRun(runID string) (*sessions.Run, error) {
	if runID != "" {
		return c.session.Run(runID)
	}
	c.in.asked = unfinished(c.in.asked)
	if n := len(c.in.asked); n > 0 {
		return c.in.asked[n-1], nil
	}
	if run := c.session.Current(); run != nil && run.StdinOpen() {
		return run, nil
	}
	return nil, &sessions.Error{Kind: sessions.ErrNoStdin, Message: "no run reads: ask for one with stdin true, or name one that was with run_id"}
}

// unfinished drops from runs those that have ended.
func unfinished(runs []*sessions.Run) []*sessions.Run {
	return slices.DeleteFunc(runs, func(r *sessions.Run) bool {
		select {
		case <-r.Done():
			return true
		default:
			return false
		}
	})
}

// ack moves the window. Without one there is nothing to do.
func (c *conn) ack(pos uint64) error {
	if handed := c.handed.Load(); pos > handed {
		return invalid("pos %d is beyond what was sent, %d", pos, handed)
	}
	if c.window == 0 || pos <= c.acked.Load() {
		return nil
	}
	c.acked.Store(pos)
	c.reader.Took(pos)
	signal(c.moved)
	return nil
}
