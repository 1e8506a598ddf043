package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// A tandem is the target that is ours.
type tandem struct {
	place
	bin string // "" if we did not start it
}

// openTandem starts one, or finds the one that is there. stop ends what was started.
func openTandem(ctx context.Context, cfg config) (t *tandem, stop func() error, err error) {
	if cfg.url == "" {
		s, err := startServer(ctx, cfg.bin)
		if err != nil {
			return nil, nil, err
		}
		return s.tandem(), s.stop, nil
	}
	p, err := find(cfg.url)
	return &tandem{place: p}, func() error { return nil }, err
}

// find is the place of the server that a URL leads to. It must be there.
func find(url string) (place, error) {
	host, err := address(url)
	if err != nil {
		return place{}, err
	}
	c, err := dialREST(host)
	if err != nil {
		return place{}, err
	}
	defer c.close()
	if err := c.ping(); err != nil {
		return place{}, fmt.Errorf("%s: %w", url, err)
	}
	return place{host, listener(host)}, nil
}

func (*tandem) name() string { return "tandem" }

// linesOfEvent: the position, the event and an empty line.
func (*tandem) linesOfEvent() int { return 3 }

func (*tandem) garbles(error) bool { return false }

func (t *tandem) idleShells(n int) (func() error, error) {
	c, err := dialREST(t.host)
	if err != nil {
		return nil, err
	}
	ids, err := c.createMany(n)
	if err != nil {
		c.close()
		return nil, err
	}
	return func() error { defer c.close(); return c.removeAll(t, ids) }, nil
}

func (t *tandem) shell() (shell, error) {
	c, err := dialREST(t.host)
	if err != nil {
		return nil, err
	}
	defer c.close()
	id, err := c.create()
	if err != nil {
		return nil, err
	}
	return t.attach(id, bigBuffer)
}

// attach attaches to a session and returns once that is done. buffer is how much to read at
// once.
func (t *tandem) attach(id string, buffer int) (*tandemShell, error) {
	ws, err := dialWS(t.host, "/session/"+id+"/ws", "tandem.v1", buffer)
	if err != nil {
		return nil, err
	}
	s := &tandemShell{t: t, id: id, ws: ws}
	op, p, err := ws.next()
	if err == nil && (op != opText || !bytes.Contains(p, []byte(`"attached"`))) {
		err = fmt.Errorf("the first message was %.60q", p)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// outputHeader is what precedes the bytes in a frame of output: channel, position, run.
const outputHeader = 1 + 8 + 4

// A tandemShell is a session with a connection.
type tandemShell struct {
	t        *tandem
	id       string
	ws       *wsConn
	started  bool
	finished bool
}

// A runRequest is the message that asks for a run.
type runRequest struct {
	Type  string `json:"type"`
	Code  string `json:"code"`
	Stdin bool   `json:"stdin,omitempty"`
}

func (s *tandemShell) command(code string, withStdin bool) error {
	msg, err := json.Marshal(runRequest{"run", code, withStdin})
	if err != nil {
		return err
	}
	s.started, s.finished = false, false
	return s.ws.send(opText, nil, msg)
}

func (s *tandemShell) stdin(p []byte) error { return s.ws.send(opBinary, []byte{0}, p) }

func (s *tandemShell) read() ([]byte, error) {
	for {
		p, err := s.message()
		if err != nil || p != nil {
			return p, err
		}
		if s.finished {
			return nil, fmt.Errorf("the run has ended")
		}
	}
}

// message reads one. It returns the bytes of output, and nil for any other message.
func (s *tandemShell) message() ([]byte, error) {
	op, p, err := s.ws.next()
	if err != nil {
		return nil, err
	}
	if op == opBinary {
		if len(p) <= outputHeader {
			return nil, fmt.Errorf("a binary frame of %d bytes", len(p))
		}
		return p[outputHeader:], nil
	}
	switch {
	case bytes.Contains(p, []byte(`"type":"run.finished"`)):
		s.finished = true
	case bytes.Contains(p, []byte(`"type":"error"`)), bytes.Contains(p, []byte(`"type":"gap"`)):
		return nil, fmt.Errorf("server said %.200s", p)
	}
	return nil, nil
}

func (s *tandemShell) settle() error {
	for !s.finished {
		p, err := s.message()
		if err != nil {
			return err
		}
		if p != nil {
			return fmt.Errorf("more output: %.40q", p)
		}
	}
	return nil
}

func (s *tandemShell) close() {
	s.ws.close()
	removeQuietly(s.t.host, "/session/"+s.id)
}
