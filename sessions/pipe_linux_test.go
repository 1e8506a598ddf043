package sessions

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const pipePatience = 10 * time.Second

// readFIFO reads a FIFO as those for a run's output are read, and opens it for writing.
func readFIFO(t *testing.T, sink func(n int)) (p *pipe, w int) {
	t.Helper()
	buffers := &sync.Pool{New: func() any { return new([readSize]byte) }}
	room := func() <-chan struct{} { return nil }
	p, err := openFIFO(filepath.Join(t.TempDir(), "f"), buffers, outlet{room: room, sink: func(b []byte) bool { sink(len(b)); return false }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	if w, err = openWriter(p.f.Name()); err != nil {
		t.Fatal(err)
	}
	return p, w
}

// A process of an earlier run that writes its last and ends at once: both are one event.
func TestPipeEndsWithItsLastWriter(t *testing.T) {
	t.Parallel()
	for range 300 {
		p, w := readFIFO(t, func(int) {})
		if p.retire() {
			t.Fatal("taken for one that nobody has open")
		}
		_, _ = unix.Write(w, []byte("bye\n"))
		unix.Close(w)
		select {
		case <-p.done:
		case <-time.After(pipePatience):
			t.Fatal("its end was not seen")
		}
	}
}

// What is written with O_DIRECT is read a packet at a time, and many of them are one event.
func TestPipeReadsPackets(t *testing.T) {
	t.Parallel()
	const size, packets = 100, 12
	got := make(chan int, packets)
	_, w := readFIFO(t, func(n int) { got <- n })
	defer unix.Close(w)
	if _, err := unix.FcntlInt(uintptr(w), unix.F_SETFL, unix.O_DIRECT); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for range packets {
			if _, err := unix.Write(w, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		for left := size * packets; left > 0; {
			select {
			case n := <-got:
				left -= n
			case <-time.After(pipePatience):
				t.Fatalf("%d bytes were not read", left)
			}
		}
	}
}
