package sessions

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A naiveJournal is the journal without a bound: what every position was.
type naiveJournal struct {
	at []naivePos
}

type naivePos struct {
	kind Kind
	run  uint64
	b    byte
}

func (n *naiveJournal) write(kind Kind, run uint64, b []byte) {
	for _, c := range b {
		n.at = append(n.at, naivePos{kind, run, c})
	}
}

// check compares what a reader got with what was there.
func (n *naiveJournal) check(t *testing.T, pos uint64, e Entry) uint64 {
	t.Helper()
	if e.Pos != pos {
		t.Fatalf("entry %v at position %d, want %d", e.Kind, e.Pos, pos)
	}
	switch {
	case e.Kind == Gap:
		if e.Gap.To <= pos || e.Gap.To > uint64(len(n.at)) {
			t.Fatalf("gap from %d to %d of %d", pos, e.Gap.To, len(n.at))
		}
	case e.Kind.Output():
		if len(e.Data) == 0 {
			t.Fatal("empty output entry")
		}
		for i, b := range e.Data {
			if got, want := (naivePos{e.Kind, e.Run, b}), n.at[e.Pos+uint64(i)]; got != want {
				t.Fatalf("position %d is %v, want %v", e.Pos+uint64(i), got, want)
			}
		}
	default:
		if n.at[e.Pos].kind != e.Kind {
			t.Fatalf("position %d is kind %d, want %d", e.Pos, e.Kind, n.at[e.Pos].kind)
		}
	}
	return e.End()
}

// driveJournal plays a script of operations, three bytes each, on a journal and on the
// naive one, with a lossless reader, a viewer and readers that come and go.
func driveJournal(t *testing.T, script []byte) {
	const retention = 8 << 10
	j, n := newJournal(retention, nil), &naiveJournal{}
	lossless := mustAttach(t, j, true, 0)
	defer lossless.Close()
	readers := map[*Reader]uint64{lossless: 0}
	fresh := byte(0)
	for i := 0; i+2 < len(script); i += 3 {
		op, a, b := script[i], script[i+1], script[i+2]
		switch op % 6 {
		case 0, 1: // output, also of the size that stays in its buffer
			buf := make([]byte, 1+int(a)*int(b)%(readSize*3/4))
			for k := range buf {
				buf[k] = fresh
				fresh++
			}
			if j.room() != nil && len(buf) < readSize/2 {
				break // a pipe's goroutine would wait here
			}
			kind, run := Kind(1+op%2), uint64(a%3)
			n.write(kind, run, buf)
			if !j.write(kind, run, buf) {
				clear(buf) // it was copied: the buffer is ours again
			}
		case 2:
			j.add(Entry{Kind: RunStarted, Info: &RunInfo{}}, func(pos uint64) {
				if pos != uint64(len(n.at)) {
					t.Fatalf("event at %d, want %d", pos, len(n.at))
				}
			})
			n.at = append(n.at, naivePos{kind: RunStarted})
		case 3:
			pos := uint64(a) * uint64(b) % uint64(len(n.at)+1)
			readers[mustAttach(t, j, b%2 == 0, pos)] = pos
		default:
			for r, pos := range readers {
				entries, err := r.Next(nil, 1+int(a)*16)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					pos = n.check(t, pos, e)
				}
				readers[r] = pos
			}
		}
		if n := len(j.entries) - j.head; n > 1 && j.total-j.entries[j.head].before > retention {
			t.Fatalf("journal holds %d bytes in %d entries, at most %d are kept", j.total-j.entries[j.head].before, n, retention)
		}
	}
	for r, pos := range readers {
		for pos < uint64(len(n.at)) {
			entries, err := r.Next(nil, 1<<20)
			if err != nil || len(entries) == 0 {
				t.Fatalf("reader stops at %d of %d: %v", pos, len(n.at), err)
			}
			for _, e := range entries {
				pos = n.check(t, pos, e)
			}
		}
		r.Close()
	}
}

func mustAttach(t testing.TB, j *journal, lossless bool, pos uint64) *Reader {
	t.Helper()
	r, err := j.attach(AttachOptions{Viewer: !lossless}, func(_, _ uint64) (uint64, error) { return pos, nil })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestUnhurriedReaderIsNotBehindAStart(t *testing.T) {
	t.Parallel()
	j := newJournal(1<<20, nil)
	r, err := j.attach(AttachOptions{Unhurried: true}, func(_, end uint64) (uint64, error) { return end, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	<-r.Ready()
	j.add(Entry{Kind: RunStarted, Info: &RunInfo{Number: 1}}, nil)
	select {
	case <-r.Ready():
		t.Error("woken by a start")
	default:
	}
	for _, late := range []time.Duration{0, time.Hour} {
		j.cutStalled(time.Now().Add(late), time.Second)
	}
	j.write(Stdout, 1, []byte("x"))
	<-r.Ready()
	if got, err := r.Next(nil, 10); err != nil || len(got) != 1 || got[0].Kind != Stdout {
		t.Errorf("read %+v, %v", got, err)
	}
}

// What little there is for the only reader is taken by whoever has read it. Everything else makes
// the reader ready, and so does what could not be taken.
func TestJournalDelivers(t *testing.T) {
	t.Parallel()
	const little, much = directOutput, directOutput + 1
	for name, c := range map[string]struct {
		bytes          int
		prompt, others bool
		takes          bool
		called, ready  bool
	}{
		"little":            {little, true, false, true, true, false},
		"much":              {much, true, false, true, false, true},
		"beside another":    {little, true, true, true, false, true},
		"by whoever drains": {little, false, false, true, false, true},
		"that is not taken": {little, true, false, false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJournal(1<<20, nil)
			r := mustAttach(t, j, true, 0)
			defer r.Close()
			<-r.Ready()
			calls, got := 0, 0
			r.Deliver(func() bool {
				calls++
				if !c.takes {
					return false
				}
				entries, err := r.Next(nil, much)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					got += len(e.Data)
				}
				return true
			})
			if c.others {
				other := mustAttach(t, j, false, 0)
				defer other.Close()
			}
			j.write(Stdout, 1, make([]byte, c.bytes))
			j.deliver(c.prompt)
			ready := false
			select {
			case <-r.Ready():
				ready = true
			default:
			}
			j.write(Stderr, 1, nil)
			j.deliver(true) // nothing
			if called := calls == 1; calls > 1 || called != c.called || ready != c.ready || called && c.takes && got != c.bytes {
				t.Errorf("called %d times with %d bytes, ready %v", calls, got, ready)
			}
		})
	}
}

func TestJournalAgainstNaiveModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		script := make([]byte, 3*60)
		for i := range script {
			script[i] = byte(rnd.Uint32())
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) { driveJournal(t, script) })
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte{0, 5, 5, 4, 255, 0, 2, 0, 0, 3, 1, 1, 4, 9, 9})
	f.Add(bytes.Repeat([]byte{1, 255, 255, 4, 1, 0}, 50))
	f.Fuzz(driveJournal)
}

func TestJournalJoinsSmallWrites(t *testing.T) {
	t.Parallel()
	j := newJournal(1<<20, nil)
	for range 1000 {
		j.write(Stdout, 1, []byte("x"))
	}
	if got := len(j.entries); got > 3 {
		t.Errorf("1000 bytes in a row are %d entries", got)
	}
}

// TestJournalTimesAreExact: what is written becomes part of an entry only as long as that
// one's time is true for it.
func TestJournalTimesAreExact(t *testing.T) {
	t.Parallel()
	const exact = 5 * time.Millisecond
	j := newJournal(1<<20, nil)
	r := mustAttach(t, j, false, 0)
	defer r.Close()
	type span struct{ before, after time.Time }
	var written []span
	// However few writes a busy machine leaves to an entry's time, they come to a third entry.
	for end := time.Now().Add(10 * time.Second); len(j.entries) < 3 && time.Now().Before(end); {
		before := time.Now()
		j.write(Stdout, 1, []byte("x"))
		written = append(written, span{before, time.Now()})
	}
	entries, err := r.Next(nil, len(written))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		first, last := written[e.Pos], written[e.End()-1]
		if e.Time.Before(first.before) || e.Time.After(first.after) || last.before.Sub(e.Time) >= exact {
			t.Fatalf("an entry of %v has bytes written from %v to %v", e.Time, first.before, last.after)
		}
	}
	if last := entries[len(entries)-1]; len(entries) < 3 || last.End() != uint64(len(written)) {
		t.Fatalf("%d bytes in %d entries up to %d", len(written), len(entries), last.End())
	}
}

func TestJournalHoldsWritersBackForLosslessReadersOnly(t *testing.T) {
	t.Parallel()
	j := newJournal(1000, nil)
	viewer := mustAttach(t, j, false, 0)
	defer viewer.Close()
	j.write(Stdout, 1, make([]byte, 600))
	if j.room() != nil {
		t.Fatal("a viewer holds writers back")
	}
	reader := mustAttach(t, j, true, 0)
	wait := j.room()
	if wait == nil {
		t.Fatal("a reader 600 of 1000 behind does not hold writers back")
	}
	if _, err := reader.Next(nil, 600); err != nil {
		t.Fatal(err)
	}
	<-wait
	j.write(Stderr, 1, make([]byte, 600))
	wait = j.room()
	if wait == nil {
		t.Fatal("a reader 600 of 1000 behind does not hold writers back")
	}
	reader.Close()
	<-wait
}

func TestJournalCutsStalledReaders(t *testing.T) {
	t.Parallel()
	const limit = time.Minute
	j := newJournal(1<<20, nil)
	stalled := mustAttach(t, j, true, 0)
	defer stalled.Close()
	slow := mustAttach(t, j, true, 0)
	defer slow.Close()
	idle := mustAttach(t, j, true, 0)
	defer idle.Close()
	j.write(Stdout, 1, make([]byte, 700<<10))
	for {
		if es, _ := idle.Next(nil, 1<<20); len(es) == 0 {
			break
		}
	}
	wait := j.room()
	now := time.Now()
	for range 10 { // slow takes just enough, in time
		now = now.Add(limit / 2)
		for range 2 {
			if _, err := slow.Next(nil, stallBytes/2); err != nil {
				t.Fatalf("slow reader: %v", err)
			}
		}
		slow.Took(1 << 20)
		j.cutStalled(now, limit)
	}
	if _, err := stalled.Next(nil, 1); !errors.Is(err, ErrStalled) {
		t.Fatalf("stalled reader: %v", err)
	}
	if _, err := idle.Next(nil, 1); err != nil {
		t.Fatalf("a reader that is not behind was cut: %v", err)
	}
	<-wait
}

func TestJournalEndsAfterSessionClosed(t *testing.T) {
	t.Parallel()
	j := newJournal(1<<20, nil)
	r := mustAttach(t, j, true, 0)
	defer r.Close()
	j.add(Entry{Kind: SessionClosed, Closed: CloseDeleted}, nil)
	j.write(Stdout, 1, []byte("too late"))
	es, err := r.Next(nil, 10)
	if err != nil || len(es) != 1 || es[0].Closed != CloseDeleted {
		t.Fatalf("got %v, %v", es, err)
	}
	if es, err := r.Next(nil, 10); !errors.Is(err, ErrClosed) || len(es) != 0 {
		t.Fatalf("after the end: %v, %v", es, err)
	}
}
