package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes is what was written, write by write.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

func TestLogIsWrittenInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got writes
		l := &logWriter{w: &got}
		says := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("%s: written were %q, not %q", when, got, want)
			}
			got = nil
		}
		for range 2 {
			fmt.Fprint(l, "1\n")
			says("after silence", "1\n")
			fmt.Fprint(l, "2\n")
			time.Sleep(logPeriod / 2)
			fmt.Fprint(l, "3\n")
			says("soon after")
			time.Sleep(logPeriod / 2)
			says("at the end of the period", "2\n3\n")
			fmt.Fprint(l, "4\n")
			says("in the next")
			time.Sleep(logPeriod)
			says("at its end", "4\n")
			time.Sleep(logPeriod)
		}
		fmt.Fprint(l, "5\n")
		long := strings.Repeat("x", logBatch)
		fmt.Fprint(l, long)
		says("much", "5\n", long)
		fmt.Fprint(l, "6\n")
		l.flush()
		says("flushed", "6\n")
		time.Sleep(time.Hour)
		says("nothing twice")
	})
}

func TestLogOfMany(t *testing.T) {
	t.Parallel()
	var got writes
	l := &logWriter{w: &got}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for k := range 1000 {
				fmt.Fprintf(l, "%d %d\n", i, k)
			}
		})
	}
	all.Wait()
	l.flush()
	var next [8]int
	for line := range strings.Lines(strings.Join(got, "")) {
		var i, k int
		if _, err := fmt.Sscanf(line, "%d %d\n", &i, &k); err != nil || k != next[i] {
			t.Fatalf("%q, where %d is next: %v", line, next[i], err)
		}
		next[i]++
	}
	if next != [8]int{1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000} {
		t.Errorf("lines of each: %v", next)
	}
}
