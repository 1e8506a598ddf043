package ws

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// A socket is a connection that can also be written to without waiting. The library has it too,
// for its close frames: none of them comes amid a frame of which only the beginning could be
// written, and nothing comes after it.
type socket struct {
	net.Conn
	raw syscall.RawConn // nil: no writing without waiting

	mu      sync.Mutex // held while anything is written
	closed  bool       // the library has said goodbye
	rest    []byte     // what tryWrite has left: it goes before all else
	hasRest atomic.Bool
}

// errSaidGoodbye is why nothing more is written.
var errSaidGoodbye = errors.New("a close frame has been sent")

func newSocket(nc net.Conn) *socket {
	s := &socket{Conn: nc}
	if c, ok := nc.(syscall.Conn); ok {
		s.raw, _ = c.SyscallConn() // it fails for a connection that is closed
	}
	return s
}

// Write is the library's, which writes close frames and nothing else.
func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.writeLocked(p)
}

// writeFrames writes what is left and then whole frames.
func (s *socket) writeFrames(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errSaidGoodbye
	}
	_, err := s.writeLocked(p)
	return err
}

func (s *socket) writeLocked(p []byte) (int, error) {
	if len(s.rest) > 0 {
		n, err := s.Conn.Write(s.rest)
		if s.rest = s.rest[n:]; err != nil {
			return 0, err
		}
		s.rest = nil
		s.hasRest.Store(false)
	}
	if len(p) == 0 {
		return 0, nil
	}
	return s.Conn.Write(p)
}

// tryWrite writes what the kernel takes of whole frames at once, and keeps a copy of the rest for
// whoever writes next. It reports false, and has done nothing, where not even a byte can be
// written, or somebody is writing.
func (s *socket) tryWrite(p []byte) bool {
	if s.raw == nil || !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	if s.closed || len(s.rest) > 0 {
		return false
	}
	n := 0
	// Errors are left to writeFrames, which gets them too.
	_ = s.raw.Write(func(fd uintptr) bool {
		n, _ = syscall.Write(int(fd), p)
		return true
	})
	if n <= 0 {
		return false
	}
	if n < len(p) {
		s.rest = append(s.rest, p[n:]...)
		s.hasRest.Store(true)
	}
	return true
}
