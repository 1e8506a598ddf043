package sessions

import (
	"math"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// A Kind says what a journal entry is.
type Kind uint8

// The kinds of entry. A Gap is never stored: a reader is handed one where retention has
// dropped what it would have read next.
const (
	Stdout Kind = 1 + iota
	Stderr
	Terminal
	RunStarted
	RunFinished
	ShellRestarted
	SessionClosed
	Gap
)

// Output reports whether entries of this kind carry bytes of a command.
func (k Kind) Output() bool { return k <= Terminal }

// An Entry is one thing that happened in a session: a stretch of output, which takes one
// position per byte, or an event, which takes one. Readers share an entry's memory:
// nothing in it may be changed.
type Entry struct {
	Pos  uint64    // of the first byte, or of the event; of a Gap, the first position gone
	Kind Kind      //
	Time time.Time // when it was recorded; of output, when its beginning was, to 5 ms the same for all of it

	Run  uint64 // output: number of the run that started the process that wrote it; 0: none
	Data []byte // output: the bytes, never empty

	Info    *RunInfo    // RunStarted, RunFinished
	Restart *Restart    // ShellRestarted
	Closed  CloseReason // SessionClosed
	Gap     *GapInfo    // Gap
}

// A Restart is what a ShellRestarted entry tells.
type Restart struct {
	Cause    RestartCause
	Restored Restored
}

// A GapInfo is what a Gap entry tells: the positions from its Pos up to To are gone.
type GapInfo struct {
	To       uint64
	Running  *RunInfo  // the run that was on at To, if one was
	Finished []RunInfo // ends of runs inside the gap, as far as they are remembered
}

// End is the position after the entry.
func (e Entry) End() uint64 {
	switch {
	case e.Kind == Gap:
		return e.Gap.To
	case e.Kind.Output():
		return e.Pos + uint64(len(e.Data))
	}
	return e.Pos + 1
}

// cost is what the entry counts against retention, in bytes. A buffer counts as a whole,
// however little of it is filled.
func (e Entry) cost() int64 {
	n := entryCost + cap(e.Data)
	if e.Info != nil {
		n += infoCost + len(e.Info.Code) + len(e.Info.Cwd) + len(e.Info.ID) + len(e.Info.Detail)
	}
	return int64(n)
}

const (
	// entryCost is what an entry counts against retention beside its bytes, so that a
	// flood of tiny writes is bounded in memory too.
	entryCost = 112

	// infoCost is what a RunInfo costs beside its strings.
	infoCost = 320

	// joinWithin is for how long what is written becomes part of the same entry, which has
	// the time of its beginning: an entry's time is exact to this for every byte of it.
	joinWithin = 5 * time.Millisecond

	// directOutput is how much output is handed to a reader by whoever has read it, at most: what
	// people and prompts say. The blocks that programs write when they are not on a terminal are
	// larger, and two goroutines get further with them.
	directOutput = 1 << 10

	// blockSize is the size of the blocks that small writes are gathered in.
	blockSize = 32 << 10

	// readSize is how much is read from a pipe at once: the capacity of a Linux pipe. A
	// read that fills at least half of it stays in the buffer it was read into.
	readSize = 64 << 10
)

// A journal is the bounded, ordered record of a session. One lock makes "what is there"
// and "tell me what comes" a single step, so no reader can miss or repeat a position.
//
// Writers append; readers pull. A lossless reader that is behind makes room() block the
// goroutines that read from pipes, and so the command, through its pipe; it is never
// waited for anywhere else. What retention drops below a reader is told to it as a Gap.
type journal struct {
	retention int                            // bytes kept, each entry counted with entryCost
	budget    *budget                        // of all journals
	gapInfo   func(from, to uint64) *GapInfo // fills a Gap, called without the lock
	observer  Observer
	owed      atomic.Pointer[Reader] // to be seen to by deliver

	mu      sync.Mutex
	entries []keptEntry // entries[head:] are kept, in order
	head    int
	total   int64  // cost of all entries there ever were
	counted int64  // what the budget has been told is kept
	oldest  uint64 // first position kept
	end     uint64 // position after the last entry
	closed  bool   // a SessionClosed entry was appended: nothing follows
	readers map[*Reader]struct{}
	block   []byte         // small writes are gathered here; len is what is used
	drained chan struct{}  // closed and replaced when a lossless reader moves on or leaves
	waiting int            // goroutines waiting on drained
	run     uint64         // number of the last run that started
	wrote   [Stderr]uint64 // bytes of its output, by stream
}

// A keptEntry knows what all entries before it cost, so that what lies between any two
// positions, which is what memory is measured in, is one subtraction.
type keptEntry struct {
	Entry
	before int64
}

func newJournal(retention int, b *budget) *journal {
	if b != nil {
		b.journals.Add(1)
	}
	return &journal{retention: retention, budget: b, observer: unobserved{}, readers: map[*Reader]struct{}{}, drained: make(chan struct{})}
}

// write appends output. Where it takes over buf's memory it returns true, and the caller
// must not touch buf again; otherwise the bytes have been copied. Call deliver next, or add.
func (j *journal) write(kind Kind, run uint64, buf []byte) (kept bool) {
	if len(buf) == 0 {
		return false
	}
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	j.observer.OutputRead(kind, len(buf))
	if run == j.run && kind <= Stderr {
		j.wrote[kind-1] += uint64(len(buf))
	}
	if kept = len(buf) >= readSize/2; kept {
		j.appendLocked(Entry{Kind: kind, Run: run, Data: buf, Time: now})
		return true
	}
	for len(buf) > 0 {
		if len(j.block) == cap(j.block) {
			j.block = make([]byte, 0, max(len(buf), j.nextBlockLocked()))
		}
		n := min(len(buf), cap(j.block)-len(j.block))
		start := len(j.block)
		j.block = append(j.block, buf[:n]...)
		j.appendOrExtendLocked(kind, run, j.block[start:start+n:start+n], now)
		buf = buf[n:]
	}
	return false
}

// nextBlockLocked sizes the next block: an idle session's journal stays small.
func (j *journal) nextBlockLocked() int {
	return min(max(1<<10, 2*cap(j.block)), blockSize)
}

// appendOrExtendLocked records data, which lies at the end of the current block, joining
// it to the last entry where that is the same stream's and lies right before it.
func (j *journal) appendOrExtendLocked(kind Kind, run uint64, data []byte, now time.Time) {
	if n := len(j.entries); n > j.head {
		last := &j.entries[n-1]
		adjacent := last.Kind == kind && last.Run == run && now.Sub(last.Time) < joinWithin && len(j.block)-len(data) >= len(last.Data) &&
			&last.Data[0] == &j.block[len(j.block)-len(data)-len(last.Data)]
		if adjacent {
			start := len(j.block) - len(data) - len(last.Data)
			last.Data = j.block[start:len(j.block):len(j.block)]
			j.total += int64(len(data))
			j.end += uint64(len(data))
			j.evictLocked()
			j.notifyLocked(last.Entry)
			return
		}
	}
	j.appendLocked(Entry{Kind: kind, Run: run, Data: data, Time: now})
}

// add appends an event, letting fill see its position, and returns the entry. After the
// end of the session it does nothing.
func (j *journal) add(e Entry, fill func(pos uint64)) Entry {
	e.Time = time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return e
	}
	if fill != nil {
		fill(j.end)
	}
	e = j.appendLocked(e)
	if e.Kind == RunStarted {
		j.run, j.wrote = e.Info.Number, [Stderr]uint64{}
	}
	if e.Kind == SessionClosed {
		j.closed = true
		j.releaseLocked()
	}
	return e
}

func (j *journal) appendLocked(e Entry) Entry {
	e.Pos = j.end
	j.entries = append(j.entries, keptEntry{e, j.total})
	j.end = e.End()
	j.total += e.cost()
	j.evictLocked()
	j.notifyLocked(e)
	return e
}

// evictLocked drops the oldest entries until the rest fits, always keeping the last. Where
// it is the budget that asks for more than the retention does, what a lossless reader has
// not read yet is spared: nothing is added to that until it has caught up.
func (j *journal) evictLocked() {
	j.evictToLocked(j.retention, j.end)
	if allowed := j.budget.allowance(j.retention); allowed < j.retention {
		j.evictToLocked(allowed, j.slowestLocked())
	}
	j.countLocked()
}

// evictToLocked drops entries that lie before spare until the rest costs at most limit.
func (j *journal) evictToLocked(limit int, spare uint64) {
	for len(j.entries)-j.head > 1 && j.keptLocked() > int64(limit) && j.entries[j.head].End() <= spare {
		e := &j.entries[j.head]
		j.oldest = e.End()
		*e = keptEntry{}
		j.head++
	}
	if j.head > 64 && j.head > len(j.entries)/2 {
		n := copy(j.entries, j.entries[j.head:])
		clear(j.entries[n:])
		j.entries, j.head = j.entries[:n], 0
	}
}

// keptLocked is what the entries that are kept cost.
func (j *journal) keptLocked() int64 {
	if j.head == len(j.entries) {
		return 0
	}
	return j.total - j.entries[j.head].before
}

// countLocked tells the budget what has changed.
func (j *journal) countLocked() {
	if j.budget != nil {
		kept := j.keptLocked()
		j.budget.used.Add(kept - j.counted)
		j.counted = kept
	}
}

// trim cuts a journal that is not written to back to what it may keep.
func (j *journal) trim() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.evictLocked()
}

// leaveBudget ends what the journal has to do with the budget. Nothing may be written to it
// any more; what it holds is left to the readers that are still at it.
func (j *journal) leaveBudget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.budget != nil {
		j.budget.used.Add(-j.counted)
		j.budget.journals.Add(-1)
		j.budget = nil
	}
}

// notifyLocked wakes the readers for an entry that was added, or made longer.
func (j *journal) notifyLocked(e Entry) {
	for r := range j.readers {
		if r.unhurried && e.Kind == RunStarted && r.pos == e.Pos {
			r.pos = e.End() // passed over: it is not behind
			continue
		}
		if r.deliver != nil && e.Kind.Output() && len(j.readers) == 1 && j.end-r.pos <= directOutput {
			j.owed.Store(r)
			continue
		}
		r.wake()
	}
}

// deliver sees to the reader that write has left alone: whoever is prompt calls what the reader
// has for that.
func (j *journal) deliver(prompt bool) {
	if r := j.owed.Swap(nil); r != nil && !(prompt && r.deliver()) {
		r.wake()
	}
}

func (j *journal) releaseLocked() {
	if j.waiting > 0 {
		close(j.drained)
		j.drained = make(chan struct{})
		j.waiting = 0
	}
}

// fullLocked reports whether commands are to be held back: what the slowest lossless reader
// has not read yet takes half of the retention, or one is further behind than it wants to
// be. The other half takes what is drained without waiting.
func (j *journal) fullLocked() bool {
	for r := range j.readers {
		if r.lossless && r.err == nil && r.lag > 0 && j.end-r.pos >= r.lag {
			return true
		}
	}
	kept := j.entries[j.head:]
	i := indexOf(kept, j.slowestLocked())
	return i < len(kept) && j.total-kept[i].before >= int64(j.budget.allowance(j.retention)/2)
}

// slowestLocked is where the slowest lossless reader is, or the end.
func (j *journal) slowestLocked() uint64 {
	slowest := j.end
	for r := range j.readers {
		if r.lossless && r.err == nil {
			slowest = min(slowest, r.pos)
		}
	}
	return slowest
}

// indexOf is the first entry that ends after pos.
func indexOf(kept []keptEntry, pos uint64) int {
	return sort.Search(len(kept), func(i int) bool { return kept[i].End() > pos })
}

// room returns nil when output may be read from a pipe now, or a channel that is closed
// when it is worth asking again.
func (j *journal) room() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || !j.fullLocked() {
		return nil
	}
	j.waiting++
	return j.drained
}

// written is how many bytes of output there were of a run, as long as no other has started.
func (j *journal) written(run uint64) (stdout, stderr uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if run != j.run {
		return 0, 0
	}
	return j.wrote[Stdout-1], j.wrote[Stderr-1]
}

// bounds returns the first position kept and the one after the last.
func (j *journal) bounds() (oldest, end uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.oldest, j.end
}

// collectLocked appends the entries from *pos on, at most limit positions, and moves *pos.
func (j *journal) collectLocked(dst []Entry, pos *uint64, limit int) []Entry {
	kept := j.entries[j.head:]
	for i := indexOf(kept, *pos); i < len(kept) && limit > 0; i++ {
		e := kept[i].Entry
		if e.Kind.Output() {
			e.Data = e.Data[*pos-e.Pos:]
			e.Data = e.Data[:min(len(e.Data), limit)]
			e.Pos = *pos
			limit -= len(e.Data)
		} else {
			limit--
		}
		*pos = e.End()
		dst = append(dst, e)
	}
	return dst
}

// output returns what is kept of one run's output from position after on, at most limit
// bytes of it counted from the end, and whether any of [after, …) was left out.
func (j *journal) output(run, first, after uint64, limit int) (entries []Entry, next uint64, truncated bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	start := max(after, first)
	truncated = start < j.oldest
	pos := max(start, j.oldest)
	all := j.collectLocked(nil, &pos, math.MaxInt)
	total := 0
	for _, e := range all {
		if e.Kind.Output() && e.Run == run {
			entries = append(entries, e)
			total += len(e.Data)
		}
	}
	for total > limit {
		truncated = true
		over := total - limit
		if n := len(entries[0].Data); n <= over {
			entries, total = entries[1:], total-n
			continue
		}
		entries[0].Data = entries[0].Data[over:]
		entries[0].Pos += uint64(over)
		total = limit
	}
	return entries, j.end, truncated
}
