package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// A tally counts what was done and what did not hold.
type tally struct {
	mu       sync.Mutex
	runs     map[string]int
	faults   map[string]int
	compared int
	wrong    int
	failed   []string
}

func newTally() *tally {
	return &tally{runs: map[string]int{}, faults: map[string]int{}}
}

func (t *tally) run(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs[kind]++
}

func (t *tally) fault(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults[kind]++
}

func (t *tally) bytes(compared, wrong int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.compared += compared
	t.wrong += wrong
}

func (t *tally) fail(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = append(t.failed, fmt.Sprintf(format, args...))
}

func (t *tally) failures() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.failed)
}

func (t *tally) totals() (runs, faults, compared, failures int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return sum(t.runs), sum(t.faults), t.compared, len(t.failed)
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// write writes the report, and every failure below it.
func (s *soak) write(w io.Writer) {
	t := s.tally
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(tab, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	runs, faults, compared, failures := t.totals()
	row("seed", "%d", s.cfg.seed)
	row("workers", "%d", s.cfg.workers)
	row("took", "%v", time.Since(s.started).Round(time.Second))
	row("runs", "%d", runs)
	for _, kind := range slices.Sorted(maps.Keys(t.runs)) {
		row("  "+kind, "%d", t.runs[kind])
	}
	row("faults", "%d", faults)
	for _, kind := range slices.Sorted(maps.Keys(t.faults)) {
		row("  "+kind, "%d", t.faults[kind])
	}
	row("bytes compared", "%d", compared)
	row("bytes lost or wrong", "%d", t.wrong)
	row("processes left", "%d", len(s.leftover))
	row("files left", "%d", len(s.files))
	row("server memory, KiB", "%d at start, %d warm, %d at end", s.rss.start, s.rss.warm, s.rss.end)
	row("server descriptors", "%d at start, %d warm, %d at end", s.fds.start, s.fds.warm, s.fds.end)
	row("server exit code", "%d", s.exit)
	row("server log", "%d errors, %d warnings %s", s.log.errors, s.log.warnings, s.log.first)
	row("failures", "%d", failures)
	_ = tab.Flush()
	for _, f := range t.failures() {
		fmt.Fprintln(w, "FAILED:", f)
	}
}
