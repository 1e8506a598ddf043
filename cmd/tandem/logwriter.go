package main

import (
	"io"
	"sync"
	"time"
)

const (
	// logPeriod is how long a line of the log may wait for others: a busy server writes
	// thousands a second, and a system call for each was a twentieth of all its work.
	logPeriod = 5 * time.Millisecond

	// logBatch is how much does not wait any longer.
	logBatch = 32 << 10
)

// A logWriter writes what comes after some silence at once, and what comes soon after that with
// one write when its period is over. It may be used from any goroutine. flush must be called in
// the end.
type logWriter struct {
	w io.Writer

	mu    sync.Mutex
	until time.Time // the end of the period
	kept  []byte
	timer *time.Timer // runs while something is kept
}

// Write never fails: there is nobody to be told.
func (l *logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	now := time.Now()
	switch {
	case !now.Before(l.until) || len(l.kept) >= logBatch:
		l.writeLocked(now)
	case l.timer == nil:
		l.timer = time.AfterFunc(l.until.Sub(now), l.flush)
	case len(l.kept) == len(p):
		l.timer.Reset(l.until.Sub(now))
	}
	return len(p), nil
}

// flush writes what is kept.
func (l *logWriter) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writeLocked(time.Now())
}

func (l *logWriter) writeLocked(now time.Time) {
	if len(l.kept) > 0 {
		_, _ = l.w.Write(l.kept)
		l.kept = l.kept[:0]
		l.until = now.Add(logPeriod)
	}
}
