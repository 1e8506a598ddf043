package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// reloadEvery is how often files that are read again when they change are looked at.
const reloadEvery = time.Second

// A watch is what is read from files, and read again when they change or on SIGHUP.
type watch struct {
	what  string
	files []string
	load  func() error // puts in force what the files say; what was stays where that fails

	seen string // what the files looked like when they were last read
}

// look tells whether the files are not those that were last read.
func (w *watch) look() (changed bool) {
	now := ""
	for _, name := range w.files {
		if info, err := os.Stat(name); err == nil {
			now += fmt.Sprint(info.ModTime().UnixNano(), info.Size(), info.Sys())
		}
		now += ";"
	}
	changed = now != w.seen
	w.seen = now
	return changed
}

// A reloader keeps watches up to date, in the goroutine that run is called in.
type reloader struct {
	log     *slog.Logger
	watches []*watch
	asked   chan struct{}
}

func newReloader(log *slog.Logger, watches ...*watch) *reloader {
	for _, w := range watches {
		w.look()
	}
	return &reloader{log: log, watches: watches, asked: make(chan struct{}, 1)}
}

// run returns when ctx ends.
func (r *reloader) run(ctx context.Context) {
	if len(r.watches) == 0 {
		return
	}
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-r.asked:
			asked = true
		case <-tick.C:
		}
		for _, w := range r.watches {
			if !w.look() && !asked {
				continue
			}
			if err := w.load(); err != nil {
				r.log.Error("not reloaded: what was in force stays", "what", w.what, "error", err)
				continue
			}
			r.log.Info("reloaded", "what", w.what)
		}
	}
}

// ask makes run read everything again. It reports false where there is nothing to read.
func (r *reloader) ask() bool {
	if len(r.watches) == 0 {
		return false
	}
	select {
	case r.asked <- struct{}{}:
	default:
	}
	return true
}

// hasTerminal reports whether the program is controlled from a terminal. When that is
// closed, it no longer is, and gets the same SIGHUP as when it is asked to reload.
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}
