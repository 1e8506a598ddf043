package main

import (
	"container/list"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A crowd is a listener that keeps the number of connections bounded, so that descriptors
// are left for sessions. At the limit a new connection takes the place of the one that has
// been silent for the longest: that has sent no request yet, or none since the last. Only
// where all are at work is the new one closed.
type crowd struct {
	net.Listener
	most int
	log  *slog.Logger

	mu      sync.Mutex
	silent  *list.List // of *member, the longest silent first
	members int
	told    time.Time // when it was last logged that there are too many
}

type member struct {
	net.Conn
	crowd  *crowd
	place  *list.Element // in silent; nil: at work
	closed bool
}

func newCrowd(ln net.Listener, most int, log *slog.Logger) *crowd {
	if most == 0 {
		most = defaultConnections()
	}
	return &crowd{Listener: ln, most: most, log: log, silent: list.New()}
}

// defaultConnections is a quarter of the descriptors this process may have: a session needs
// some ten of the others.
func defaultConnections() int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 256
	}
	return int(min(max(lim.Cur/4, 16), 1<<20))
}

// Accept returns the next connection that there is room for.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		nc, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if m := c.join(nc); m != nil {
			boundUnsent(nc)
			return m, nil
		}
		turnAway(nc)
	}
}

// unsentLimit is how much of what was written to a connection the kernel holds that it has
// not sent yet. Left alone it holds megabytes, all of which a cut takes away: with what the
// other side holds it can be more than a journal has of what was read from it.
const unsentLimit = 128 << 10

// boundUnsent sets it for a connection, which does not take it over from its listener. Where
// it cannot be set that is no harm.
func boundUnsent(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
		})
	}
}

// turnAway says why, which fits into what the kernel takes without waiting for the client,
// and closes the connection. Where TLS is spoken it is not understood, and no harm.
func turnAway(nc net.Conn) {
	const body = `{"code":"TOO_MANY","message":"there are as many connections as --max-connections allows, and none is silent: try again later"}` + "\n"
	_ = nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = fmt.Fprintf(nc, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	_ = nc.Close()
}

// join returns nil where there is no room.
func (c *crowd) join(nc net.Conn) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members >= c.most {
		if now := time.Now(); now.Sub(c.told) > time.Minute {
			c.told = now
			c.log.Warn("too many connections: closing silent ones", "limit", c.most)
		}
		oldest := c.silent.Front()
		if oldest == nil {
			return nil
		}
		m := oldest.Value.(*member)
		c.leaveLocked(m)
		_ = m.Conn.Close()
	}
	m := &member{Conn: nc, crowd: c}
	m.place = c.silent.PushBack(m)
	c.members++
	return m
}

// count is how many connections there are.
func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members
}

func (c *crowd) leaveLocked(m *member) {
	if m.closed {
		return
	}
	m.closed = true
	c.members--
	if m.place != nil {
		c.silent.Remove(m.place)
		m.place = nil
	}
}

// note is the server's ConnState: it tells who is silent.
func (c *crowd) note(nc net.Conn, state http.ConnState) {
	if outer, ok := nc.(interface{ NetConn() net.Conn }); ok {
		if _, ours := nc.(*member); !ours { // TLS
			nc = outer.NetConn()
		}
	}
	m, ok := nc.(*member)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case m.closed:
	case state == http.StateIdle && m.place == nil:
		m.place = c.silent.PushBack(m)
	case (state == http.StateActive || state == http.StateHijacked) && m.place != nil:
		c.silent.Remove(m.place)
		m.place = nil
	}
}

// Close closes the connection and makes room for another.
func (m *member) Close() error {
	m.crowd.mu.Lock()
	m.crowd.leaveLocked(m)
	m.crowd.mu.Unlock()
	return m.Conn.Close()
}

// NetConn is the connection itself, for who wants to tune it.
func (m *member) NetConn() net.Conn { return m.Conn }

// SyscallConn is for who wants to write without waiting.
func (m *member) SyscallConn() (syscall.RawConn, error) {
	if c, ok := m.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
