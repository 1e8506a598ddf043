package sessions

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A pipe is the reading end of a pipe or FIFO, and the goroutine that reads it. Bytes are
// read and handed on under one lock, so that drain, called from elsewhere, never finds a
// byte that is in nobody's hands.
type pipe struct {
	f       *os.File
	rc      syscall.RawConn
	buffers *sync.Pool                 // of *[readSize]byte
	sink    func(b []byte) (kept bool) // called under mu; kept: the buffer is the sink's now
	room    func() <-chan struct{}     // nil: the writer is never held back
	stop    chan struct{}
	done    chan struct{} // the goroutine has returned and the file is closed
	once    sync.Once

	mu   sync.Mutex
	late bool // the next EOF is the end: nobody will open the FIFO again
}

// newPipe takes over fd, which must be non-blocking, and starts reading.
func newPipe(fd int, name string, buffers *sync.Pool, room func() <-chan struct{}, sink func([]byte) bool) (*pipe, error) {
	f := os.NewFile(uintptr(fd), name)
	rc, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	p := &pipe{f: f, rc: rc, buffers: buffers, sink: sink, room: room, stop: make(chan struct{}), done: make(chan struct{})}
	go p.loop()
	return p, nil
}

func (p *pipe) loop() {
	defer close(p.done)
	defer p.f.Close()
	_ = p.rc.Read(p.pump)
}

// pump reads until the pipe is empty (false: wait for more) or has ended (true).
func (p *pipe) pump(fd uintptr) (ended bool) {
	for {
		if !p.waitRoom() {
			return true
		}
		p.mu.Lock()
		n, err := p.readOnceLocked(int(fd))
		late := p.late
		p.mu.Unlock()
		switch {
		case err == unix.EAGAIN:
			return false
		case err != nil:
			return true
		case n == 0:
			return late
		}
	}
}

func (p *pipe) waitRoom() bool {
	for {
		select {
		case <-p.stop:
			return false
		default:
		}
		if p.room == nil {
			return true
		}
		wait := p.room()
		if wait == nil {
			return true
		}
		select {
		case <-wait:
		case <-p.stop:
			return false
		}
	}
}

func (p *pipe) readOnceLocked(fd int) (int, error) {
	buf := p.buffers.Get().(*[readSize]byte)
	n, err := unix.Read(fd, buf[:])
	for err == unix.EINTR {
		n, err = unix.Read(fd, buf[:])
	}
	if n > 0 && p.sink(buf[:n]) {
		return n, err
	}
	p.buffers.Put(buf)
	return n, err
}

// drain hands on all that the pipe holds now, waiting for nobody, and reports whether
// nothing can come any more: no process has the other end open.
func (p *pipe) drain() (eof bool) { return p.drainThen(func(bool) {}) }

// retire is drain for a FIFO that the next run will use again if it can. Where some
// process still holds it, it is left to read the rest by itself until that process is
// gone, and must not be used again.
func (p *pipe) retire() (reusable bool) {
	if p.ended() {
		return false
	}
	return p.drainThen(func(eof bool) { p.late = !eof })
}

// drainThen calls then within the lock, so that an EOF comes either before it or after.
func (p *pipe) drainThen(then func(eof bool)) (eof bool) {
	err := p.rc.Control(func(fd uintptr) {
		p.mu.Lock()
		defer p.mu.Unlock()
		eof = p.readAllLocked(int(fd))
		then(eof)
	})
	return eof || err != nil
}

// readAllLocked reads what the pipe held when it began, and a little more to learn whether
// it has ended.
func (p *pipe) readAllLocked(fd int) (eof bool) {
	left := pipeHolds(fd)
	for left >= 0 {
		n, err := p.readOnceLocked(fd)
		if err != nil || n == 0 {
			return err != unix.EAGAIN
		}
		left -= n
	}
	return false
}

// pipeHolds is how many bytes wait in a pipe, whichever end fd is.
func pipeHolds(fd int) int {
	n, err := unix.IoctlGetInt(fd, fionread)
	if err != nil {
		return 0
	}
	return n
}

// ended reports whether the pipe has been read to its end.
func (p *pipe) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// close stops reading, without reading what is left, and waits for the goroutine.
func (p *pipe) close() {
	p.once.Do(func() {
		close(p.stop)
		p.f.Close()
	})
	<-p.done
}
