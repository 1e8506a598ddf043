package ws

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// A socket is a connection that can also be written to without waiting. The library has it too,
// for its close frames, so that none of them comes amid a frame of which only the beginning
// could be written.
type socket struct {
	net.Conn
	raw syscall.RawConn // nil: no writing without waiting

	mu      sync.Mutex // held while anything is written
	rest    []byte     // what tryWrite has left: it goes before all else
	hasRest atomic.Bool
}

func newSocket(nc net.Conn) *socket {
	s := &socket{Conn: nc}
	if c, ok := nc.(syscall.Conn); ok {
		s.raw, _ = c.SyscallConn() // it fails for a connection that is closed
	}
	return s
}

// Write writes what is left and then p. n counts p alone.
func (s *socket) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// tryWrite writes what the kernel takes of p at once, and keeps a copy of the rest for Write.
// It reports false, and has done nothing, where not even a byte can be written, or somebody is
// writing.
func (s *socket) tryWrite(p []byte) bool {
	if s.raw == nil || !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	if len(s.rest) > 0 {
		return false
	}
	n := 0
	// Errors are left to Write, which gets them too.
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
