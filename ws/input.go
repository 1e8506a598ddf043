package ws

import (
	"context"
	"encoding/base64"
	"io"
	"sync"
)

// mostInput is how much of a run's input goes in one message, so that an interrupt need not
// wait for more.
const mostInput = 64 << 10

// probeInput is how much goes first on a connection that follows another: the answer tells what
// the run has taken meanwhile, and need not be sent again. Without that, input would not get
// on where connections last no longer than it takes to send the same again.
const probeInput = 512

// An input is what is on its way to a run's stdin. It keeps what the run has not taken yet, to
// send it again when a connection is lost: each piece says where it belongs, and the server
// leaves out what it has.
type input struct {
	c    *Command
	open bool

	// sending is held by who sends, so that pieces go out in order.
	sending sync.Mutex

	// Guarded by c.s.mu.
	kept   []byte // not yet taken
	taken  uint64 // bytes before kept
	sent   int    // of kept, on the connection there is
	eof    bool   // there will be no more
	told   bool   // the end has been sent, on the connection there is
	probes bool   // nothing goes beyond the first piece before the server has answered it
	closed bool   // and the server has it
	err    error  // the run takes no more
}

func (in *input) Write(p []byte) (n int, err error) {
	s := in.c.s
	for len(p) > 0 {
		var room int
		if err := s.wait(context.Background(), func() bool { room = s.window - len(in.kept); return room > 0 || in.overLocked() != nil }); err != nil {
			return n, err
		}
		s.mu.Lock()
		if err := in.overLocked(); err != nil {
			s.mu.Unlock()
			return n, err
		}
		k := min(len(p), s.window-len(in.kept), mostInput)
		in.kept = append(in.kept, p[:k]...)
		s.mu.Unlock()
		p, n = p[k:], n+k
		in.pump()
	}
	return n, nil
}

// overLocked tells why nothing more can be written.
func (in *input) overLocked() error {
	switch {
	case !in.open || in.eof || in.c.end != nil:
		return io.ErrClosedPipe
	case in.err != nil:
		return in.err
	}
	return in.c.err
}

// Close ends the input after all that was written. It does not wait for that to arrive.
func (in *input) Close() error {
	in.c.s.mu.Lock()
	in.eof = true
	in.c.s.mu.Unlock()
	in.pump()
	return nil
}

// pump sends what has not been sent on the connection there is.
func (in *input) pump() {
	in.sending.Lock()
	defer in.sending.Unlock()
	for {
		conn, m, ok := in.next()
		if !ok {
			return
		}
		_ = conn.send(in.c.s.ctx, m)
	}
}

// next is the next message to send.
func (in *input) next() (conn *Client, m outgoing, ok bool) {
	s := in.c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !in.open || !s.up || in.err != nil || in.c.end != nil || in.c.err != nil {
		return nil, m, false
	}
	if rest := in.kept[in.sent:]; len(rest) > 0 {
		most := mostInput
		if in.probes {
			if in.sent > 0 {
				return nil, m, false
			}
			most = probeInput
		}
		p := rest[:min(len(rest), most)]
		at := in.taken + uint64(in.sent)
		in.sent += len(p)
		text := base64.StdEncoding.EncodeToString(p)
		return s.conn, outgoing{Type: typeStdin, Ref: refStdin + in.c.id, RunID: in.c.id, Base64: &text, Offset: &at}, true
	}
	if in.eof && !in.told && !in.closed {
		in.told = true
		return s.conn, outgoing{Type: typeStdinClose, Ref: refClose + in.c.id, RunID: in.c.id}, true
	}
	return nil, m, false
}

// restartLocked is for a new connection, which knows nothing.
func (in *input) restartLocked() { in.sent, in.told, in.probes = 0, false, in.taken > 0 || in.sent > 0 }

// ackedLocked notes what the run has taken, and reports whether that was waited for.
func (in *input) ackedLocked(bytes uint64) (waited bool) {
	waited, in.probes = in.probes, false
	if bytes <= in.taken {
		return waited
	}
	n := int(min(bytes-in.taken, uint64(len(in.kept))))
	in.taken += uint64(n)
	in.sent = max(0, in.sent-n)
	if in.kept = in.kept[n:]; len(in.kept) == 0 {
		in.kept = nil
	}
	return waited
}

// failLocked notes that the run takes no more.
func (in *input) failLocked(err error) {
	if in.err == nil {
		in.err = err
	}
}
