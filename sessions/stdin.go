package sessions

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

var errStdinClosed = errors.New("stdin closed")

// A stdin is the bounded queue between those who write a run's input and the FIFO the run
// reads. Writers may start before the run does. One goroutine, owned by the session's,
// moves bytes from the queue to the FIFO while the run is on; what the FIFO has room for when
// nothing is queued, a writer puts there itself, so that a keystroke takes no detour.
type stdin struct {
	filled   chan struct{} // something for the goroutine
	observer Observer

	mu      sync.Mutex
	queue   []byte
	taken   uint64
	fifo    int           // the FIFO, which does not block; or noFile
	eof     bool          // nothing more will be written
	ended   bool          // the run is over
	changed chan struct{} // closed and replaced when any of this has changed
}

func newStdin(text []byte, eof bool, o Observer) *stdin {
	return &stdin{observer: o, queue: text, eof: eof, fifo: noFile, filled: make(chan struct{}, 1), changed: make(chan struct{})}
}

func (in *stdin) signalLocked() {
	close(in.changed)
	in.changed = make(chan struct{})
}

// callLocked has the goroutine look at what there is for it.
func (in *stdin) callLocked() {
	select {
	case in.filled <- struct{}{}:
	default:
	}
}

// use says where writers may write to, which must stay open until it is called again.
func (in *stdin) use(fifo int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.fifo = fifo
}

func (in *stdin) isOpen() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.eof && !in.ended
}

func (in *stdin) progress() (uint64, <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		c := make(chan struct{})
		close(c)
		return in.taken, c
	}
	return in.taken, in.changed
}

// A piece is bytes for a stdin.
type piece struct {
	bytes []byte
	at    uint64 // how many bytes of the stdin come before it, where that is known
	known bool
}

// drop takes the first n bytes away.
func (p *piece) drop(n int) { p.bytes, p.at = p.bytes[n:], p.at+uint64(n) }

func (in *stdin) write(ctx context.Context, p piece) error {
	for {
		in.mu.Lock()
		err := in.addLocked(&p)
		changed := in.changed
		in.mu.Unlock()
		if err != nil || len(p.bytes) == 0 {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// addLocked takes of p what there is room for. Of a piece whose place is known it leaves out
// what is there already: who lost a connection sends again what may not have arrived, and
// the connection it was sent on before may bring it yet.
func (in *stdin) addLocked(p *piece) error {
	if in.ended {
		return errStdinClosed
	}
	if p.known {
		there := in.taken + uint64(len(in.queue))
		if p.at > there {
			return failf(ErrInvalid, "offset %d is beyond the %d bytes of input that have arrived: send what comes before it first", p.at, there)
		}
		if p.drop(int(min(there-p.at, uint64(len(p.bytes))))); len(p.bytes) == 0 {
			return nil
		}
	}
	if in.eof {
		return errStdinClosed
	}
	if n := in.putLocked(p.bytes); n > 0 {
		p.drop(n)
		in.signalLocked()
	}
	return nil
}

// putLocked takes what there is room for.
func (in *stdin) putLocked(p []byte) (n int) {
	if len(p) > 0 && len(in.queue) == 0 && in.fifo != noFile {
		// Errors are left to the goroutine, which gets them too.
		n, _ = unix.Write(in.fifo, p)
		n = max(n, 0)
		in.takenLocked(n)
	}
	if more := min(len(p)-n, StdinWindow-len(in.queue)); more > 0 {
		in.queue = append(in.queue, p[n:n+more]...)
		n += more
		in.callLocked()
	}
	return n
}

// closeWrite reports whether the stdin was open until now.
func (in *stdin) closeWrite() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.eof || in.ended {
		return false
	}
	in.eof = true
	in.signalLocked()
	in.callLocked()
	return true
}

// end drops what was not taken and fails every writer from now on.
func (in *stdin) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.ended {
		in.ended, in.queue = true, nil
		in.signalLocked()
		in.callLocked()
	}
}

// next waits for bytes to hand on; ok is false at EOF, once the run has ended, or when quit
// is closed. The bytes stay in the queue until took.
func (in *stdin) next(quit <-chan struct{}) (p []byte, ok bool) {
	for {
		in.mu.Lock()
		if in.ended || len(in.queue) == 0 && in.eof {
			in.mu.Unlock()
			return nil, false
		}
		if len(in.queue) > 0 {
			p = in.queue[:min(len(in.queue), readSize)]
			in.mu.Unlock()
			return p, true
		}
		in.mu.Unlock()
		select {
		case <-in.filled:
		case <-quit:
			return nil, false
		}
	}
}

// takenLocked counts what the FIFO has taken.
func (in *stdin) takenLocked(n int) {
	in.taken += uint64(n)
	in.observer.InputTaken(n)
}

func (in *stdin) took(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.takenLocked(n)
	if in.ended {
		return
	}
	if in.queue = in.queue[n:]; len(in.queue) == 0 {
		in.queue = nil
	}
	in.signalLocked()
}

// A stdinPump feeds one FIFO from a stdin until EOF, until nobody reads it any more, or
// until stop.
type stdinPump struct {
	path string
	in   *stdin
	quit chan struct{}
	done chan struct{}

	mu     sync.Mutex
	f      *os.File // once the run has opened its end
	closed bool
}

func startStdinPump(path string, in *stdin) *stdinPump {
	p := &stdinPump{path: path, in: in, quit: make(chan struct{}), done: make(chan struct{})}
	go p.loop()
	return p
}

// loop opens the FIFO for writing, which blocks until the run has opened it for reading:
// so an EOF can never come before there is somebody to see it.
func (p *stdinPump) loop() {
	defer close(p.done)
	fd, err := openRetry(p.path, unix.O_WRONLY|unix.O_CLOEXEC)
	if err != nil {
		return
	}
	_ = unix.SetNonblock(fd, true)
	f := os.NewFile(uintptr(fd), p.path)
	defer f.Close()
	p.mu.Lock()
	p.f = f
	closed := p.closed
	if !closed {
		p.in.use(fd)
	}
	p.mu.Unlock()
	if closed {
		return
	}
	defer p.in.use(noFile)
	for {
		b, ok := p.in.next(p.quit)
		if !ok {
			return
		}
		n, err := f.Write(b)
		p.in.took(n)
		if errors.Is(err, syscall.EPIPE) {
			p.in.end() // nobody reads it any more
		}
		if err != nil {
			return
		}
	}
}

// stop ends the pump, wherever it is, waits for it and removes the FIFO. What was not taken
// stays in the stdin.
func (p *stdinPump) stop() {
	if p == nil {
		return
	}
	defer os.Remove(p.path)
	close(p.quit)
	p.mu.Lock()
	p.closed = true
	opened := p.f != nil
	if opened {
		p.in.use(noFile)
		p.f.Close() // ends a blocked write
	}
	p.mu.Unlock()
	if !opened {
		// A reader of our own ends an open that the run never answered. Should the FIFO
		// have been deleted meanwhile, nothing can end it, and it is not waited for.
		fd, err := openRetry(p.path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC)
		if err != nil {
			return
		}
		defer unix.Close(fd)
	}
	<-p.done
}

func openRetry(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags, 0)
		if err != syscall.EINTR {
			return fd, err
		}
	}
}
