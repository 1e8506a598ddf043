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
	buffers *sync.Pool // of *[readSize]byte
	outlet
	stop chan struct{}
	done chan struct{} // the goroutine has returned and the file is closed
	once sync.Once

	mu     sync.Mutex
	widest int  // how large it may become for a flood; 0: it stays as it is
	wide   bool // it has become that
	writer int  // the writing end that we keep open ourselves, or noFile
	late   bool // the next EOF is the end: nobody will open the FIFO again
}

// An outlet is where what is read from a pipe goes. Only a run's output can be held back.
type outlet struct {
	sink    func(b []byte) (kept bool) // called under pipe.mu; kept: the buffer is the sink's now
	room    func() <-chan struct{}     // nil: reading is never held back
	deliver func(prompt bool)          // called after sink, without a lock; prompt: by the pipe's own goroutine
}

// noFile stands for a file that is not there.
const noFile = -1

// newPipe takes over fd, which must be non-blocking, and the other end where there is one,
// and starts reading.
func newPipe(fd, writer int, name string, buffers *sync.Pool, to outlet) (*pipe, error) {
	f := os.NewFile(uintptr(fd), name)
	p := &pipe{f: f, buffers: buffers, outlet: to, stop: make(chan struct{}), done: make(chan struct{}), writer: writer}
	var err error
	if p.rc, err = f.SyscallConn(); err != nil {
		p.letGoLocked()
		f.Close()
		return nil, err
	}
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
		if n > 0 && p.deliver != nil {
			p.deliver(true)
		}
		switch {
		case err == unix.EAGAIN:
			return false
		case err != nil:
			return true
		case n == 0:
			return late
		case n < readSize && p.room == nil:
			return false // it is empty: bash writes no packets, and its end is told otherwise
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
	if n == readSize && !p.wide && p.widest > readSize {
		p.wide = true
		setPipeSize(fd, p.widest)
	}
	if n > 0 && p.sink(buf[:n]) {
		return n, err
	}
	p.buffers.Put(buf)
	return n, err
}

// drain hands on all that the pipe holds now, waiting for nobody.
func (p *pipe) drain() {
	defer p.delivered()
	_ = p.rc.Control(func(fd uintptr) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.readHeldLocked(int(fd))
		if p.wide {
			p.wide = false
			setPipeSize(int(fd), readSize)
		}
	})
}

// readHeldLocked reads what the pipe held when it began.
func (p *pipe) readHeldLocked(fd int) {
	for left := pipeHolds(fd); left > 0; {
		n, err := p.readOnceLocked(fd)
		if err != nil || n == 0 {
			return
		}
		left -= n
	}
}

// retire drains a FIFO that the next run will use again if it can. Where some process still
// holds it, it is left to read the rest by itself until that process is gone, and must not
// be used again.
func (p *pipe) retire() (reusable bool) {
	return !p.ended() && !p.probe(func(held bool) { p.late = held })
}

// held reports whether some process has the FIFO open, but for our own hold on it.
func (p *pipe) held() bool { return p.probe(func(bool) {}) }

// probe drains a FIFO and finds out whether some process has it open. then is called within
// the lock, so that an EOF comes either before it or after; if the pipe is late after that,
// the writing end stays closed.
func (p *pipe) probe(then func(held bool)) (held bool) {
	defer p.delivered()
	_ = p.rc.Control(func(fd uintptr) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.readHeldLocked(int(fd))
		p.letGoLocked()
		n, err := p.readOnceLocked(int(fd))
		held = err != nil || n > 0
		then(held)
		p.holdLocked()
	})
	return held
}

// wideSize is how large a pipe becomes, at most, that was found full. A command that fills it
// faster than it is read then stops and goes on eight times less often. Pipes are not made so
// wide from the start, since the kernel lets a user have only so much of that (pipe(7),
// pipe-user-pages-soft).
const wideSize = 512 << 10

// letWiden allows a pipe to become as large as limit, and no larger than wideSize.
func (p *pipe) letWiden(limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.widest = min(limit, wideSize)
}

// delivered is called where other goroutines have handed bytes on.
func (p *pipe) delivered() {
	if p.deliver != nil {
		p.deliver(false)
	}
}

// hold opens our own writing end of a FIFO, if it is not open; letGo closes it.
func (p *pipe) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holdLocked()
}

func (p *pipe) letGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.letGoLocked()
}

// holdLocked does not wait: the reader is there. Where it fails, the pipe only wakes us more
// often than it need.
func (p *pipe) holdLocked() {
	if p.writer != noFile || p.late {
		return
	}
	if w, err := openWriter(p.f.Name()); err == nil {
		p.writer = w
	}
}

// letGoLocked closes our own writing end.
func (p *pipe) letGoLocked() {
	if p.writer != noFile {
		unix.Close(p.writer)
		p.writer = noFile
	}
}

// pipeHolds is how many bytes wait in a pipe, whichever end fd is.
func pipeHolds(fd int) int {
	n, err := unix.IoctlGetInt(fd, fionread)
	if err != nil {
		return 0
	}
	return n
}

// linked reports whether the FIFO still has a name.
func (p *pipe) linked() (ok bool) {
	_ = p.rc.Control(func(fd uintptr) {
		var st unix.Stat_t
		ok = unix.Fstat(int(fd), &st) == nil && st.Nlink > 0
	})
	return ok
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
		p.mu.Lock()
		p.letGoLocked()
		p.mu.Unlock()
	})
	<-p.done
}
