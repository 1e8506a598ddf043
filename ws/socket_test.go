package ws

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// connected is the two ends of a connection through the kernel.
func connected(t *testing.T) (near *socket, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if far, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return newSocket(nc), far
}

// What could be written only in part is followed by its rest, whoever writes next, and nothing
// is written twice.
func TestSocketKeepsOrder(t *testing.T) {
	t.Parallel()
	s, far := connected(t)
	var want []byte
	piece := make([]byte, 300_001)
	for i := 0; !s.hasRest.Load(); i++ {
		for k := range piece {
			piece[k] = byte(i + k)
		}
		if !s.tryWrite(piece) {
			if i == 0 {
				t.Fatal("nothing can be written")
			}
			// Full to the last byte: room for less than a piece.
			got := make([]byte, 1000)
			if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want[:1000]) {
				t.Fatalf("read %v", err)
			}
			want = want[1000:]
			continue
		}
		want = append(want, piece...)
	}
	if s.tryWrite([]byte("sooner than the rest")) {
		t.Error("written before the rest")
	}
	wrote := make(chan error, 1)
	go func() { wrote <- s.writeFrames([]byte("end")) }()
	want = append(want, "end"...)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil || !bytes.Equal(got, want) || s.hasRest.Load() {
		t.Errorf("write: %v; the same: %v; a rest: %v", err, bytes.Equal(got, want), s.hasRest.Load())
	}
	if !s.tryWrite([]byte("on")) {
		t.Error("nothing can be written any more")
	}
	if _, err := s.Write([]byte("goodbye")); err != nil {
		t.Error(err)
	}
	if s.tryWrite([]byte("x")) || s.writeFrames([]byte("x")) == nil {
		t.Error("written after the goodbye")
	}
}

// Where somebody's write waits for the peer, nobody else does.
func TestSocketTriesOnly(t *testing.T) {
	t.Parallel()
	s, _ := connected(t)
	wrote := make(chan error, 1)
	go func() { wrote <- s.writeFrames(make([]byte, 64<<20)) }()
	for s.mu.TryLock() {
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	if s.tryWrite([]byte("x")) {
		t.Error("written amid another")
	}
	s.Conn.Close()
	if err := <-wrote; err == nil {
		t.Error("64 MB were written to nobody")
	}
	if s.tryWrite([]byte("x")) {
		t.Error("written to what is closed")
	}
	// TLS, say, whose bytes are not ours to write.
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if newSocket(a).tryWrite([]byte("x")) {
		t.Error("written without a way to")
	}
}
