package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
)

// An execd is a peer that has sessions over REST, each run in a shell of its own, and
// shells that live, each with one WebSocket at a time.
type execd struct {
	place
	garbled atomic.Int64
}

func openExecd(url string) (*execd, error) {
	p, err := find(url)
	return &execd{place: p}, err
}

func (*execd) name() string { return "execd" }

// linesOfEvent: the event and an empty line.
func (*execd) linesOfEvent() int { return 2 }

// garbles: a run that is over at once may still write a "ping" event, into the next answer on
// the connection or beyond its own end, or fail at that and take the connection along.
func (e *execd) garbles(err error) bool {
	for _, known := range []error{errGarbled, io.EOF, syscall.ECONNRESET} {
		if errors.Is(err, known) {
			e.garbled.Add(1)
			return true
		}
	}
	return false
}

// note tells how often that was.
func (e *execd) note() string {
	return fmt.Sprintf("execd: %d answers were garbled or broken off by an event of the run before, and asked for again on a new connection", e.garbled.Load())
}

// idleShells are those that live: a session has none between its runs.
func (e *execd) idleShells(n int) (func() error, error) {
	var shells []*execdShell
	remove := func() error {
		for _, s := range shells {
			s.close()
		}
		return nil
	}
	for range n {
		s, err := e.start(4 << 10)
		if err != nil {
			_ = remove()
			return nil, err
		}
		s.ws.close() // the shell stays
		shells = append(shells, s)
	}
	return remove, nil
}

func (e *execd) shell() (shell, error) { return e.start(bigBuffer) }

// start starts a shell on pipes, without a terminal.
func (e *execd) start(buffer int) (*execdShell, error) {
	c, err := dialREST(e.host)
	if err != nil {
		return nil, err
	}
	defer c.close()
	id, err := c.createAt("/pty")
	if err != nil {
		return nil, err
	}
	s := &execdShell{e: e, id: id}
	if s.ws, err = dialWS(e.host, "/pty/"+id+"/ws?pty=0", "", buffer); err != nil {
		return nil, err
	}
	op, p, err := s.ws.next()
	if err == nil && (op != opText || !bytes.Contains(p, []byte(`"connected"`))) {
		err = fmt.Errorf("the first message was %.60q", p)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// An execdShell takes commands as lines of its stdin.
type execdShell struct {
	e  *execd
	id string
	ws *wsConn
}

func (s *execdShell) command(code string, _ bool) error { return s.stdin([]byte(code + "\n")) }

func (s *execdShell) stdin(p []byte) error { return s.ws.send(opBinary, []byte{0}, p) }

// The first byte of a binary frame from the server.
const (
	execdStdout = 1
	execdReplay = 3
)

func (s *execdShell) read() ([]byte, error) {
	for {
		op, p, err := s.ws.next()
		if err != nil {
			return nil, err
		}
		switch {
		case op == opBinary && len(p) > 1 && p[0] == execdStdout:
			return p[1:], nil
		case op == opBinary && len(p) > 9 && p[0] == execdReplay:
			return p[9:], nil // after the position
		default:
			return nil, fmt.Errorf("server said %.200q", p)
		}
	}
}

// settle has nothing to wait for: the end of a command is not told.
func (s *execdShell) settle() error { return nil }

func (s *execdShell) close() {
	s.ws.close()
	removeQuietly(s.e.host, "/pty/"+s.id)
}
