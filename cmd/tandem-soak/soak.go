package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// settleLimit is how long the server may take to give descriptors back, and the kernel
	// to bury processes, once nobody uses them.
	settleLimit = 15 * time.Second

	// stopLimit is how long the server may take to end: the README promises ten seconds,
	// a build with -race on a busy machine may take some more.
	stopLimit = 20 * time.Second

	progressEvery = 10 * time.Second

	// spareFDs is by how many descriptors the server may have grown when nobody uses it: an
	// epoll, a pidfd, what the runtime and the resolver keep.
	spareFDs = 6
)

// A soak is one whole run of this program.
type soak struct {
	cfg     config
	root    string // all files of it
	server  *server
	stderr  io.Writer
	started time.Time
	tally   *tally
	parked  parking

	rss, fds struct{ start, warm, end int }
	log      struct {
		errors, warnings int
		first            string // error
	}
	exit     int
	leftover []string // processes
	files    []string
}

// newSoak starts the server.
func newSoak(cfg config, stderr io.Writer) (*soak, error) {
	root, err := os.MkdirTemp("", "tandem-soak-")
	if err != nil {
		return nil, err
	}
	// What the kernel says of a process's directory has no symbolic links in it.
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return nil, err
	}
	s := &soak{cfg: cfg, root: root, stderr: stderr, started: time.Now(), tally: newTally(), exit: -1}
	fmt.Fprintf(stderr, "seed %d, %d workers, %v, files in %s\n", cfg.seed, cfg.workers, cfg.length, root)
	if s.server, err = startServer(cfg.bin, root); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	s.fds.start = restingFDs(s.server.pid())
	s.rss.start = rssKiB(s.server.pid())
	return s, nil
}

// drive lets the workers work until the time is over, ctx ends, or the server is gone.
// Every worker ends its last step and cleans up.
func (s *soak) drive(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.length)
	defer cancel()
	var wg sync.WaitGroup
	for i := range s.cfg.workers {
		wg.Go(func() { newWorker(s, i).work(ctx) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	warm := time.After(s.cfg.length / 4)
	for {
		select {
		case <-done:
			return
		case <-s.server.exited:
			cancel()
			s.tally.fail("the server ended by itself, with exit code %d", s.server.exitCode())
			<-done
			return
		case <-warm:
			s.rss.warm, s.fds.warm = rssKiB(s.server.pid()), openFDs(s.server.pid())
		case <-tick.C:
			s.progress()
		}
	}
}

func (s *soak) progress() {
	runs, faults, compared, failures := s.tally.totals()
	fmt.Fprintf(s.stderr, "%4.0fs  %d runs  %d faults  %.1f MiB compared  %d failures  server %d MiB, %d descriptors\n",
		time.Since(s.started).Seconds(), runs, faults, float64(compared)/(1<<20), failures,
		rssKiB(s.server.pid())>>10, openFDs(s.server.pid()))
}

// finish ends the server in order and looks at what it leaves behind.
func (s *soak) finish() {
	s.parked.closeAll()
	if !s.server.gone() {
		s.deleteRest()
		s.awaitQuiet()
	}
	code, err := s.server.stop(stopLimit)
	s.exit = code
	if err != nil {
		s.tally.fail("%v", err)
	}
	if code != 0 {
		s.tally.fail("the server's exit code is %d, want 0", code)
	}
	s.log.errors, s.log.warnings, s.log.first = s.server.logged()
	for _, line := range s.server.complaints() {
		s.tally.fail("the server's stderr says: %s", line)
	}
	s.leftover = s.awaitNoProcesses()
	for _, p := range s.leftover {
		s.tally.fail("left behind: process %s", p)
	}
	s.files = filesIn(s.server.tmp)
	for _, f := range s.files {
		s.tally.fail("left behind: file %s", f)
	}
	killAll(s.root, s.server.mark)
	if s.failed() {
		fmt.Fprintf(s.stderr, "kept for a look: %s\n", s.root)
		return
	}
	if err := os.RemoveAll(s.root); err != nil {
		s.tally.fail("clean up: %v", err)
	}
}

// deleteRest deletes the sessions that nobody owns: those whose creation was cut off.
func (s *soak) deleteRest() {
	ctx, cancel := context.WithTimeout(context.Background(), stepLimit)
	defer cancel()
	c := newClient(s.server.url, s.server.token)
	defer c.close()
	list, err := c.sessions(ctx)
	if err != nil {
		s.tally.fail("list the sessions at the end: %v", err)
	}
	for _, id := range list {
		if err := c.call(ctx, http.MethodDelete, "/session/"+id, nil, nil); err != nil && !isStatus(err, http.StatusNotFound) {
			s.tally.fail("delete session %s at the end: %v", id, err)
		}
	}
}

// restingFDs is how many descriptors the server has open once that has not changed for half a
// second: it starts shells ahead of need.
func restingFDs(pid int) int {
	n, since := openFDs(pid), time.Now()
	for end := time.Now().Add(10 * time.Second); time.Since(since) < 500*time.Millisecond && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		if now := openFDs(pid); now != n {
			n, since = now, time.Now()
		}
	}
	return n
}

// awaitQuiet waits until the server has as many descriptors as before.
func (s *soak) awaitQuiet() {
	most := s.fds.start + spareFDs
	for end := time.Now().Add(settleLimit); ; time.Sleep(50 * time.Millisecond) {
		s.rss.end, s.fds.end = rssKiB(s.server.pid()), openFDs(s.server.pid())
		if s.fds.end <= most {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	s.tally.fail("the idle server has %d descriptors open, %d at the start: %q", s.fds.end, s.fds.start, fdNames(s.server.pid()))
}

func (s *soak) awaitNoProcesses() (left []string) {
	for end := time.Now().Add(settleLimit); ; time.Sleep(20 * time.Millisecond) {
		if left = processesOf(s.root, s.server.mark); len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// failed reports whether anything did not hold.
func (s *soak) failed() bool { return len(s.tally.failures()) > 0 }

func filesIn(dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
