package ws

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"tandem/sessions"
)

const (
	// writeSize is about how much goes to the socket in one write, and how much output one
	// frame may join. It is what a reader must take within the stall limit, so that a
	// single write is as long as a client may make us wait.
	writeSize = 64 << 10

	// slowWriteSize is the same for a client whose last write had to wait longer than
	// slowWrite: it shows the stall limit's clock finer steps of what it takes.
	slowWriteSize = 16 << 10
	slowWrite     = 100 * time.Millisecond

	// writeGrace is how much longer than the stall limit a write may block. By then the
	// journal waits for this reader no more; it is only left a chance to read what it was
	// cut off with, the close code at the end of it.
	writeGrace = 20 * time.Second

	// outboxSize is how many answers may wait for the writer before the reader waits.
	outboxSize = 64

	// maxRepeats is how many refs beside the first one connection may give one run.
	maxRepeats = 64

	// keepBuffer is the largest buffer that is kept for the next who has something to write.
	keepBuffer = 256 << 10

	// keepEntries is how much room for entries is kept for the next time.
	keepEntries = 256

	// ackDelay is how long an acknowledgement of stdin waits for something to go with. An
	// echo so takes one write and wakes the client once; a window in five milliseconds is
	// more than pipes carry.
	ackDelay = 5 * time.Millisecond

	// unsentLimit is for tune.
	unsentLimit = 32 << 10
)

// An outbound is what belongs to whoever writes, under conn.writing.
type outbound struct {
	noWait  bool // nothing may be waited for
	enc     Encoder
	buf     []byte // frames to be written
	message []byte // the text message being built
	entries []sessions.Entry
	cut     []sessions.Entry
	answers []answer
	written int    // messages in buf
	limit   int    // how much to take from the journal at once
	pos     uint64 // position after what is in buf or was written
	skipped []span // gaps that count as acknowledged
	feeds   []feed // runs whose stdin this connection writes
	owed    bool   // an acknowledgement waits
	due     bool   // and has waited long enough
	delay   *time.Timer
	delayed <-chan time.Time // delay's, while an acknowledgement waits
	ticked  uint64           // pos at the last tick

	// repeats are the refs of requests for unfinished runs that had a ref on this connection
	// already, by run id.
	repeats map[string][]*string
}

// A span is the positions from from up to to.
type span struct{ from, to uint64 }

// A feed is a run whose stdin is acknowledged to this connection.
type feed struct {
	run     *sessions.Run
	told    uint64
	changed <-chan struct{} // closed when there is more to tell; nil: its stdin has ended
}

// An answer is something for the writer to tell, or to do, outside the journal.
type answer struct {
	text  []byte        // a message
	pong  []byte        // the payload of a ping to answer; not nil
	again *sessions.Run // asked for again: tell what of it has gone by
	ref   *string       // and this is that request's
	feed  *sessions.Run // acknowledge its stdin from now on
}

// An outbox holds the answers that wait for the writer: outboxSize of them, and one more
// for every message that may add one without waiting.
type outbox struct {
	filled  chan struct{} // signaled when there is something
	emptied chan struct{} // signaled when there is room

	mu   sync.Mutex
	list []answer
}

// put reports false when there is no room.
func (o *outbox) put(a answer) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) >= outboxSize {
		return false
	}
	o.addLocked(a)
	return true
}

// putNow is for the engine's callback, which must not wait: at most one per request.
func (o *outbox) putNow(a answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addLocked(a)
}

func (o *outbox) addLocked(a answer) {
	o.list = append(o.list, a)
	signal(o.filled)
}

// takeAll appends all there is to dst.
func (o *outbox) takeAll(dst []answer) []answer {
	o.mu.Lock()
	defer o.mu.Unlock()
	dst = append(dst, o.list...)
	clear(o.list)
	o.list = o.list[:0]
	signal(o.emptied)
	return dst
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write writes until the connection ends, and returns why it did.
func (c *conn) write() error {
	tick := time.NewTicker(c.h.cfg.PingInterval)
	defer tick.Stop()
	c.writing.Lock() // for good: once it has ended nobody else is to write, or to take from the journal
	defer c.out.stopDelay()
	for {
		more, err := c.round()
		if err != nil {
			return err
		}
		if more {
			continue
		}
		c.giveBuffer()
		c.delayAck()
		if err := c.await(tick.C); err != nil {
			return err
		}
	}
}

// await returns when there may be something to write. Meanwhile others may.
func (c *conn) await(tick <-chan time.Time) error {
	o := &c.out
	fed, delayed := c.fedChanged(), o.delayed
	c.writing.Unlock()
	var ended, owed, due, beat bool
	select {
	case <-c.ctx.Done():
		ended = true
	case <-c.outbox.filled:
	case <-c.reader.Ready():
	case <-c.moved:
	case <-fed:
		owed = true
	case <-delayed:
		due = true
	case <-tick:
		beat = true
	}
	c.writing.Lock()
	switch {
	case ended:
		return context.Cause(c.ctx)
	case owed:
		o.owed = true
	case due:
		o.delayed, o.due = nil, true
	case beat:
		return c.beat(time.Now())
	}
	return nil
}

// deliver is the writer's work done by the engine's goroutine that has read output, while the
// writer waits. It reports false where that must be told that there is something.
func (c *conn) deliver() bool {
	if !c.writing.TryLock() {
		return false
	}
	defer c.writing.Unlock()
	o := &c.out
	o.noWait = true
	defer func() { o.noWait = false }()
	for range 2 { // not for as long as others have something to say
		more, err := c.round()
		if err != nil {
			return false // the writer finds the same
		}
		if !more {
			c.giveBuffer()
			return true
		}
	}
	return false
}

// round writes what there is to write, up to about writeSize of it, and reports whether
// there was anything.
//
// The journal is asked first and told last. An answer that was put into the outbox before
// something was recorded, a run.queued before its run.started, is then in the outbox
// whenever that something is in hand, and goes out before it.
func (c *conn) round() (more bool, err error) {
	o := &c.out
	var ended error
	if o.entries, ended = c.reader.Next(o.entries[:0], c.credit()); errors.Is(ended, sessions.ErrStalled) {
		return false, ended
	}
	if err := c.tellAll(); err != nil {
		return false, err
	}
	if o.due || len(o.entries) > 0 || len(o.buf) > 0 {
		c.tellTaken()
	}
	more = len(o.entries) > 0 || len(o.buf) > 0
	if c.binary {
		err = c.addBinary(o.entries)
	} else {
		err = c.addText(o.entries)
	}
	clear(o.entries) // what retention drops is not to be kept alive from here
	if err != nil {
		return false, err
	}
	if err := c.flush(); err != nil {
		return false, err
	}
	if c.ctx.Err() != nil {
		return false, context.Cause(c.ctx)
	}
	return more, ended
}

// credit is how many positions may be taken from the journal now.
func (c *conn) credit() int {
	o := &c.out
	if c.window == 0 {
		return o.limit
	}
	acked := c.acked.Load()
	flying := o.pos + uint64(len(o.enc.held.Data)) - acked
	keep := o.skipped[:0]
	for _, s := range o.skipped {
		if s.to > acked {
			flying -= s.to - max(s.from, acked)
			keep = append(keep, s)
		}
	}
	o.skipped = keep
	if flying >= c.window {
		return 0
	}
	return int(min(c.window-flying, uint64(o.limit)))
}

// skip notes a gap: its positions are not in flight, and nobody need acknowledge them.
func (c *conn) skip(from, to uint64) {
	o := &c.out
	if c.window == 0 {
		return
	}
	if n := len(o.skipped); n > 0 && o.skipped[n-1].to == from {
		o.skipped[n-1].to = to
		return
	}
	o.skipped = append(o.skipped, span{from, to})
}

// tellAll adds what is in the outbox.
func (c *conn) tellAll() error {
	o := &c.out
	o.answers = c.outbox.takeAll(o.answers[:0])
	for _, a := range o.answers {
		c.takeBuffer()
		c.tell(a)
		if err := c.flushIfLarge(); err != nil {
			return err
		}
	}
	clear(o.answers)
	return nil
}

func (c *conn) tell(a answer) {
	switch {
	case a.text != nil:
		c.out.text(a.text)
	case a.pong != nil:
		c.out.frame(opPong, a.pong)
	case a.again != nil:
		c.tellAgain(a.again, a.ref)
	case a.feed != nil:
		c.out.feeds = append(c.out.feeds, feed{run: a.feed})
		c.out.owed = true
	}
}

// tellAgain answers a request for a run that was there already. What the journal has yet
// to bring needs nothing; what has gone by on this connection, or before it, is told once
// more, without a position, because it has no place here. What is yet to come has the ref
// of the first request alone, and is told once more for each later one: see tellRepeats.
func (c *conn) tellAgain(run *sessions.Run, ref *string) {
	o := &c.out
	info := run.Info()
	if len(o.repeats[info.ID]) >= maxRepeats {
		f, _ := faultOf(&sessions.Error{Kind: sessions.ErrTooMany, Message: "this connection has asked too often for this run: wait for its end"})
		o.text(appendError(nil, ref, f))
		return
	}
	switch {
	case info.State == sessions.RunQueued:
		o.text(appendQueued(nil, info.ID, ref, ahead(c.session, run)))
	case !info.StartedAt.IsZero() && info.First < o.pos:
		o.text(o.enc.appendStarted(nil, nil, &info, ref))
	}
	if info.State == sessions.RunDone && info.Last < o.pos {
		o.text(appendFinished(nil, nil, &info, ref))
		return
	}
	if ref != nil && !c.claimRef(info.ID, ref) {
		if o.repeats == nil {
			o.repeats = map[string][]*string{}
		}
		o.repeats[info.ID] = append(o.repeats[info.ID], ref)
	}
}

// tellRepeats tells what an entry says of the start or the ends of runs once more for each
// later request for them.
func (c *conn) tellRepeats(e sessions.Entry) {
	o := &c.out
	if len(o.repeats) == 0 {
		return
	}
	var ended []sessions.RunInfo
	switch e.Kind {
	case sessions.RunStarted:
		for _, ref := range o.repeats[e.Info.ID] {
			o.text(o.enc.appendStarted(nil, nil, e.Info, ref))
		}
	case sessions.RunFinished:
		ended = []sessions.RunInfo{*e.Info}
	case sessions.Gap:
		ended = e.Gap.Finished
	}
	for i := range ended {
		for _, ref := range o.repeats[ended[i].ID] {
			o.text(appendFinished(nil, nil, &ended[i], ref))
		}
		delete(o.repeats, ended[i].ID)
	}
}

// ahead counts the unfinished runs before run.
func ahead(s *sessions.Session, run *sessions.Run) int {
	n := 0
	for _, r := range s.Runs() {
		if r.Number() < run.Number() && r.Info().State != sessions.RunDone {
			n++
		}
	}
	return n
}

// tellTaken acknowledges stdin. What a run has taken by its end is known when its end is
// in the journal, and so is told before that.
func (c *conn) tellTaken() {
	o := &c.out
	o.owed, o.due = false, false
	for i := range o.feeds {
		f := &o.feeds[i]
		var taken uint64
		if taken, f.changed = f.run.StdinTaken(); isClosed(f.changed) {
			// It has changed again, or has ended, and then is always closed.
			if taken, f.changed = f.run.StdinTaken(); isClosed(f.changed) {
				f.changed = nil
			}
		}
		if taken > f.told {
			f.told = taken
			c.takeBuffer()
			o.text(appendStdinAck(nil, f.run.ID(), taken))
		}
	}
	o.feeds = slices.DeleteFunc(o.feeds, func(f feed) bool { return isClosed(f.run.Done()) })
}

// fedChanged is closed when the run that reads has taken more of its stdin than was told,
// or was given more; it is nil while an acknowledgement waits anyway. Only one run of a
// session is on at a time; that it is another one's turn shows in the journal.
func (c *conn) fedChanged() <-chan struct{} {
	if c.out.delayed != nil {
		return nil
	}
	for _, f := range c.out.feeds {
		if f.changed != nil && f.run.Info().State != sessions.RunQueued {
			return f.changed
		}
	}
	return nil
}

// delayAck starts the wait of an acknowledgement.
func (c *conn) delayAck() {
	o := &c.out
	if !o.owed || o.delayed != nil {
		return
	}
	if o.delay == nil {
		o.delay = time.NewTimer(ackDelay)
	} else {
		o.delay.Reset(ackDelay)
	}
	o.delayed = o.delay.C
}

func (o *outbound) stopDelay() {
	if o.delay != nil {
		o.delay.Stop()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// addBinary adds the frames of tandem.v1. Output that follows on in one stream is joined.
func (c *conn) addBinary(entries []sessions.Entry) error {
	o := &c.out
	for len(entries) > 0 {
		c.takeBuffer()
		first := entries[0]
		n := 1
		if first.Kind.Output() {
			size := len(first.Data)
			for n < len(entries) && continues(entries[n-1], entries[n]) {
				size += len(entries[n].Data)
				n++
			}
			o.written++
			o.buf = appendFrameHeader(o.buf, opBinary, outputHeader+size)
			o.buf = appendOutputHeader(o.buf, first)
			for _, e := range entries[:n] {
				o.buf = append(o.buf, e.Data...)
			}
			o.pos = entries[n-1].End()
		} else {
			c.addEvent(first)
		}
		entries = entries[n:]
		if err := c.flushIfLarge(); err != nil {
			return err
		}
	}
	return nil
}

// addText adds the frames of tandem.v1.json. The beginning of a character at the very end
// waits for its rest only as long as the journal has more at hand.
func (c *conn) addText(entries []sessions.Entry) error {
	o := &c.out
	if len(entries) > 0 {
		o.cut = o.enc.Cut(o.cut[:0], entries)
	} else {
		o.cut = o.enc.Rest(o.cut[:0])
	}
	for _, e := range o.cut {
		c.takeBuffer()
		c.addEvent(e)
		if err := c.flushIfLarge(); err != nil {
			return err
		}
	}
	clear(o.cut)
	return nil
}

// addEvent adds a text frame for an entry.
func (c *conn) addEvent(e sessions.Entry) {
	o := &c.out
	if e.Kind == sessions.Gap {
		c.skip(e.Pos, e.End())
	}
	o.message = o.enc.AppendEntry(o.message[:0], c.session, e)
	o.text(o.message)
	o.pos = e.End()
	c.tellRepeats(e)
}

func (c *conn) flushIfLarge() error {
	if len(c.out.buf) < writeSize || c.out.noWait {
		return nil
	}
	return c.flush()
}

// flush writes what is in the buffer. A client may make it block for the stall limit and a
// grace; then the connection is lost.
func (c *conn) flush() error {
	o := &c.out
	if len(o.buf) == 0 && !c.nc.hasRest.Load() {
		return nil
	}
	c.handed.Store(o.pos) // first: the client's ack may come before the write returns
	if o.noWait {
		return c.flushNow()
	}
	began := time.Now()
	// The deadline is taken away again: a later one finds the close frames, which are the
	// library's to write.
	_ = c.nc.SetWriteDeadline(began.Add(c.h.writeLimit()))
	err := c.nc.writeFrames(o.buf)
	_ = c.nc.SetWriteDeadline(time.Time{})
	o.buf = o.buf[:0]
	if err == errSaidGoodbye {
		<-c.ctx.Done() // the reader is on its way to end the connection
		return context.Cause(c.ctx)
	}
	if err != nil {
		return errors.Join(errWrite, err)
	}
	c.h.cfg.Sent(o.written)
	o.written = 0
	if c.window == 0 {
		c.reader.Took(o.pos)
	}
	o.limit = writeSize
	if time.Since(began) > slowWrite {
		o.limit = slowWriteSize
		c.hear() // it was full, and the peer has made room
	}
	return nil
}

// flushNow is flush for whoever must not wait. It fails where something is left to be written.
func (c *conn) flushNow() error {
	o := &c.out
	if !c.nc.tryWrite(o.buf) {
		return errMustWait
	}
	o.buf = o.buf[:0]
	c.h.cfg.Sent(o.written)
	o.written = 0
	if c.nc.hasRest.Load() {
		return errMustWait
	}
	if c.window == 0 {
		c.reader.Took(o.pos)
	}
	return nil
}

// errMustWait is why whoever must not wait leaves it to the writer.
var errMustWait = errors.New("the socket is full")

// takeBuffer and giveBuffer let the buffer be the connection's only while it has something
// to write, so that the many that have nothing cost nothing.
func (c *conn) takeBuffer() {
	if c.out.buf == nil {
		c.out.buf = (*c.h.buffers.Get().(*[]byte))[:0]
	}
}

func (c *conn) giveBuffer() {
	if o := &c.out; o.buf != nil {
		if cap(o.buf) <= keepBuffer {
			b := o.buf
			c.h.buffers.Put(&b)
		}
		o.buf = nil
		if cap(o.message) > keepMessage {
			o.message = nil
		}
		if cap(o.entries) > keepEntries {
			o.entries, o.cut = nil, nil
		}
	}
}

// beat is called every ping interval. It pings a peer that has been silent for half of
// one, and fails when that has not helped since the last time. While the reader is held up
// by what a message asked for nothing can be heard, and a ping could harm: a client whose
// own write is blocked by that may be unable to answer, and give up. A pong nobody asked
// for needs no answer, and still finds out whether there is anybody.
func (c *conn) beat(now time.Time) error {
	o := &c.out
	busy := c.busy.Load()
	if busy {
		c.hear()
	}
	silent := now.Sub(time.Unix(0, c.heard.Load()))
	if silent > c.h.cfg.PingInterval*3/2 {
		return errDead
	}
	// A session that is gone watches over its readers no more.
	if o.pos == o.ticked && isClosed(c.session.Done()) {
		return sessions.ErrStalled
	}
	o.ticked = o.pos
	switch {
	case busy:
		c.takeBuffer()
		o.frame(opPong, nil)
	case silent >= c.h.cfg.PingInterval/2:
		c.takeBuffer()
		o.frame(opPing, nil)
	}
	return c.flush()
}

func (o *outbound) text(message []byte) {
	o.written++
	o.frame(opText, message)
}

func (o *outbound) frame(op byte, payload []byte) {
	o.buf = append(appendFrameHeader(o.buf, op, len(payload)), payload...)
}
