// Package ws is the WebSocket door to the sessions: it upgrades requests, decodes what
// clients send, calls package sessions and encodes what happens there. What a run is and
// how it ends is decided in sessions alone.
//
// The package also has the client's side. [Open] and [Create] make a [Session], which runs
// commands, and gets lost connections back; [Follow] looks on; [Dial] is one connection, for
// who wants the messages themselves.
//
// A connection is two goroutines, and one for each completion it waits for. The reader takes
// one message at a time, acts on it and puts direct answers into a bounded outbox; the writer
// writes, from the outbox first and then from the session's journal, which it pulls. So
// the journal is the only place where a session's history waits for a client, the outbox the
// only place where answers do, and a client that reads neither is read no further itself,
// until the journal's stall limit or the deadline of a write ends it. While the writer waits,
// the engine's goroutine that has read a little output writes in its place (conn.deliver), as
// far as that takes no waiting: a keystroke's echo is not handed from one to the other. What the
// writer has is under conn.writing, which is held across its writes; only the writer waits for it.
//
// A connection that breaks, without a goodbye from either side, leaves its reader of the
// journal behind for as long as the stall limit (absent.go): a command is held back for the
// client meanwhile, until it comes back with a position in what it had not acknowledged.
package ws

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"tandem/sessions"
)

// A Config says how a Handler is to be. Only Sessions is required.
type Config struct {
	Sessions *sessions.Manager
	Logger   *slog.Logger // nil: discards
	Server   string       // what "attached" says of this program, like "tandem/1.2.3"

	// ViewOnly reports whether whoever sent a request may only look, whatever role it asks
	// for. nil: nobody is restricted so.
	ViewOnly func(*http.Request) bool

	// Revoked returns a context that ends when whoever sent a request is no longer to be let
	// in. nil: never.
	Revoked func(*http.Request) context.Context

	// Received is called for each message that has come in, Sent when n more have been
	// written, from the goroutines of the connections: they must not block. nil: nobody is told.
	Received func()
	Sent     func(n int)

	// MaxMessage is the largest message taken from a client, in bytes. Default 33 MiB.
	MaxMessage int64

	// StallTimeout is the engine's: how long a reader may be behind without taking
	// anything. It sets how long a write may block. Default 10 s.
	StallTimeout time.Duration

	// PingInterval is how often a silent peer is pinged. One that has not been heard of for
	// half as long again when the next ping is due is dead. Default 20 s.
	PingInterval time.Duration

	// EphemeralGrace is how long an ephemeral session waits for somebody to come back
	// after its connection broke. Default 30 s.
	EphemeralGrace time.Duration
}

// closeGrace is how long Close lets connections say goodbye before it cuts them.
const closeGrace = 2 * time.Second

// door is what the engine is told of who asks.
const door = "ws"

// leastLag is how far a command may be ahead of a client with however small a window: less
// would make it wait for the client with every write.
const leastLag = 64 << 10

// A Handler upgrades requests and serves the connections, all of which it knows. Its
// methods may be called from any goroutine.
type Handler struct {
	cfg     Config
	log     *slog.Logger
	buffers sync.Pool     // of *[]byte, for writers that have something to write
	stop    chan struct{} // closed by Close

	mu        sync.Mutex
	closing   bool
	serving   int           // requests between enter and leave
	drained   chan struct{} // closed once closing and nothing is served
	conns     map[*conn]struct{}
	tracked   uint64                // how many there have been
	ephemeral map[string]*ephemeral // by session id
	absent    map[string][]*absent  // by session id
}

// New makes a Handler.
func New(cfg Config) *Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&cfg.StallTimeout, 10*time.Second)
	setDefault(&cfg.PingInterval, 20*time.Second)
	setDefault(&cfg.EphemeralGrace, 30*time.Second)
	if cfg.Server == "" {
		cfg.Server = "tandem"
	}
	if cfg.ViewOnly == nil {
		cfg.ViewOnly = func(*http.Request) bool { return false }
	}
	if cfg.Revoked == nil {
		cfg.Revoked = func(*http.Request) context.Context { return context.Background() }
	}
	if cfg.Received == nil {
		cfg.Received = func() {}
	}
	if cfg.Sent == nil {
		cfg.Sent = func(int) {}
	}
	cfg.MaxMessage = cmp.Or(cfg.MaxMessage, DefaultMaxMessage)
	return &Handler{
		cfg:       cfg,
		log:       cfg.Logger,
		buffers:   sync.Pool{New: func() any { return new([]byte) }},
		stop:      make(chan struct{}),
		drained:   make(chan struct{}),
		conns:     map[*conn]struct{}{},
		ephemeral: map[string]*ephemeral{},
		absent:    map[string][]*absent{},
	}
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// writeLimit is how long a write may block before the connection is lost.
func (h *Handler) writeLimit() time.Duration { return h.cfg.StallTimeout + writeGrace }

// Attach serves GET /session/{id}/ws: it attaches to the session that the request's path
// value "id" names, and returns when the connection has ended.
func (h *Handler) Attach(w http.ResponseWriter, r *http.Request) {
	h.serve(w, r, func(query) (*sessions.Session, error) {
		return h.cfg.Sessions.Get(r.PathValue("id"))
	})
}

// Create serves GET /ws: it creates a session and attaches to it, and returns when the
// connection has ended. An ephemeral session ends with the connection.
func (h *Handler) Create(w http.ResponseWriter, r *http.Request) {
	var made *sessions.Session
	attached := h.serve(w, r, func(q query) (*sessions.Session, error) {
		if q.ephemeral && q.view {
			return nil, invalid("an ephemeral session lives by a connection that controls it: leave role=view away")
		}
		s, err := h.cfg.Sessions.Create(sessions.Options{Cwd: q.cwd, Name: q.name})
		if errors.Is(err, sessions.ErrClosed) {
			return nil, stopping()
		}
		if err != nil {
			return nil, err
		}
		made = s
		if q.ephemeral {
			h.markEphemeral(s.ID())
		}
		return s, nil
	})
	if made != nil && !attached {
		// Nobody has learnt its name.
		h.end(made)
	}
}

// Close refuses new connections, closes all there are with 1012 and waits for them. Those
// that have not gone within a short grace, or when ctx ends, are cut. Runs and sessions go
// on.
func (h *Handler) Close(ctx context.Context) error {
	h.mu.Lock()
	if !h.closing {
		h.closing = true
		close(h.stop)
		if h.serving == 0 {
			close(h.drained)
		}
	}
	for c := range h.conns {
		c.cancel(errStopping)
	}
	h.mu.Unlock()
	h.releaseAll()

	grace, cancel := context.WithTimeout(ctx, closeGrace)
	defer cancel()
	select {
	case <-h.drained:
		return nil
	case <-grace.Done():
	}
	h.mu.Lock()
	for c := range h.conns {
		c.nc.Close()
	}
	h.mu.Unlock()
	select {
	case <-h.drained:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enter reports whether a request may be served; if so, leave must follow.
func (h *Handler) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return false
	}
	h.serving++
	return true
}

func (h *Handler) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving--
	if h.closing && h.serving == 0 {
		close(h.drained)
	}
}

// serve upgrades the request and serves the connection to the session that open gives. It
// reports false when there was no connection, and has answered the request then.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, open func(query) (*sessions.Session, error)) bool {
	if !h.enter() {
		reject(w, stopping())
		return false
	}
	defer h.leave()
	q, err := parseQuery(r)
	if err != nil {
		h.refuse(w, err)
		return false
	}
	q.view = q.view || h.cfg.ViewOnly(r)
	s, err := open(q)
	if err != nil {
		h.refuse(w, err)
		return false
	}
	opts := sessions.AttachOptions{After: q.after, Tail: q.tail, Viewer: q.view, Client: true, By: door}
	if q.window > 0 {
		// Who says how much it wants on its way does not want to work off megabytes more
		// before it sees that an interrupt took effect.
		opts.Lag = max(q.window, leastLag)
	}
	reader, snap, err := s.Attach(opts)
	if err != nil {
		h.refuse(w, err)
		return false
	}
	kept := false // for a client that may come back
	defer func() {
		if !kept {
			reader.Close()
		}
	}()
	c, err := h.upgrade(w, r)
	if err != nil {
		h.log.Debug("websocket refused", "session", s.ID(), "error", err)
		return false
	}
	defer c.nc.Close() // for a panic: otherwise it is closed by then
	c.attach(s, reader, q)
	c.asked = r.Context()
	defer context.AfterFunc(h.cfg.Revoked(r), func() { c.cancel(errRevoked) })()
	h.track(c)
	h.welcome(c)
	cause, clean := c.serve(snap)
	h.log.Debug("websocket ended", "session", s.ID(), "cause", cause)
	if kept = !clean && c.broken(); kept {
		h.expect(c)
	} else {
		reader.Close()
	}
	h.untrack(c, clean)
	return true
}

// upgrade answers the request itself where it fails.
func (h *Handler) upgrade(w http.ResponseWriter, r *http.Request) (*conn, error) {
	proto := subprotocol(r)
	t := &tap{ResponseWriter: w}
	c := newConn(h)
	opts := &websocket.AcceptOptions{
		// The router in front has checked the Origin, with the allowed ones at hand.
		InsecureSkipVerify: true,
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     c.onPing,
		OnPongReceived:     c.onPong,
	}
	if proto != "" {
		opts.Subprotocols = []string{proto}
	}
	ws, err := websocket.Accept(t, r, opts)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(h.cfg.MaxMessage)
	c.ws, c.nc, c.binary = ws, t.nc, proto == ProtocolBinary
	tune(t.nc.Conn, unsentLimit, h.writeLimit())
	return c, nil
}

// track makes the connection known to Close. One that comes after Close has begun is
// canceled at once, and Close waits for it all the same, since it is being served.
func (h *Handler) track(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[c] = struct{}{}
	h.tracked++
	c.number = h.tracked
	if h.closing {
		c.cancel(errStopping)
	}
	if e := h.ephemeral[c.session.ID()]; e != nil && !c.view {
		e.join(c)
	}
}

func (h *Handler) untrack(c *conn, clean bool) {
	h.mu.Lock()
	delete(h.conns, c)
	e := h.ephemeral[c.session.ID()]
	h.mu.Unlock()
	if e != nil && !c.view {
		h.leaveEphemeral(e, c, clean)
	}
}

// end deletes the session and returns when it is gone.
func (h *Handler) end(s *sessions.Session) {
	h.mu.Lock()
	delete(h.ephemeral, s.ID())
	h.mu.Unlock()
	// The only failure is that somebody else has deleted it.
	_ = h.cfg.Sessions.Delete(s.ID())
}

// A query is what the address of a WebSocket asks for.
type query struct {
	after, tail *uint64
	view        bool
	window      uint64 // 0: none

	cwd, name string
	ephemeral bool
}

// parseQuery checks that the request asks for a WebSocket and decodes its query. It fails
// with a fault.
func parseQuery(r *http.Request) (query, error) {
	var q query
	if r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") {
		return q, &fault{http.StatusUpgradeRequired, codeInvalid, "this address speaks WebSocket: ask for an upgrade to it, with GET and HTTP/1.1"}
	}
	if r.Header.Get("Sec-WebSocket-Version") != "13" || !hasKey(r.Header) {
		return q, invalid("an upgrade to WebSocket needs Sec-WebSocket-Version: 13 and one Sec-WebSocket-Key, 16 bytes in base64")
	}
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, invalid("the query is malformed: %v", err)
	}
	q.cwd, q.name = v.Get("cwd"), v.Get("name")
	if q.after, err = position(v, "after"); err != nil {
		return q, err
	}
	if q.tail, err = position(v, "tail"); err != nil {
		return q, err
	}
	if q.after != nil && q.tail != nil {
		return q, invalid("after and tail exclude each other: give one of them")
	}
	window, err := position(v, "window")
	if err != nil || window != nil && *window == 0 {
		return q, invalid("window must be a whole number from 1: how many positions may be unacknowledged")
	}
	if window != nil {
		q.window = *window
	}
	if q.view, err = choice(v, "role", roleControl, roleView); err != nil {
		return q, err
	}
	q.ephemeral, err = choice(v, "ephemeral", "0", "1")
	return q, err
}

// hasKey reports whether there is one key as the library wants it, which would refuse another in
// plain text.
func hasKey(header http.Header) bool {
	keys := header.Values("Sec-WebSocket-Key")
	if len(keys) != 1 {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0]))
	return err == nil && len(key) == 16
}

// position takes a whole number out of the query, nil where it is not there.
func position(v url.Values, name string) (*uint64, error) {
	if !v.Has(name) {
		return nil, nil
	}
	n, err := strconv.ParseUint(v.Get(name), 10, 64)
	if err != nil {
		return nil, invalid("%s must be a whole number from 0, not %.40q", name, v.Get(name))
	}
	return &n, nil
}

// choice reports whether the query has yes under name rather than no, the default.
func choice(v url.Values, name, no, yes string) (bool, error) {
	if s := v.Get(name); v.Has(name) && s != no && s != yes {
		return false, invalid("%s must be %s or %s, not %.40q", name, no, yes, s)
	}
	return v.Get(name) == yes, nil
}

// subprotocol is the first that the client asks for and we speak, or "": then it gets
// ProtocolJSON and no word about it. A "bearer." one, which carries a token, is none.
func subprotocol(r *http.Request) string {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if p = strings.TrimSpace(p); p == ProtocolBinary || p == ProtocolJSON {
				return p
			}
		}
	}
	return ""
}

func hasToken(header http.Header, name, token string) bool {
	for _, line := range header.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

func stopping() *fault {
	return &fault{http.StatusServiceUnavailable, codeRuntime, "the server is stopping: try again later"}
}

// refuse answers a request that will not be upgraded.
func (h *Handler) refuse(w http.ResponseWriter, err error) {
	f, known := faultOf(err)
	if !known {
		h.log.Error("websocket refused", "error", err)
	}
	reject(w, f)
}

func reject(w http.ResponseWriter, f *fault) {
	w.Header().Set("Content-Type", "application/json")
	if f.status == http.StatusUpgradeRequired {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
	}
	w.WriteHeader(f.status)
	b := append([]byte(`{"code":`), appendQuoted(nil, f.code)...)
	b = append(appendStr(b, "message", f.message), '}', '\n')
	_, _ = w.Write(b)
}

// A tap keeps the connection that an upgrade takes over: the library reads from it, and writes
// close frames to it, but all other frames are written here.
type tap struct {
	http.ResponseWriter
	nc *socket
}

func (t *tap) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.nc = newSocket(nc)
	rw.Writer.Reset(t.nc) // which is what the library writes with
	return t.nc, rw, nil
}
