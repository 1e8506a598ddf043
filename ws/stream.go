package ws

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// DefaultPatience is how long a client tries to get its connection back.
	DefaultPatience = time.Minute

	// firstBackoff doubles from one attempt to the next, up to mostBackoff.
	firstBackoff = 100 * time.Millisecond
	mostBackoff  = 5 * time.Second

	// clientWindow is how many positions may be on their way that were not taken in: so many a
	// command may be ahead of that, so that with a retention of four times as much nothing is lost
	// to a cut.
	clientWindow = 1 << 20

	// dialLimit is how long one attempt may take.
	dialLimit = 15 * time.Second
)

// Why there is no connection and will be none.
var (
	// ErrSessionClosed is that the session has ended.
	ErrSessionClosed = errors.New("session closed")

	// ErrLost is that the server cannot be reached, or no longer: connections to it failed for
	// as long as the client's patience lasted.
	ErrLost = errors.New("no connection to the server")
)

// SessionOptions say how to use a session. The zero value, like nil, is to control it, to see
// what happens from now on, and to be patient for [DefaultPatience].
type SessionOptions struct {
	DialOptions

	After *uint64 // see what happened from this position on, and then what happens
	Tail  uint64  // see up to this many of the last positions first; not together with After
	View  bool    // look only

	// Patience is how long to try to get a lost connection back. Negative: not at all.
	Patience time.Duration

	// Lost, if set, is told why a connection was lost each time one is, and that an attempt to
	// get it back has failed. It must not block.
	Lost func(error)

	// Event, if set, is told everything that happens in the session, whoever caused it, in
	// order and each once, across connections, and the answers to this client. It is called
	// by one goroutine, which goes on when it returns; the message's Data is good until then.
	// It must not wait for a call of the same Session's.
	Event func(Message)
}

// A stream is what a session tells, over as many connections as that takes.
type stream struct {
	base string // of the server, ws:// or wss://, without a slash at the end
	opts SessionOptions
	down func() // if set, called when a connection is lost

	// next's alone.
	create   url.Values // the first connection makes a session, asked for so
	ever     bool       // there has been a connection
	good     bool       // the last one brought something
	failures int        // since there was a good one
	since    time.Time  // when the first failed since there was one; zero: none has
	acked    uint64     // on the connection there is

	mu   sync.Mutex
	id   string // of the session; "" until it is created
	conn *Client
	pos  uint64
	met  bool // pos means something
	over bool // it has been closed
}

// newStream takes the address of a server, as http://host:port/path or ws://host:port/path.
func newStream(server, id string, opts *SessionOptions) (*stream, error) {
	s := &stream{id: id}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Patience == 0 {
		s.opts.Patience = DefaultPatience
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("server address: %w", err)
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return nil, fmt.Errorf("server address %q: give one like http://127.0.0.1:4477", server)
	}
	u.RawQuery, u.Fragment = "", ""
	s.base = strings.TrimSuffix(u.String(), "/")
	if s.opts.After != nil {
		s.pos, s.met = *s.opts.After, true
	}
	return s, nil
}

// next returns the next message, and the first one of every connection too. It blocks until
// there is one, and connects again as often as needed, from the position after the last
// message that it returned. It fails when ctx ends, and for good with ErrSessionClosed, with
// ErrLost, or with what the server said when it refused.
func (s *stream) next(ctx context.Context) (Message, error) {
	for {
		conn := s.current()
		if conn == nil {
			return s.connect(ctx)
		}
		s.acknowledge(ctx, conn)
		m, err := conn.Next(ctx)
		if err == nil {
			s.good = true
			if m.Placed {
				s.mu.Lock()
				s.pos = m.End()
				s.mu.Unlock()
			}
			return m, nil
		}
		conn.CloseNow()
		over := s.drop()
		if ctx.Err() != nil {
			return Message{}, context.Cause(ctx)
		}
		if over {
			return Message{}, errClosed
		}
		switch websocket.CloseStatus(err) {
		case CloseSessionClosed:
			return Message{}, ErrSessionClosed
		case websocket.StatusPolicyViolation:
			return Message{}, &RefusedError{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: "the token was taken back"}
		case websocket.StatusMessageTooBig: // it would be on the next connection too
			return Message{}, &RefusedError{Status: http.StatusRequestEntityTooLarge, Code: "TOO_LARGE", Message: "what was sent is too large a message for the server"}
		}
		s.failed(err)
		if s.opts.Patience < 0 {
			return Message{}, fmt.Errorf("%w: %w", ErrLost, err)
		}
	}
}

// acknowledge says that everything has been dealt with that next has returned before.
func (s *stream) acknowledge(ctx context.Context, conn *Client) {
	if pos := s.position(); !s.opts.View && pos > s.acked {
		s.acked = pos
		_ = conn.Ack(ctx, pos) // where it fails, so does reading
	}
}

// drop forgets the connection, and reports whether there is to be no other.
func (s *stream) drop() (over bool) {
	s.mu.Lock()
	s.conn, over = nil, s.over
	s.mu.Unlock()
	if s.down != nil {
		s.down()
	}
	return over
}

// current is the connection there is, or nil.
func (s *stream) current() *Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

func (s *stream) sessionID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

func (s *stream) position() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pos
}

func (s *stream) failed(err error) {
	if s.good {
		s.good, s.failures = false, 0
	}
	if s.since.IsZero() {
		s.since = time.Now()
	}
	s.failures++
	if s.opts.Lost != nil {
		s.opts.Lost(err)
	}
}

// connect makes a connection and returns its first message.
func (s *stream) connect(ctx context.Context) (Message, error) {
	for {
		if err := s.pause(ctx); err != nil {
			return Message{}, err
		}
		conn, err := s.dial(ctx)
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conn, s.create, s.id, s.acked = conn, nil, conn.Attached.SessionID, conn.Attached.Pos
			s.pos, s.met = conn.Attached.Pos, true
			s.ever, s.since = true, time.Time{}
			return conn.Attached, nil
		}
		if ctx.Err() != nil {
			return Message{}, context.Cause(ctx)
		}
		if refused, ok := errors.AsType[*RefusedError](err); ok && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
			return Message{}, err
		}
		s.failed(err)
		if !s.ever || time.Since(s.since) > s.opts.Patience {
			return Message{}, fmt.Errorf("%w: %w", ErrLost, err)
		}
	}
}

// pause waits before an attempt that follows a failure: nothing the first time, when a good
// connection was cut, and then the longer the more failed, a part of it by chance, so that
// the clients of a server that comes back do not all come at once.
func (s *stream) pause(ctx context.Context) error {
	if s.failures < 2 {
		return nil
	}
	most := min(firstBackoff<<min(s.failures-2, 16), mostBackoff)
	wait := time.NewTimer(most/2 + rand.N(most/2))
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *stream) dial(ctx context.Context) (*Client, error) {
	// The limit is for dialing alone: a context that ends is the end of its connection.
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	return Dial(ctx, s.address(), &s.opts.DialOptions)
}

func (s *stream) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == "" {
		s.create.Set("window", strconv.Itoa(clientWindow))
		return s.base + "/ws?" + s.create.Encode()
	}
	q := url.Values{}
	switch {
	case s.met:
		q.Set("after", strconv.FormatUint(s.pos, 10))
	case s.opts.Tail > 0:
		q.Set("tail", strconv.FormatUint(s.opts.Tail, 10))
	}
	if s.opts.View {
		q.Set("role", roleView)
	} else {
		q.Set("window", strconv.Itoa(clientWindow))
	}
	return s.base + "/session/" + url.PathEscape(s.id) + "/ws?" + q.Encode()
}

// close ends the connection there is, with a goodbye.
func (s *stream) close() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	if conn := s.current(); conn != nil {
		_ = conn.Close()
	}
}

// Follow calls each with everything that happens in a session, past or to come as opts say,
// in order and each once, across connections, until ctx ends, each fails, or there is no
// more: then it returns nil if the session has ended. It reads in the caller's goroutine and
// holds the command back that is too far ahead of it, unless opts.View. opts.Event is not
// called.
func Follow(ctx context.Context, server, id string, opts *SessionOptions, each func(Message) error) error {
	st, err := newStream(server, id, opts)
	if err != nil {
		return err
	}
	defer st.close()
	for {
		m, err := st.next(ctx)
		if errors.Is(err, ErrSessionClosed) {
			return nil
		}
		if err == nil {
			err = each(m)
		}
		if err != nil {
			return err
		}
	}
}
