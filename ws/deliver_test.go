package ws

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// A cord is a connection with a run of cat, both ends in the test's hands. Nothing but what the
// test feeds to cat is put out.
type cord struct {
	t       *testing.T
	h       *Handler
	s       *sessions.Session
	run     *sessions.Run
	c       *conn        // the server's end
	direct  atomic.Int64 // how often something was written by whoever read it
	deliver chan bool    // what each call of deliver returned, once watched

	addr string
	nc   net.Conn // the client's end
	r    *bufio.Reader
}

func newCord(t *testing.T) *cord {
	t.Helper()
	m := sessionstest.New(t, sessions.Config{StallTimeout: time.Minute})
	f := &cord{t: t, s: sessionstest.Session(t, m), deliver: make(chan bool, 10)}
	f.h = New(Config{Sessions: m, StallTimeout: time.Minute, Sent: func(int) {
		if bytes.Contains(debug.Stack(), []byte("sessions.(*pipe)")) {
			f.direct.Add(1)
		}
	}})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /session/{id}/ws", f.h.Attach)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		if err := f.h.Close(context.Background()); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	f.addr = strings.TrimPrefix(srv.URL, "http://")
	f.connect()
	f.h.mu.Lock()
	for c := range f.h.conns {
		f.c = c
	}
	f.h.mu.Unlock()
	f.run = sessionstest.Submit(t, f.s, sessions.RunRequest{Code: "cat", Stdin: sessions.OpenStdin})
	f.next(opText) // run.started
	return f
}

// watch has each call of deliver noted.
func (f *cord) watch() {
	f.c.reader.Deliver(func() bool {
		ok := f.c.deliver()
		f.deliver <- ok
		return ok
	})
}

// connect makes a new connection the client's.
func (f *cord) connect() {
	f.t.Helper()
	var err error
	if f.nc, err = net.Dial("tcp", f.addr); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { f.nc.Close() })
	_ = f.nc.(*net.TCPConn).SetReadBuffer(64 << 10)
	_ = f.nc.SetDeadline(time.Now().Add(sessionstest.Patience))
	fmt.Fprintf(f.nc, "GET /session/%s/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: tandem.v1\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", f.s.ID())
	f.r = bufio.NewReader(f.nc)
	if _, err := http.ReadResponse(f.r, nil); err != nil {
		f.t.Fatal(err)
	}
	f.next(opText) // attached
}

// feed gives cat something to say.
func (f *cord) feed(s string) {
	f.t.Helper()
	if err := f.run.WriteStdin(context.Background(), []byte(s)); err != nil {
		f.t.Fatal(err)
	}
}

// delivered waits for a call of deliver.
func (f *cord) delivered() bool {
	f.t.Helper()
	select {
	case ok := <-f.deliver:
		return ok
	case <-time.After(sessionstest.Patience):
		f.t.Fatal("deliver was not called")
		return false
	}
}

// next returns the payload of the next frame, which must be of this kind. Pongs may precede it.
func (f *cord) next(want byte) []byte {
	f.t.Helper()
	for {
		op, payload := f.frame()
		if op == opPong && want != opPong {
			continue
		}
		if op != want {
			f.t.Fatalf("frame of kind %x: %q", op, payload)
		}
		return payload
	}
}

func (f *cord) frame() (op byte, payload []byte) {
	f.t.Helper()
	var h [8]byte
	read := func(p []byte) {
		f.t.Helper()
		if _, err := io.ReadFull(f.r, p); err != nil {
			f.t.Fatal(err)
		}
	}
	read(h[:2])
	op = h[0]
	n := uint64(h[1])
	switch n {
	case 126:
		read(h[:2])
		n = uint64(binary.BigEndian.Uint16(h[:2]))
	case 127:
		read(h[:])
		n = binary.BigEndian.Uint64(h[:])
	}
	if n > 1<<20 {
		f.t.Fatalf("frame of kind %x with %d bytes", op, n)
	}
	payload = make([]byte, n)
	read(payload)
	return op, payload
}

// says reads the next output.
func (f *cord) says(want string) {
	f.t.Helper()
	const header = 1 + 8 + 4
	if p := f.next(opBinary); len(p) < header || string(p[header:]) != want {
		f.t.Errorf("output %q, not %q", p, want)
	}
}

// pongs are frames that mean nothing, at least size bytes of them.
func pongs(size int) (b []byte) {
	payload := bytes.Repeat([]byte("p"), 125)
	for len(b) < size {
		b = append(appendFrameHeader(b, opPong, len(payload)), payload...)
	}
	return b
}

// moreThanFits is more than the kernel takes for a client that does not read.
const moreThanFits = 12 << 20

func TestDeliverWrites(t *testing.T) {
	t.Parallel()
	f := newCord(t)
	for i := range 50 {
		f.feed(fmt.Sprint(i))
		f.says(fmt.Sprint(i))
	}
	if f.direct.Load() == 0 {
		t.Error("nothing was written where it was read")
	}
}

func TestDeliverWhileTheWriterWrites(t *testing.T) {
	t.Parallel()
	f := newCord(t)
	f.watch()
	f.c.writing.Lock()
	f.feed("x")
	took := f.delivered()
	f.c.writing.Unlock()
	if took {
		t.Error("written all the same")
	}
	f.says("x")
}

func TestDeliverToAFullSocket(t *testing.T) {
	t.Parallel()
	for _, piece := range []int{1, 1 << 20} { // full to the last frame, or in the middle of some
		f := newCord(t)
		f.watch()
		filler := pongs(piece)
		f.c.writing.Lock()
		for !f.c.nc.hasRest.Load() && f.c.nc.tryWrite(filler) {
		}
		f.c.writing.Unlock()
		f.feed("x")
		if f.delivered() {
			t.Error("written where nothing more can be")
		}
		f.says("x")
	}
}

func TestDeliverInPart(t *testing.T) {
	t.Parallel()
	f := newCord(t)
	sent := f.deliverInPart()
	signal(f.c.outbox.filled) // as whoever calls deliver makes the reader ready
	f.gets(sent)
	f.feed("x")
	f.says("x")
}

// deliverInPart has so many frames delivered that a part of them is left.
func (f *cord) deliverInPart() (sent []byte) {
	f.t.Helper()
	sent = pongs(moreThanFits)
	f.c.writing.Lock()
	f.c.out.buf = slices.Clone(sent)
	f.c.writing.Unlock()
	if f.c.deliver() || !f.c.nc.hasRest.Load() {
		f.t.Fatal("12 MB fit")
	}
	return sent
}

// gets reads exactly want.
func (f *cord) gets(want []byte) {
	f.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(f.r, got); err != nil || !bytes.Equal(got, want) {
		f.t.Fatalf("%d bytes of %d, the same: %v, %v", n, len(want), bytes.Equal(got, want), err)
	}
}

// A close frame is no part of another frame, and comes after all that was taken for written.
func TestCloseAmidADelivery(t *testing.T) {
	t.Parallel()
	f := newCord(t)
	sent := f.deliverInPart()
	f.c.cancel(errStopping)
	f.gets(sent) // soon: the library waits for 5 s
	if op, p := f.frame(); op != 0x88 || binary.BigEndian.Uint16(p) != uint16(websocket.StatusServiceRestart) {
		t.Errorf("closed with %x %q", op, p)
	}
}

// A client that says goodbye amid output gets the same back, and nothing more.
func TestNothingFollowsTheGoodbye(t *testing.T) {
	t.Parallel()
	f := newCord(t)
	if err := f.run.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	sessionstest.Submit(t, f.s, sessions.RunRequest{Code: "while :; do echo something; done"})
	for i := range 60 {
		if i > 0 {
			f.connect()
		}
		for range 3 {
			f.frame()
		}
		if _, err := f.nc.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 3, 0xe8}); err != nil {
			t.Fatal(err)
		}
		for op := byte(0); op != 0x88; {
			var p []byte
			if op, p = f.frame(); op == 0x88 && !bytes.Equal(p, []byte{3, 0xe8}) {
				t.Errorf("closed with %q", p)
			}
		}
		if rest, err := io.ReadAll(f.r); err != nil || len(rest) > 0 {
			t.Fatalf("after the goodbye came %.80q, %v", rest, err)
		}
	}
}

// Whoever comes back finds what came while the connection was broken, and nothing else keeps it.
func TestDeliverToABrokenConnection(t *testing.T) {
	t.Parallel()
	f := newCord(t)
	f.watch()
	_ = f.nc.(*net.TCPConn).SetLinger(0)
	f.nc.Close()
	sessionstest.Await(t, "the connection to be given up", func() bool {
		f.h.mu.Lock()
		defer f.h.mu.Unlock()
		return len(f.h.absent[f.s.ID()]) == 1
	})
	f.feed("x")
	if f.delivered() {
		t.Error("written to nobody")
	}
	entries, err := f.c.reader.Next(nil, 10)
	if err != nil || len(entries) != 1 || string(entries[0].Data) != "x" {
		t.Errorf("left in the journal are %+v, %v", entries, err)
	}
}

// A client that sleeps through output in small pieces gets every frame whole.
func TestSleeperGetsWholeFrames(t *testing.T) {
	t.Parallel()
	const pieces, size = 20000, 500
	f := newCord(t)
	if err := f.run.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	f.next(opText) // run.finished
	run := sessionstest.Submit(t, f.s, sessions.RunRequest{Code: fmt.Sprintf(`for ((i = 0; i < %d; i++)); do printf '%%0%dd' $i; done`, pieces, size)})
	f.next(opText) // run.started
	var end uint64
	sessionstest.Await(t, "the command to be held back", func() bool {
		before := end
		r, snap, err := f.s.Attach(sessions.AttachOptions{Viewer: true})
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		end = snap.End
		return end == before && end > 1<<20
	})
	var got []byte
	for len(got) < pieces*size {
		got = append(got, f.next(opBinary)[13:]...)
	}
	<-run.Done()
	for i := range pieces {
		if piece := got[i*size:][:size]; string(piece) != fmt.Sprintf("%0*d", size, i) {
			t.Fatalf("piece %d is %q", i, piece)
		}
	}
}
