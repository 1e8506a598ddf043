package sessions

import (
	"sync"
	"time"
)

// A Reader follows a session's journal from a position on. One goroutine at a time may
// call Next; Took, Leave and Close may be called from any.
type Reader struct {
	j         *journal
	lossless  bool
	lag       uint64 // see AttachOptions, as is unhurried
	unhurried bool
	start     uint64
	ready     chan struct{}
	onLeave   func()
	deliver   func() bool // see Deliver
	leave     sync.Once
	close     sync.Once

	// Guarded by j.mu.
	pos         uint64 // next to read
	taken       uint64 // everything below has reached the client
	progressPos uint64 // taken at progressAt
	progressAt  time.Time
	err         error
}

// Start is the position the reader began at.
func (r *Reader) Start() uint64 { return r.start }

// Ready returns a channel that receives whenever Next may have something new. A receive
// may be spurious. Call Next until it returns nothing before waiting again.
func (r *Reader) Ready() <-chan struct{} { return r.ready }

func (r *Reader) wake() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// Deliver has f called for output in place of making the reader ready, where that is sooner: the
// output is little, no other reader is there, and the caller is the goroutine that has read it
// from the command and must not wait. f takes it with Next and hands it on; where it cannot, it
// reports false, and the reader is made ready. It may be called when there is nothing, by two
// goroutines at a time, and a last time after Close. Deliver may be called once.
func (r *Reader) Deliver(f func() bool) {
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	r.deliver = f
}

// Next appends to dst what follows, at most limit positions of it, without blocking, and
// returns it; nothing more than dst means: wait for Ready. An output entry is cut where
// the limit falls. A position that retention has dropped makes a single Gap entry come
// first, which counts nothing against limit.
//
// It fails with [ErrStalled] once the reader was cut off, and with [ErrClosed] after the
// session's last entry has been returned.
func (r *Reader) Next(dst []Entry, limit int) ([]Entry, error) {
	j := r.j
	j.mu.Lock()
	if r.err != nil {
		j.mu.Unlock()
		return dst, r.err
	}
	if r.pos < j.oldest {
		from, to := r.pos, j.oldest
		r.pos = to
		j.mu.Unlock()
		j.observer.GapTold(to - from)
		info := &GapInfo{To: to}
		if j.gapInfo != nil {
			info = j.gapInfo(from, to)
		}
		return append(dst, Entry{Pos: from, Kind: Gap, Time: time.Now(), Gap: info}), nil
	}
	defer j.mu.Unlock()
	if r.pos == j.end && j.closed {
		return dst, failf(ErrClosed, "the session has ended")
	}
	was := r.pos
	dst = j.collectLocked(dst, &r.pos, limit)
	if r.pos == j.end {
		r.progressPos, r.progressAt = r.taken, time.Now() // not behind: the stall limit begins anew
	}
	if r.lossless && j.waiting > 0 && r.pos != was && !j.fullLocked() {
		j.releaseLocked()
	}
	return dst, nil
}

// Took says that everything below pos has reached the client. It counts only for telling
// a slow reader from one that stopped reading.
func (r *Reader) Took(pos uint64) {
	r.j.mu.Lock()
	defer r.j.mu.Unlock()
	r.taken = max(r.taken, min(pos, r.pos))
}

// Close ends the reader; whatever it held back goes on. It may be called more than once.
func (r *Reader) Close() {
	r.close.Do(func() {
		r.j.mu.Lock()
		delete(r.j.readers, r)
		r.j.releaseLocked()
		r.j.mu.Unlock()
	})
	r.Leave()
}

// Leave says that nobody is at the reader any more: it is no client of the session, but still
// holds commands back until Close. It may be called more than once.
func (r *Reader) Leave() {
	r.leave.Do(func() {
		if r.onLeave != nil {
			r.onLeave()
		}
	})
}

// attach adds a reader as o wants it whose first position at picks, within the lock, so that
// whatever at looks at belongs to the same moment.
func (j *journal) attach(o AttachOptions, at func(oldest, end uint64) (uint64, error)) (*Reader, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	pos, err := at(j.oldest, j.end)
	if err != nil {
		return nil, err
	}
	r := &Reader{j: j, lossless: !o.Viewer, lag: o.Lag, unhurried: o.Unhurried, pos: pos, start: pos, taken: pos, ready: make(chan struct{}, 1)}
	r.progressAt = time.Now()
	r.progressPos = pos
	j.readers[r] = struct{}{}
	r.wake()
	return r, nil
}

// cutStalled ends the readers that took less than stallBytes during limit while they were
// behind all along. It is to be called every so often.
func (j *journal) cutStalled(now time.Time, limit time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for r := range j.readers {
		if r.err != nil {
			continue
		}
		behind := r.pos < j.end
		if !behind || r.taken-r.progressPos >= stallBytes {
			r.progressPos, r.progressAt = r.taken, now
			continue
		}
		if now.Sub(r.progressAt) >= limit {
			r.err = failf(ErrStalled, "the reader took less than %d bytes in %v while it was behind: reconnect from position %d", stallBytes, limit, r.taken)
			j.observer.ReaderStalled()
			r.wake()
			j.releaseLocked()
		}
	}
}

// stallBytes is what a reader that is behind must take within the stall limit.
const stallBytes = 64 << 10
