package httpapi

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"tandem/sessions"
)

const (
	// batchSize is how many positions are taken from the journal at once. A batch is
	// flushed as one.
	batchSize = 256 << 10

	// pieceSize is how much of an entry is encoded before it is seen whether it is time to
	// write: a byte can become 80, and the buffer is kept for as long as the stream.
	pieceSize = 16 << 10

	// keepOutput is how much of each stream one JSON answer carries at most: its end.
	keepOutput = 8 << 20
)

// A runSink takes what one run shows. It is called from one goroutine; an error ends the
// following and is its result.
type runSink interface {
	// output takes a stretch of the run's output. It must not keep e.Data.
	output(e sessions.Entry) error
	// gap is told that output of the run between two positions may have been dropped.
	gap(from, to uint64, at time.Time) error
	// batch says that everything below pos has been handed over, and returns when it has
	// reached the client as far as that can be known.
	batch(pos uint64) error
	// wait returns, when nothing more is there, once wake or ended may have something.
	wait(ctx context.Context, wake, ended <-chan struct{}) error
}

// follow hands what run shows from the reader's position on to sink, and returns how the
// run ended. That is known also where its end lies before that position, or in a gap.
// It fails with the context's error, with the reader's, or with the sink's.
func follow(ctx context.Context, run *sessions.Run, reader *sessions.Reader, sink runSink) (*sessions.RunInfo, error) {
	var entries []sessions.Entry
	for ctx.Err() == nil {
		ended := isClosed(run.Done()) // asked before Next, which then has the end unless it lies before
		clear(entries)
		var err error
		entries, err = reader.Next(entries[:0], batchSize)
		switch {
		case errors.Is(err, sessions.ErrClosed), err == nil && len(entries) == 0 && ended:
			// Runs end before their session does.
			end := run.Info()
			return &end, nil
		case err != nil:
			return nil, err
		case len(entries) == 0:
			err = sink.wait(ctx, reader.Ready(), run.Done())
		default:
			var end *sessions.RunInfo
			if end, err = handOver(run, entries, sink); end != nil {
				return end, nil
			}
			if err == nil {
				reader.Took(entries[len(entries)-1].End())
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, context.Cause(ctx)
}

// handOver passes one batch on and returns the end of the run if it is in it.
func handOver(run *sessions.Run, entries []sessions.Entry, sink runSink) (*sessions.RunInfo, error) {
	for _, e := range entries {
		var err error
		switch {
		case e.Kind.Output() && e.Run == run.Number():
			err = passPieces(e, sink)
		case e.Kind == sessions.RunFinished && e.Info.ID == run.ID():
			return e.Info, nil
		case e.Kind == sessions.Gap:
			if from, ours := ownGap(run.Info(), e); ours {
				err = sink.gap(from, e.Gap.To, e.Time)
			}
			if end := endInGap(run, e.Gap); end != nil && err == nil {
				return end, nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, sink.batch(entries[len(entries)-1].End())
}

// passPieces passes an entry on piece by piece.
func passPieces(e sessions.Entry, sink runSink) error {
	for data := e.Data; len(data) > 0; {
		e.Data = data[:min(len(data), pieceSize)]
		if err := sink.output(e); err != nil {
			return err
		}
		data = data[len(e.Data):]
		e.Pos += uint64(len(e.Data))
	}
	return nil
}

// ownGap returns where in a gap output of the run may have been.
func ownGap(info sessions.RunInfo, e sessions.Entry) (from uint64, ours bool) {
	if info.StartedAt.IsZero() || e.Gap.To <= info.First {
		return 0, false
	}
	return max(e.Pos, info.First), true
}

func endInGap(run *sessions.Run, gap *sessions.GapInfo) *sessions.RunInfo {
	for i := range gap.Finished {
		if gap.Finished[i].ID == run.ID() {
			return &gap.Finished[i]
		}
	}
	return nil
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// tailSink keeps the end of what a run writes, for one JSON answer.
type tailSink struct {
	stdout, stderr tail
	gaps           bool
}

func (s *tailSink) output(e sessions.Entry) error {
	if e.Kind == sessions.Stderr {
		s.stderr.add(e.Data)
	} else {
		s.stdout.add(e.Data)
	}
	return nil
}

func (s *tailSink) gap(uint64, uint64, time.Time) error {
	s.gaps = true
	return nil
}

func (s *tailSink) batch(uint64) error { return nil }

func (s *tailSink) wait(ctx context.Context, wake, ended <-chan struct{}) error {
	select {
	case <-wake:
	case <-ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// A tail is the end of a stream of bytes, at most keepOutput of it; it never holds more
// than twice that.
type tail struct {
	buf []byte
	cut bool
}

func (t *tail) add(p []byte) {
	if len(t.buf)+len(p) > 2*keepOutput {
		t.trim()
	}
	t.buf = append(t.buf, p...)
}

func (t *tail) trim() {
	if over := len(t.buf) - keepOutput; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
		t.cut = true
	}
}

// bytes returns the end, from the first whole character on.
func (t *tail) bytes() []byte {
	t.trim()
	if !t.cut {
		return t.buf
	}
	return fromWholeRune(t.buf)
}

// fromWholeRune leaves out what p begins with of a character whose start was cut off.
func fromWholeRune(p []byte) []byte {
	for n := 0; n < utf8.UTFMax && n < len(p); n++ {
		if utf8.RuneStart(p[n]) {
			return p[n:]
		}
	}
	return p
}
