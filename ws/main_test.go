package ws_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"tandem/sessions"
	"tandem/ws"
)

// TestMain also asks, where all tests were run and passed, whether all that is described was
// seen.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if code == 0 && !described().allSeen() {
			code = 1
		}
		os.Exit(code)
	}))
}

// limit is how long anything may take before a test gives up. Nothing waits it out.
const limit = time.Minute

// A door is a real engine behind a Handler on a port of its own.
type door struct {
	t   testing.TB
	m   *sessions.Manager
	h   *ws.Handler
	url string
}

func open(t testing.TB, engine sessions.Config, cfg ws.Config) *door {
	t.Helper()
	m, err := sessions.New(engine)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Sessions, cfg.Server, cfg.StallTimeout = m, "tandem/test", engine.StallTimeout
	h := ws.New(cfg)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /session/{id}/ws", h.Attach)
	mux.HandleFunc("GET /ws", h.Create)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Errorf("close the door: %v", err)
		}
		srv.Close()
		if err := m.Close(ctx); err != nil {
			t.Errorf("close the engine: %v", err)
		}
	})
	return &door{t, m, h, srv.URL}
}

func (d *door) session() *sessions.Session {
	d.t.Helper()
	s, err := d.m.Create(sessions.Options{Cwd: d.t.TempDir()})
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// A peer is a client that keeps what it gets and checks that no position is missing or
// comes twice.
type peer struct {
	*ws.Client
	t   testing.TB
	pos uint64
	out map[string][]byte
	bad error // why next failed
}

func path(s *sessions.Session, query string) string { return "/session/" + s.ID() + "/ws" + query }

func (d *door) dial(path string, opts ...*ws.DialOptions) *peer {
	d.t.Helper()
	p, err := d.tryDial(path, opts...)
	if err != nil {
		d.t.Fatalf("dial %s: %v", path, err)
	}
	return p
}

func (d *door) tryDial(path string, opts ...*ws.DialOptions) (*peer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	o := &ws.DialOptions{}
	if len(opts) > 0 {
		o = opts[0]
	}
	transport := witness(d.t)
	o = &ws.DialOptions{Token: o.Token, JSON: o.JSON, Header: o.Header, HTTPClient: &http.Client{Transport: transport}}
	c, err := ws.Dial(ctx, "ws"+strings.TrimPrefix(d.url, "http")+path, o)
	if err != nil {
		transport.CloseIdleConnections()
		return nil, err
	}
	d.t.Cleanup(func() { c.CloseNow() })
	return &peer{Client: c, t: d.t, pos: c.Attached.Pos, out: map[string][]byte{}}, nil
}

// read returns the next message, or false when the connection has ended.
func (p *peer) read() (ws.Message, bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	m, err := p.Next(ctx)
	if err != nil {
		if ctx.Err() != nil {
			p.t.Fatalf("no message within %v", limit)
		}
		p.bad = err
		return m, false
	}
	if m.Placed {
		start := m.Pos
		if m.Type == ws.TypeGap {
			start = m.From
		}
		if start != p.pos {
			p.t.Fatalf("%s at position %d, want %d", m.Type, start, p.pos)
		}
		p.pos = m.End()
	}
	if p.Position() != p.pos {
		p.t.Fatalf("client is at %d, want %d", p.Position(), p.pos)
	}
	p.out[m.Type] = append(p.out[m.Type], m.Data...)
	return m, true
}

func (p *peer) next() ws.Message {
	p.t.Helper()
	m, ok := p.read()
	if !ok {
		p.t.Fatalf("connection ended: %v", p.bad)
	}
	return m
}

// until reads up to the first message of one of the types.
func (p *peer) until(types ...string) ws.Message {
	p.t.Helper()
	for {
		m := p.next()
		for _, typ := range types {
			if m.Type == typ {
				return m
			}
		}
		if m.Type == ws.TypeError {
			p.t.Fatalf("waiting for %v: %v", types, m.Err())
		}
	}
}

// closed reads to the end of the connection and returns its close code.
func (p *peer) closed() websocket.StatusCode {
	p.t.Helper()
	for {
		if _, ok := p.read(); !ok {
			return websocket.CloseStatus(p.bad)
		}
	}
}

func (p *peer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) ask(r ws.Run) {
	p.t.Helper()
	p.must(p.Run(context.Background(), r))
}

// run runs code to its end and returns run.finished and the output.
func (p *peer) run(code string) (ws.Message, string) {
	p.t.Helper()
	p.out = map[string][]byte{}
	p.ask(ws.Run{Code: code, Ref: code})
	for {
		if m := p.until(ws.TypeRunFinished); m.Ref == code {
			return m, string(p.out[ws.TypeStdout])
		}
	}
}

// wire is a connection that says whatever it is told to.
type wire struct {
	*websocket.Conn
	t testing.TB
}

func (d *door) wire(path string, protocols ...string) wire {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	transport := witness(d.t)
	c, _, err := websocket.Dial(ctx, d.url+path, &websocket.DialOptions{Subprotocols: protocols, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		d.t.Fatal(err)
	}
	c.SetReadLimit(-1)
	d.t.Cleanup(func() { c.CloseNow() })
	return wire{c, d.t}
}

// raw is a connection without any client behind it.
func (d *door) raw(path string) net.Conn {
	d.t.Helper()
	nc, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { nc.Close() })
	fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: tandem.v1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path)
	return nc
}

func (w wire) send(kind websocket.MessageType, data string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := w.Write(ctx, kind, []byte(data)); err != nil {
		w.t.Fatal(err)
	}
}

// get returns the next text message as it is, or the close code.
func (w wire) get() (map[string]any, websocket.StatusCode) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, data, err := w.Read(ctx)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
			w.t.Fatal("no message")
		}
		return nil, websocket.CloseStatus(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		w.t.Fatalf("%q: %v", data, err)
	}
	return m, 0
}

// eventually waits for what no gate tells of.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func gone(s *sessions.Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}
