package main

import (
	"bytes"
	"net"
	"time"
)

const (
	// bigBuffer is how much is read at once where one connection carries a flood.
	bigBuffer = 1 << 20

	// viewerBuffer is the same for one of many: together they should fit into a cache.
	viewerBuffer = 128 << 10

	// patience is how long a connection may be in use at all: nothing here takes that long.
	patience = 10 * time.Minute
)

// A wire is a connection and what was read from it ahead. What its methods return lies in
// its buffer and is good until the next call.
type wire struct {
	c    net.Conn
	buf  []byte
	r, w int // buf[r:w] was read ahead
}

func dial(addr string, buffer int) (*wire, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	return &wire{c: c, buf: make([]byte, buffer)}, nil
}

// fill reads more.
func (x *wire) fill() error {
	if x.r == x.w {
		x.r, x.w = 0, 0
	}
	if x.w == len(x.buf) {
		if x.r == 0 {
			x.buf = append(x.buf, make([]byte, len(x.buf))...)
		}
		x.w = copy(x.buf, x.buf[x.r:x.w])
		x.r = 0
	}
	n, err := x.c.Read(x.buf[x.w:])
	x.w += n
	if n > 0 {
		return nil
	}
	return err
}

// line returns the next line without its end.
func (x *wire) line() ([]byte, error) {
	seen := 0
	for {
		if i := indexNewline(x.buf[x.r+seen : x.w]); i >= 0 {
			line := x.buf[x.r : x.r+seen+i]
			x.r += seen + i + 1
			return bytes.TrimSuffix(line, []byte{'\r'}), nil
		}
		seen = x.w - x.r
		if err := x.fill(); err != nil {
			return nil, err
		}
	}
}

func indexNewline(p []byte) int { return bytes.IndexByte(p, '\n') }

// upTo returns between one and n bytes, whatever is there.
func (x *wire) upTo(n int) ([]byte, error) {
	if x.r == x.w {
		if err := x.fill(); err != nil {
			return nil, err
		}
	}
	p := x.buf[x.r:min(x.r+n, x.w)]
	x.r += len(p)
	return p, nil
}

// peek returns the next n bytes and leaves them there.
func (x *wire) peek(n int) ([]byte, error) {
	for x.w-x.r < n {
		if err := x.fill(); err != nil {
			return nil, err
		}
	}
	return x.buf[x.r : x.r+n], nil
}

// exactly returns the next n bytes.
func (x *wire) exactly(n int) ([]byte, error) {
	p, err := x.peek(n)
	if err == nil {
		x.r += n
	}
	return p, err
}
