package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"tandem/ws"
)

// mostParked is how many connections that do nothing are held at a time.
const mostParked = 24

// A parking holds connections on which nothing will ever happen.
type parking struct {
	mu    sync.Mutex
	conns []net.Conn
}

// add parks a connection; the oldest leaves where there is no room.
func (p *parking) add(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
	if len(p.conns) > mostParked {
		_ = p.conns[0].Close()
		p.conns = p.conns[1:]
	}
}

func (p *parking) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// raw dials the server's port.
func (st *step) raw(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", st.soak.server.addr)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(stepLimit))
}

// parkOrClose leaves a connection as it is, or ends it.
func (st *step) parkOrClose(c net.Conn) {
	if st.rng.IntN(2) == 0 {
		st.soak.parked.add(c)
		return
	}
	_ = c.Close()
}

// healthy fails unless the server serves.
func (st *step) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := st.rest.call(ctx, http.MethodGet, "/healthz", nil, nil); err != nil {
		return fmt.Errorf("healthz: %w", err)
	}
	return nil
}

// halfRequest sends requests that never come to their end.
func (st *step) halfRequest(ctx context.Context, s *session) error {
	c, err := st.raw(ctx)
	if err != nil {
		return err
	}
	st.soak.tally.fault(st.name)
	head := fmt.Sprintf("POST /session/%s/run HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n", s.id, st.soak.server.addr, st.soak.server.token)
	whole := head + "Content-Length: 100\r\n\r\n{\"code\":\"n=lost\"}"
	if st.rng.IntN(2) == 0 {
		whole = head + "Transfer-Encoding: chunked\r\n\r\n20\r\n{\"code\":\"n=lost\""
	}
	if _, err := c.Write([]byte(whole[:1+st.rng.IntN(len(whole))])); err != nil {
		return err
	}
	st.parkOrClose(c)
	if err := st.healthy(ctx); err != nil {
		return err
	}
	return st.probe(ctx, s) // what was not sent to its end must not have been run
}

// garbage sends what is no HTTP.
func (st *step) garbage(ctx context.Context, _ *session) error {
	c, err := st.raw(ctx)
	if err != nil {
		return err
	}
	st.soak.tally.fault(st.name)
	// The server may hang up before it has read all of it.
	_, _ = c.Write(randomBytes(st.rng, 1+st.rng.IntN(100<<10)))
	st.parkOrClose(c)
	return st.healthy(ctx)
}

// upgraded is a bare connection on which the server speaks WebSocket.
func (st *step) upgraded(ctx context.Context, s *session) (net.Conn, error) {
	c, err := st.raw(ctx)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(c, "GET /session/%s/ws HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", s.id, st.soak.server.addr, st.soak.server.token)
	if err != nil {
		return c, err
	}
	buf := make([]byte, 12)
	if _, err := io.ReadFull(c, buf); err != nil || !bytes.HasSuffix(buf, []byte(" 101")) {
		return c, fmt.Errorf("the upgrade is answered with %q, %v", buf, err)
	}
	return c, nil
}

// halfFrame ends a WebSocket in the middle of a frame, leaves it there, or announces a
// frame that is too large.
func (st *step) halfFrame(ctx context.Context, s *session) error {
	c, err := st.upgraded(ctx, s)
	if err != nil {
		if c != nil {
			_ = c.Close()
		}
		return err
	}
	st.soak.tally.fault(st.name)
	text := `{"type":"run","code":"n=lost"}`
	frame := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
	if st.rng.IntN(6) > 0 {
		if _, err := c.Write(frame[:1+st.rng.IntN(len(frame)-1)]); err != nil {
			return err
		}
		st.parkOrClose(c)
		return st.probe(ctx, s)
	}
	defer c.Close()
	return st.hugeFrame(c)
}

// hugeLimit is how long the server may keep a connection that it has given up: what
// WIRE.md allows a dead peer.
const hugeLimit = time.Minute

// hugeFrame sends more than the server takes, and then nothing. It expects to be told so,
// and to be hung up on.
func (st *step) hugeFrame(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(hugeLimit)); err != nil {
		return err
	}
	var answer []byte
	read := make(chan error, 1)
	go func() {
		var err error
		answer, err = io.ReadAll(c)
		read <- err
	}()
	_, err := c.Write([]byte{0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for sent := 0; sent < 40*megabyte && err == nil; sent += megabyte {
		_, err = c.Write(make([]byte, megabyte))
	}
	// It may end with a reset, since what we sent need not have been read to its end.
	err = <-read
	if !bytes.Contains(answer, []byte{1009 >> 8, 1009 & 0xff}) {
		return fmt.Errorf("a frame of 2^40 bytes is answered with %q, %v, without a close of 1009", answer, err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("after a close of 1009 the connection is still open, %v later", hugeLimit)
	}
	return nil
}

// badJSON sends bodies that are not what they should be.
func (st *step) badJSON(ctx context.Context, s *session) error {
	st.soak.tally.fault(st.name)
	for _, body := range []string{
		"{", "[]", `"x"`, "5", `{"code":1}`, `{"code":"x","timeout_ms":"soon"}`, `{"code":"x","stdin":5}`, "\xff\xfe", `{"code":"x"`,
		strings.Repeat("[", 20000), `{"code":"x","run_id":"with space"}`, `{"code":"x","env":[]}`,
	} {
		res, err := st.rest.send(ctx, http.MethodPost, "/session/"+s.id+"/run", "", strings.NewReader(body))
		if err == nil {
			_ = res.Body.Close()
		}
		if !isCode(err, "INVALID_REQUEST_BODY") || !isStatus(err, http.StatusBadRequest) {
			return fmt.Errorf("the body %.40q is answered with %v", body, err)
		}
	}
	return st.probe(ctx, s)
}

// badMessages sends messages that are none: each is answered, and the connection stays.
func (st *step) badMessages(ctx context.Context, s *session) error {
	st.soak.tally.fault(st.name)
	header := http.Header{"Authorization": {"Bearer " + st.soak.server.token}}
	c, _, err := websocket.Dial(ctx, st.soak.server.url+"/session/"+s.id+"/ws", &websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{ws.ProtocolJSON}})
	if err != nil {
		return err
	}
	defer c.CloseNow()
	if _, _, err := c.Read(ctx); err != nil { // attached
		return err
	}
	for _, text := range []string{"no json", "[]", "5", "{", `{"type":"nonsense"}`, `{"type":5}`, "{}", `{"type":"interrupt","run_id":"nosuch"}`, `{"type":"signal","signal":"SIGNOPE"}`} {
		if err := st.answeredByError(ctx, c, websocket.MessageText, []byte(text)); err != nil {
			return err
		}
	}
	if err := st.answeredByError(ctx, c, websocket.MessageBinary, []byte("\x09abc")); err != nil {
		return err
	}
	if err := c.Write(ctx, websocket.MessageText, []byte("{\"type\":\"ping\",\"ref\":\"\xff\"}")); err != nil {
		return err
	}
	if _, data, err := c.Read(ctx); !closedWith(err, websocket.StatusInvalidFramePayloadData) {
		return fmt.Errorf("text that is not UTF-8 is answered with %.100q, %v, want a close of 1007", data, err)
	}
	return st.probe(ctx, s)
}

func (st *step) answeredByError(ctx context.Context, c *websocket.Conn, kind websocket.MessageType, data []byte) error {
	if err := c.Write(ctx, kind, data); err != nil {
		return err
	}
	_, answer, err := c.Read(ctx)
	if err != nil || !bytes.Contains(answer, []byte(`"type":"error"`)) {
		return fmt.Errorf("the message %q is answered with %q, %v", data, answer, err)
	}
	return nil
}

// refusal is what the server said instead of upgrading.
func refusal(err error) (*ws.RefusedError, bool) { return errors.AsType[*ws.RefusedError](err) }
